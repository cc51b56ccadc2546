"""`python -m k8s` is `kubectl-catsdogs`, which kubectl runs as `kubectl catsdogs`."""

from k8s.cli import start

if __name__ == "__main__":
    start()
