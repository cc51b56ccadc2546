"""A store in an S3 bucket. The only module that imports boto3, when a bucket is first used."""

import contextlib
import functools
import mimetypes
import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from catsdogs.runtime.errors import Changed, ConfigError, JobError, NotFound, PermissionDenied, Unavailable
from catsdogs.storage import volume
from catsdogs.storage.store import CHUNK, Stat, StorageOptions

Result = TypeVar("Result")

MAX_PAUSE = 15.0
"""Seconds between two attempts."""
TELL_EVERY = 10.0
"""Seconds between two words about a storage that is waited for."""


class Bucket:
    """A store in an S3 bucket, under a prefix. Credentials, region and endpoint come from the AWS chain."""

    def __init__(self, bucket: str, prefix: str, storage_options: StorageOptions):
        self.bucket = bucket
        self.prefix = prefix + "/" if prefix else ""
        self.storage_options = storage_options
        self._told = -TELL_EVERY

    def uri(self, key: str) -> str:
        return f"s3://{self.bucket}/{self.prefix}{key}"

    def within(self, name: str) -> "Bucket":
        bucket = Bucket(self.bucket, self.prefix + name, self.storage_options)
        # To make one takes a tenth of a second.
        bucket.client = self.client
        return bucket

    @functools.cached_property
    def client(self) -> Any:
        # Imported here, so that work on local files never pays for it.
        import boto3
        from botocore.config import Config

        config = Config(
            s3={"addressing_style": self.storage_options.addressing_style},  # type: ignore[arg-type]
            # One way to wait, ours: botocore's own gives a refused connection up after a second.
            retries={"mode": "standard", "total_max_attempts": 1},
            max_pool_connections=32,
            connect_timeout=10,
            read_timeout=30,
        )
        return boto3.session.Session().client("s3", config=config)

    @property
    def detects_corruption(self) -> bool:
        # Of a range S3 sends no checksum, but TLS has one of every record.
        return bool(self.client.meta.endpoint_url.startswith("https:"))

    def _request(self, key: str, send: Callable[[], Result], budget: "_RetryBudget | None" = None) -> Result:
        """What `send` returns; sent again while storage is unavailable and there is patience."""
        budget = budget or _RetryBudget(self)
        while True:
            try:
                with self._failures(key):
                    return send()
            except Unavailable as error:
                budget.wait(error)

    def tell(self, error: Unavailable, left: float) -> None:
        """Says that an attempt failed, though not for each of many."""
        if time.monotonic() - self._told >= TELL_EVERY:
            self._told = time.monotonic()
            self.storage_options.waiting(str(error), left)

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
            return Changed(uri)
        if status in (401, 403) or code in ("ExpiredToken", "InvalidToken", "TokenRefreshRequired"):
            return PermissionDenied(f"{uri}: storage refuses ({said}); check the credentials and what they allow")
        if status >= 500 or status in (409, 429) or code in ("RequestTimeout", "SlowDown", "BadDigest"):
            return Unavailable(f"{uri}: storage fails ({said}); try again later")
        return ConfigError(f"{uri}: storage does not accept the request ({said}); check endpoint, region and name")

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
            return PermissionDenied(f"{uri}: {reason}; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or a profile")
        if isinstance(error, (exceptions.ConnectionError, exceptions.HTTPClientError)):
            return Unavailable(f"{uri}: {reason}; check the endpoint, or try again later")
        return ConfigError(f"{uri}: {reason}; check the AWS settings")

    def stat(self, key: str) -> Stat:
        try:
            head = self._request(key, lambda: self.client.head_object(Bucket=self.bucket, Key=self.prefix + key))
        except NotFound:
            # The answer to a HEAD has no body to tell a missing bucket from a missing object.
            next(self.list(), None)
            raise
        return Stat(head["ContentLength"], head["ETag"])

    def stream(self, key: str, start: int, stop: int, etag: str) -> Iterator[bytes]:
        from botocore.exceptions import HTTPClientError, IncompleteReadError
        from urllib3.exceptions import HTTPError

        def get() -> Any:
            return self.client.get_object(
                Bucket=self.bucket, Key=self.prefix + key, Range=f"bytes={start}-{stop - 1}", IfMatch=etag
            )

        budget = _RetryBudget(self)
        while start < stop:
            answer = self._request(key, get, budget)
            if answer["ContentLength"] > stop - start:
                raise ConfigError(f"{self.uri(key)}: storage sends all of it where a range is asked for; use another")
            reason: Exception | str = "no more came"
            try:
                for chunk in answer["Body"].iter_chunks(CHUNK):
                    start += len(chunk)
                    budget.renew()
                    yield chunk
            except (HTTPClientError, IncompleteReadError, HTTPError, OSError) as error:
                reason = error
            if start < stop:
                budget.wait(Unavailable(f"{self.uri(key)}: breaks off at byte {start} ({reason}); try again later"))

    def put(self, key: str, source: Path) -> None:
        self._put(key, source)

    def _put(self, key: str, source: Path | bytes, **condition: str) -> str:
        kind = mimetypes.guess_type(key)[0] or "application/octet-stream"

        def put() -> Any:
            with contextlib.ExitStack() as stack:
                body: Any = source
                if isinstance(source, Path):
                    stack.enter_context(volume.failures(source))
                    body = stack.enter_context(source.open("rb"))
                return self.client.put_object(
                    Bucket=self.bucket, Key=self.prefix + key, Body=body, ContentType=kind, **condition
                )

        return str(self._request(key, put)["ETag"])

    def put_if(self, key: str, source: Path | bytes, etag: str | None) -> str | None:
        condition = {"IfNoneMatch": "*"} if etag is None else {"IfMatch": etag}
        try:
            return self._put(key, source, **condition)
        except Changed:
            return None
        except NotFound:
            if etag is None:
                raise
            return None

    def list(self, prefix: str = "") -> Iterator[tuple[str, Stat]]:
        more: dict[str, str] = {}
        while True:
            page = self._request(prefix, functools.partial(self._page, prefix, more))
            for item in page.get("Contents", ()):
                # Consoles make such empty objects to show a folder.
                if not item["Key"].endswith("/"):
                    yield item["Key"].removeprefix(self.prefix), Stat(item["Size"], item["ETag"])
            if not page.get("IsTruncated"):
                return
            more = {"ContinuationToken": page["NextContinuationToken"]}

    def _page(self, prefix: str, more: dict[str, str]) -> Any:
        return self.client.list_objects_v2(Bucket=self.bucket, Prefix=self.prefix + prefix, **more)

    def delete(self, key: str) -> None:
        self._request(key, lambda: self.client.delete_object(Bucket=self.bucket, Key=self.prefix + key))


class _RetryBudget:
    """Decides after each failure of a bucket whether there is another attempt: until `timeout` s without success."""

    def __init__(self, bucket: Bucket):
        self.bucket = bucket
        self.renew()

    def renew(self) -> None:
        """There was success."""
        self.attempt = 0

    def wait(self, error: Unavailable) -> None:
        """Pauses before the next attempt: longer each time, and random, so that many do not come at once.

        Raises the error if the time is over. The last attempt comes when it ends.
        """
        if self.attempt == 0:
            self.deadline = time.monotonic() + self.bucket.storage_options.timeout
        self.attempt += 1
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise error
        self.bucket.tell(error, left)
        time.sleep(min(left, random.uniform(0, min(MAX_PAUSE, 2**self.attempt / 2))))
