"""From an address, `s3://bucket/prefix` or a local path, to its store."""

import os
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


def open_object(uri: str, storage_options: StorageOptions = DEFAULTS) -> tuple[Store, str]:
    """Return the store that has the object at `uri`, and the object's key there. Connects to nothing.

    A local path is the user's own and may be a symbolic link, which a store does not follow: it is resolved here.
    Raises ConfigError if `uri` is neither in a bucket nor local.
    """
    if "://" not in uri and os.path.islink(uri):
        uri = os.path.realpath(uri)
    folder, _, key = uri.rpartition("/")
    return open_store(folder or ("/" if uri.startswith("/") else "."), storage_options), key
