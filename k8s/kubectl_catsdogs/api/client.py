"""The API of a cluster: objects as the JSON that the API server sends. Retries while the server is unavailable."""

import json
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple, Self

import urllib3

from kubectl_catsdogs.api.connection import Connection, Request, lines_of
from kubectl_catsdogs.api.failures import failure_of, message_of, reason_of, seconds_of
from kubectl_catsdogs.api.retry import Retries, RetryPolicy
from kubectl_catsdogs.base.errors import ConfigError, Conflict, Failure, Gone, Unavailable
from kubectl_catsdogs.base.objects import Object

Objects = list[Object]
"""An alias, as `list` within the class is the method."""

PAGE = 250
WATCH_SECONDS = 240
"""A watch is renewed after that time, so that a server that has vanished is noticed."""
LOG_SILENCE = 60
"""Seconds without a line after which a log is requested again."""
REPORTED_PAUSE = 1.0
"""Seconds of waiting for a server that are worth a message."""


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
    "services": Kind("api/v1", True),
    "networkpolicies": Kind("apis/networking.k8s.io/v1", True),
    "resourcequotas": Kind("api/v1", True),
    "limitranges": Kind("api/v1", True),
    "nodes": Kind("api/v1", False),
    "namespaces": Kind("api/v1", False),
    "storageclasses": Kind("apis/storage.k8s.io/v1", False),
    "workloads": Kind("apis/kueue.x-k8s.io/v1beta1", True),
    "localqueues": Kind("apis/kueue.x-k8s.io/v1beta1", True),
}


class Cluster:
    """All methods raise a Failure: PermissionDenied (401, 403), NotFound (404), ConfigError (other 4xx), or Unavailable
    (no answer, 429 or 5xx for longer than the retry budget). What may be temporary is retried until then.
    """

    def __init__(self, connection: Connection, namespace: str | None = None, retry_policy: RetryPolicy | None = None):
        self._connection = connection
        self._namespace = namespace
        self._retry_policy = retry_policy or RetryPolicy()
        self.on_wait: Callable[[str], None] = lambda reason: None
        """Called with the reason once for each time that the server is unavailable, from whatever thread waits."""
        self._wait_reported = False
        self._server_known = False
        """Whether the server has answered, and not with 401."""

    @classmethod
    def connect(
        cls,
        kubeconfig: str | None,
        context: str | None,
        namespace: str | None,
        retry_policy: RetryPolicy | None = None,
    ) -> Self:
        """The arguments are kubectl's flags. Sends nothing."""
        return cls(Connection(kubeconfig, context), namespace, retry_policy)

    @property
    def namespace(self) -> str:
        return self._namespace or self._connection.namespace

    def get(self, plural: str, name: str, namespace: str | None = None) -> Object:
        return self._json(Request("GET", self._path(plural, name, namespace), {}))

    def list(self, plural: str, labels: str = "", fields: str = "", everywhere: bool = False) -> Objects:
        """Return all objects that match both selectors, in this namespace or `everywhere`."""
        return self.list_at(plural, labels, fields, everywhere)[0]

    def list_at(self, plural: str, labels: str = "", fields: str = "", everywhere: bool = False) -> tuple[Objects, str]:
        """Return the same, and the resource version from which a `stream` continues."""
        path = self._path(plural, everywhere=everywhere)
        query = _without_empty({"limit": str(PAGE), "labelSelector": labels, "fieldSelector": fields})
        for _ in range(5):
            items: Objects = []
            token = ""
            try:
                while True:
                    page = self._json(Request("GET", path, query | ({"continue": token} if token else {})))
                    items += page.get("items") or []
                    token = page["metadata"].get("continue") or ""
                    if not token:
                        return items, page["metadata"].get("resourceVersion") or ""
            except Gone:
                # The list is older than what the server remembers: start again.
                continue
        raise Unavailable(f"{plural}: the API server forgets its lists before they are read")

    def create(self, plural: str, body: Object) -> Object:
        """Raises Conflict if the object already exists."""
        try:
            return self._json(Request("POST", self._path(plural), {}, body))
        except Conflict as conflict:
            name = body["metadata"].get("name")
            # The response to an earlier attempt was lost on its way.
            if conflict.may_be_ours and name:
                return self.get(plural, name)
            raise

    def patch(self, plural: str, name: str, body: Object) -> Object:
        """Apply a merge patch."""
        return self._json(Request("PATCH", self._path(plural, name), {}, body, "application/merge-patch+json"))

    def may(self, verb: str, plural: str, name: str = "") -> bool:
        """Return whether RBAC allows it here. `plural` may name a subresource: pods/log."""
        resource, _, subresource = plural.partition("/")
        kind = KINDS[resource]
        group = kind.group.split("/")[1] if kind.group.startswith("apis/") else ""
        attributes = {"verb": verb, "group": group, "resource": resource, "subresource": subresource, "name": name}
        if kind.namespaced:
            attributes["namespace"] = self.namespace
        review = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": _without_empty(attributes)},
        }
        path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
        answer = self._json(Request("POST", path, {}, review))
        return bool(answer["status"].get("allowed"))

    def stream(self, plural: str, labels: str = "", fields: str = "", resource_version: str = "") -> Iterator[Object]:
        """Yield changes after `resource_version`: {"type": "ADDED", "object": …}, until the connection ends.

        Raises Gone if the server no longer knows that version.
        """
        query = {"watch": "true", "timeoutSeconds": str(WATCH_SECONDS), "allowWatchBookmarks": "true"}
        query |= {"labelSelector": labels, "fieldSelector": fields, "resourceVersion": resource_version}
        request = Request("GET", self._path(plural), _without_empty(query), read_seconds=WATCH_SECONDS + 30)
        response = self._send(request, stream=True)
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
        """Yield (line, whether it ended with a newline) of a container's log. Raises ConnectionResetError if it is cut.

        `since_time` is RFC 3339; the API server only looks at whole seconds. Bytes that are not UTF-8 are decoded with
        surrogateescape, so that they can be written as they were.
        """
        query = {"container": container, "sinceTime": since_time}
        for name, value in {"follow": follow, "previous": previous, "timestamps": timestamps}.items():
            query[name] = "true" if value else ""
        path = self._path("pods", pod) + "/log"
        response = self._send(Request("GET", path, _without_empty(query), read_seconds=LOG_SILENCE), stream=True)
        try:
            for line, complete in lines_of(response):
                yield line.decode(errors="surrogateescape"), complete
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise ConnectionResetError(str(error)) from error

    def _path(self, plural: str, name: str = "", namespace: str | None = None, everywhere: bool = False) -> str:
        kind = KINDS[plural]
        inside = f"/namespaces/{namespace or self.namespace}" if kind.namespaced and not everywhere else ""
        return f"/{kind.group}{inside}/{plural}" + (f"/{name}" if name else "")

    def _json(self, request: Request) -> Object:
        answer: Object = json.loads(self._send(request).data)
        return answer

    def _send(self, request: Request, stream: bool = False) -> urllib3.BaseHTTPResponse:
        """Send the request until it succeeds. The response's body has been read, unless it is a `stream`."""
        retries = Retries(self._retry_policy)
        while True:
            requested_pause = 0.0
            try:
                response = self._connection.send(request)
                body = b"" if stream and response.status < 300 else response.data
            except urllib3.exceptions.SSLError as error:
                raise ConfigError(f"{self._connection.host}: {error}") from error
            except (urllib3.exceptions.HTTPError, OSError) as error:
                failure: Failure = Unavailable(f"{self._connection.host} does not answer: {reason_of(error)}")
                retries.may_have_arrived = True
            else:
                if response.status < 300:
                    self._server_known, self._wait_reported = True, False
                    return response
                failure = failure_of(response.status, message_of(response, body))
                self._handle(failure, response.status, retries)
                requested_pause = seconds_of(response.headers.get("Retry-After"))
            self._wait(failure, retries, requested_pause)

    def _handle(self, failure: Failure, status: int, retries: Retries) -> None:
        """Raise the failure if a retry cannot help."""
        if status == 401 and (self._server_known or not retries.renewed_credentials):
            # The token may have expired. A user who was accepted before gets the retry budget to renew it.
            retries.renewed_credentials = True
            self._connection.load()
        elif isinstance(failure, Unavailable):
            self._server_known = True
            retries.may_have_arrived = retries.may_have_arrived or status != 429
        else:
            if isinstance(failure, Conflict):
                failure.may_be_ours = retries.may_have_arrived
            raise failure

    def _wait(self, failure: Failure, retries: Retries, requested_pause: float) -> None:
        pause = retries.pause_after(failure, self._server_known, requested_pause)
        if retries.elapsed + pause > REPORTED_PAUSE and not self._wait_reported:
            self._wait_reported = True
            self.on_wait(str(failure))
        time.sleep(pause)


def _without_empty(values: dict[str, str]) -> dict[str, str]:
    return {name: value for name, value in values.items() if value}
