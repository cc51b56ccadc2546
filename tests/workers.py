"""Several workers of one run on this machine: the real command, once per worker, each with its own ports."""

import contextlib
import random
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from catsdogs.workers import handshake
from catsdogs.workers.transport import Connection
from tests.faults.running import Job, together

RUN_ID = "together"
COUNTS = ("--train-per-class=14", "--validation-per-class=5", "--test-per-class=5")
MODEL = (*COUNTS, "--image-size=64", "--batch-size=6", "--learning-rate=0.00003")
"""Without dropout, whose noise differs between workers; five steps per epoch, the last with four images. At this
low rate, the float sums of two workers differ little for more than an epoch."""
HEARTBEAT = 5
"""Seconds."""
KEY = b"0123456789abcdef" * 4


def addresses(workers: int, host: str = "127.0.0.1") -> str:
    """Return an address for each worker, comma-separated, whose port and the one after it are free."""
    ports: list[int] = []
    while len(ports) < workers:
        port = random.randrange(20000, 32000, 2)
        with contextlib.suppress(OSError), contextlib.ExitStack() as stack:
            for number in (port, port + 1):
                stack.enter_context(socket.create_server((host, number)))
            ports += [port] if port not in ports else []
    return ",".join(f"{host}:{port}" for port in ports)


def arguments(directory: Path, archive: Path, *more: str) -> list[str]:
    """Return the arguments of one run on one volume, the same for any number of workers."""
    where = (f"--archive={archive}", f"--output={directory / 'runs'}", f"--volume={directory / 'volume'}")
    return ["run", *where, f"--run-id={RUN_ID}", "--log-format=json", f"--heartbeat-timeout={HEARTBEAT}", *MODEL, *more]


def started(workers: int, directory: Path, archive: Path, *more: str) -> "contextlib.AbstractContextManager[list[Job]]":
    """Start all workers of a run. None outlives the block."""
    listed = addresses(workers)
    return together([worker(index, workers, listed, directory, archive, *more) for index in range(workers)])


def worker(index: int, workers: int, listed: str, directory: Path, archive: Path, *more: str) -> Job:
    return Job(
        *arguments(directory, archive, *options(index, workers, listed, directory), *more), env={}, directory=directory
    )


def options(index: int, workers: int, listed: str, directory: Path) -> tuple[str, ...]:
    """Return the options of one of several workers. The directory has their key."""
    directory.mkdir(parents=True, exist_ok=True)
    key_file = directory / "key"
    key_file.write_bytes(KEY)
    return (
        f"--workers={workers}", f"--worker-index={index}", f"--worker-address={listed}",
        f"--worker-key-file={key_file}",
    )  # fmt: skip


def rows_of(text: bytes) -> Iterator[tuple[float, ...]]:
    from tests.published import rows

    for row in rows(text):
        yield tuple(float(row[name]) for name in ("epoch", "loss", "accuracy", "val_loss", "val_accuracy"))


def connected(worker: int, key: bytes = KEY, timeout: float = 60.0) -> tuple[Connection, Connection]:
    """Return both ends of a connection between two workers, `worker`'s first."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        near = socket.create_connection(server.getsockname())
        far, _ = server.accept()
    deadline = time.monotonic() + 10
    with ThreadPoolExecutor(1) as pool:
        calling = pool.submit(handshake.call, far if worker == 0 else near, key, deadline)
        answered = handshake.answer(near if worker == 0 else far, key, deadline)
        called = calling.result()
    own, other = (answered, called) if worker == 0 else (called, answered)
    return Connection(near, timeout, own), Connection(far, timeout, other)
