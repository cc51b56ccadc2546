"""From a kubeconfig, or a pod's service account, to HTTP requests that carry the right credentials."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlencode

import urllib3

from kubectl_catsdogs.base.errors import ConfigError

SERVICE_ACCOUNT_NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
CONNECT_SECONDS = 10


class Request(NamedTuple):
    method: str
    path: str
    query: dict[str, str]
    body: Any = None
    """Sent as JSON; None for none."""
    content_type: str = "application/json"
    read_seconds: float = 30
    """The longest silence before the connection counts as dead."""


class Connection:
    """`kubeconfig` and `context` as kubectl's flags; without them KUBECONFIG, ~/.kube/config, then the pod's account.

    Raises ConfigError if none of these can be used.
    """

    namespace: str
    """The context's, or the pod's."""
    host: str

    def __init__(self, kubeconfig: str | None, context: str | None):
        self._kubeconfig = kubeconfig
        self._context = context
        self.load()

    def load(self) -> None:
        """Read the credentials again: a token may have been renewed, and an exec plugin is asked again."""
        # Here, as the client takes a third of a second to import.
        from kubernetes import client, config  # type: ignore[import-untyped,unused-ignore]

        read: Any = config

        # Like kubectl, read the environment now rather than when the client was imported.
        path = self._kubeconfig or os.environ.get("KUBECONFIG") or os.path.expanduser("~/.kube/config")
        settings = client.Configuration()
        try:
            if not self._kubeconfig and not _exists(path) and "KUBERNETES_SERVICE_HOST" in os.environ:
                read.load_incluster_config(settings)
                self.namespace = SERVICE_ACCOUNT_NAMESPACE.read_text().strip()
            else:
                read.load_kube_config(path, self._context, settings, persist_config=False)
                contexts, current = read.list_kube_config_contexts(path)
                chosen = next((item for item in contexts if item["name"] == self._context), current)
                self.namespace = chosen["context"].get("namespace") or "default"
        except (config.ConfigException, OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise ConfigError(f"kubeconfig {path}: {error}; see `kubectl config view`") from error
        except Exception as error:
            # The client parses it with a YAML library that is not among our own dependencies.
            if type(error).__module__.startswith("yaml"):
                raise ConfigError(f"kubeconfig {path} is not YAML: {' '.join(str(error).split())}") from error
            raise
        # Load balancers drop idle streams without telling either side.
        settings.keep_alive = True
        self.host = settings.host
        self._settings: Any = settings
        self._pool: urllib3.PoolManager = client.ApiClient(settings).rest_client.pool_manager

    def send(self, request: Request) -> urllib3.BaseHTTPResponse:
        """Send the request once, and return the response whatever its status, its body not yet read.

        Raises urllib3's HTTPError.
        """
        headers = {"Accept": "application/json, */*", "User-Agent": "kubectl-catsdogs"}
        if request.body is not None:
            headers["Content-Type"] = request.content_type
        for credential in self._settings.auth_settings().values():
            headers[credential["key"]] = credential["value"]
        url = f"{self.host}{request.path}" + (f"?{urlencode(request.query)}" if request.query else "")
        return self._pool.request(
            request.method,
            url,
            body=None if request.body is None else json.dumps(request.body),
            headers=headers,
            preload_content=False,
            redirect=False,
            retries=False,
            timeout=urllib3.Timeout(connect=CONNECT_SECONDS, read=request.read_seconds),
        )


def lines_of(response: urllib3.BaseHTTPResponse) -> Iterator[tuple[bytes, bool]]:
    """Yield (line without its newline, whether it had one), each as soon as it is complete.

    Raises urllib3's HTTPError where the stream is cut; a line that was cut is not yielded.
    """
    rest = b""
    try:
        while chunk := response.read1():
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                yield line, True
        if rest:
            yield rest, False
    finally:
        # Not release_conn: it would first read the rest of a stream that may never end.
        response.close()


def _exists(paths: str) -> bool:
    return any(os.path.exists(path) for path in paths.split(os.pathsep) if path)
