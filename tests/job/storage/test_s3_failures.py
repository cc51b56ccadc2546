"""Each exception of boto3, botocore and urllib3, met by each operation, gets the name of what happened."""

import errno
import http.client
import io
import os
import ssl
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import urllib3.exceptions
from boto3.exceptions import S3UploadFailedError
from botocore import exceptions
from botocore.parsers import ResponseParserError

from catsdogs.runtime.errors import ConfigError, JobError, PermissionDenied, Unavailable, VolumeError
from catsdogs.storage import s3_client
from catsdogs.storage.address import open_store
from catsdogs.storage.s3 import Bucket
from catsdogs.storage.store import StorageOptions, Store
from tests.faults.proxy import Fault, Proxy
from tests.servers import S3Server

IMPATIENT = StorageOptions(timeout=0)
ENDPOINT = {"endpoint_url": "http://storage.example:9000/bucket/key?X-Amz-Signature=5ecret"}


def put(store: Store, data: bytes = b"data") -> None:
    path = Path(os.environ["CATSDOGS_TEST_SOURCE"])
    path.write_bytes(data)
    store.put("key", path)


OPERATIONS: dict[str, Callable[[Store], object]] = {
    "put": put,
    "put_if": lambda store: store.put_if("key", b"data", None),
    "put_if_file": lambda store: store.put_if("key", Path(__file__), None),
    "stream": lambda store: list(store.stream("key", 0, 1, '"etag"')),
    "list": lambda store: list(store.list()),
    "stat": lambda store: store.stat("key"),
    "delete": lambda store: store.delete("key"),
}

EXCEPTIONS: dict[str, tuple[Exception, type[JobError]]] = {
    "read timeout": (exceptions.ReadTimeoutError(**ENDPOINT), Unavailable),
    "connect timeout": (exceptions.ConnectTimeoutError(**ENDPOINT), Unavailable),
    "TLS": (exceptions.SSLError(error=OSError("[SSL] bad record mac"), **ENDPOINT), Unavailable),
    "proxy": (exceptions.ProxyConnectionError(proxy_url="http://proxy:3128"), Unavailable),
    "refused": (exceptions.EndpointConnectionError(**ENDPOINT), Unavailable),
    "closed": (exceptions.ConnectionClosedError(**ENDPOINT), Unavailable),
    "name": (exceptions.HTTPClientError(error=OSError("[Errno -2] Name or service not known")), Unavailable),
    "streaming": (exceptions.ResponseStreamingError(error="cut"), Unavailable),
    "incomplete": (exceptions.IncompleteReadError(actual_bytes=3, expected_bytes=7), Unavailable),
    "checksum": (exceptions.FlexibleChecksumError(error_msg="crc32"), Unavailable),
    "no XML": (ResponseParserError("Unable to parse response <html>\n  <body>log in</body>"), Unavailable),
    "metadata": (exceptions.MetadataRetrievalError(error_msg="no answer"), Unavailable),
    "raw urllib3 timeout": (urllib3.exceptions.ReadTimeoutError(None, "/", "timed out"), Unavailable),  # type: ignore[arg-type]
    "raw protocol": (urllib3.exceptions.ProtocolError("broken"), Unavailable),
    "raw incomplete": (http.client.IncompleteRead(b""), Unavailable),
    "raw reset": (ConnectionResetError(errno.ECONNRESET, "reset by peer"), Unavailable),
    "raw broken pipe": (BrokenPipeError(errno.EPIPE, "broken pipe"), Unavailable),
    "raw timeout": (TimeoutError("timed out"), Unavailable),
    "raw unreachable": (OSError(errno.ENETUNREACH, "network is unreachable"), Unavailable),
    "raw TLS": (ssl.SSLError(1, "bad record mac"), Unavailable),
    "too many files": (OSError(errno.EMFILE, "too many open files"), Unavailable),
    "no credentials": (exceptions.NoCredentialsError(), PermissionDenied),
    "half of the credentials": (
        exceptions.PartialCredentialsError(provider="env", cred_var="AWS_SECRET_ACCESS_KEY"),
        PermissionDenied,
    ),
    "credentials": (
        exceptions.CredentialRetrievalError(provider="custom-process", error_msg="exit code 1"),
        PermissionDenied,
    ),
    "token": (exceptions.TokenRetrievalError(provider="sso", error_msg="expired"), PermissionDenied),
    "SSO": (exceptions.UnauthorizedSSOTokenError(), PermissionDenied),
    "login": (exceptions.LoginRefreshRequired(), PermissionDenied),
    "parameter": (exceptions.ParamValidationError(report="Invalid bucket name\n  and more"), ConfigError),
    "no region": (exceptions.NoRegionError(), ConfigError),
    "region": (exceptions.InvalidRegionError(region_name="us\neast"), ConfigError),
    "endpoint": (exceptions.InvalidEndpointConfigurationError(msg="nonsense"), ConfigError),
    "endpoint rules": (exceptions.EndpointResolutionError(msg="nonsense"), ConfigError),
    "unknown endpoint": (exceptions.UnknownEndpointError(service_name="s3", region_name="here"), ConfigError),
    "profile": (exceptions.ProfileNotFound(profile="nobodys"), ConfigError),
    "config file": (exceptions.ConfigParseError(path="/config"), ConfigError),
    "no config file": (exceptions.ConfigNotFound(path="/config"), ConfigError),
    "signature version": (exceptions.UnknownSignatureVersionError(signature_version="v9"), ConfigError),
    "a file of the settings": (FileNotFoundError(errno.ENOENT, "No such file", "/token"), ConfigError),
    "value": (ValueError("Invalid endpoint: nonsense"), ConfigError),
    "boto3": (S3UploadFailedError("failed"), ConfigError),
}


@pytest.fixture(autouse=True)
def aws(seaweedfs: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, os.devnull)
    for name, value in seaweedfs.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("CATSDOGS_TEST_SOURCE", str(tmp_path / "source"))
    monkeypatch.setattr("catsdogs.storage.s3.random.uniform", lambda low, _: low)


@pytest.fixture
def failing() -> tuple[Bucket, list[Exception]]:
    """A store whose requests raise the exception in the list where they would be sent."""
    raised: list[Exception] = []

    def fail(**_: Any) -> None:
        raise raised[0]

    store = Bucket("bucket", "prefix", IMPATIENT)
    store.client.meta.events.register("before-send.s3", fail)
    return store, raised


@pytest.mark.parametrize(
    "operation",
    [name if name in ("put", "stat") else pytest.param(name, marks=pytest.mark.slow) for name in OPERATIONS],
)
def test_every_exception_of_every_operation_has_its_name(
    operation: str, failing: tuple[Bucket, list[Exception]], subtests: pytest.Subtests
) -> None:
    store, raised = failing
    for name, (error, kind) in EXCEPTIONS.items():
        with subtests.test(name):
            raised[:] = [error]
            with pytest.raises(JobError) as caught:
                OPERATIONS[operation](store)
            assert type(caught.value) is kind
            text = str(caught.value)
            assert text.startswith("s3://bucket/prefix/")
            assert "\n" not in text
            assert "5ecret" not in text


def test_a_bug_stays_a_bug(failing: tuple[Bucket, list[Exception]]) -> None:
    store, raised = failing
    for error in (TypeError("a bug"), KeyError("a bug"), AttributeError("a bug")):
        raised[:] = [error]
        with pytest.raises(type(error)):
            OPERATIONS["stat"](store)


@pytest.mark.parametrize("operation", OPERATIONS)
def test_storage_that_stalls_is_asked_again(
    operation: str, seaweedfs: S3Server, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Silence for longer than the timeout, once: a second request, and it ends well."""
    monkeypatch.setattr(s3_client, "READ_TIMEOUT", 0.5)
    etag = seaweedfs.client().put_object(Bucket=bucket, Key="key", Body=b"data")["ETag"]
    if operation.startswith("put_if"):
        seaweedfs.client().delete_object(Bucket=bucket, Key="key")
    fault = Fault("silence", seconds=20)
    with Proxy(seaweedfs, fault) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", proxy.environment["AWS_ENDPOINT_URL_S3"])
        store = open_store(f"s3://{bucket}", StorageOptions(timeout=20))
        if operation == "stream":
            assert b"".join(store.stream("key", 0, 4, etag)) == b"data"
        else:
            OPERATIONS[operation](store)
        assert proxy.met(fault) == 1
        assert len(proxy.requests) == 2


@pytest.fixture
def deaf(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """A server that takes connections, and reads nothing: an upload fills what the kernel buffers, and stalls."""
    import socket

    accepted: list[int] = []
    kept: list[socket.socket] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)

        def accept() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                kept.append(connection)
                accepted.append(1)

        threading.Thread(target=accept, daemon=True).start()
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", f"http://127.0.0.1:{listener.getsockname()[1]}")
        yield accepted
        listener.shutdown(socket.SHUT_RDWR)
    for connection in kept:
        connection.close()


@pytest.mark.parametrize(
    "size", [10, pytest.param(8 << 20, marks=pytest.mark.slow)], ids=["before the body", "in the body"]
)
def test_an_upload_that_stalls_is_the_storages_fault(
    size: int, deaf: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """69, and the storage's address; not 74, which would let the user look for a fault of the volume."""
    monkeypatch.setattr(s3_client, "READ_TIMEOUT", 0.3)
    store = open_store("s3://bucket/run", StorageOptions(timeout=0.5))
    with pytest.raises(Unavailable, match=r"^s3://bucket/run/key: .*127\.0\.0\.1.*; check the endpoint, or try again"):
        put(store, bytes(size))
    assert len(deaf) >= 2


class Failing(io.BytesIO):
    """A file of which a read fails once so many bytes are read."""

    def __init__(self, data: bytes, limit: int):
        super().__init__(data)
        self.limit = limit

    def read(self, size: int | None = -1, /) -> bytes:
        data = super().read(size)
        if self.tell() > self.limit:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return data


@pytest.mark.parametrize("reads", ["while it is hashed", "while it is sent"])
def test_a_source_that_cannot_be_read_is_the_volumes_fault(
    reads: str, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """74 and the file's name, at once, also when botocore takes the error for one of the connection."""
    data = bytes(1 << 20)
    source = tmp_path / "model.keras"
    source.write_bytes(data)
    opened: list[Failing] = []

    def open_failing(path: Path, *_: str) -> Failing:
        file = Failing(data, 500_000 if reads == "while it is hashed" else len(data))
        opened.append(file)
        return file

    store = open_store(f"s3://{bucket}", StorageOptions(timeout=20))
    assert isinstance(store, Bucket)
    if reads == "while it is sent":

        def break_it(**_: Any) -> None:
            opened[-1].limit = 500_000

        store.client.meta.events.register("before-send.s3", break_it)
    monkeypatch.setattr(Path, "open", open_failing)
    with pytest.raises(VolumeError, match=rf"^{source}: Input/output error: check the volume"):
        store.put("key", source)
    assert len(opened) == 1, "it is not asked again"
