"""A store behind the storage broker, in a process of its own, is used as any other."""

import contextlib
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from catsdogs.runtime.errors import Changed, NotFound, PermissionDenied, Unavailable
from catsdogs.storage import broker
from catsdogs.storage.store import CHUNK, StorageOptions, read
from tests.servers import S3Server

LARGE = os.urandom(4 * CHUNK + 7)


@contextlib.contextmanager
def started(bucket: str) -> Iterator[tuple[broker.Connection, int]]:
    """A broker for a run of that bucket, and its process id."""
    ours, theirs = socket.socketpair()
    pid = os.fork()
    if pid == 0:
        ours.close()
        service = broker.StoreService(f"s3://{bucket}/data/archive.zip", f"s3://{bucket}/runs/mine", "auto")
        broker.serve(theirs, {"store": service}, lambda: None)
    theirs.close()
    connection = broker.Connection(ours)
    try:
        yield connection, pid
    finally:
        connection.close()
        with contextlib.suppress(ChildProcessError):
            # It ends by itself, once nobody has a connection any more.
            deadline = time.monotonic() + 10
            while os.waitpid(pid, os.WNOHANG) == (0, 0):
                assert time.monotonic() < deadline
                time.sleep(0.01)


@pytest.fixture
def storage(moto_s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> str:
    """A bucket that the environment leads to."""
    for name, value in moto_s3.environment.items():
        monkeypatch.setenv(name, value)
    name = f"brokered-{os.urandom(6).hex()}"
    moto_s3.client().create_bucket(Bucket=name)
    return name


def test_life_of_an_object(storage: str, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(LARGE)
    with started(storage) as (connection, _):
        run = connection.store(f"s3://{storage}/runs/mine", StorageOptions())
        assert run.uri("a/b") == f"s3://{storage}/runs/mine/a/b"
        assert not run.detects_corruption
        with pytest.raises(NotFound, match="runs/mine/large: no such object; check the key"):
            run.stat("large")
        run.put("large", path)
        stat = run.stat("large")
        assert stat.size == len(LARGE)
        assert read(run, "large") == LARGE
        with pytest.raises(Changed, match="runs/mine/large: changed while it was read"):
            list(run.stream("large", 0, 1, '"other"'))
        # Whoever stops reading can go on with something else.
        stream = run.stream("large", 0, len(LARGE), stat.etag)
        assert LARGE.startswith(next(stream))
        del stream
        with path.open("rb") as file:
            file.seek(100)
            run.put("from an open file", file)
        assert read(run, "from an open file") == LARGE
        etag = run.put_if("once", b"first", None)
        assert etag
        assert run.put_if("once", b"second", None) is None
        assert run.put_if("once", path, etag) not in (None, etag)
        assert read(run, "once") == LARGE
        assert sorted(key for key, _ in run.list()) == ["from an open file", "large", "once"]
        run.delete("large")
        assert [key for key, _ in run.list("l")] == []
        assert connection.store(f"s3://{storage}/runs/mine/inner", StorageOptions()).put_if("x", b"", None)
        assert "inner/x" in [key for key, _ in run.list()]


@pytest.mark.parametrize(
    ("store", "key", "allowed"),
    [
        ("data", "archive.zip", {"stat", "stream"}),
        ("data", "other.zip", set()),
        ("data/archive.zip", "x", set()),
        ("runs", "other/run.json", set()),
        ("runs", "mine2/run.json", set()),
        ("runs/mine", "run.json", {"stat", "stream", "put_if", "delete"}),
    ],
)
def test_nothing_but_its_run(
    store: str, key: str, allowed: set[str], storage: str, moto_s3: S3Server, subtests: pytest.Subtests
) -> None:
    """Whoever has taken over the training process gets no further with its connection."""
    with started(storage) as (connection, _):
        there = connection.store(f"s3://{storage}/{store}", StorageOptions(timeout=0))
        uses: dict[str, Callable[[], object]] = {
            "put_if": lambda: there.put_if(key, b"data", None),
            "stat": lambda: there.stat(key),
            "stream": lambda: list(there.stream(key, 0, 1, '"x"')),
            "delete": lambda: there.delete(key),
        }
        for name, use in uses.items():
            with subtests.test(use=name):
                context = contextlib.suppress(NotFound, Changed)
                with context if name in allowed else pytest.raises(PermissionDenied, match="not this run's"):
                    use()
        with pytest.raises(PermissionDenied, match="not this run's"):
            list(connection.store(f"s3://{storage}", StorageOptions(timeout=0)).list())


def test_retries_are_reported_where_they_are_waited_for(storage: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:9")
    reported: list[str] = []
    options = StorageOptions(timeout=0.5, on_retry=lambda reason, _left: reported.append(reason))
    with started(storage) as (connection, _), pytest.raises(Unavailable, match="check the endpoint"):
        connection.store(f"s3://{storage}/runs/mine", options).stat("run.json")
    assert len(reported) == 1


def test_a_broker_that_is_gone(storage: str) -> None:
    with started(storage) as (connection, pid):
        run = connection.store(f"s3://{storage}/runs/mine", StorageOptions())
        ended: list[bool] = []
        connection.watch(lambda: ended.append(True))
        run.put_if("x", b"1", None)
        os.kill(pid, signal.SIGKILL)
        for _ in range(2):
            with pytest.raises(Unavailable, match="the storage process has ended"):
                run.stat("x")
        deadline = time.monotonic() + 5
        while not ended:
            assert time.monotonic() < deadline
            time.sleep(0.01)
