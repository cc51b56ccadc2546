"""From a kubeconfig, or a pod's service account, to HTTP requests that carry the right credentials."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import urllib3

from kubectl_catsdogs.base.errors import Contradiction

SERVICE_ACCOUNT_NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
CONNECT_SECONDS = 10


class Connection:
    """`kubeconfig` and `context` as kubectl's flags; without, KUBECONFIG, ~/.kube/config, then the pod's account.

    Raises Contradiction where that leads nowhere.
    """

    namespace: str
    """The context's, or the pod's."""
    host: str

    def __init__(self, kubeconfig: str | None, context: str | None):
        self._kubeconfig = kubeconfig
        self._context = context
        self.load()

    def load(self) -> None:
        """Reads the credentials anew: the token may be another one by now, an exec plugin is asked again."""
        # Here, as the client takes a third of a second to import.
        from kubernetes import client, config  # type: ignore[import-untyped,unused-ignore]

        read: Any = config

        # As `kubectl` does, the environment is asked now, not when the client was imported.
        place = self._kubeconfig or os.environ.get("KUBECONFIG") or os.path.expanduser("~/.kube/config")
        settings = client.Configuration()
        try:
            if not self._kubeconfig and not _exists(place) and "KUBERNETES_SERVICE_HOST" in os.environ:
                read.load_incluster_config(settings)
                self.namespace = SERVICE_ACCOUNT_NAMESPACE.read_text().strip()
            else:
                read.load_kube_config(place, self._context, settings, persist_config=False)
                contexts, current = read.list_kube_config_contexts(place)
                chosen = next((item for item in contexts if item["name"] == self._context), current)
                self.namespace = chosen["context"].get("namespace") or "default"
        except (config.ConfigException, OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise Contradiction(f"kubeconfig {place}: {error}; see `kubectl config view`") from error
        except Exception as error:
            # The YAML library is the client's own dependency, not ours.
            if type(error).__module__.startswith("yaml"):
                raise Contradiction(f"kubeconfig {place} is no YAML: {' '.join(str(error).split())}") from error
            raise
        # An idle stream would otherwise be dropped by a load balancer without a word to either side.
        settings.keep_alive = True
        self.host = settings.host
        self._settings: Any = settings
        self._pool: urllib3.PoolManager = client.ApiClient(settings).rest_client.pool_manager

    def send(
        self,
        method: str,
        path: str,
        query: dict[str, str],
        body: Any = None,
        kind: str = "application/json",
        read_seconds: float = 30,
    ) -> urllib3.BaseHTTPResponse:
        """One request, not repeated, whatever the status; the body is still to be read.

        Raises urllib3's HTTPError. `read_seconds` is the longest silence.
        """
        headers = {"Accept": "application/json, */*", "User-Agent": "kubectl-catsdogs"}
        if body is not None:
            headers["Content-Type"] = kind
        for credential in self._settings.auth_settings().values():
            headers[credential["key"]] = credential["value"]
        url = f"{self.host}{path}" + (f"?{urlencode(query)}" if query else "")
        return self._pool.request(
            method,
            url,
            body=None if body is None else json.dumps(body),
            headers=headers,
            preload_content=False,
            redirect=False,
            retries=False,
            timeout=urllib3.Timeout(connect=CONNECT_SECONDS, read=read_seconds),
        )


def lines_of(response: urllib3.BaseHTTPResponse) -> Iterator[tuple[bytes, bool]]:
    """(line without its newline, whether it had one), each as soon as it is complete.

    Raises urllib3's HTTPError where the stream is cut; the line that was cut is not yielded.
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
        # Not release_conn: it would first read what is left of a stream that need not end.
        response.close()


def _exists(paths: str) -> bool:
    return any(os.path.exists(path) for path in paths.split(os.pathsep) if path)
