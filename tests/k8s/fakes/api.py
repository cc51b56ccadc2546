"""An API server on a loopback port: objects in memory, watches, logs as a kubelet keeps them, and planned faults.

It checks nothing that it stores. What it answers, also when it refuses, has the form that a real one gives.
"""

import copy
import fnmatch
import json
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, NamedTuple

from tests.k8s.fakes import selectors
from tests.k8s.fakes.server import NAMESPACE, Answer, Request, Server, status_object

Object = dict[str, Any]
CLUSTER_WIDE = ("nodes", "namespaces", "storageclasses")
KINDS = {
    "jobs": "Job",
    "cronjobs": "CronJob",
    "pods": "Pod",
    "events": "Event",
    "secrets": "Secret",
    "configmaps": "ConfigMap",
    "serviceaccounts": "ServiceAccount",
    "persistentvolumeclaims": "PersistentVolumeClaim",
    "resourcequotas": "ResourceQuota",
    "limitranges": "LimitRange",
    "nodes": "Node",
    "namespaces": "Namespace",
    "storageclasses": "StorageClass",
    "workloads": "Workload",
    "localqueues": "LocalQueue",
}


@dataclass
class Fault:
    """What happens to the next `times` requests that fit; patterns as those of file names.

    With a `status` they are answered with that. Otherwise their connection is cut, after so many bytes of the answer's
    body if it is a stream.
    """

    verb: str = "*"
    resource: str = "*"
    status: int = 0
    message: str = "a fault of the test"
    headers: dict[str, str] = field(default_factory=dict)
    after: int | None = None
    times: int = 1


class Line(NamedTuple):
    stamp: str
    """RFC 3339 with nanoseconds."""
    text: bytes
    """With its newline, if it has one."""


@dataclass
class ContainerLog:
    lines: list[Line] = field(default_factory=list)
    rotated: int = 0
    """How many of the lines only those still see who read before the rotation."""
    ended: bool = False


class Change(NamedTuple):
    version: int
    kind: str
    plural: str
    item: Object


class Api:
    """All methods may be called from any thread, also while it serves."""

    def __init__(self) -> None:
        self.token = ""
        """That requests must carry; any will do while it is empty."""
        self.denied: set[tuple[str, str]] = set()
        """(verb, resource) that RBAC does not allow; patterns as those of file names."""
        self.missing_groups = {"kueue.x-k8s.io"}
        """API groups that are not installed."""
        self.faults: list[Fault] = []
        self.requests: list[Request] = []
        self.on_create: Callable[[str, Object], None] = lambda plural, item: None
        """Is told of each object that is stored by a request, as a controller would be."""
        self._objects: dict[tuple[str, str, str], Object] = {}
        self._logs: dict[tuple[str, str, int], ContainerLog] = {}
        self._changes: list[Change] = []
        self._forgotten = 0
        self._version = 100
        self._clock = time.time_ns()
        self.changed = threading.Condition(threading.RLock())
        self._server: Server | None = None
        self._port = 0

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def start(self) -> None:
        """On the port that it had before, if it was stopped."""
        self._server = Server(("127.0.0.1", self._port), self)
        self._port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def stop(self) -> None:
        """With all its connections, as a crash would."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server.cut_all()
            self._server = None
            with self.changed:
                self.changed.notify_all()

    # What is there

    def put(self, plural: str, item: Object) -> Object:
        """Stores the object as it is now, new or changed, and returns it with what the server adds."""
        with self.changed:
            item = copy.deepcopy(item)
            meta = item.setdefault("metadata", {})
            if plural not in CLUSTER_WIDE:
                meta.setdefault("namespace", NAMESPACE)
            if "name" not in meta:
                meta["name"] = meta.get("generateName", plural) + secrets.token_hex(3)
            key = (plural, meta.get("namespace", ""), meta["name"])
            before = self._objects.get(key)
            meta.setdefault("uid", before["metadata"]["uid"] if before else secrets.token_hex(8))
            meta.setdefault("creationTimestamp", datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"))
            self._version += 1
            meta["resourceVersion"] = str(self._version)
            self._objects[key] = item
            self._tell("MODIFIED" if before else "ADDED", plural, item)
            return copy.deepcopy(item)

    def find(self, plural: str, name: str, namespace: str = NAMESPACE) -> Object | None:
        with self.changed:
            item = self._objects.get((plural, "" if plural in CLUSTER_WIDE else namespace, name))
            return copy.deepcopy(item)

    def all(self, plural: str, namespace: str = "") -> list[Object]:
        """Of every namespace, or of one."""
        with self.changed:
            found = [item for (kind, place, _), item in self._objects.items() if kind == plural]
            return copy.deepcopy([item for item in found if namespace in ("", item["metadata"].get("namespace"))])

    def remove(self, plural: str, name: str, namespace: str = NAMESPACE) -> None:
        with self.changed:
            item = self._objects.pop((plural, "" if plural in CLUSTER_WIDE else namespace, name))
            self._version += 1
            item["metadata"]["resourceVersion"] = str(self._version)
            self._tell("DELETED", plural, item)
            if plural == "pods":
                for key, log in self._logs.items():
                    if key[:2] == (namespace, name):
                        log.ended = True
                self._logs = {key: log for key, log in self._logs.items() if key[:2] != (namespace, name)}

    def forget(self) -> None:
        """No watch can go on from any version up to now: 410 Gone, as after etcd was compacted."""
        with self.changed:
            self._version += 1
            self._forgotten = self._version

    # Logs

    def write(
        self,
        pod: str,
        *texts: str | bytes,
        stamp: str = "",
        end: bytes = b"\n",
        restart: int = 0,
        namespace: str = NAMESPACE,
    ) -> None:
        """Lines of a container's log, each stamped later than the one before unless a `stamp` is given."""
        with self.changed:
            log = self._logs.setdefault((namespace, pod, restart), ContainerLog())
            for text in texts:
                self._clock = max(self._clock + 1, time.time_ns())
                seconds, nanos = divmod(self._clock, 10**9)
                now = f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{nanos:09d}Z"
                log.lines.append(Line(stamp or now, (text.encode() if isinstance(text, str) else text) + end))
            self.changed.notify_all()

    def end_log(self, pod: str, restart: int = 0, namespace: str = NAMESPACE) -> None:
        """Its container has ended: whoever follows the log comes to its end."""
        with self.changed:
            self._logs.setdefault((namespace, pod, restart), ContainerLog()).ended = True
            self.changed.notify_all()

    def rotate(self, pod: str, restart: int = 0, namespace: str = NAMESPACE) -> None:
        """As the kubelet does it: whoever asks from now on gets only what is written from now on."""
        with self.changed:
            log = self._logs[(namespace, pod, restart)]
            log.rotated = len(log.lines)

    def log_of(self, pod: str, restart: int = 0, namespace: str = NAMESPACE) -> bytes:
        """The container's output."""
        with self.changed:
            return b"".join(line.text for line in self._logs[(namespace, pod, restart)].lines)

    def kubeconfig(self, token: str = "token") -> Object:
        """What leads to this server, as JSON, which is YAML."""
        return {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "test", "cluster": {"server": self.address}}],
            "users": [{"name": "test", "user": {"token": token}}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test", "namespace": NAMESPACE}}],
            "current-context": "test",
        }

    # For the handler

    def _tell(self, kind: str, plural: str, item: Object) -> None:
        self._changes.append(Change(self._version, kind, plural, copy.deepcopy(item)))
        self.changed.notify_all()

    def allows(self, verb: str, resource: str) -> bool:
        return not any(fnmatch.fnmatch(verb, one) and fnmatch.fnmatch(resource, other) for one, other in self.denied)

    def fault(self, request: Request) -> Fault | None:
        with self.changed:
            for fault in self.faults:
                fits = fnmatch.fnmatch(request.verb, fault.verb) and fnmatch.fnmatch(request.resource, fault.resource)
                if fault.times > 0 and fits:
                    fault.times -= 1
                    return fault
        return None

    def page(self, request: Request, query: dict[str, str]) -> Object:
        """A list; `continue` says how many of it were given already. Raises Answer."""
        with self.changed:
            version = self._version
            found = [item for item in self.all(request.resource, request.namespace) if selectors.fits(item, query)]
        found.sort(key=lambda item: (item["metadata"].get("namespace", ""), item["metadata"]["name"]))
        start, size = int(query.get("continue") or 0), int(query.get("limit") or 0) or len(found)
        meta = {"resourceVersion": str(version)}
        if start + size < len(found):
            meta["continue"] = str(start + size)
        kind = KINDS.get(request.resource, "Object") + "List"
        return {"kind": kind, "apiVersion": "v1", "metadata": meta, "items": found[start : start + size]}

    def watch(self, request: Request, query: dict[str, str], alive: Callable[[], bool]) -> Iterator[bytes]:
        since = int(query.get("resourceVersion") or self._version)
        until = time.monotonic() + float(query.get("timeoutSeconds") or 300)
        while alive() and time.monotonic() < until:
            with self.changed:
                if since < self._forgotten:
                    status = status_object(410, f"too old resource version: {since} ({self._forgotten})", "Expired")
                    yield json.dumps({"type": "ERROR", "object": status}).encode() + b"\n"
                    return
                news = [change for change in self._changes if change.version > since]
                if not news:
                    self.changed.wait(0.2)
            for change in news:
                since = change.version
                place = change.item["metadata"].get("namespace")
                here = change.plural == request.resource and request.namespace in ("", place)
                if here and selectors.fits(change.item, query):
                    yield json.dumps({"type": change.kind, "object": change.item}).encode() + b"\n"

    def log(self, request: Request, query: dict[str, str], alive: Callable[[], bool]) -> Iterator[bytes]:
        """As a kubelet gives it through an API server, which knows `sinceTime` by the second. Raises Answer."""
        pod = self.find("pods", request.name, request.namespace)
        if pod is None:
            raise Answer(404, f'pods "{request.name}" not found', "NotFound")
        restart = next((one.get("restartCount", 0) for one in pod.get("status", {}).get("containerStatuses", [])), 0)
        previous = query.get("previous") == "true"
        log = self._logs.get((request.namespace, request.name, restart - previous))
        container = query.get("container")
        if log is None and previous:
            raise Answer(400, f'previous terminated container "{container}" in pod "{request.name}" not found')
        if log is None:
            raise Answer(400, f'container "{container}" in pod "{request.name}" is waiting to start: ContainerCreating')
        since = query.get("sinceTime", "")[:19]
        position = log.rotated

        def lines() -> Iterator[bytes]:
            nonlocal position
            while True:
                with self.changed:
                    new, ended = log.lines[position:], log.ended
                    position += len(new)
                    if not new:
                        if ended or query.get("follow") != "true" or not alive():
                            return
                        self.changed.wait(0.2)
                for line in new:
                    if line.stamp >= since:
                        stamp = line.stamp.encode() + b" " if query.get("timestamps") == "true" else b""
                        yield stamp + line.text

        return lines()
