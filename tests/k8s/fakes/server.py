"""HTTP as an API server speaks it, over what tests/k8s/api.py holds."""

import contextlib
import json
import socket
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import parse_qsl, urlsplit

if TYPE_CHECKING:
    from tests.k8s.fakes.api import Api

Object = dict[str, Any]
NAMESPACE = "default"


class Request(NamedTuple):
    """As RBAC sees it: `resource` may be pods/log, `verb` is get, list, watch, create, patch or delete."""

    verb: str
    group: str
    resource: str
    namespace: str
    name: str


class Answer(Exception):
    """A refusal, as the API server words it."""

    def __init__(self, code: int, message: str, reason: str = "BadRequest", headers: dict[str, str] | None = None):
        super().__init__(message)
        self.code = code
        self.body = status_object(code, message, reason)
        self.headers = headers or {}


def status_object(code: int, message: str, reason: str = "") -> Object:
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "status": "Failure",
        "message": message,
        "reason": reason,
        "code": code,
    }


class Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 64

    def __init__(self, address: tuple[str, int], api: "Api"):
        self.api = api
        self.running = True
        self._open: set[socket.socket] = set()
        super().__init__(address, _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self._open.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Quiet: clients go away in the middle of a stream, and tests cut their connections."""

    def cut_all(self) -> None:
        self.running = False
        for connection in list(self._open):
            _cut(connection)


def _cut(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # Otherwise each small chunk waits for the answer to the one before.
    disable_nagle_algorithm = True
    server: Server

    def log_message(self, format: str, *args: Any) -> None:
        """Quiet."""

    def do_GET(self) -> None:
        self._answer("get")

    def do_POST(self) -> None:
        self._answer("create")

    def do_PATCH(self) -> None:
        self._answer("patch")

    def do_DELETE(self) -> None:
        self._answer("delete")

    def _answer(self, verb: str) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        body = json.loads(self.rfile.read(length) or b"null")
        address = urlsplit(self.path)
        query = dict(parse_qsl(address.query, keep_blank_values=True))
        request = _request_of(verb, address.path, query)
        api = self.server.api
        with api.changed:
            api.requests.append(request)
        fault = api.fault(request)
        try:
            if fault is not None and fault.status:
                raise Answer(fault.status, fault.message, headers=fault.headers)
            if fault is not None and fault.after is None:
                self._cut()
                return
            self._admit(request)
            stream = self._stream(request, query)
            if stream is not None:
                self._send_stream(stream, fault.after if fault else None)
                return
            code, found = self._serve(request, query, body)
            self._send(code, found)
        except Answer as answer:
            self._send(answer.code, answer.body, answer.headers)

    def _admit(self, request: Request) -> None:
        api = self.server.api
        if api.token and self.headers.get("Authorization", "").lower() != f"bearer {api.token}":
            raise Answer(401, "Unauthorized", "Unauthorized")
        if not api.allows(request.verb, request.resource):
            name = f' "{request.name}"' if request.name else ""
            where = f' in the namespace "{request.namespace}"' if request.namespace else " at the cluster scope"
            raise Answer(
                403,
                f'{request.resource.partition("/")[0]}{name} is forbidden: User "test" cannot {request.verb} resource'
                f' "{request.resource}" in API group "{request.group}"{where}',
                "Forbidden",
            )
        if request.group in api.missing_groups:
            raise Answer(404, "the server could not find the requested resource", "NotFound")

    def _stream(self, request: Request, query: dict[str, str]) -> Iterator[bytes] | None:
        api = self.server.api
        if request.verb == "watch":
            return api.watch(request, query, lambda: self.server.running)
        if request.resource == "pods/log":
            return api.log(request, query, lambda: self.server.running)
        return None

    def _serve(self, request: Request, query: dict[str, str], body: Any) -> tuple[int, Object]:
        api = self.server.api
        if request.resource == "selfsubjectaccessreviews":
            asked = body["spec"]["resourceAttributes"]
            resource = "/".join(filter(None, (asked["resource"], asked.get("subresource"))))
            return 201, body | {"status": {"allowed": api.allows(asked["verb"], resource)}}
        if request.verb == "list":
            return 200, api.page(request, query)
        if request.verb == "create":
            return 201, self._create(request, query, body)
        item = api.find(request.resource, request.name, request.namespace or NAMESPACE)
        if item is None:
            raise Answer(404, f'{_qualified(request)} "{request.name}" not found', "NotFound")
        if request.verb == "delete":
            api.remove(request.resource, request.name, request.namespace or NAMESPACE)
            return 200, {"kind": "Status", "apiVersion": "v1", "status": "Success"}
        if request.verb == "patch":
            return 200, api.put(request.resource, _merged(item, body))
        return 200, item

    def _create(self, request: Request, query: dict[str, str], body: Object) -> Object:
        api = self.server.api
        name = body["metadata"].get("name", "")
        with api.changed:
            if name and api.find(request.resource, name, request.namespace or NAMESPACE) is not None:
                raise Answer(409, f'{_qualified(request)} "{name}" already exists', "AlreadyExists")
            if query.get("dryRun") == "All":
                return body
            if request.namespace:
                body["metadata"]["namespace"] = request.namespace
            stored = api.put(request.resource, body)
        api.on_create(request.resource, stored)
        return stored

    def _send(self, code: int, body: Object, headers: dict[str, str] | None = None) -> None:
        data = json.dumps(body).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def _send_stream(self, stream: Iterator[bytes], cut_after: int | None) -> None:
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        left = cut_after
        for data in stream:
            part = data if left is None else data[:left]
            if part:
                self.wfile.write(b"%x\r\n%b\r\n" % (len(part), part))
            if left is not None:
                left -= len(part)
                if left <= 0:
                    self._cut()
                    return
        if left is not None or not self.server.running:
            # Too short to be cut where it was planned.
            self._cut()
            return
        self.wfile.write(b"0\r\n\r\n")

    def _cut(self) -> None:
        self.close_connection = True
        _cut(self.connection)


def _request_of(verb: str, path: str, query: dict[str, str]) -> Request:
    parts = path.strip("/").split("/")
    group = "" if parts[0] == "api" else parts[1]
    rest = parts[2:] if parts[0] == "api" else parts[3:]
    namespace = ""
    if rest[0] == "namespaces" and len(rest) > 2:
        namespace, rest = rest[1], rest[2:]
    resource, name, sub = (*rest, "", "")[:3]
    if verb == "get" and not name:
        verb = "watch" if query.get("watch") == "true" else "list"
    return Request(verb, group, f"{resource}/{sub}" if sub else resource, namespace, name)


def _qualified(request: Request) -> str:
    return f"{request.resource}.{request.group}" if request.group else request.resource


def _merged(item: Any, patch: Any) -> Any:
    """RFC 7396."""
    if not isinstance(patch, dict):
        return patch
    found = dict(item) if isinstance(item, dict) else {}
    for name, value in patch.items():
        if value is None:
            found.pop(name, None)
        else:
            found[name] = _merged(found.get(name), value)
    return found
