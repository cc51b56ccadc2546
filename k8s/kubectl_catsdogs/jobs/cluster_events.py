"""What scheduler, kubelet and Job controller report, in plain words. Pure."""

import re
from typing import NamedTuple

from kubectl_catsdogs.base import contract
from kubectl_catsdogs.base.contract import Object, dig, name_of, status_of

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
        "Scheduled": "{name} goes to node {node}",
        "FailedScheduling": "no node for {name} yet: {scheduling}",
        "Pulling": "pulls image {image}",
        "Pulled": "image {image} is there{took}",
        "Started": "container of {name} started",
        "Killing": "ends the container of {name}",
        "TaintManagerEviction": "evicts {name} from its node: {message}",
        "Evicted": "evicts {name}: {message}",
        "Preempted": "{name} makes room for a more important pod",
        "NodeNotReady": "the node of {name} is not ready",
        "TriggeredScaleUp": "adds a node for {name}",
        "NotTriggerScaleUp": "adds no node for {name}: {message}",
        "FailedMount": "cannot mount a volume of {name}: {message}",
        "FailedAttachVolume": "cannot attach a volume of {name}: {message}",
        "BackOff": "waits before it tries again: {message}",
        "Failed": "{message}",
    },
    "Job": {
        "SuccessfulCreate": "made pod {made}",
        "SuccessfulDelete": "deleted pod {made}",
        "FailedCreate": "cannot make a pod: {message}",
        "Completed": "the Job is complete",
        "Suspended": "the Job is suspended",
        "Resumed": "the Job goes on",
        "BackoffLimitExceeded": "gives up: too many attempts have failed",
        "DeadlineExceeded": "gives up: the Job ran longer than allowed",
        "PodFailurePolicy": "gives up, as no retry cures this: {message}",
    },
    "PersistentVolumeClaim": {
        "ProvisioningSucceeded": "volume {name} is there",
        "ProvisioningFailed": "cannot make volume {name}: {message}",
    },
}
"""Kind and reason of an event → its text. Others are told as reason and message."""
QUIET = {"Created", "ExternalProvisioning", "Provisioning", "WaitForFirstConsumer", "WaitForPodScheduled"}
"""Reasons that are of no use to whoever waits for a run."""


class Key(NamedTuple):
    """The same for what is reported again, as each further attempt of one kind is."""

    about: str
    reason: str
    message: str


def report(event: Object) -> str | None:
    """'scheduler: pets-x goes to node a'; None for what is not worth a line."""
    reason, message = str(event.get("reason", "")), " ".join(str(event.get("message", "")).split())
    if reason in QUIET:
        return None
    source = str(dig(event, "source", "component") or event.get("reportingComponent") or "cluster")
    words = {
        "name": str(dig(event, "involvedObject", "name", default="")),
        "message": message,
        "node": _part(r" to (\S+)$", message),
        "image": _part(r'image "([^"]+)"', message),
        "made": _part(r"pod: (\S+)", message),
        "took": _took(message),
        "scheduling": _scheduling(message),
    }
    plain = PLAIN.get(str(dig(event, "involvedObject", "kind")), {}).get(reason)
    text = plain.format(**words) if plain else f"{reason}: {message}"
    return f"{WHO.get(source, source)}: {text}"


def key(event: Object) -> Key:
    """Attempts differ in their times and counts only."""
    message = re.sub(r"[0-9.]+(ms|s|m)\b", "", str(event.get("message", "")))
    return Key(str(dig(event, "involvedObject", "uid")), str(event.get("reason")), message)


def order_of(event: Object) -> tuple[str, int]:
    """By the second, since only some have fractions of it, and within one as the API server has stored them."""
    version = str(dig(event, "metadata", "resourceVersion", default=""))
    return time_of(event), int(version) if version.isdecimal() else 0


def time_of(event: Object) -> str:
    """When it was reported last, to the second."""
    times = (event.get("lastTimestamp"), event.get("eventTime"), dig(event, "metadata", "creationTimestamp"))
    return str(next((time for time in times if time), ""))[:19]


def is_about(event: Object, job: Object) -> bool:
    """Whether it is about this Job, its pods or their volumes, and not about those of an earlier Job of its name."""
    about = event.get("involvedObject") or {}
    kind, name = about.get("kind"), str(about.get("name", ""))
    ours = name_of(job)
    if kind == "Job":
        return name == ours and about.get("uid") == dig(job, "metadata", "uid")
    if time_of(event) < str(dig(job, "metadata", "creationTimestamp", default=""))[:19]:
        return False
    if kind == "PersistentVolumeClaim" and name in _claims(job):
        return True
    pod = re.escape(ours) + ("-[0-9]+" if contract.workers(job) > 1 else "") + "-[a-z0-9]{5}"
    known = {"Pod": pod, "PersistentVolumeClaim": f"{pod}-.+", "Workload": f"job-{re.escape(ours)}-.+"}
    return re.fullmatch(known.get(str(kind), "(?!)"), name) is not None


def of_suspended(job: Object) -> str | None:
    if not dig(job, "spec", "suspend"):
        return None
    queue = dig(job, "metadata", "labels", contract.QUEUE)
    if queue is not None:
        return f"the Job is suspended; it starts when Kueue admits it to the queue {queue}"
    return "the Job is suspended; it starts when spec.suspend is false (helm upgrade … --set job.suspend=false)"


def of_waiting(pod: Object) -> str | None:
    """What the pod itself says of why it does not start, for whoever may not read events."""
    conditions = dig(pod, "status", "conditions", default=[])
    unscheduled = next((one for one in conditions if one.get("reason") == "Unschedulable"), None)
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
    # What follows is whether it would help to end other pods; ' not found' is a leftover of such a text.
    found = re.match(r"0/(\d+) nodes are available: (.*?)\.?(?: (?:preemption:|no new claims|not found).*)?$", message)
    return f"of {found[1]} node{'' if found[1] == '1' else 's'}, {found[2]}" if found else message


def _part(pattern: str, message: str) -> str:
    found = re.search(pattern, message)
    return found.group(1) if found else message


def _took(message: str) -> str:
    found = re.search(r" in ([0-9.]+m?s|[0-9]+m[0-9.]+s)", message)
    return f", pulled in {found[1]}" if found else ", on the node already" if "already present" in message else ""
