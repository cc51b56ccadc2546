"""`kubectl catsdogs`: a kubectl plugin for training runs of the Helm chart catsdogs-train."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("kubectl-catsdogs")
except PackageNotFoundError:  # a checkout that is not installed
    __version__ = "unknown"
