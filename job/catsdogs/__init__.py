"""What runs inside the container: archive → split → model → bucket."""


def __getattr__(name: str) -> str:
    """`__version__`, found out when it is asked for: it takes longer than to mind signals."""
    if name != "__version__":
        raise AttributeError(name)
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("catsdogs-train")
    except PackageNotFoundError:  # run from a source tree that was never installed
        return "0+unknown"
