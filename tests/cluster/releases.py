"""The chart in a namespace of its own, and what becomes of it there."""

import base64
import contextlib
import json
import os
import secrets
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.cluster.api import Api, Object, PermissionDenied
from tests.cluster.cluster import Cluster
from tests.cluster.storage import Relay
from tests.helm.chart import CHART, Helm
from tests.published import new_bucket, objects
from tests.servers import S3Server

TRAINING = {
    "epochs": 2, "imageSize": 64, "batchSize": 4, "learningRate": 0.001,
    "trainPerClass": 15, "validationPerClass": 4, "testPerClass": 4,
}  # fmt: skip
"""A model of seconds."""
LONG: Object = {
    "training": {"epochs": 60},
    # Every few steps, so that the pod is caught, and goes on, between two steps of an epoch.
    "checkpoint": {"every": "0.1s"},
    "job": {"backoffLimit": 0},
}
"""Values of a run that can be disturbed in mid-epoch. No failure is allowed to it: an interruption that counted would
end it."""
RESOURCES = {"requests": {"cpu": "100m", "memory": "512Mi"}, "limits": {"cpu": 1, "memory": "2Gi"}}
LARGE: Object = {"training": {"imageSize": 400, "batchSize": 20}}
"""Seen to take 2.7 GB, of which 1.9 GB are foreseen."""
SECRET = "storage"
RESTRICTED = "pod-security.kubernetes.io/enforce"
FINISHED_SECONDS = 180


def memory(limit: str) -> Object:
    return {"resources": {"requests": {"memory": "64Mi"}, "limits": {"memory": limit}}}


@dataclass(frozen=True)
class Storage:
    """An S3 server, and the way to it from the pods."""

    server: S3Server
    relay: Relay
    archive: Path

    def new_bucket(self) -> str:
        """With the archive in it."""
        return new_bucket(self.server, self.archive)

    def keys(self) -> dict[str, str]:
        return {"AWS_ACCESS_KEY_ID": self.server.access_key, "AWS_SECRET_ACCESS_KEY": self.server.secret_key}


@dataclass
class Namespace:
    """One that enforces the `restricted` Pod Security Standard, with the storage's Secret in it.

    It has a bucket of its own: the same settings are the same run, which is published only once in a bucket.
    """

    cluster: Cluster
    storage: Storage
    helm: Helm
    folder: Path
    name: str = field(default_factory=lambda: f"test-{secrets.token_hex(4)}")
    bucket: str = ""

    @property
    def api(self) -> Api:
        return self.cluster.api

    def __enter__(self) -> "Namespace":
        labels = {RESTRICTED: "restricted", "pod-security.kubernetes.io/enforce-version": "latest"}
        self.api("POST", "/api/v1/namespaces", {"metadata": {"name": self.name, "labels": labels}})
        self.secret(SECRET, self.storage.keys())
        self.bucket = self.storage.new_bucket()
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(PermissionDenied):
            self.api("DELETE", f"/api/v1/namespaces/{self.name}")

    def path(self, kind: str, name: str = "") -> str:
        """Of a kind's objects here, or of one of them."""
        group = {"jobs": "/apis/batch/v1", "cronjobs": "/apis/batch/v1"}.get(
            kind, "/apis/networking.k8s.io/v1" if kind == "networkpolicies" else "/api/v1"
        )
        return f"{group}/namespaces/{self.name}/{kind}" + (f"/{name}" if name else "")

    def items(self, kind: str, **labels: str) -> list[Object]:
        """In the order in which they were made."""
        selector = ",".join(f"{name}={value}" for name, value in labels.items())
        found = self.api.items(self.path(kind) + (f"?labelSelector={selector}" if selector else ""))
        return sorted(found, key=lambda item: str(item["metadata"]["creationTimestamp"]))

    def secret(self, name: str, data: dict[str, str]) -> None:
        encoded = {key: base64.b64encode(value.encode()).decode() for key, value in data.items()}
        self.api("POST", self.path("secrets"), {"metadata": {"name": name}, "data": encoded})

    def small(self) -> Object:
        """Values for a run of seconds, of this cluster's image, without a GPU."""
        repository, _, tag = self.cluster.image.rpartition(":")
        return {
            "gpu": {"count": 0},
            "image": {"repository": repository, "tag": tag},
            "resources": RESOURCES,
            "shm": {"size": "64Mi"},
            "volume": {"size": "1Gi"},
            "training": TRAINING,
            "logFormat": "json",
        }

    def values(self, name: str, *more: Object) -> Path:
        """A values file: those of a small run between the bucket and itself, and then each of `more`."""
        merged: Object = {
            "bucket": self.bucket,
            "storage": {"endpoint": self.storage.relay.endpoint},
            "credentials": {"existingSecret": SECRET},
            **self.small(),
        }
        for values in more:
            merged = _merged(merged, values)
        path = self.folder / f"{name}-values.yaml"
        path.write_text(json.dumps(merged))
        return path

    def run_helm(self, command: str, *arguments: str | Path) -> str:
        """Helm's standard output; it has to succeed."""
        process = self.helm(command, f"--namespace={self.name}", *arguments, kubeconfig=self.cluster.kubeconfig)
        assert process.returncode == 0, process.stderr
        return process.stdout

    def kubectl(self, *arguments: str | Path, timeout: float = 120) -> subprocess.CompletedProcess[str]:
        """Runs kubectl, whatever it exits with."""
        return subprocess.run(
            [self.cluster.kubectl, f"--namespace={self.name}", *arguments],
            env={"PATH": os.environ["PATH"], "HOME": str(self.folder), "KUBECONFIG": str(self.cluster.kubeconfig)},
            capture_output=True,
            text=True,
            timeout=timeout,
        )

    def install(self, name: str = "pets", *values: Object) -> "Release":
        """`helm install` of the chart, which does not wait for the run."""
        self.run_helm("install", name, CHART, "--values", self.values(name, *values))
        return Release(self, name)


@dataclass(frozen=True)
class Release:
    namespace: Namespace
    name: str

    def upgrade(self, *values: Object) -> None:
        """`helm upgrade` to those values alone, as a file under version control would be applied."""
        self.namespace.run_helm("upgrade", self.name, CHART, "--values", self.namespace.values(self.name, *values))

    def uninstall(self) -> None:
        self.namespace.run_helm("uninstall", self.name, "--wait")

    def items(self, kind: str) -> list[Object]:
        return self.namespace.items(kind, **{"app.kubernetes.io/instance": self.name})

    @property
    def jobs(self) -> list[str]:
        """Names, the oldest first."""
        return [job["metadata"]["name"] for job in self.items("jobs")]

    @property
    def run(self) -> "Run":
        """Its newest Job."""
        return Run(self.namespace, self.jobs[-1])


@dataclass(frozen=True)
class Run:
    """A Job; its name is the run's, unless the values say otherwise."""

    namespace: Namespace
    name: str

    @property
    def job(self) -> Object:
        return self.namespace.api.get(self.namespace.path("jobs", self.name))

    @property
    def pods(self) -> list[Object]:
        return self.namespace.items("pods", **{"batch.kubernetes.io/job-name": self.name})

    @property
    def pod(self) -> str:
        """The name of the newest."""
        return str(self.pods[-1]["metadata"]["name"])

    @property
    def ends(self) -> list[tuple[int, str]]:
        """Exit code and reason of each container that has ended, in the pods that are still there."""
        found = []
        for pod in self.pods:
            for status in pod["status"].get("containerStatuses", []):
                if ended := status["state"].get("terminated"):
                    found.append((ended["exitCode"], ended["reason"]))
        return found

    def condition(self, kind: str) -> Object | None:
        conditions = self.job["status"].get("conditions", [])
        return next((item for item in conditions if item["type"] == kind and item["status"] == "True"), None)

    def finish(self, seconds: float = FINISHED_SECONDS) -> str:
        """Waits for the end of the Job: `Complete` or `Failed`."""
        until(lambda: self.condition("Complete") or self.condition("Failed"), f"{self.name} ends", seconds, self.story)
        return "Complete" if self.condition("Complete") else "Failed"

    def succeed(self, seconds: float = FINISHED_SECONDS) -> dict[str, bytes]:
        """Waits for the end, which has to be good, and returns what was published."""
        assert self.finish(seconds) == "Complete", self.story()
        return self.published

    @property
    def published(self) -> dict[str, bytes]:
        return objects(self.namespace.storage.server, self.namespace.bucket, f"runs/{self.name}/")

    def fail(self, seconds: float = FINISHED_SECONDS) -> str:
        """Waits for the end, which has to be bad, and returns the reason that the Job gives."""
        assert self.finish(seconds) == "Failed", self.story()
        condition = self.condition("Failed")
        assert condition
        return str(condition["reason"])

    def log(self, pod: str | None = None) -> str:
        """Of a pod, by default the newest, as kubectl shows it; empty while there is none."""
        pods = self.pods
        if not pods:
            return ""
        return self.namespace.kubectl("logs", pod or self.pod).stdout

    def said(self, pod: str | None = None) -> list[Object]:
        """The events of a log in JSON. Its last line, on a failure, is text."""
        lines = self.log(pod).splitlines()
        return [json.loads(line) for line in lines if line.startswith("{") and line.endswith("}")]

    def until_said(self, event: str, seconds: float = FINISHED_SECONDS, **data: Any) -> str:
        """Waits until the newest pod has said that, and returns its name."""
        found: list[str] = []

        def told() -> bool:
            pods = self.pods
            if not pods:
                return False
            pod = str(pods[-1]["metadata"]["name"])
            for said in self.said(pod):
                if said["event"] == event and data.items() <= said.items():
                    found.append(pod)
                    return True
            assert not self.condition("Failed"), self.story()
            assert not self.condition("Complete"), self.story()
            return False

        until(told, f"{self.name} says {event} {data}", seconds, self.story)
        return found[0]

    @contextlib.contextmanager
    def last_line(self) -> Iterator[list[str]]:
        """The newest pod's last line, put into the list at the end of the block, though the pod be gone by then."""
        found: list[str] = []
        command: list[str | Path] = [
            self.namespace.cluster.kubectl,
            f"--namespace={self.namespace.name}",
            "logs",
            "--follow",
            self.pod,
        ]
        environment = {**os.environ, "KUBECONFIG": str(self.namespace.cluster.kubeconfig)}
        with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as following:
            yield found
            assert following.stdout is not None
            found.extend(following.stdout.read().splitlines()[-1:])

    def last_words(self) -> str:
        """The newest pod's termination message."""
        [status] = self.pods[-1]["status"]["containerStatuses"]
        return str(status["state"]["terminated"].get("message", ""))

    def story(self) -> str:
        """All that may explain what became of it."""
        shown = [self.namespace.kubectl("describe", kind, "--show-events").stdout for kind in ("job", "pod")]
        return "\n".join([*shown, *(self.log(pod["metadata"]["name"]) for pod in self.pods)])


def until(
    met: Callable[[], Any], what: str, seconds: float, story: Callable[[], str] = str, interval: float = 0.3
) -> None:
    deadline = time.monotonic() + seconds
    while not met():
        assert time.monotonic() < deadline, f"not in {seconds} s: {what}\n{story()}"
        time.sleep(interval)


def _merged(values: Object, more: Object) -> Object:
    """As helm merges values files."""
    merged = dict(values)
    for name, value in more.items():
        old = merged.get(name)
        merged[name] = _merged(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return merged
