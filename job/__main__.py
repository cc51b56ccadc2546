"""The process: `catsdogs`, or `python -m job`."""

from job.interruption import Interruption


def start() -> None:
    """Minds signals first, and only then imports the rest."""
    interruption = Interruption()
    interruption.install()
    from job.cli import main

    main(interruption)


if __name__ == "__main__":
    start()
