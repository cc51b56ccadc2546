"""What runs inside the container: archive → split → model → bucket."""


def __getattr__(name: str) -> str:
    """Return `__version__`, looked up on first use: importlib.metadata takes longer than the rest of the start."""
    if name != "__version__":
        raise AttributeError(name)
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("catsdogs-train")
    except PackageNotFoundError:  # run from a source tree that was never installed
        return "0+unknown"
