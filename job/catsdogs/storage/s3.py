"""A store in an S3 bucket. The only module that imports boto3, when the first request is made."""

import contextlib
import functools
import mimetypes
import random
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict, TypeVar

from catsdogs.runtime.errors import Changed, ConfigError, JobError, NotFound, PermissionDenied, Unavailable
from catsdogs.storage import volume
from catsdogs.storage.store import CHUNK, Source, Stat, StorageOptions

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import GetObjectOutputTypeDef, ListObjectsV2OutputTypeDef, PutObjectOutputTypeDef

Result = TypeVar("Result")

MAX_PAUSE = 15.0
"""Seconds between two attempts."""
REPORT_SECONDS = 10.0
"""Seconds between two reports of a retry, at least."""


class _Condition(TypedDict, total=False):
    """Of a conditional put."""

    IfMatch: str
    IfNoneMatch: str


class _Continuation(TypedDict, total=False):
    """Where the next page of a listing starts."""

    ContinuationToken: str


class Bucket:
    """A bucket, or the part of it under a prefix. Credentials, region and endpoint come from the AWS chain."""

    def __init__(self, bucket: str, prefix: str, storage_options: StorageOptions):
        self.bucket = bucket
        self.prefix = prefix + "/" if prefix else ""
        self.storage_options = storage_options
        self._reported = -REPORT_SECONDS

    def uri(self, key: str) -> str:
        return f"s3://{self.bucket}/{self.prefix}{key}"

    def within(self, name: str) -> "Bucket":
        bucket = Bucket(self.bucket, self.prefix + name, self.storage_options)
        # A new client would take a tenth of a second.
        bucket.client = self.client
        return bucket

    @functools.cached_property
    def client(self) -> "S3Client":
        # Imported here, so that work on local files does not wait for it.
        import boto3
        from botocore.config import Config

        config = Config(
            s3={"addressing_style": self.storage_options.addressing_style},  # type: ignore[arg-type]
            # Only this module retries: botocore gives up on a refused connection after a second.
            retries={"mode": "standard", "total_max_attempts": 1},
            max_pool_connections=32,
            connect_timeout=10,
            read_timeout=30,
        )
        return boto3.session.Session().client("s3", config=config)

    @property
    def detects_corruption(self) -> bool:
        # S3 sends no checksum of a byte range, but TLS checks every record.
        return self.client.meta.endpoint_url.startswith("https:")

    def _request(self, key: str, send: Callable[[], Result], budget: "_RetryBudget | None" = None) -> Result:
        """Return what `send` returns. Retries while storage is unavailable and the budget lasts."""
        budget = budget or _RetryBudget(self)
        while True:
            try:
                with self._failures(key):
                    return send()
            except Unavailable as error:
                budget.wait(error)

    def report_retry(self, error: Unavailable, left: float) -> None:
        """Report a failed attempt and the seconds left, unless another was reported recently."""
        if time.monotonic() - self._reported >= REPORT_SECONDS:
            self._reported = time.monotonic()
            self.storage_options.on_retry(str(error), left)

    @contextlib.contextmanager
    def _failures(self, key: str) -> Iterator[None]:
        """Turn the exceptions of boto3 into those of `catsdogs.runtime.errors`."""
        from boto3.exceptions import Boto3Error
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            yield
        except ClientError as error:
            raise self._response_error(error.response, key) from error
        except (BotoCoreError, Boto3Error, ValueError) as error:
            raise self._client_error(error, key) from error

    def _response_error(self, response: Mapping[str, Any], key: str) -> JobError:
        """Return the error for an S3 error response."""
        code = response.get("Error", {}).get("Code", "")
        status = response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        reason = f"{code} {response.get('Error', {}).get('Message', '')}".strip()
        uri = self.uri(key)
        if code == "NoSuchBucket":
            return NotFound(f"s3://{self.bucket}: no such bucket; check the name and the endpoint")
        if status == 404:
            return NotFound(f"{uri}: no such object; check the key")
        if status in (412, 416):
            # A changed object may be too short for the range; some servers check that before the etag.
            return Changed(uri)
        if status in (401, 403) or code in ("ExpiredToken", "InvalidToken", "TokenRefreshRequired"):
            return PermissionDenied(f"{uri}: storage refuses ({reason}); check the credentials and what they allow")
        if status >= 500 or status in (409, 429) or code in ("RequestTimeout", "SlowDown", "BadDigest"):
            return Unavailable(f"{uri}: storage fails ({reason}); try again later")
        return ConfigError(f"{uri}: storage rejects the request ({reason}); check endpoint, region and name")

    def _client_error(self, error: Exception, key: str) -> JobError:
        """Return the error for a failure without a response: no credentials, no connection, wrong settings."""
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
            # The response to a HEAD has no body, so it does not say whether the bucket or the object is missing.
            next(self.list(), None)
            raise
        return Stat(head["ContentLength"], head["ETag"])

    def stream(self, key: str, start: int, stop: int, etag: str) -> Iterator[bytes]:
        from botocore.exceptions import HTTPClientError, IncompleteReadError
        from urllib3.exceptions import HTTPError

        def get() -> "GetObjectOutputTypeDef":
            return self.client.get_object(
                Bucket=self.bucket, Key=self.prefix + key, Range=f"bytes={start}-{stop - 1}", IfMatch=etag
            )

        budget = _RetryBudget(self)
        while start < stop:
            response = self._request(key, get, budget)
            if response["ContentLength"] > stop - start:
                raise ConfigError(f"{self.uri(key)}: storage ignores byte ranges; use a storage that supports them")
            reason: Exception | str = "connection closed"
            try:
                for chunk in response["Body"].iter_chunks(CHUNK):
                    start += len(chunk)
                    budget.renew()
                    yield chunk
            except (HTTPClientError, IncompleteReadError, HTTPError, OSError) as error:
                reason = error
            if start < stop:
                budget.wait(Unavailable(f"{self.uri(key)}: read stopped at byte {start} ({reason}); try again later"))

    def put(self, key: str, source: Source) -> None:
        self._put(key, source, {})

    def _put(self, key: str, source: Source, condition: _Condition) -> str:
        """Return the new etag. Raises Changed or NotFound if the condition fails."""
        content_type = mimetypes.guess_type(key)[0] or "application/octet-stream"

        def put() -> "PutObjectOutputTypeDef":
            with contextlib.ExitStack() as stack:
                if isinstance(source, Path):
                    stack.enter_context(volume.failures(source))
                body = stack.enter_context(source.open("rb")) if isinstance(source, Path) else source
                if not isinstance(body, bytes):
                    # An earlier attempt may have read it.
                    body.seek(0)
                return self.client.put_object(
                    Bucket=self.bucket, Key=self.prefix + key, Body=body, ContentType=content_type, **condition
                )

        return self._request(key, put)["ETag"]

    def put_if(self, key: str, source: Source, etag: str | None) -> str | None:
        try:
            return self._put(key, source, {"IfNoneMatch": "*"} if etag is None else {"IfMatch": etag})
        except Changed:
            return None
        except NotFound:
            if etag is None:
                raise
            return None

    def list(self, prefix: str = "") -> Iterator[tuple[str, Stat]]:
        next_page: _Continuation = {}
        while True:
            page = self._request(prefix, functools.partial(self._page, prefix, next_page))
            for item in page.get("Contents", ()):
                # Consoles create empty objects to show folders.
                if not item["Key"].endswith("/"):
                    yield item["Key"].removeprefix(self.prefix), Stat(item["Size"], item["ETag"])
            if not page.get("IsTruncated"):
                return
            next_page = {"ContinuationToken": page["NextContinuationToken"]}

    def _page(self, prefix: str, start: _Continuation) -> "ListObjectsV2OutputTypeDef":
        return self.client.list_objects_v2(Bucket=self.bucket, Prefix=self.prefix + prefix, **start)

    def delete(self, key: str) -> None:
        self._request(key, lambda: self.client.delete_object(Bucket=self.bucket, Key=self.prefix + key))


class _RetryBudget:
    """How long a bucket's request is retried: for `timeout` seconds without success."""

    def __init__(self, bucket: Bucket):
        self._bucket = bucket
        self.renew()

    def renew(self) -> None:
        """Start afresh after a success."""
        self._attempt = 0

    def wait(self, error: Unavailable) -> None:
        """Pause before the next attempt, or raise the error if the time is over.

        Pauses grow, and are random so that many clients do not retry at once. The last attempt is made when the time
        ends.
        """
        if self._attempt == 0:
            self._deadline = time.monotonic() + self._bucket.storage_options.timeout
        self._attempt += 1
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise error
        self._bucket.report_retry(error, left)
        time.sleep(min(left, random.uniform(0, min(MAX_PAUSE, 2**self._attempt / 2))))
