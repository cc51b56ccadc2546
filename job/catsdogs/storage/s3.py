"""A store in an S3 bucket. Imports boto3 when the first request is made."""

import builtins
import contextlib
import functools
import mimetypes
import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, TypedDict, TypeVar

from catsdogs.runtime.errors import (
    Changed,
    ConfigError,
    JobError,
    NotFound,
    PermissionDenied,
    Unavailable,
    VolumeError,
)
from catsdogs.storage import volume
from catsdogs.storage.s3_client import SharedClient
from catsdogs.storage.s3_failures import reason_of, s3_failures
from catsdogs.storage.store import CHUNK, Source, Stat, StorageOptions

if TYPE_CHECKING:
    from botocore.response import StreamingBody
    from mypy_boto3_s3 import S3Client

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

    def __init__(
        self, bucket: str, prefix: str, storage_options: StorageOptions, shared_client: SharedClient | None = None
    ):
        self.bucket = bucket
        self.prefix = prefix + "/" if prefix else ""
        self.storage_options = storage_options
        self.shared_client = shared_client or SharedClient(storage_options.addressing_style)
        self._reported = -REPORT_SECONDS

    def uri(self, key: str) -> str:
        return f"s3://{self.bucket}/{self.prefix}{key}"

    def within(self, name: str) -> "Bucket":
        # A new client would take a tenth of a second.
        return Bucket(self.bucket, self.prefix + name, self.storage_options, self.shared_client)

    @property
    def client(self) -> "S3Client":
        return self.shared_client.current

    @property
    def detects_corruption(self) -> bool:
        # S3 sends no checksum of a byte range, but TLS checks every record.
        with s3_failures(self.uri("")):
            return self.client.meta.endpoint_url.startswith("https:")

    def _request(self, key: str, send: "Callable[[S3Client], Result]", budget: "_RetryBudget | None" = None) -> Result:
        """Return what `send` returns. Retries while storage is unavailable and the budget lasts.

        Retries once with other credentials, if storage refuses these and there are others by now.
        """
        budget = budget or _RetryBudget(self)
        renewed = False
        while True:
            client = None
            try:
                with s3_failures(self.uri(key)):
                    client = self.client
                    result = send(client)
            except PermissionDenied:
                if renewed or client is None or not self._renew(client, key):
                    raise
                renewed = True
            except Unavailable as error:
                budget.wait(error)
            else:
                if self.shared_client.confirm():
                    self.storage_options.on_renewal(self.uri(""))
                return result

    def _renew(self, refused: "S3Client", key: str) -> bool:
        """Read the credentials again. Return whether they are others than the refused client's."""
        try:
            with s3_failures(self.uri(key)):
                return self.shared_client.renew(refused)
        except JobError:
            # The refusal is what is reported.
            return False

    def report_retry(self, error: Unavailable, left: float) -> None:
        """Report a failed attempt and the seconds left, unless another was reported recently."""
        if time.monotonic() - self._reported >= REPORT_SECONDS:
            self._reported = time.monotonic()
            self.storage_options.on_retry(str(error), left)

    def stat(self, key: str) -> Stat:
        def head(client: "S3Client") -> Stat:
            answer = client.head_object(Bucket=self.bucket, Key=self.prefix + key)
            with self._complete_answers(key):
                return Stat(answer["ContentLength"], answer["ETag"])

        try:
            return self._request(key, head)
        except (NotFound, ConfigError) as error:
            # The response to a HEAD has no body, so it does not say whether the bucket or the object is missing, or
            # whether the credentials have expired.
            next(self.list(), None)
            if isinstance(error, NotFound):
                raise
            return self._request(key, head)

    @contextlib.contextmanager
    def _complete_answers(self, key: str) -> Iterator[None]:
        """Raises Unavailable for an answer that lacks what all of S3's have, as that of a proxy's own page does."""
        try:
            yield
        except KeyError as missing:
            raise Unavailable(
                f"{self.uri(key)}: the answer is not one of S3 (no {missing}); check the endpoint, or try again later"
            ) from None

    def stream(self, key: str, start: int, stop: int, etag: str) -> Iterator[bytes]:
        def get(client: "S3Client") -> "tuple[int, StreamingBody]":
            answer = client.get_object(
                Bucket=self.bucket, Key=self.prefix + key, Range=f"bytes={start}-{stop - 1}", IfMatch=etag
            )
            with self._complete_answers(key):
                return answer["ContentLength"], answer["Body"]

        budget = _RetryBudget(self)
        while start < stop:
            size, body = self._request(key, get, budget)
            if size > stop - start:
                raise ConfigError(f"{self.uri(key)}: storage ignores byte ranges; use a storage that supports them")
            reason = "connection closed"
            try:
                with s3_failures(self.uri(key)):
                    for chunk in body.iter_chunks(CHUNK):
                        start += len(chunk)
                        budget.renew()
                        yield chunk
            except Unavailable as error:
                reason = reason_of(error.__cause__ or error)
            if start < stop:
                budget.wait(Unavailable(f"{self.uri(key)}: read stopped at byte {start} ({reason}); try again later"))

    def put(self, key: str, source: Source) -> None:
        self._put(key, source, {})

    def _put(self, key: str, source: Source, condition: _Condition) -> str:
        """Return the new etag. Raises Changed or NotFound if the condition fails."""
        content_type = mimetypes.guess_type(key)[0] or "application/octet-stream"

        def put(client: "S3Client") -> str:
            with contextlib.ExitStack() as stack:
                body: bytes | _Body
                if isinstance(source, Path):
                    with volume.failures(source):
                        body = _Body(stack.enter_context(source.open("rb")), source)
                elif isinstance(source, bytes):
                    body = source
                else:
                    body = _Body(source, getattr(source, "name", ""))
                    # An earlier attempt may have read it.
                    body.seek(0)
                try:
                    answer = client.put_object(
                        Bucket=self.bucket,
                        Key=self.prefix + key,
                        # Of a file botocore needs no more than _Body has.
                        Body=body,  # type: ignore[arg-type]
                        ContentType=content_type,
                        **condition,
                    )
                except Exception:
                    if isinstance(body, _Body) and body.failure is not None:
                        raise body.failure from None
                    raise
            with self._complete_answers(key):
                return answer["ETag"]

        return self._request(key, put)

    def put_if(self, key: str, source: Source, etag: str | None) -> str | None:
        try:
            return self._put(key, source, {"IfNoneMatch": "*"} if etag is None else {"IfMatch": etag})
        except Changed:
            return None
        except NotFound:
            if etag is None:
                raise
            return None

    def list(
        self, prefix: str = "", on_unreadable: Callable[[str, JobError], None] | None = None
    ) -> Iterator[tuple[str, Stat]]:
        next_page: _Continuation = {}
        while True:
            objects, following = self._request(prefix, functools.partial(self._page, prefix, next_page))
            yield from objects
            if following is None:
                return
            if following == next_page:
                raise Unavailable(
                    f"{self.uri(prefix)}: storage lists the same objects again and again; check the endpoint, or try"
                    " again later"
                )
            next_page = following

    def _page(
        self, prefix: str, start: _Continuation, client: "S3Client"
    ) -> "tuple[builtins.list[tuple[str, Stat]], _Continuation | None]":
        """Return the objects of one page of a listing, and where the next page starts."""
        page = client.list_objects_v2(Bucket=self.bucket, Prefix=self.prefix + prefix, **start)
        with self._complete_answers(prefix):
            objects = [
                (item["Key"].removeprefix(self.prefix), Stat(item["Size"], item["ETag"]))
                for item in page.get("Contents", ())
                # Consoles create empty objects to show folders.
                if not item["Key"].endswith("/")
            ]
            return objects, {"ContinuationToken": page["NextContinuationToken"]} if page.get("IsTruncated") else None

    def delete(self, key: str) -> None:
        self._request(key, lambda client: client.delete_object(Bucket=self.bucket, Key=self.prefix + key))


class _Body:
    """A file to upload. If it cannot be read, the volume fails, whatever botocore makes of the exception."""

    def __init__(self, file: IO[bytes], name: object):
        self._file, self._name = file, str(name)
        self.failure: VolumeError | None = None

    def read(self, size: int = -1) -> bytes:
        return self._attempt(lambda: self._file.read(size))

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._attempt(lambda: self._file.seek(offset, whence))

    def tell(self) -> int:
        return self._attempt(self._file.tell)

    def _attempt(self, act: Callable[[], Result]) -> Result:
        try:
            with volume.failures(self._name):
                return act()
        except VolumeError as error:
            self.failure = error
            raise


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
