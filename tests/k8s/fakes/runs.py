"""Objects of a run for tests of what is found in it, in the words of Kubernetes 1.34."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from kubectl_catsdogs.diagnose.finding import Finding
from kubectl_catsdogs.diagnose.snapshot import Snapshot
from kubectl_catsdogs.diagnose.stages import diagnose
from tests.k8s.fakes import objects
from tests.k8s.fakes.objects import Object

GPU = "nvidia.com/gpu"
POD = "pets-1-abcde"
CLAIM = "pets-aaaaaa"


class Case(NamedTuple):
    name: str
    seen: Snapshot
    what: list[str]
    """In the causes, one a finding, in their order."""
    evidence: Sequence[str] = ()
    """In what shows the first."""
    next: Sequence[str] = ()
    """In the steps of the first."""
    where: str = ""


def check(case: Case) -> None:
    found = diagnose(case.seen)
    told = "\n".join(map(str, found))
    assert len(found) == len(case.what), told
    for one, what in zip(found, case.what, strict=True):
        assert what in one.what, told
    check_parts(found[0], case)


def check_parts(first: Finding, case: Case) -> None:
    evidence, steps = "\n".join(first.evidence), "\n".join(first.next)
    for part in case.evidence:
        assert part in evidence, first
    for part in case.next:
        assert part in steps, first
    assert first.where
    if case.where:
        assert first.where == case.where


def job(**fields: Any) -> Object:
    """`spec`, `labels` and `status` are put over those of a new Job."""
    made = objects.job(env={"CATSDOGS_ARCHIVE": "s3://pets/datasets/dogs-vs-cats.zip"}, **fields.get("status", {}))
    made["spec"] |= fields.get("spec", {})
    made["metadata"]["labels"] |= fields.get("labels", {})
    spec = made["spec"]["template"]["spec"]
    spec["containers"][0]["resources"] = {
        "requests": {"cpu": "2", "memory": "4Gi"},
        "limits": {"cpu": "4", "memory": "8Gi", GPU: "1"},
    }
    spec["containers"][0]["env"] += [
        {"name": key, "valueFrom": {"secretKeyRef": {"name": "storage", "key": key}}}
        for key in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
    ]
    spec["volumes"] = [{"name": "data", "persistentVolumeClaim": {"claimName": CLAIM}}]
    spec["tolerations"] = [{"key": GPU, "operator": "Exists", "effect": "NoSchedule"}]
    return made


def job_failed(reason: str, message: str = "", failed: int = 1, **spec: Any) -> Object:
    condition = {"type": "Failed", "status": "True", "reason": reason, "message": message}
    return job(status={"conditions": [condition], "failed": failed}, spec=spec)


def pod(of: Object | None = None, name: str = POD, phase: str = "Pending", **fields: Any) -> Object:
    """`state` is the container's; `spec` and `status` are put over the pod's."""
    made = objects.pod(of or job(), name, phase, fields.get("state"))
    made["spec"] = made["spec"] | fields.get("spec", {})
    made["status"] = made["status"] | fields.get("status", {})
    made["metadata"] |= fields.get("metadata", {})
    return made


def unscheduled(message: str, **fields: Any) -> Object:
    condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}
    return pod(status={"conditions": [condition]}, **fields)


def waiting(reason: str, message: str = "", **fields: Any) -> Object:
    return pod(state={"waiting": {"reason": reason, "message": message}}, **fields)


def ended(code: int, message: str = "", reason: str = "Error", name: str = POD, **fields: Any) -> Object:
    state = {"terminated": {"exitCode": code, "reason": reason if code else "Completed", "message": message}}
    return pod(name=name, phase="Failed" if code else "Succeeded", state=state, **fields)


def disrupted(reason: str, message: str) -> Object:
    return {"type": "DisruptionTarget", "status": "True", "reason": reason, "message": message}


def event(of: Object, reason: str, message: str, at: str = "2026-01-01T00:00:00Z") -> Object:
    return objects.event(of, "test", reason, message, lastTimestamp=at)


def claim(phase: str = "Pending", storage_class: str | None = "standard", **meta: Any) -> Object:
    return {
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": CLAIM, "namespace": "default", "uid": "uid-claim"} | meta,
        "spec": {"accessModes": ["ReadWriteOnce"], **({"storageClassName": storage_class} if storage_class else {})},
        "status": {"phase": phase},
    }


def storage_class(name: str = "standard", mode: str = "Immediate", provisioner: str = "disk.csi.example.com") -> Object:
    return {"metadata": {"name": name}, "provisioner": provisioner, "volumeBindingMode": mode}


def node(name: str, gpus: int = 0, taint: str = "", cordoned: bool = False, **fields: Any) -> Object:
    """`taint` is key=value:effect; `offers` is put over what it has; `labels` are its only ones."""
    spec: Object = {"unschedulable": True} if cordoned else {}
    if taint:
        key, _, rest = taint.partition("=")
        value, _, effect = rest.partition(":")
        spec["taints"] = [{"key": key, "effect": effect, **({"value": value} if value else {})}]
    offers = {"cpu": "16", "memory": "64Gi", "pods": "110"} | ({GPU: str(gpus)} if gpus else {})
    return {
        "metadata": {"name": name, "labels": fields.get("labels", {})},
        "spec": spec,
        "status": {"allocatable": offers | fields.get("offers", {}), "conditions": fields.get("conditions", [])},
    }


def other(name: str, on: str, **requests: str) -> Object:
    """A pod of somebody else; `gpus` stands for the resource."""
    limits = {GPU: requests.pop("gpus")} if "gpus" in requests else {}
    return {
        "metadata": {"name": name, "namespace": "team-b"},
        "spec": {
            "nodeName": on,
            "containers": [{"name": "main", "resources": {"requests": requests, "limits": limits}}],
        },
        "status": {"phase": "Running"},
    }


def seen(*pods: Object, job_: Object | None = None, **fields: Any) -> Snapshot:
    return Snapshot("pets", "default", job_ or job(), list(pods), **fields)
