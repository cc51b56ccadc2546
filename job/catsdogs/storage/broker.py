"""The storage broker: a process that alone holds the credentials, and works on the stores for one that has none.

TensorFlow's port, which several workers need, lets any peer read what the training process can read. So that process
has a `Connection` to the broker instead of credentials: sockets over which it may ask for the objects of its run, and
for nothing else. The broker is its child, and ends with it; without the broker it cannot go on.
"""

import contextlib
import json
import os
import socket
import struct
import threading
import traceback
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple, NoReturn

from catsdogs.runtime.errors import JobError, PermissionDenied, Unavailable
from catsdogs.storage import volume
from catsdogs.storage.store import Source, Stat, StorageOptions, Store

WORKER_KEY = "worker key"
"""The service that reads the key by which the workers know each other, in a file that its caller cannot read."""
_SIZES = struct.Struct(">II")
"""Of a frame: bytes of its head, which is JSON, and of its body."""
_MAX_DESCRIPTORS = 128


class Frame(NamedTuple):
    head: dict[str, Any]
    body: bytes = b""
    descriptors: Sequence[int] = ()
    """Open files that the receiver has to close."""


Reply = Callable[[Frame], None]
"""Sends a frame, of which a call may have any number before its result."""
Service = Callable[[Frame, Reply], Any]
"""Serves one call, whose result can be written as JSON."""


class _Frames:
    """Frames over one socket. Raises EOFError once the other side is gone."""

    def __init__(self, connected: socket.socket):
        self._socket = connected

    def send(self, frame: Frame) -> None:
        head = json.dumps(frame.head).encode()
        sizes = _SIZES.pack(len(head), len(frame.body))
        try:
            socket.send_fds(self._socket, [sizes], list(frame.descriptors))
            self._socket.sendall(head)
            self._socket.sendall(frame.body)
        except OSError as error:
            raise EOFError from error

    def receive(self) -> Frame:
        flags = socket.MSG_CMSG_CLOEXEC | socket.MSG_WAITALL
        try:
            first, descriptors, _, _ = socket.recv_fds(self._socket, _SIZES.size, _MAX_DESCRIPTORS, flags)
            if len(first) < _SIZES.size:
                raise EOFError
            head, body = _SIZES.unpack(first)
            return Frame(json.loads(self._read(head)), self._read(body), descriptors)
        except OSError as error:
            raise EOFError from error

    def _read(self, size: int) -> bytes:
        data = bytearray(size)
        view = memoryview(data)
        while view:
            count = self._socket.recv_into(view)
            if not count:
                raise EOFError
            view = view[count:]
        return bytes(data)

    def close(self) -> None:
        self._socket.close()


def serve(control: socket.socket, services: Mapping[str, Service], at_end: Callable[[], None]) -> NoReturn:
    """Serve every connection that comes over `control`, each in a thread, until the other side is gone."""
    while True:
        try:
            data, descriptors, _, _ = socket.recv_fds(control, 1, 1, socket.MSG_CMSG_CLOEXEC)
        except OSError:
            data = b""
        if not data:
            at_end()
            os._exit(0)
        for descriptor in descriptors:
            frames = _Frames(socket.socket(fileno=descriptor))
            threading.Thread(target=_serve_one, args=(frames, services), daemon=True).start()


def _serve_one(frames: _Frames, services: Mapping[str, Service]) -> None:
    with contextlib.suppress(EOFError), contextlib.closing(frames):
        while True:
            call = frames.receive()
            try:
                result = {"result": services[call.head["service"]](call, frames.send)}
            except JobError as error:
                result = {"error": type(error).__name__, "text": str(error)}
            except EOFError:
                raise
            except OSError as error:
                result = {"errno": error.errno, "text": error.strerror}
            except Exception:
                traceback.print_exc()
                result = {"error": ""}
            finally:
                for descriptor in call.descriptors:
                    os.close(descriptor)
            frames.send(Frame(result))


class Connection:
    """The training process' side. Any thread may call."""

    def __init__(self, control: socket.socket):
        self._control = control
        self._idle: list[_Frames] = []

    def watch(self, on_end: Callable[[], None]) -> None:
        """From now on, call `on_end` from a thread once the broker is gone."""

        def wait() -> None:
            with contextlib.suppress(OSError):
                self._control.recv(1)
            on_end()

        threading.Thread(target=wait, name="broker", daemon=True).start()

    def call(
        self, service: str, name: str, body: bytes = b"", descriptors: Sequence[int] = (), **arguments: object
    ) -> Any:
        """Return the call's result. Raises the broker's JobError, and Unavailable if the broker is gone."""
        return _result(self.frames(service, name, body, descriptors, **arguments))

    def frames(
        self, service: str, name: str, body: bytes = b"", descriptors: Sequence[int] = (), **arguments: object
    ) -> Generator[Frame, None, None]:
        """Yield the call's frames, the last of which has its `result`. Raises what `call` raises."""
        frames = None
        try:
            frames = self._idle.pop() if self._idle else self._connect()
            frames.send(Frame({"service": service, "name": name, **arguments}, body, descriptors))
            while True:
                frame = frames.receive()
                if "error" in frame.head or "errno" in frame.head:
                    self._idle.append(frames)
                    raise _error(frame.head)
                if "result" in frame.head:
                    self._idle.append(frames)
                    yield frame
                    return
                try:
                    yield frame
                except GeneratorExit:
                    # The rest of what the broker sends is not read.
                    frames.close()
                    raise
        except EOFError:
            if frames is not None:
                frames.close()
            raise Unavailable("the storage process has ended; start the worker again") from None

    def _connect(self) -> _Frames:
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                socket.send_fds(self._control, [b"c"], [theirs.fileno()])
            except OSError as error:
                ours.close()
                raise EOFError from error
        return _Frames(ours)

    def close(self) -> None:
        """Let the broker go. No call may be under way."""
        for frames in self._idle:
            frames.close()
        self._control.close()

    def store(self, uri: str, storage_options: StorageOptions) -> "BrokeredStore":
        return BrokeredStore(self, uri.rstrip("/"), storage_options)


def _result(frames: Iterator[Frame]) -> Any:
    """Return the result of a call, which its last frame has."""
    *_, last = frames
    return last.head["result"]


def _error(head: Mapping[str, Any]) -> Exception:
    """Return the exception that the broker has caught."""
    if "errno" in head:
        return OSError(head["errno"], head["text"])
    kinds: list[type[JobError]] = [JobError]
    for kind in kinds:
        if kind.__name__ == head["error"]:
            # Some kinds make their text from other arguments.
            error = kind.__new__(kind)
            error.args = (head["text"],)
            return error
        kinds += kind.__subclasses__()
    return RuntimeError("the storage process failed; its own traceback is above")


_connection: Connection | None = None


def connect(control: socket.socket) -> Connection:
    """Reach every bucket through the broker at the other end of `control` from now on."""
    global _connection
    _connection = Connection(control)
    return _connection


def connection() -> Connection | None:
    """Return this process' connection to its broker; None in a process that works on the stores itself."""
    return _connection


class BrokeredStore:
    """A store that the broker works on."""

    def __init__(self, broker: Connection, uri: str, storage_options: StorageOptions):
        self._broker, self._uri, self._storage_options = broker, uri, storage_options

    def uri(self, key: str) -> str:
        return f"{self._uri}/{key}"

    def within(self, name: str) -> "BrokeredStore":
        return BrokeredStore(self._broker, self.uri(name), self._storage_options)

    @property
    def detects_corruption(self) -> bool:
        return bool(self._call("detects_corruption", ""))

    def stat(self, key: str) -> Stat:
        return Stat(*self._call("stat", key))

    def stream(self, key: str, start: int, stop: int, etag: str) -> Iterator[bytes]:
        with contextlib.closing(self._frames("stream", key, start=start, stop=stop, etag=etag)) as frames:
            for frame in frames:
                if frame.body:
                    yield frame.body

    def put(self, key: str, source: Source) -> None:
        self._put("put", key, source)

    def put_if(self, key: str, source: Source, etag: str | None) -> str | None:
        new = self._put("put_if", key, source, etag)
        return None if new is None else str(new)

    def _put(self, name: str, key: str, source: Source, etag: str | None = None) -> Any:
        if isinstance(source, bytes):
            return self._call(name, key, source, etag=etag)
        if isinstance(source, Path):
            with volume.failures(source), source.open("rb") as file:
                return self._call(name, key, descriptors=[file.fileno()], etag=etag)
        return self._call(name, key, descriptors=[source.fileno()], etag=etag)

    def list(
        self, prefix: str = "", on_unreadable: Callable[[str, JobError], None] | None = None
    ) -> Iterator[tuple[str, Stat]]:
        for frame in self._frames("list", "", prefix=prefix):
            for key, size, etag in frame.head.get("objects", ()):
                yield key, Stat(size, etag)

    def delete(self, key: str) -> None:
        self._call("delete", key)

    def _call(
        self, name: str, key: str, body: bytes = b"", descriptors: Sequence[int] = (), **arguments: object
    ) -> Any:
        return _result(self._frames(name, key, body, descriptors, **arguments))

    def _frames(
        self, name: str, key: str, body: bytes = b"", descriptors: Sequence[int] = (), **arguments: object
    ) -> Generator[Frame, None, None]:
        """Yield the call's frames; retries and renewals are reported as if they were this process' own."""
        where = {"store": self._uri, "key": key, "timeout": self._storage_options.timeout}
        calls = self._broker.frames("store", name, body, descriptors, **where, **arguments)
        with contextlib.closing(calls) as frames:
            for frame in frames:
                if "retry" in frame.head:
                    self._storage_options.on_retry(*frame.head["retry"])
                elif "renewal" in frame.head:
                    self._storage_options.on_renewal(frame.head["renewal"])
                else:
                    yield frame


_READS = frozenset(["stat", "stream"])


class StoreService:
    """The broker's side: one run's archive to read, and the run's own folder to read and write."""

    def __init__(self, archive: str, result: str, addressing_style: str):
        self._archive, self._result, self._addressing_style = archive, result.rstrip("/"), addressing_style
        self._stores: dict[tuple[str, float], Store] = {}
        self._opening = threading.Lock()
        self._caller = threading.local()

    def __call__(self, call: Frame, reply: Reply) -> Any:
        head = call.head
        name, key = str(head["name"]), str(head["key"])
        self._check(f"{head['store']}/{key}", name)
        self._caller.reply = reply
        store = self._store(str(head["store"]), float(head["timeout"]))
        match name:
            case "detects_corruption":
                return store.detects_corruption
            case "stat":
                return list(store.stat(key))
            case "stream":
                for chunk in store.stream(key, int(head["start"]), int(head["stop"]), str(head["etag"])):
                    reply(Frame({}, chunk))
            case "list":
                for key, stat in store.list(str(head["prefix"])):
                    reply(Frame({"objects": [[key, *stat]]}))
            case "delete":
                store.delete(key)
            case "put":
                with _source(call) as source:
                    store.put(key, source)
            case "put_if":
                with _source(call) as source:
                    return store.put_if(key, source, head["etag"])
            case _:
                raise PermissionDenied(f"{name}: the storage process does no such thing")
        return None

    def _check(self, address: str, name: str) -> None:
        """Raises PermissionDenied: what a stranger makes of the training process gets no further than its run."""
        # What a store is says nothing about what it has.
        if name == "detects_corruption" or (address == self._archive and name in _READS):
            return
        if not address.startswith(f"{self._result}/"):
            raise PermissionDenied(f"{address}: not this run's; the storage process leaves it alone")

    def _store(self, uri: str, timeout: float) -> Store:
        from catsdogs.storage.s3 import Bucket

        with self._opening:
            if (uri, timeout) not in self._stores:
                bucket, _, prefix = uri.removeprefix("s3://").partition("/")
                options = StorageOptions(self._addressing_style, timeout, self._retry, self._renewal)
                self._stores[uri, timeout] = Bucket(bucket, prefix, options)
            return self._stores[uri, timeout]

    def _retry(self, reason: str, left: float) -> None:
        """A store calls it in the thread of the call that it retries."""
        self._caller.reply(Frame({"retry": [reason, left]}))

    def _renewal(self, uri: str) -> None:
        """Like `_retry`."""
        self._caller.reply(Frame({"renewal": uri}))


@contextlib.contextmanager
def _source(call: Frame) -> Iterator[bytes | IO[bytes]]:
    """Yield what a call stores: its body, or the file that came with it."""
    if call.descriptors:
        with os.fdopen(os.dup(call.descriptors[0]), "rb") as file:
            yield file
    else:
        yield call.body
