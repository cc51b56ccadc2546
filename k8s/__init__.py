"""`kubectl catsdogs`: what kubectl alone does not tell about a release of the chart."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("catsdogs-train")
except PackageNotFoundError:  # run from a checkout that is not installed
    __version__ = "unknown"
