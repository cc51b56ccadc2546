"""The API of a cluster: objects as the JSON that the API server sends, and a patience with servers that are away."""

import json
import random
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple, Self

import urllib3

from kubectl_catsdogs.api.connection import Connection, lines_of
from kubectl_catsdogs.api.failures import failure_of, message_of, reason_of, seconds_of
from kubectl_catsdogs.base.contract import Object
from kubectl_catsdogs.base.errors import Conflict, Contradiction, Failure, Gone, Unavailable

Objects = list[Object]
"""By a name of its own, as `list` within the class is the method."""

PAGE = 250
WATCH_SECONDS = 240
"""A watch is begun anew after that time, so that one whose server has vanished is noticed."""
LOG_SILENCE = 60
"""Seconds without a line after which a log is asked for anew."""
FIRST_ANSWER = 10
"""Seconds for which the first answer is waited for: a wrong address should not take minutes to show."""
SLOWEST = 5.0
"""The longest pause between two attempts, in seconds, if the server asks for no other."""


class Kind(NamedTuple):
    group: str
    """With its version, as in a path."""
    namespaced: bool


KINDS = {
    "jobs": Kind("apis/batch/v1", True),
    "cronjobs": Kind("apis/batch/v1", True),
    "pods": Kind("api/v1", True),
    "events": Kind("api/v1", True),
    "secrets": Kind("api/v1", True),
    "configmaps": Kind("api/v1", True),
    "serviceaccounts": Kind("api/v1", True),
    "persistentvolumeclaims": Kind("api/v1", True),
    "resourcequotas": Kind("api/v1", True),
    "limitranges": Kind("api/v1", True),
    "nodes": Kind("api/v1", False),
    "namespaces": Kind("api/v1", False),
    "storageclasses": Kind("apis/storage.k8s.io/v1", False),
    "workloads": Kind("apis/kueue.x-k8s.io/v1beta1", True),
    "localqueues": Kind("apis/kueue.x-k8s.io/v1beta1", True),
}


class Cluster:
    """All methods raise a Failure: Refused (401, 403), NotFound (404), Contradiction (a request that cannot be met),
    Unavailable (no answer, 429 or 5xx for longer than `patience`). What may pass is tried again until then.
    """

    def __init__(self, connection: Connection, namespace: str | None = None, patience: float = 120):
        self._connection = connection
        self._namespace = namespace
        self.patience = patience
        """Seconds for which a server is waited for that has answered before."""
        self.on_wait: Callable[[str], None] = lambda reason: None
        """Is told, once for each time that the server is away, why there is a wait; from whatever thread waits."""
        self._told = False
        self._welcome = False
        """Whether the server has answered, and not with 401."""

    @classmethod
    def connect(cls, kubeconfig: str | None, context: str | None, namespace: str | None, patience: float = 120) -> Self:
        """The arguments are kubectl's flags. Nothing is sent yet."""
        return cls(Connection(kubeconfig, context), namespace, patience)

    @property
    def namespace(self) -> str:
        return self._namespace or self._connection.namespace

    def get(self, plural: str, name: str, namespace: str | None = None) -> Object:
        return self._json("GET", self._path(plural, name, namespace))

    def list(self, plural: str, labels: str = "", fields: str = "", everywhere: bool = False) -> Objects:
        """All that fit both selectors, in this namespace or `everywhere`."""
        return self.list_at(plural, labels, fields, everywhere)[0]

    def list_at(self, plural: str, labels: str = "", fields: str = "", everywhere: bool = False) -> tuple[Objects, str]:
        """The same with the resource version from which a `stream` goes on."""
        path = self._path(plural, everywhere=everywhere)
        query = _without_empty({"limit": str(PAGE), "labelSelector": labels, "fieldSelector": fields})
        for _ in range(5):
            found: Objects = []
            token = ""
            try:
                while True:
                    page = self._json("GET", path, query | ({"continue": token} if token else {}))
                    found += page.get("items") or []
                    token = page["metadata"].get("continue") or ""
                    if not token:
                        return found, page["metadata"].get("resourceVersion") or ""
            except Gone:
                # The list is older than what the server remembers: from the start.
                continue
        raise Unavailable(f"{plural}: the API server forgets its lists before they are read")

    def create(self, plural: str, body: Object, dry_run: bool = False) -> Object:
        """`dry_run` has the server check it, with all admission, and store nothing. Raises Conflict if it exists."""
        try:
            return self._json("POST", self._path(plural), {"dryRun": "All"} if dry_run else {}, body)
        except Conflict as conflict:
            name = body["metadata"].get("name")
            # Then the answer to the first attempt was lost on its way.
            if conflict.repeated and name:
                return self.get(plural, name)
            raise

    def patch(self, plural: str, name: str, body: Object) -> Object:
        """A merge patch."""
        return self._json("PATCH", self._path(plural, name), {}, body, "application/merge-patch+json")

    def may(self, verb: str, plural: str, name: str = "") -> bool:
        """Whether RBAC allows it here. `plural` may name a subresource: pods/log."""
        resource, _, subresource = plural.partition("/")
        kind = KINDS[resource]
        group = kind.group.split("/")[1] if kind.group.startswith("apis/") else ""
        asked = {"verb": verb, "group": group, "resource": resource, "subresource": subresource, "name": name}
        if kind.namespaced:
            asked["namespace"] = self.namespace
        review = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": _without_empty(asked)},
        }
        answer = self._json("POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", {}, review)
        return bool(answer["status"].get("allowed"))

    def stream(self, plural: str, labels: str = "", fields: str = "", resource_version: str = "") -> Iterator[Object]:
        """What changes after `resource_version`: {"type": "ADDED", "object": …}, until the server or the line drops it.

        Raises Gone if the server no longer knows that version.
        """
        query = {"watch": "true", "timeoutSeconds": str(WATCH_SECONDS), "allowWatchBookmarks": "true"}
        query |= {"labelSelector": labels, "fieldSelector": fields, "resourceVersion": resource_version}
        response = self._request("GET", self._path(plural), _without_empty(query), read_seconds=WATCH_SECONDS + 30)
        try:
            for line, complete in lines_of(response):
                if not complete:
                    return
                change: Object = json.loads(line)
                if change["type"] == "ERROR":
                    raise failure_of(change["object"].get("code", 500), change["object"].get("message", ""))
                yield change
        except (urllib3.exceptions.HTTPError, OSError, json.JSONDecodeError):
            return

    def log(
        self,
        pod: str,
        container: str,
        since_time: str = "",
        follow: bool = False,
        previous: bool = False,
        timestamps: bool = True,
    ) -> Iterator[tuple[str, bool]]:
        """(line, whether it ended with a newline) of a container's log. Raises ConnectionResetError if it is cut.

        `since_time` is RFC 3339; the API server knows it by the second.
        """
        query = {"container": container, "sinceTime": since_time}
        for name, value in {"follow": follow, "previous": previous, "timestamps": timestamps}.items():
            query[name] = "true" if value else ""
        path = self._path("pods", pod) + "/log"
        response = self._request("GET", path, _without_empty(query), read_seconds=LOG_SILENCE)
        try:
            for line, complete in lines_of(response):
                # Bytes that are no UTF-8 come out as they went in: see `printed` in follow.py.
                yield line.decode(errors="surrogateescape"), complete
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise ConnectionResetError(str(error)) from error

    def _path(self, plural: str, name: str = "", namespace: str | None = None, everywhere: bool = False) -> str:
        kind = KINDS[plural]
        inside = f"/namespaces/{namespace or self.namespace}" if kind.namespaced and not everywhere else ""
        return f"/{kind.group}{inside}/{plural}" + (f"/{name}" if name else "")

    def _json(
        self,
        method: str,
        path: str,
        query: dict[str, str] | None = None,
        body: Object | None = None,
        kind: str = "application/json",
    ) -> Object:
        response = self._request(method, path, query or {}, body, kind, whole=True)
        answer: Object = json.loads(response.data)
        return answer

    def _request(
        self,
        method: str,
        path: str,
        query: dict[str, str],
        body: Object | None = None,
        kind: str = "application/json",
        read_seconds: float = 30,
        whole: bool = False,
    ) -> urllib3.BaseHTTPResponse:
        """An answer that is no failure; its body too is there if it is asked for as a `whole`."""
        began = time.monotonic()
        pause = 0.1
        refused = lost = False
        while True:
            failure: Failure
            asked_pause = 0.0
            try:
                response = self._connection.send(method, path, query, body, kind, read_seconds)
                text = response.data if whole or response.status >= 300 else b""
            except urllib3.exceptions.SSLError as error:
                raise Contradiction(f"{self._connection.host}: {error}") from error
            except (urllib3.exceptions.HTTPError, OSError) as error:
                failure = Unavailable(f"{self._connection.host} does not answer: {reason_of(error)}")
                lost = True
            else:
                if response.status < 300:
                    self._welcome, self._told = True, False
                    return response
                failure = failure_of(response.status, message_of(response, text))
                if response.status == 401 and (self._welcome or not refused):
                    # The token may have expired. Whoever was welcome before gets time to renew it.
                    refused = True
                    self._connection.load()
                elif isinstance(failure, Unavailable):
                    self._welcome = True
                    asked_pause = seconds_of(response.headers.get("Retry-After"))
                    lost = lost or response.status != 429
                else:
                    if isinstance(failure, Conflict):
                        failure.repeated = lost
                    raise failure
            waited = time.monotonic() - began
            if waited + max(pause, asked_pause) > (
                self.patience if self._welcome else min(FIRST_ANSWER, self.patience)
            ):
                raise failure
            if waited + max(pause, asked_pause) > 1 and not self._told:
                self._told = True
                self.on_wait(str(failure))
            time.sleep(max(pause * random.uniform(0.7, 1.3), asked_pause))
            pause = min(pause * 2, SLOWEST)


def _without_empty(values: dict[str, str]) -> dict[str, str]:
    return {name: value for name, value in values.items() if value}
