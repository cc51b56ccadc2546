"""What the chart writes into a Job and the plugin reads back: names, labels, and the options of the run."""

from kubectl_catsdogs.base.objects import Object, dig, name_of
from kubectl_catsdogs.base.text import whole_number

CHART_NAME = "catsdogs-train"
CONTAINER = "catsdogs"
INSTANCE = "app.kubernetes.io/instance"
NAME = "app.kubernetes.io/name"
MANAGED_BY = "app.kubernetes.io/managed-by"
JOB_NAME = "batch.kubernetes.io/job-name"
CONTROLLER_UID = "batch.kubernetes.io/controller-uid"
INDEX = "batch.kubernetes.io/job-completion-index"
QUEUE = "kueue.x-k8s.io/queue-name"
SPEC = "catsdogs-train/spec"
"""Annotation in which the chart keeps the Job's spec as it wrote it: without the API server's defaults, the values of
variables that are no options of the job, and the commands of other containers."""
SET, ORIGIN = "catsdogs-train/set", "catsdogs-train/from"
"""Annotations that `submit` writes: the options in which a run differs from its template, and the name of the Job or
CronJob that the template is from.
"""
VARIABLE_PREFIX = "CATSDOGS_"


def container(pod_spec: Object) -> Object:
    """Return the container that trains; empty if the pod has none."""
    containers: list[Object] = dig(pod_spec, "containers", default=[])
    return next((entry for entry in containers if entry.get("name") == CONTAINER), {})


def container_of(job: Object) -> Object:
    """Return the same of a Job's pod template."""
    return container(dig(job, "spec", "template", "spec", default={}))


def is_run(job: Object) -> bool:
    # By the container, as `nameOverride` may give the chart any name.
    return bool(container_of(job))


def environment(job: Object) -> dict[str, str]:
    """Return the variables of the run that have literal values."""
    entries = container_of(job).get("env") or []
    return {entry["name"]: str(entry["value"]) for entry in entries if "value" in entry}


def options(job: Object) -> dict[str, str]:
    """Return the options of the run: name with `_` → value. Arguments win over the environment, as in the job."""
    values = {
        name.removeprefix(VARIABLE_PREFIX).lower(): value
        for name, value in environment(job).items()
        if name.startswith(VARIABLE_PREFIX)
    }
    args = [str(arg) for arg in container_of(job).get("args") or []]
    for arg, following in zip(args, [*args[1:], ""], strict=True):
        if arg.startswith("--"):
            name, equals, value = arg[2:].partition("=")
            values[name.replace("-", "_")] = value if equals else following
    return values


def run_id(job: Object) -> str:
    """Return the option `run_id`, or else the Job's name, which the chart passes by fieldRef."""
    return options(job).get("run_id") or name_of(job)


def result(job: Object) -> str:
    """Return the address of the run's artifacts."""
    return f"{options(job).get('output', '').rstrip('/')}/{run_id(job)}"


def workers(job: Object | None) -> int:
    """Return the number of pods that train the run together."""
    indexed = dig(job, "spec", "completionMode") == "Indexed"
    return int(dig(job, "spec", "completions", default=1)) if indexed else 1


def worker_of(pod: Object | None) -> int:
    """Return the pod's worker index; 0 if it is the only worker."""
    return whole_number(str(dig(pod, "metadata", "labels", INDEX, default=""))) or 0


def newest_of_workers(pods: list[Object]) -> list[Object]:
    """Return each worker's newest pod, by worker index. `pods` are sorted oldest first."""
    newest = {worker_of(pod): pod for pod in pods}
    return [newest[index] for index in sorted(newest)]


def status_of(pod: Object) -> Object:
    """Return the status of the container that trains; empty before the kubelet has reported one."""
    statuses: list[Object] = dig(pod, "status", "containerStatuses", default=[])
    return next((entry for entry in statuses if entry.get("name") == CONTAINER), {})


def terminated(pod: Object) -> Object | None:
    """Return exitCode, reason and message of that container once it has ended."""
    state: Object | None = dig(status_of(pod), "state", "terminated")
    return state
