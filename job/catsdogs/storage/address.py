"""From an address, `s3://bucket/prefix` or a local path, to its store."""

from pathlib import Path

from catsdogs.runtime.errors import ConfigError
from catsdogs.storage import broker
from catsdogs.storage.store import DEFAULTS, StorageOptions, Store


def open_store(uri: str, storage_options: StorageOptions = DEFAULTS) -> Store:
    """Return the store at `s3://bucket[/prefix]` or in a local folder, which need not exist. Connects to nothing.

    Raises ConfigError if `uri` is neither.
    """
    scheme, separator, rest = uri.partition("://")
    bucket, _, prefix = rest.partition("/")
    # Each module is imported when needed: boto3 takes a second.
    if not separator:
        from catsdogs.storage.folder import Folder

        return Folder(Path(uri))
    if scheme == "s3" and bucket:
        if (connected := broker.connection()) is not None:
            return connected.store(uri, storage_options)
        from catsdogs.storage.s3 import Bucket

        return Bucket(bucket, prefix.strip("/"), storage_options)
    raise ConfigError(f"{uri}: not an address; give s3://bucket/key or a local path")
