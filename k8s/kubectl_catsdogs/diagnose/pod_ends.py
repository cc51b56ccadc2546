"""Why a pod ended: out of memory, evicted, lost with its node, an exit code of the job, or a signal. Pure."""

import re

from kubectl_catsdogs.base import chart
from kubectl_catsdogs.base.chart import terminated
from kubectl_catsdogs.base.exit_codes import EXIT_CODES
from kubectl_catsdogs.base.objects import Object, condition, dig, name_of
from kubectl_catsdogs.diagnose.finding import Finding, Rule, first_rule
from kubectl_catsdogs.diagnose.snapshot import Snapshot
from kubectl_catsdogs.jobs.outcome import last_message

INTERRUPTED, KILLED, ENDED = 75, 137, 143
SIGNALS = {
    4: ("an illegal instruction", "the image's TensorFlow does not support this processor: choose newer nodes"),
    6: (
        "SIGABRT: a library gave up",
        "the log's last lines say which; often a GPU's driver, or too little shared memory: shm.size",
    ),
    7: ("SIGBUS", "shared memory or the volume is full: raise shm.size or volume.size"),
    9: (
        "SIGKILL, and not for its own memory: by the node, by hand, or because it took too long to stop",
        "if it was asked to stop: raise job.terminationGracePeriodSeconds; else see `kubectl describe node`",
    ),
    11: ("SIGSEGV: it crashed in a library", "the log's last lines may say which; often a GPU's driver"),
    15: ("SIGTERM, before it could save its progress", "only progress since the last checkpoint is lost"),
}
"""Number → what it means, what to do."""


def end_of(snapshot: Snapshot, pod: Object) -> Finding | None:
    """Return the most specific cause of the pod's end; None if it has not ended, or has succeeded."""
    if dig(pod, "status", "phase") != "Failed" and not terminated(pod):
        return None
    return next((finding for cause in ENDS if (finding := cause(snapshot, pod)) is not None), None)


def _out_of_memory(snapshot: Snapshot, pod: Object) -> Finding | None:
    end = terminated(pod) or {}
    if end.get("reason") != "OOMKilled":
        return None
    limit = dig(chart.container(pod.get("spec") or {}), "resources", "limits", "memory", default="")
    what = (
        f"out of memory: it needed more than its limit of {limit}" if limit else "out of memory: its node had none left"
    )
    return Finding(
        what,
        snapshot.place_of(pod),
        [f"kubelet: OOMKilled, exit code {end.get('exitCode')}", *_last_line(snapshot, pod)],
        [
            "raise the memory: --set resources.limits.memory=… --set resources.requests.memory=…",
            "or lower training.batchSize or training.imageSize; /dev/shm (shm.size) counts as memory, too",
        ],
    )


EVICTIONS = [
    Rule(
        r"Usage of EmptyDir volume \"shm\" exceeds the limit \"(?P<limit>[^\"]*)\"",
        "evicted: /dev/shm is larger than {limit}",
        "raise shm.size, and resources.limits.memory with it",
    ),
    Rule(
        r"Usage of EmptyDir volume \"data\" exceeds the limit \"(?P<limit>[^\"]*)\"",
        "evicted: its volume is larger than {limit}",
        "raise volume.size, or use volume.type=pvc",
    ),
    Rule(
        r"Usage of EmptyDir volume \"(?P<name>[^\"]*)\" exceeds the limit \"(?P<limit>[^\"]*)\"",
        "evicted: its volume {name} is larger than {limit}",
        "look at its files with diagnosticMode=true",
    ),
    Rule(
        r"low on resource: memory",
        "evicted: its node was short of memory, and it used more than it had requested",
        "raise resources.requests.memory towards resources.limits.memory, so that it gets a node with enough",
    ),
    Rule(
        r"low on resource: ephemeral-storage|ephemeral (?:local )?storage",
        "evicted: its node was short of disk",
        "use volume.type=pvc, or request the disk: --set resources.requests.ephemeral-storage=…",
    ),
    Rule(
        r"low on resource: (?P<name>pids|inodes)",
        "evicted: its node was short of {name}",
        "see what else runs there: `kubectl describe node`",
    ),
]
"""The kubelet's message → what it means."""


def _evicted(snapshot: Snapshot, pod: Object) -> Finding | None:
    if dig(pod, "status", "reason") != "Evicted":
        return None
    message = str(dig(pod, "status", "message", default=""))
    known = first_rule(EVICTIONS, message)
    what, step = known or ("evicted by its node", "see the node: `kubectl describe node`")
    node = dig(pod, "spec", "nodeName", default="?")
    return Finding(what, snapshot.place_of(pod), [f"kubelet of node {node}: {message}"], [step])


def _not_admitted(snapshot: Snapshot, pod: Object) -> Finding | None:
    """The kubelet rejected the pod that the scheduler had assigned to it."""
    reason = str(dig(pod, "status", "reason", default=""))
    if not re.match(r"UnexpectedAdmissionError|OutOf|NodeAffinity|NodePorts|Topology|AppArmor|SysctlForbidden", reason):
        return None
    message = str(dig(pod, "status", "message", default=""))
    step = (
        "the Job creates another pod; if it happens again, see `kubectl describe node`: often its device plugin fails"
    )
    return Finding(
        f"its node {dig(pod, 'spec', 'nodeName', default='?')} rejected the pod: {reason}",
        snapshot.place_of(pod),
        [f"kubelet: {message}"],
        [step],
    )


DISRUPTIONS = {
    "PreemptionByScheduler": "preempted by a pod of higher priority",
    "DeletionByTaintManager": "its node was lost, or got a taint that it does not tolerate",
    "EvictionByEvictionAPI": "its node was drained, or a controller evicted it",
    "DeletionByPodGC": "its node is gone",
    "TerminationByKubelet": "its node stopped it: to shut down, or for a critical pod",
}


def _disrupted(snapshot: Snapshot, pod: Object) -> Finding | None:
    disruption = condition(pod, "DisruptionTarget")
    reason = str(dig(pod, "status", "reason", default=""))
    lost = (
        reason in ("NodeLost", "Shutdown", "Terminated") or dig(terminated(pod), "reason") == "ContainerStatusUnknown"
    )
    code = code_of(pod)
    if not (disruption or lost) or code not in (None, INTERRUPTED, KILLED, ENDED):
        return None
    known = str(dig(disruption, "reason", default=reason))
    what = DISRUPTIONS.get(known, "its node was lost, or shut down")
    message = dig(disruption, "message") or dig(pod, "status", "message") or dig(terminated(pod), "message")
    saved = [f"it ended with exit code {INTERRUPTED}: progress saved"] if code == INTERRUPTED else []
    step = "nothing: interruptions do not count as failures, and another pod resumes from the last checkpoint"
    if known == "PreemptionByScheduler":
        step += "; to avoid preemption, set priorityClassName"
    return Finding(what, snapshot.place_of(pod), [f"cluster: {known}: {message}", *saved], [step])


def _init_container(snapshot: Snapshot, pod: Object) -> Finding | None:
    for entry in dig(pod, "status", "initContainerStatuses", default=[]):
        end = dig(entry, "state", "terminated", default={})
        if end.get("exitCode"):
            words = [line for line in str(end.get("message") or "").splitlines() if line.strip()]
            return Finding(
                f"the init container {entry.get('name')} failed with exit code {end['exitCode']}",
                snapshot.place_of(pod),
                [f"log: {line}" for line in words[-1:]],
                [f"correct the value initContainers; kubectl logs {name_of(pod)} -c {entry.get('name')} has its log"],
            )
    return None


def _not_started(snapshot: Snapshot, pod: Object) -> Finding | None:
    end = terminated(pod) or {}
    if end.get("reason") not in ("StartError", "ContainerCannotRun"):
        return None
    step = "correct image.repository and image.tag; or, if the message names NVIDIA, check the node's container toolkit"
    return Finding(
        "the container could not be started", snapshot.place_of(pod), [f"runtime: {end.get('message')}"], [step]
    )


def _exit_code(snapshot: Snapshot, pod: Object) -> Finding | None:
    end = terminated(pod) or {}
    if not end.get("exitCode"):
        return None
    return by_code(snapshot, int(end["exitCode"]), _last_line(snapshot, pod), snapshot.place_of(pod), pod)


def by_code(snapshot: Snapshot, code: int, words: list[str], where: str, pod: Object | None = None) -> Finding:
    if code in EXIT_CODES:
        meaning, retry_helps, step = EXIT_CODES[code]
        retry = {True: "a retry may help", False: "a retry does not help before that is corrected", None: ""}[
            retry_helps
        ]
        steps = [f"{step}; {retry}" if step and retry else step or retry]
        return Finding(
            f"exit code {code}: {meaning}", where, words + _credentials(code, pod), [*steps, *restart(snapshot)]
        )
    signal, step = SIGNALS.get(code - 128, ("", "")) if code > 128 else ("", "")
    if code in (126, 127):
        signal, step = "its command does not exist", "correct image.repository and image.tag, or extraArgs"
    what = f"exit code {code}: {signal or (f'signal {code - 128}' if 128 < code < 160 else 'not one of the job’s own')}"
    steps = [step or f"kubectl logs -n {snapshot.namespace} {name_of(pod or {})} has its whole log"]
    return Finding(what, where, words, [*steps, *restart(snapshot)])


def _credentials(code: int, pod: Object | None) -> list[str]:
    """Return where credentials come from that storage rejected."""
    env = chart.container(dig(pod, "spec", default={})).get("env") or []
    names = sorted({str(name) for entry in env if (name := dig(entry, "valueFrom", "secretKeyRef", "name"))})
    account = dig(pod, "spec", "serviceAccountName", default="default")
    source = f"Secret {', '.join(names)}" if names else f"the role of service account {account}, or of the node"
    return [f"its credentials come from {source}"] if code == 77 and pod else []


def restart(snapshot: Snapshot) -> list[str]:
    """Return how to restart a Job that has given up."""
    if not condition(snapshot.job or {}, "Failed"):
        return []
    return [
        f"then: kubectl delete job -n {snapshot.namespace} {name_of(snapshot.job or {})};"
        f" helm upgrade -n {snapshot.namespace} {snapshot.release} CHART --reset-then-reuse-values;"
        " it resumes from its last checkpoint"
    ]


def _other_end(snapshot: Snapshot, pod: Object) -> Finding | None:
    if dig(pod, "status", "phase") != "Failed":
        return None
    reason, message = (dig(pod, "status", part, default="") for part in ("reason", "message"))
    evidence = [f"cluster: {reason}: {message}"] if reason or message else []
    step = f"kubectl describe pod -n {snapshot.namespace} {name_of(pod)} shows more"
    return Finding(f"its pod failed{f': {reason}' if reason else ''}", snapshot.place_of(pod), evidence, [step])


ENDS = [
    _out_of_memory, _evicted, _not_admitted, _disrupted, _init_container, _not_started, _exit_code, _other_end,
]  # fmt: skip
"""The first that applies counts."""


def code_of(pod: Object) -> int | None:
    code = dig(terminated(pod), "exitCode")
    return None if code is None else int(code)


def _last_line(snapshot: Snapshot, pod: Object) -> list[str]:
    """Return the last line of its termination message, or else of its log, as evidence."""
    message = last_message(pod)
    if message is None and pod is snapshot.pod:
        return snapshot.last_line
    return [] if message is None else [f"log: {message}"]
