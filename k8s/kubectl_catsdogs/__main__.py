"""`python -m kubectl_catsdogs` is `kubectl-catsdogs`, which kubectl runs as `kubectl catsdogs`."""

from kubectl_catsdogs.cli import start

if __name__ == "__main__":
    start()
