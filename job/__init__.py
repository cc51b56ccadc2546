"""What runs inside the container: archive → split → model → bucket."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("catsdogs-train")
except PackageNotFoundError:  # run from a source tree that was never installed
    __version__ = "0+unknown"
