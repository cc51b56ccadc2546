"""The process: `catsdogs`, or `python -m catsdogs`."""

from catsdogs.runtime.signals import Interruption


def start() -> None:
    """Handle signals first, and only then import the rest."""
    interruption = Interruption()
    interruption.install()
    from catsdogs.cli import main

    main(interruption)


if __name__ == "__main__":
    start()
