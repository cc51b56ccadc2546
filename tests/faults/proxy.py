"""A proxy between the job and its storage that does what networks and storage do, by plan.

What goes wrong is plain data, a tuple of Faults: each says which requests it waits for, and what happens to
them. The proxy writes down every request, with the bytes that it let through.
"""

import contextlib
import fnmatch
import http.client
import math
import os
import random
import re
import socket
import struct
import threading
import time
import urllib.parse
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal, NamedTuple, Self

from tests.servers import S3Server

Kind = Literal[
    "away",  # nobody listens any more, for `seconds`; what was connected is cut off
    "drop",  # the connection ends without an answer, and the request goes nowhere
    "lost",  # the request is carried out, but the connection ends before its answer
    "reset",  # the connection is reset in the middle of the answer's body
    "cut",  # the answer ends in the middle of its body, though its header announced all of it
    "stall",  # in the middle of the answer's body nothing comes any more, for `seconds`
    "silence",  # like stall, before the answer's first byte; the request goes nowhere
    "error",  # `status` and `code` instead of an answer; the request goes nowhere
    "flip",  # one bit of the answer's body is another
    "flip-upload",  # one bit of the request's body is another
    "alter",  # an upload is acknowledged, but one bit of what is stored is another
    "hold",  # the request waits until `release`
    "call",  # `then` is called first
]

Position = int | Literal["middle"]


@dataclass(frozen=True)
class Fault:
    """What happens to the requests number `first`, `first` + 1, … of those that match; to `count` of them."""

    kind: Kind
    method: str = "*"
    """A pattern as of fnmatch; so is `key`, the object's key. The key of a listing is empty."""
    key: str = "*"
    first: int = 1
    count: float = 1
    """math.inf for a fault that lasts."""
    byte: Position = "middle"
    """Where in the object it happens; only requests for a range that has this byte match. Else in mid-body."""
    seconds: float = 1.0
    status: int = 503
    code: str = "SlowDown"
    then: Callable[[], None] | None = None

    def matches(self, request: "Request") -> bool:
        return (
            fnmatch.fnmatchcase(request.method, self.method)
            and fnmatch.fnmatchcase(request.key, self.key)
            and (self.byte == "middle" or request.start <= self.byte < request.stop)
        )


@dataclass
class Request:
    """One that came, and what became of it."""

    method: str
    key: str
    start: float
    stop: float
    """The range start ≤ i < stop of the object that is asked for; stop is infinite for all of it."""
    began: float = field(default_factory=time.monotonic)
    sent: int = 0
    """Bytes of the answer's body that were let through."""
    faults: tuple[str, ...] = ()


class Answer(NamedTuple):
    status: int
    headers: list[tuple[str, str]]
    body: bytes


class _Gone(Exception):
    """The connection ends here."""


class Proxy:
    """Listens while it is entered."""

    def __init__(self, server: S3Server, *plan: Fault):
        self.server = server
        self.plan = plan
        self.requests: list[Request] = []
        self._matched = [0] * len(plan)
        self._reached = [threading.Event() for _ in plan]
        self._lock = threading.Lock()
        self._released = threading.Event()
        self._ended = threading.Event()
        self._connections: set[socket.socket] = set()
        self._upstream = urllib.parse.urlsplit(server.endpoint).netloc
        self._listener: ThreadingHTTPServer | None = None
        self.port = 0

    def __enter__(self) -> Self:
        self._listen()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._released.set()
        self._leave()

    @property
    def environment(self) -> dict[str, str]:
        """The variables that lead the AWS chain through this proxy."""
        return {**self.server.environment, "AWS_ENDPOINT_URL_S3": f"http://127.0.0.1:{self.port}"}

    def reached(self, fault: Fault, timeout: float = 60) -> None:
        """Waits until a request has met the fault, which is one of the plan."""
        assert self._reached[self.plan.index(fault)].wait(timeout), f"no request has met {fault}"

    def met(self, fault: Fault) -> int:
        """How many requests have met the fault."""
        matched = self._matched[self.plan.index(fault)]
        return int(max(0, min(matched - fault.first + 1, fault.count)))

    def release(self) -> None:
        """Lets those that are held go on."""
        self._released.set()

    def sent(self, key: str = "*", method: str = "GET") -> int:
        """Bytes of the objects' bodies that the job has got."""
        return sum(request.sent for request in self.of(key, method))

    def of(self, key: str = "*", method: str = "*") -> list[Request]:
        """The requests so far for such keys, in the order in which they came."""
        pattern = Fault("call", method, key)
        return [request for request in list(self.requests) if pattern.matches(request)]

    def _listen(self) -> None:
        handler = type("Handler", (_Handler,), {"proxy": self})
        listener = _Listener(("127.0.0.1", self.port), handler)
        self.port = listener.server_port
        self._listener = listener
        threading.Thread(target=listener.serve_forever, args=(0.02,), name="proxy", daemon=True).start()

    def _leave(self) -> None:
        listener, self._listener = self._listener, None
        if listener is not None:
            listener.shutdown()
            listener.server_close()
        for connection in list(self._connections):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def _go_away(self, seconds: float) -> None:
        def away() -> None:
            self._leave()
            if not math.isinf(seconds) and not self._ended.wait(seconds):
                self._listen()

        threading.Thread(target=away, name="away", daemon=True).start()

    def _due(self, request: Request) -> list[Fault]:
        """The faults that happen to this request; counts it for each that it matches."""
        due = []
        with self._lock:
            self.requests.append(request)
            for index, fault in enumerate(self.plan):
                if fault.matches(request):
                    self._matched[index] += 1
                    if 0 <= self._matched[index] - fault.first < fault.count:
                        due.append(fault)
                        self._reached[index].set()
        request.faults = tuple(fault.kind for fault in due)
        return due

    def serve(self, handler: "_Handler", body: bytes) -> None:
        request = _parsed(handler)
        due = self._due(request)
        alter = False
        for fault in due:
            match fault.kind:
                case "away":
                    self._go_away(fault.seconds)
                    raise _Gone
                case "drop":
                    raise _Gone
                case "silence":
                    self._ended.wait(fault.seconds)
                    raise _Gone
                case "hold":
                    self._released.wait()
                    if self._ended.is_set():
                        raise _Gone
                case "call":
                    assert fault.then is not None
                    fault.then()
                case "error":
                    text = f"<Error><Code>{fault.code}</Code><Message>by plan</Message></Error>".encode()
                    handler.answer(Answer(fault.status, [("Content-Type", "application/xml")], text), [])
                    return
                case "flip-upload":
                    body = flipped(body, len(body) // 2)
                case "alter":
                    alter = True
        answer = self._stored_differently(handler, body) if alter else self._forwarded(handler, body)
        base = _content_start(answer)

        def place(fault: Fault) -> int:
            return len(answer.body) // 2 if fault.byte == "middle" else fault.byte - base

        pieces: list[bytes | Fault] = [answer.body]
        for fault in due:
            if fault.kind == "lost":
                raise _Gone
            if fault.kind == "flip" and answer.body:
                pieces = [flipped(answer.body, place(fault))]
            if fault.kind in ("reset", "cut", "stall") and answer.body:
                pieces = [answer.body[: place(fault)], fault]
        handler.answer(answer, pieces, request)

    def wait(self, seconds: float) -> None:
        self._ended.wait(seconds)

    def _forwarded(self, handler: "_Handler", body: bytes) -> Answer:
        connection = http.client.HTTPConnection(self._upstream, timeout=60)
        with contextlib.closing(connection):
            # The Host header stays as it came, since it is part of what the client has signed.
            connection.putrequest(handler.command, handler.path, skip_host=True, skip_accept_encoding=True)
            for name, value in handler.headers.items():
                if name.lower() not in ("expect", "connection", "transfer-encoding"):
                    connection.putheader(name, value)
            connection.endheaders(body or None)
            answer = connection.getresponse()
            data = answer.read()
        headers = [
            (name, value)
            for name, value in answer.getheaders()
            if name.lower() not in ("connection", "transfer-encoding", "content-length")
        ]
        if handler.command == "HEAD":
            headers.append(("Content-Length", answer.headers.get("Content-Length", "0")))
        return Answer(answer.status, headers, data)

    def _stored_differently(self, handler: "_Handler", body: bytes) -> Answer:
        """Puts other bytes under the request's own conditions, signed anew since a checksum covers the body."""
        from botocore.exceptions import ClientError

        bucket, _, key = urllib.parse.unquote(urllib.parse.urlsplit(handler.path).path).lstrip("/").partition("/")
        conditions: dict[str, Any] = {
            name.replace("-", ""): handler.headers[name]
            for name in ("If-Match", "If-None-Match")
            if handler.headers[name]
        }
        try:
            put = self.server.client().put_object(
                Bucket=bucket, Key=key, Body=flipped(body, len(body) // 2), **conditions
            )
        except ClientError as error:
            text = f"<Error><Code>{error.response['Error']['Code']}</Code></Error>".encode()
            return Answer(error.response["ResponseMetadata"]["HTTPStatusCode"], [], text)
        return Answer(200, [("ETag", put["ETag"])], b"")


class _Listener(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 64

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that was killed, or a connection that the plan ended, is no news."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    proxy: Proxy

    def setup(self) -> None:
        super().setup()
        self.proxy._connections.add(self.connection)

    def finish(self) -> None:
        self.proxy._connections.discard(self.connection)
        super().finish()

    def _serve(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        try:
            self.proxy.serve(self, body)
        except _Gone:
            self.close_connection = True

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _serve

    def answer(self, answer: Answer, pieces: list[bytes | Fault], request: Request | None = None) -> None:
        """Announces the whole body, and sends what `pieces` leave of it; all of it where they are none."""
        self.send_response_only(answer.status)
        for name, value in answer.headers:
            self.send_header(name, value)
        if self.command != "HEAD":
            self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()
        if self.command == "HEAD":
            return
        for piece in pieces or [answer.body]:
            if isinstance(piece, bytes):
                self.wfile.write(piece)
                if request is not None:
                    request.sent += len(piece)
                continue
            if piece.kind == "stall":
                self.proxy.wait(piece.seconds)
            if piece.kind == "reset":
                self._reset()
            raise _Gone

    def _reset(self) -> None:
        # What was sent must have arrived: it is thrown away with a connection that is reset.
        time.sleep(0.05)
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.proxy._connections.discard(self.connection)
        os.close(self.connection.detach())

    def log_message(self, format: str, *args: Any) -> None:
        """`requests` is the log."""


def _parsed(handler: _Handler) -> Request:
    path = urllib.parse.unquote(urllib.parse.urlsplit(handler.path).path)
    key = path.lstrip("/").partition("/")[2]
    asked = re.fullmatch(r"bytes=(\d+)-(\d+)", handler.headers.get("Range", ""))
    start, stop = (int(asked[1]), int(asked[2]) + 1) if asked else (0, math.inf)
    return Request(handler.command, key, start, stop)


def _content_start(answer: Answer) -> int:
    for name, value in answer.headers:
        if name.lower() == "content-range" and (found := re.match(r"bytes (\d+)-", value)):
            return int(found[1])
    return 0


def flipped(data: bytes, index: int, bit: int = 0) -> bytes:
    """The data with one bit changed; empty data grow by a byte."""
    if not data:
        return b"\x01"
    changed = bytearray(data)
    changed[index] ^= 1 << bit
    return bytes(changed)


def storm(seed: int, faults: int) -> Iterator[Fault]:
    """Faults that pass, drawn over the requests of a whole run. The same seed draws the same ones."""
    draw = random.Random(seed)
    for _ in range(faults):
        kind: Kind = draw.choice(["away", "drop", "lost", "reset", "cut", "error", "flip", "alter"])
        method = {"lost": "PUT", "alter": "PUT", "reset": "GET", "cut": "GET", "flip": "GET"}.get(kind, "*")
        # A bit flipped in a listing or a small JSON object is another matter: those carry no digest.
        key = {"alter": "*.*", "flip": draw.choice(["*.zip", "*.keras"])}.get(kind, "*")
        status, code = draw.choice([(500, "InternalError"), (502, "BadGateway"), (503, "SlowDown")])
        yield Fault(
            kind, method, key, first=draw.randint(1, 8), count=draw.randint(1, 2), seconds=draw.uniform(0.2, 1.5),
            status=status, code=code,
        )  # fmt: skip
