"""As much of a Kubernetes API as `helm install --dry-run=server` reads: Jobs and Secrets, and no other object."""

import contextlib
import json
import threading
from collections.abc import Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import yaml

RESOURCES = {
    "/api/v1": {
        "pods": "Pod",
        "persistentvolumeclaims": "PersistentVolumeClaim",
        "secrets": "Secret",
        "serviceaccounts": "ServiceAccount",
        "services": "Service",
    },
    "/apis/batch/v1": {"jobs": "Job", "cronjobs": "CronJob"},
    "/apis/networking.k8s.io/v1": {"networkpolicies": "NetworkPolicy"},
}


def answers(jobs: list[dict[str, Any]], secrets: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Path → what a GET of it gives."""
    groups = [path.removeprefix("/apis/") for path in RESOURCES if path.startswith("/apis/")]
    versions = [(version.partition("/")[0], {"groupVersion": version, "version": "v1"}) for version in groups]
    found: dict[str, Any] = {
        "/version": {"major": "1", "minor": "34", "gitVersion": "v1.34.1"},
        "/api": {"kind": "APIVersions", "versions": ["v1"]},
        "/apis": {
            "kind": "APIGroupList",
            "apiVersion": "v1",
            "groups": [
                {"name": name, "versions": [version], "preferredVersion": version} for name, version in versions
            ],
        },
    }
    for path, kinds in RESOURCES.items():
        found[path] = {
            "kind": "APIResourceList",
            "groupVersion": path.removeprefix("/apis/").removeprefix("/api/"),
            "resources": [
                {"name": name, "kind": kind, "namespaced": True, "verbs": ["get", "list", "create", "patch"]}
                for name, kind in kinds.items()
            ],
        }
    namespaces = {each["metadata"]["namespace"] for each in (*jobs, *secrets)} | {"default"}
    for namespace in namespaces:
        path = f"/api/v1/namespaces/{namespace}/secrets"
        # Helm lists its releases there, of which there are none.
        found[path] = {"kind": "SecretList", "apiVersion": "v1", "items": []}
        for secret in secrets:
            if secret["metadata"]["namespace"] == namespace:
                found[f"{path}/{secret['metadata']['name']}"] = secret
        here = [job for job in jobs if job["metadata"]["namespace"] == namespace]
        path = f"/apis/batch/v1/namespaces/{namespace}/jobs"
        found[path] = {"kind": "JobList", "apiVersion": "batch/v1", "items": here}
        found |= {f"{path}/{job['metadata']['name']}": job for job in here}
    return found


@contextlib.contextmanager
def serving(jobs: list[dict[str, Any]], directory: Path, secrets: Sequence[dict[str, Any]] = ()) -> Iterator[Path]:
    """The kubeconfig, written into `directory`, of a cluster with these Jobs and Secrets."""
    known = answers(jobs, secrets)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answer = known.get(self.path.partition("?")[0])
            missing = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "NotFound", "code": 404}
            body = json.dumps(missing if answer is None else answer).encode()
            self.send_response(404 if answer is None else 200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            kubeconfig = directory / "kubeconfig"
            kubeconfig.write_text(
                yaml.safe_dump(
                    {
                        "apiVersion": "v1",
                        "kind": "Config",
                        "clusters": [{"name": "test", "cluster": {"server": f"http://127.0.0.1:{server.server_port}"}}],
                        "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
                        "users": [{"name": "test", "user": {}}],
                        "current-context": "test",
                    }
                )
            )
            yield kubeconfig
        finally:
            server.shutdown()
            thread.join()
