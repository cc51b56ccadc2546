"""What the plugin shares with the chart and the job: names in manifests, exit codes, where a run's result lies."""

import shlex
from typing import Any

Object = dict[str, Any]
"""A Kubernetes object as the API gives it, in JSON's names."""

CONTAINER = "catsdogs"
INSTANCE = "app.kubernetes.io/instance"
NAME = "app.kubernetes.io/name"
MANAGED_BY = "app.kubernetes.io/managed-by"
CHART_NAME = "catsdogs-train"
JOB_NAME = "batch.kubernetes.io/job-name"
CONTROLLER_UID = "batch.kubernetes.io/controller-uid"
INDEX = "batch.kubernetes.io/job-completion-index"
QUEUE = "kueue.x-k8s.io/queue-name"
SPEC = "catsdogs-train/spec"
"""The annotation in which the chart keeps a Job's spec as it wrote it, without the API server's defaults."""
SET, ORIGIN = "catsdogs-train/set", "catsdogs-train/from"
"""Annotations that `submit` writes: the options in which a run differs from its template, and the name of the Job or
CronJob that the template is from.
"""
PREFIX = "CATSDOGS_"

EXIT_CODES: dict[int, tuple[str, bool | None, str]] = {
    0: ("published, or already published under this run id", None, ""),
    1: ("a bug", True, "the traceback is in the log; report it with the run's run.json"),
    2: ("wrong usage of the command line", False, "correct extraArgs or extraEnv of the release"),
    65: (
        "bad data: not the archive, broken, too few images",
        False,
        "check the values bucket and archive.key, or ask for fewer images per class",
    ),
    69: (
        "unavailable: storage unreachable or failing, GPU asked for and not there",
        True,
        "check storage.endpoint from within the cluster (helm test), or the node's GPU driver",
    ),
    74: ("the volume: full, failing or not writable", True, "raise volume.size, or free the volume"),
    75: ("interrupted (SIGTERM, SIGINT), progress saved", True, "nothing is lost: the next pod goes on from there"),
    77: (
        "storage refuses the credentials, or they may not read or write there",
        False,
        "correct the Secret of credentials.existingSecret; helm test tells whether it suffices",
    ),
    78: ("settings that contradict each other or what they point at", False, "correct the values that the line names"),
}
"""Exit code → (what it means, whether a retry may help, what to do). The first two are `job.errors.EXIT_CODES`."""


def dig(value: Any, *keys: str | int, default: Any = None) -> Any:
    """value[key][key]…, or the default where one of them is missing or null."""
    for key in keys:
        try:
            value = value[key]
        except (KeyError, IndexError, TypeError):
            return default
    return default if value is None else value


def name_of(item: Object) -> str:
    return str(dig(item, "metadata", "name", default=""))


def container(pod_spec: Object) -> Object:
    """The job's own container, of a pod or a template; empty if it has none."""
    found: list[Object] = dig(pod_spec, "containers", default=[])
    return next((one for one in found if one.get("name") == CONTAINER), {})


def is_run(job: Object) -> bool:
    return bool(container(dig(job, "spec", "template", "spec", default={})))


def environment(job: Object) -> dict[str, str]:
    """The variables of the run that have literal values."""
    entries = container(dig(job, "spec", "template", "spec", default={})).get("env") or []
    return {entry["name"]: str(entry["value"]) for entry in entries if "value" in entry}


def options(job: Object) -> dict[str, str]:
    """What the job is told, option name with `_` → value. Arguments win over the environment, as with the job."""
    found = {
        name.removeprefix(PREFIX).lower(): value for name, value in environment(job).items() if name.startswith(PREFIX)
    }
    args = [str(arg) for arg in container(dig(job, "spec", "template", "spec", default={})).get("args") or []]
    for arg, following in zip(args, [*args[1:], ""], strict=True):
        if arg.startswith("--"):
            name, equals, value = arg[2:].partition("=")
            found[name.replace("-", "_")] = value if equals else following
    return found


def workers(job: Object | None) -> int:
    """Pods that train the run together."""
    several = dig(job, "spec", "completionMode") == "Indexed"
    return int(dig(job, "spec", "completions", default=1)) if several else 1


def worker_of(pod: Object | None) -> int:
    """Its index; 0 for the only one."""
    return int(dig(pod, "metadata", "labels", INDEX, default=0))


def run_id(job: Object) -> str:
    """The run's id: as it is told, or else the Job's name, by the chart's fieldRef."""
    return options(job).get("run_id") or name_of(job)


def result(job: Object) -> str:
    """The address of the run's artifacts."""
    return f"{options(job).get('output', '').rstrip('/')}/{run_id(job)}"


def condition(item: Object, kind: str) -> Object | None:
    """The condition of that type, if it is True."""
    found: list[Object] = dig(item, "status", "conditions", default=[])
    return next((one for one in found if one.get("type") == kind and one.get("status") == "True"), None)


def status_of(pod: Object) -> Object:
    """The status of the job's container; empty before the kubelet has seen it."""
    found: list[Object] = dig(pod, "status", "containerStatuses", default=[])
    return next((one for one in found if one.get("name") == CONTAINER), {})


def terminated(pod: Object) -> Object | None:
    """exitCode, reason, message of the container's end, if it has ended."""
    found: Object | None = dig(status_of(pod), "state", "terminated")
    return found


def newest_of_workers(pods: list[Object]) -> list[Object]:
    """Of pods, oldest first, the newest of each worker, in the workers' order."""
    newest = {worker_of(pod): pod for pod in pods}
    return [newest[index] for index in sorted(newest)]


def in_order(items: list[Object]) -> list[Object]:
    """The oldest first."""
    return sorted(items, key=lambda item: (dig(item, "metadata", "creationTimestamp", default=""), name_of(item)))


def command(*words: str) -> str:
    """A command line to be copied into a shell."""
    return shlex.join(words)
