"""A bucket or a folder behind one small interface.

Whatever the job reads or publishes goes through a `Store`. Errors come out as `job.errors` kinds with
the address in them, and a read that breaks off goes on from where it broke.
"""

import contextlib
import fcntl
import mimetypes
import os
import random
import time
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from job import volume
from job.errors import BadData, Contradiction, JobError, NotFound, Refused, Unavailable

CHUNK = 256 * 1024
READ_ATTEMPTS = 6
"""How often a request is tried, and how often a read may break off without a byte, before it is given up."""


class Stat(NamedTuple):
    size: int
    etag: str
    """Changes whenever the bytes do."""


class Store(Protocol):
    """Objects by key. Keys are relative, with forward slashes."""

    def uri(self, key: str) -> str:
        """The object's address, as a user would write it."""

    def stat(self, key: str) -> Stat:
        """Raises NotFound."""

    def stream(self, key: str, start: int, stop: int, etag: str) -> Iterator[bytes]:
        """The bytes start ≤ i < stop, in chunks. Raises NotFound, BadData if the object is no longer `etag`'s."""

    def put(self, key: str, source: Path) -> None:
        """Makes `key` hold the file's bytes, whole or not at all."""

    def put_if(self, key: str, source: Path | bytes, etag: str | None) -> str | None:
        """Like put, but only if the object still is `etag`'s, or, for None, if there is none.

        Of all callers who know one etag exactly one gets the new one; the others change nothing and get None.
        None may also come to the one whose first attempt succeeded, if its answer was lost.
        """

    def list(self, prefix: str = "") -> Iterator[tuple[str, Stat]]:
        """Every object whose key starts with `prefix`, in no order. Raises NotFound if there is no such bucket."""

    def delete(self, key: str) -> None:
        """Removes the object; one that is not there is fine."""


def open_store(uri: str, addressing_style: str = "auto") -> Store:
    """The store at `s3://bucket[/prefix]` or at a local folder, which need not exist yet. Connects to nothing.

    Raises Contradiction when `uri` is neither.
    """
    scheme, separator, rest = uri.partition("://")
    if not separator:
        return Folder(Path(uri))
    bucket, _, prefix = rest.partition("/")
    if scheme != "s3" or not bucket:
        raise Contradiction(f"{uri}: not an address; give s3://bucket/key or a local path")
    return Bucket(bucket, prefix.strip("/"), addressing_style)


def read(store: Store, key: str) -> bytes:
    """All of an object. Raises NotFound."""
    stat = store.stat(key)
    return b"".join(store.stream(key, 0, stat.size, stat.etag))


def changed(uri: str) -> BadData:
    return BadData(f"{uri}: changed while it was read; run again when it is complete")


def _pause(attempt: int) -> None:
    """Before the next attempt, counted from 1: longer each time, and random, so that many do not come at once."""
    time.sleep(random.uniform(0, min(20, 2**attempt)))


class Folder:
    """A store in the local file system."""

    def __init__(self, root: Path):
        self.root = root

    def uri(self, key: str) -> str:
        return str(self.root / key)

    def stat(self, key: str) -> Stat:
        path = self.root / key
        with self._reading(key):
            if path.is_dir():
                raise IsADirectoryError
            return self._stat_of(path.stat())

    @staticmethod
    def _stat_of(status: os.stat_result) -> Stat:
        return Stat(status.st_size, f"{status.st_size:x}-{status.st_mtime_ns:x}")

    @contextlib.contextmanager
    def _reading(self, key: str) -> Iterator[None]:
        try:
            yield
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            raise NotFound(f"{self.uri(key)}: no such file; check the path") from None
        except PermissionError:
            raise Refused(f"{self.uri(key)}: permission denied; make it readable for this user") from None

    def stream(self, key: str, start: int, stop: int, etag: str) -> Iterator[bytes]:
        with (
            volume.failures(self.uri(key)),
            self._reading(key),
            open(self.root / key, "rb", buffering=0) as file,
        ):
            if self._stat_of(os.fstat(file.fileno())).etag != etag:
                raise changed(self.uri(key))
            file.seek(start)
            while start < stop:
                chunk = file.read(min(CHUNK, stop - start))
                if not chunk:
                    raise changed(self.uri(key))
                start += len(chunk)
                yield chunk

    def put(self, key: str, source: Path) -> None:
        with (
            volume.failures(self.uri(key)),
            source.open("rb") as file,
            volume.new_file(self.root / key) as copy,
        ):
            while chunk := file.read(CHUNK):
                copy.write(chunk)

    def put_if(self, key: str, source: Path | bytes, etag: str | None) -> str | None:
        path = self.root / key
        candidate = path.with_name(f".{path.name}.{os.getpid()}.{random.getrandbits(32):08x}.part")
        with volume.failures(path):
            volume.write(candidate, source if isinstance(source, bytes) else source.read_bytes())
            new = self._stat_of(candidate.stat()).etag
            try:
                if etag is None:
                    # Unlike a rename, a link fails if its name exists.
                    os.link(candidate, path)
                else:
                    with path.open("rb") as old:
                        # Who waited for the lock finds another file under the name.
                        fcntl.flock(old, fcntl.LOCK_EX)
                        if self._stat_of(path.stat()).etag != etag:
                            return None
                        os.replace(candidate, path)
            except (FileExistsError, FileNotFoundError):
                return None
            finally:
                candidate.unlink(missing_ok=True)
            volume.sync_directory(path.parent)
        return new

    def list(self, prefix: str = "") -> Iterator[tuple[str, Stat]]:
        with volume.failures(self.root):
            for directory, _, names in os.walk(self.root / prefix.rpartition("/")[0]):
                for name in names:
                    path = Path(directory, name)
                    key = path.relative_to(self.root).as_posix()
                    if key.startswith(prefix) and not name.endswith(".part"):
                        yield key, self._stat_of(path.stat())

    def delete(self, key: str) -> None:
        with volume.failures(self.uri(key)):
            (self.root / key).unlink(missing_ok=True)


class Bucket:
    """A store in an S3 bucket, under a prefix. Credentials, region and endpoint come from the AWS chain."""

    def __init__(self, bucket: str, prefix: str, addressing_style: str):
        self.bucket = bucket
        self.prefix = prefix + "/" if prefix else ""
        self.addressing_style = addressing_style

    def uri(self, key: str) -> str:
        return f"s3://{self.bucket}/{self.prefix}{key}"

    @cached_property
    def client(self) -> Any:
        # Imported here, so that work on local files never pays for it.
        import boto3
        from botocore.config import Config

        config = Config(
            s3={"addressing_style": self.addressing_style},  # type: ignore[arg-type]
            retries={"mode": "standard", "total_max_attempts": READ_ATTEMPTS},
            max_pool_connections=32,
            connect_timeout=10,
            read_timeout=30,
        )
        return boto3.session.Session().client("s3", config=config)

    @contextlib.contextmanager
    def _failures(self, key: str) -> Iterator[None]:
        """Turns what boto3 raises into our kinds of failure."""
        from boto3.exceptions import Boto3Error
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            yield
        except ClientError as error:
            raise self._kind_of(error.response, key) from error
        except (BotoCoreError, Boto3Error, ValueError) as error:
            raise self._local_kind_of(error, key) from error

    def _kind_of(self, response: Any, key: str) -> JobError:
        """The failure for an S3 error answer."""
        code = response.get("Error", {}).get("Code", "")
        status = response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        said = f"{code} {response.get('Error', {}).get('Message', '')}".strip()
        uri = self.uri(key)
        if code == "NoSuchBucket":
            return NotFound(f"s3://{self.bucket}: no such bucket; check the name and the endpoint")
        if status == 404:
            return NotFound(f"{uri}: no such object; check the key")
        if status in (412, 416):
            # What has become shorter may lack the range: some servers look at that before the etag.
            return changed(uri)
        if status in (401, 403) or code in ("ExpiredToken", "InvalidToken", "TokenRefreshRequired"):
            return Refused(f"{uri}: storage refuses ({said}); check the credentials and what they allow")
        if status >= 500 or status in (409, 429) or code in ("RequestTimeout", "SlowDown", "BadDigest"):
            return Unavailable(f"{uri}: storage fails ({said}); try again later")
        return Contradiction(f"{uri}: storage does not accept the request ({said}); check endpoint, region and name")

    def _local_kind_of(self, error: Exception, key: str) -> JobError:
        """The failure for what boto3 found wrong before or without an answer."""
        from botocore import exceptions

        uri, reason = self.uri(key), " ".join(str(error).split())
        no_credentials = (
            exceptions.NoCredentialsError,
            exceptions.PartialCredentialsError,
            exceptions.CredentialRetrievalError,
            exceptions.TokenRetrievalError,
            exceptions.SSOError,
        )
        if isinstance(error, no_credentials):
            return Refused(f"{uri}: {reason}; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or a profile")
        if isinstance(error, (exceptions.ConnectionError, exceptions.HTTPClientError)):
            return Unavailable(f"{uri}: {reason}; check the endpoint, or try again later")
        return Contradiction(f"{uri}: {reason}; check the AWS settings")

    def stat(self, key: str) -> Stat:
        with self._failures(key):
            try:
                head = self.client.head_object(Bucket=self.bucket, Key=self.prefix + key)
            except self.client.exceptions.ClientError as error:
                if error.response["ResponseMetadata"]["HTTPStatusCode"] == 404:
                    # The answer to a HEAD has no body to tell a missing bucket from a missing object.
                    with contextlib.suppress(NotFound):
                        next(self.list(), None)
                        raise
                    raise NotFound(f"s3://{self.bucket}: no such bucket; check the name and the endpoint") from None
                raise
        return Stat(head["ContentLength"], head["ETag"])

    def stream(self, key: str, start: int, stop: int, etag: str) -> Iterator[bytes]:
        from botocore.exceptions import HTTPClientError, IncompleteReadError
        from urllib3.exceptions import HTTPError

        attempt = 0
        while start < stop:
            try:
                with self._failures(key):
                    answer = self.client.get_object(
                        Bucket=self.bucket,
                        Key=self.prefix + key,
                        Range=f"bytes={start}-{stop - 1}",
                        IfMatch=etag,
                    )
                for chunk in answer["Body"].iter_chunks(CHUNK):
                    start += len(chunk)
                    attempt = 0
                    yield chunk
            except (HTTPClientError, IncompleteReadError, HTTPError, OSError) as error:
                # botocore retries requests, but not bodies that break off.
                attempt += 1
                if attempt == READ_ATTEMPTS:
                    raise Unavailable(
                        f"{self.uri(key)}: breaks off at byte {start} ({error}); try again later"
                    ) from error
                _pause(attempt)

    def put(self, key: str, source: Path) -> None:
        with self._failures(key):
            self._put(key, source)

    def _put(self, key: str, source: Path | bytes, **condition: str) -> str:
        kind = mimetypes.guess_type(key)[0] or "application/octet-stream"
        with contextlib.ExitStack() as stack:
            body: Any = source
            if isinstance(source, Path):
                stack.enter_context(volume.failures(source))
                body = stack.enter_context(source.open("rb"))
            answer = self.client.put_object(
                Bucket=self.bucket, Key=self.prefix + key, Body=body, ContentType=kind, **condition
            )
        return str(answer["ETag"])

    def put_if(self, key: str, source: Path | bytes, etag: str | None) -> str | None:
        condition = {"IfNoneMatch": "*"} if etag is None else {"IfMatch": etag}
        attempt = 0
        while True:
            with self._failures(key):
                try:
                    return self._put(key, source, **condition)
                except self.client.exceptions.ClientError as error:
                    status = error.response["ResponseMetadata"]["HTTPStatusCode"]
                    if status == 412 or (status == 404 and etag is not None):
                        return None
                    # 409 is S3's answer while another put or delete of the key is under way: none has won yet.
                    attempt += 1
                    if status != 409 or attempt == READ_ATTEMPTS:
                        raise
            _pause(attempt)

    def list(self, prefix: str = "") -> Iterator[tuple[str, Stat]]:
        with self._failures(prefix):
            pages = self.client.get_paginator("list_objects_v2").paginate(
                Bucket=self.bucket, Prefix=self.prefix + prefix
            )
            for page in pages:
                for item in page.get("Contents", ()):
                    # Consoles make such empty objects to show a folder.
                    if not item["Key"].endswith("/"):
                        yield item["Key"].removeprefix(self.prefix), Stat(item["Size"], item["ETag"])

    def delete(self, key: str) -> None:
        with self._failures(key):
            self.client.delete_object(Bucket=self.bucket, Key=self.prefix + key)
