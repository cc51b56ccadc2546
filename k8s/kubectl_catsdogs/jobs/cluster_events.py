"""Events of the cluster about a run, by scheduler, kubelet and controllers, in plain words. Pure."""

import re
from typing import NamedTuple

from kubectl_catsdogs.base import chart
from kubectl_catsdogs.base.chart import status_of
from kubectl_catsdogs.base.objects import Object, dig, name_of
from kubectl_catsdogs.base.text import plural, whole_number

WHO = {
    "default-scheduler": "scheduler",
    "kubelet": "kubelet",
    "job-controller": "Job controller",
    "batch/job-kueue-controller": "Kueue",
    "kueue-admission": "Kueue",
    "kueue-job-controller": "Kueue",
    "taint-eviction-controller": "node controller",
    "node-controller": "node controller",
    "persistentvolume-controller": "volumes",
    "attachdetach-controller": "volumes",
    "cluster-autoscaler": "autoscaler",
}
PLAIN: dict[str, dict[str, str]] = {
    "Pod": {
        "Scheduled": "{name} is assigned to node {node}",
        "FailedScheduling": "no node for {name} yet: {scheduling}",
        "Pulling": "pulling image {image}",
        "Pulled": "image {image} is present{took}",
        "Started": "container of {name} started",
        "Killing": "stopping the container of {name}",
        "TaintManagerEviction": "evicts {name} from its node: {message}",
        "Evicted": "evicts {name}: {message}",
        "Preempted": "{name} is preempted by a pod of higher priority",
        "NodeNotReady": "the node of {name} is not ready",
        "TriggeredScaleUp": "adds a node for {name}",
        "NotTriggerScaleUp": "adds no node for {name}: {message}",
        "FailedMount": "cannot mount a volume of {name}: {message}",
        "FailedAttachVolume": "cannot attach a volume of {name}: {message}",
        "BackOff": "backing off before a retry: {message}",
        "Failed": "{message}",
    },
    "Job": {
        "SuccessfulCreate": "created pod {created}",
        "SuccessfulDelete": "deleted pod {created}",
        "FailedCreate": "cannot create a pod: {message}",
        "Completed": "the Job is complete",
        "Suspended": "the Job is suspended",
        "Resumed": "the Job is resumed",
        "BackoffLimitExceeded": "gives up: too many attempts have failed",
        "DeadlineExceeded": "gives up: the Job ran longer than allowed",
        "PodFailurePolicy": "gives up, as a retry would not help: {message}",
    },
    "PersistentVolumeClaim": {
        "ProvisioningSucceeded": "volume {name} is provisioned",
        "ProvisioningFailed": "cannot provision volume {name}: {message}",
    },
}
"""Kind and reason of an event → its text. Others are shown as reason and message."""
QUIET = {"Created", "ExternalProvisioning", "Provisioning", "WaitForFirstConsumer", "WaitForPodScheduled"}
"""Reasons that do not matter to somebody who waits for a run."""


class Key(NamedTuple):
    """Equal for repetitions of one event, as of failed attempts."""

    about: str
    reason: str
    message: str


def text_of(event: Object) -> str | None:
    """'scheduler: pets-x is assigned to node a'; None for an event that is not worth a line."""
    reason, message = str(event.get("reason", "")), " ".join(str(event.get("message", "")).split())
    if reason in QUIET:
        return None
    source = str(dig(event, "source", "component") or event.get("reportingComponent") or "cluster")
    words = {
        "name": str(dig(event, "involvedObject", "name", default="")),
        "message": message,
        "node": _part(r" to (\S+)$", message),
        "image": _part(r'image "([^"]+)"', message),
        "created": _part(r"pod: (\S+)", message),
        "took": _took(message),
        "scheduling": _scheduling(message),
    }
    plain = PLAIN.get(str(dig(event, "involvedObject", "kind")), {}).get(reason)
    text = plain.format(**words) if plain else f"{reason}: {message}"
    return f"{WHO.get(source, source)}: {text}"


def key(event: Object) -> Key:
    """Return the event's key. Repetitions differ only in times and counts."""
    message = re.sub(r"[0-9.]+(ms|s|m)\b", "", str(event.get("message", "")))
    return Key(str(dig(event, "involvedObject", "uid")), str(event.get("reason")), message)


def order_of(event: Object) -> tuple[str, int]:
    """Sort key: by second, as only some events have fractions, and within a second as the API server stored them."""
    version = str(dig(event, "metadata", "resourceVersion", default=""))
    return time_of(event), whole_number(version) or 0


def time_of(event: Object) -> str:
    """Return when the event was last reported, to the second."""
    times = (event.get("lastTimestamp"), event.get("eventTime"), dig(event, "metadata", "creationTimestamp"))
    return str(next((time for time in times if time), ""))[:19]


def is_about(event: Object, job: Object) -> bool:
    """Return whether it is about this Job, its pods or volumes; not those of an earlier Job of the same name."""
    about = event.get("involvedObject") or {}
    kind, name = about.get("kind"), str(about.get("name", ""))
    ours = name_of(job)
    if kind == "Job":
        return name == ours and about.get("uid") == dig(job, "metadata", "uid")
    if time_of(event) < str(dig(job, "metadata", "creationTimestamp", default=""))[:19]:
        return False
    if kind == "PersistentVolumeClaim" and name in _claims(job):
        return True
    pod = re.escape(ours) + ("-[0-9]+" if chart.workers(job) > 1 else "") + "-[a-z0-9]{5}"
    known = {"Pod": pod, "PersistentVolumeClaim": f"{pod}-.+", "Workload": f"job-{re.escape(ours)}-.+"}
    return re.fullmatch(known.get(str(kind), "(?!)"), name) is not None


def suspended_text(job: Object) -> str | None:
    if not dig(job, "spec", "suspend"):
        return None
    queue = dig(job, "metadata", "labels", chart.QUEUE)
    if queue is not None:
        return f"the Job is suspended; it starts when Kueue admits it to the queue {queue}"
    return "the Job is suspended; it starts when spec.suspend is false (helm upgrade … --set job.suspend=false)"


def waiting_text(pod: Object) -> str | None:
    """Return why a pod does not start, from its own status, for users who may not read events."""
    conditions = dig(pod, "status", "conditions", default=[])
    unscheduled = next((entry for entry in conditions if entry.get("reason") == "Unschedulable"), None)
    if unscheduled is not None:
        return f"no node for {name_of(pod)} yet: {_scheduling(str(unscheduled.get('message')))}"
    waiting = dig(status_of(pod), "state", "waiting", default={})
    if waiting.get("reason") in (None, "ContainerCreating", "PodInitializing"):
        return None
    return f"{name_of(pod)} waits: {waiting['reason']}: {waiting.get('message', '')}"


def _claims(job: Object) -> list[str]:
    volumes = dig(job, "spec", "template", "spec", "volumes", default=[])
    return [str(dig(volume, "persistentVolumeClaim", "claimName")) for volume in volumes]


def _scheduling(message: str) -> str:
    """'0/3 nodes are available: 3 Insufficient cpu. preemption: …' → 'of 3 nodes, 3 Insufficient cpu'."""
    # The rest tells whether evicting other pods would help; ' not found' is a leftover of such a text.
    match = re.match(r"0/(\d+) nodes are available: (.*?)\.?(?: (?:preemption:|no new claims|not found).*)?$", message)
    return f"of {plural(match[1], 'node')}, {match[2]}" if match else message


def _part(pattern: str, message: str) -> str:
    match = re.search(pattern, message)
    return match[1] if match else message


def _took(message: str) -> str:
    match = re.search(r" in ([0-9.]+m?s|[0-9]+m[0-9.]+s)", message)
    return f", pulled in {match[1]}" if match else ", already on the node" if "already present" in message else ""
