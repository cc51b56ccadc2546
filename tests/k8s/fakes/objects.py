"""Jobs, pods and events as the chart and the controllers make them, with no more than the plugin reads."""

from typing import Any

from tests.k8s.fakes.api import Api

Object = dict[str, Any]
CONTAINER = "catsdogs"


def job(name: str = "pets-1", release: str = "pets", env: dict[str, str] | None = None, **status: Any) -> Object:
    variables = {"CATSDOGS_OUTPUT": "s3://pets/runs", "CATSDOGS_RECIPE": "baseline", "CATSDOGS_LOG_FORMAT": "text"}
    labels = {
        "app.kubernetes.io/name": "catsdogs-train",
        "app.kubernetes.io/instance": release,
        "app.kubernetes.io/managed-by": "Helm",
    }
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name, "namespace": "default", "uid": f"uid-{name}", "labels": labels},
        "spec": {
            "backoffLimit": 3,
            "selector": {"matchLabels": {"batch.kubernetes.io/controller-uid": f"uid-{name}"}},
            "template": {
                "metadata": {"labels": dict(list(labels.items())[:2])},
                "spec": {
                    "restartPolicy": "Never",
                    "containers": [
                        {
                            "name": CONTAINER,
                            "image": "registry.example/catsdogs-train:0.1.0",
                            "args": ["run"],
                            "env": [{"name": key, "value": value} for key, value in (variables | (env or {})).items()],
                            "resources": {"limits": {"nvidia.com/gpu": 1, "memory": "8Gi"}},
                        }
                    ],
                },
            },
        },
        "status": status,
    }


def pod(of: Object, name: str = "", phase: str = "Pending", state: Object | None = None, restarts: int = 0) -> Object:
    """Of a Job. `state` is the container's, as in {"running": {}}; None before the kubelet has seen it."""
    job_name, uid = of["metadata"]["name"], of["metadata"]["uid"]
    labels = {"batch.kubernetes.io/job-name": job_name, "batch.kubernetes.io/controller-uid": uid, "job-name": job_name}
    name = name or f"{job_name}-abcde"
    status: Object = {"phase": phase}
    if state is not None:
        status["containerStatuses"] = [{"name": CONTAINER, "restartCount": restarts, "state": state}]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "namespace": "default",
            "uid": f"uid-{name}",
            "labels": of["spec"]["template"]["metadata"]["labels"] | labels,
            "ownerReferences": [{"kind": "Job", "name": job_name, "uid": uid, "controller": True}],
        },
        "spec": of["spec"]["template"]["spec"] | ({"nodeName": "node-1"} if state else {}),
        "status": status,
    }


def event(of: Object, source: str, reason: str, message: str, **fields: Any) -> Object:
    meta = of["metadata"]
    about = {"kind": of["kind"], "name": meta["name"], "namespace": meta["namespace"], "uid": meta.get("uid", "")}
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"generateName": f"{meta['name']}.", "namespace": meta["namespace"]},
        "involvedObject": about,
        "source": {"component": source},
        "reason": reason,
        "message": message,
        "type": "Normal",
    } | fields


def start(api: Api, of: Object, name: str = "") -> Object:
    """A pod of the Job that runs, and has a log."""
    running = api.put("pods", pod(of, name, "Running", {"running": {"startedAt": "2026-01-01T00:00:00Z"}}))
    api.write(running["metadata"]["name"])
    return running


def end(api: Api, running: Object, code: int, reason: str = "", message: str = "") -> None:
    """Its container ends: the log, then the pod's status."""
    name = running["metadata"]["name"]
    api.end_log(name)
    stored = api.find("pods", name)
    assert stored is not None
    terminated = {"exitCode": code, "reason": reason or ("Error" if code else "Completed"), "message": message}
    status = stored["status"]
    status["phase"] = "Failed" if code else "Succeeded"
    status["containerStatuses"] = [{"name": CONTAINER, "restartCount": 0, "state": {"terminated": terminated}}]
    api.put("pods", stored)


def finish(api: Api, name: str = "pets-1", failed: str = "", message: str = "") -> None:
    """The Job controller's verdict: Complete, or Failed for that reason."""
    stored = api.find("jobs", name)
    assert stored is not None
    condition = {"type": "Failed" if failed else "Complete", "status": "True", "reason": failed, "message": message}
    stored["status"] = stored["status"] | {"conditions": [condition]}
    api.put("jobs", stored)
