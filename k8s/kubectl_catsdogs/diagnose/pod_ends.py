"""How a pod ended: out of memory, evicted, lost with its node, by an exit code of the job or by a signal. Pure."""

import json
import re

from kubectl_catsdogs.base import contract
from kubectl_catsdogs.base.contract import Object, condition, dig, name_of, terminated
from kubectl_catsdogs.diagnose.snapshot import Finding, Rule, Seen, first_rule
from kubectl_catsdogs.jobs.job_log import event_of

INTERRUPTED, KILLED, ENDED = 75, 137, 143
SIGNALS = {
    4: ("an illegal instruction", "the image's TensorFlow is not made for this processor: choose newer nodes"),
    6: (
        "SIGABRT: a library gave up",
        "the log's last lines say which; often a GPU's driver, or too little shared memory: shm.size",
    ),
    7: ("SIGBUS", "shared memory or the volume is full: raise shm.size or volume.size"),
    9: (
        "SIGKILL, and not for its own memory: by the node, by hand, or as it took longer to end than it may",
        "if it was asked to end: raise job.terminationGracePeriodSeconds; else see `kubectl describe node`",
    ),
    11: ("SIGSEGV: it crashed in a library", "the log's last lines may say which; often a GPU's driver"),
    15: ("SIGTERM, before it could save anything", "nothing is lost but what came after the last checkpoint"),
}
"""Number → what ended it, what to do."""


def end_of(seen: Seen, pod: Object) -> Finding | None:
    """The most specific cause of a pod's end; None if it has not ended, or has succeeded."""
    if dig(pod, "status", "phase") != "Failed" and not terminated(pod):
        return None
    return next((found for known in ENDS if (found := known(seen, pod)) is not None), None)


def _out_of_memory(seen: Seen, pod: Object) -> Finding | None:
    end = terminated(pod) or {}
    if end.get("reason") != "OOMKilled":
        return None
    limit = dig(contract.container(pod.get("spec") or {}), "resources", "limits", "memory", default="")
    what = f"out of memory: it needed more than its limit, {limit}" if limit else "out of memory: its node had no more"
    return Finding(
        what,
        seen.place_of(pod),
        [f"kubelet: OOMKilled, exit code {end.get('exitCode')}", *_last_words(seen, pod)],
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
        "see what fills it, with diagnosticMode=true",
    ),
    Rule(
        r"low on resource: memory",
        "evicted: its node was short of memory, and it used more than it had asked for",
        "raise resources.requests.memory towards resources.limits.memory, so that it goes where there is room",
    ),
    Rule(
        r"low on resource: ephemeral-storage|ephemeral (?:local )?storage",
        "evicted: its node was short of disk",
        "use volume.type=pvc, or ask for the disk: --set resources.requests.ephemeral-storage=…",
    ),
    Rule(
        r"low on resource: (?P<name>pids|inodes)",
        "evicted: its node was short of {name}",
        "see what else runs there: `kubectl describe node`",
    ),
]
"""The kubelet's words → what they mean."""


def _evicted(seen: Seen, pod: Object) -> Finding | None:
    if dig(pod, "status", "reason") != "Evicted":
        return None
    message = str(dig(pod, "status", "message", default=""))
    known = first_rule(EVICTIONS, message)
    what, step = known or ("evicted by its node", "see the node: `kubectl describe node`")
    node = dig(pod, "spec", "nodeName", default="?")
    return Finding(what, seen.place_of(pod), [f"kubelet of node {node}: {message}"], [step])


def _not_admitted(seen: Seen, pod: Object) -> Finding | None:
    """The kubelet has refused what the scheduler had sent."""
    reason = str(dig(pod, "status", "reason", default=""))
    if not re.match(r"UnexpectedAdmissionError|OutOf|NodeAffinity|NodePorts|Topology|AppArmor|SysctlForbidden", reason):
        return None
    message = str(dig(pod, "status", "message", default=""))
    step = (
        "the Job makes another pod; if it repeats, see the node with `kubectl describe node`, often its device plugin"
    )
    return Finding(
        f"its node {dig(pod, 'spec', 'nodeName', default='?')} refused the pod: {reason}",
        seen.place_of(pod),
        [f"kubelet: {message}"],
        [step],
    )


DISRUPTIONS = {
    "PreemptionByScheduler": "preempted: it had to make room for a pod of higher priority",
    "DeletionByTaintManager": "its node was lost, or got a taint that it does not tolerate",
    "EvictionByEvictionAPI": "its node was drained, or a controller evicted it",
    "DeletionByPodGC": "its node is gone",
    "TerminationByKubelet": "its node ended it: to shut down, or for a critical pod",
}


def _disrupted(seen: Seen, pod: Object) -> Finding | None:
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
    told = dig(disruption, "message") or dig(pod, "status", "message") or dig(terminated(pod), "message")
    saved = [f"it ended with exit code {INTERRUPTED}: progress saved"] if code == INTERRUPTED else []
    step = "nothing, as interruptions do not count: another pod goes on from the last checkpoint"
    if known == "PreemptionByScheduler":
        step += "; to be preempted less, set priorityClassName"
    return Finding(what, seen.place_of(pod), [f"cluster: {known}: {told}", *saved], [step])


def _init_container(seen: Seen, pod: Object) -> Finding | None:
    for one in dig(pod, "status", "initContainerStatuses", default=[]):
        end = dig(one, "state", "terminated", default={})
        if end.get("exitCode"):
            words = [line for line in str(end.get("message") or "").splitlines() if line.strip()]
            return Finding(
                f"the init container {one.get('name')} failed with exit code {end['exitCode']}",
                seen.place_of(pod),
                [f"log: {line}" for line in words[-1:]],
                [f"correct the value initContainers; kubectl logs {name_of(pod)} -c {one.get('name')} has its log"],
            )
    return None


def _not_started(seen: Seen, pod: Object) -> Finding | None:
    end = terminated(pod) or {}
    if end.get("reason") not in ("StartError", "ContainerCannotRun"):
        return None
    step = (
        "correct image.repository and image.tag; or, if the message names NVIDIA, see to the node's container toolkit"
    )
    return Finding("the container could not be started", seen.place_of(pod), [f"runtime: {end.get('message')}"], [step])


def _exit_code(seen: Seen, pod: Object) -> Finding | None:
    end = terminated(pod) or {}
    if not end.get("exitCode"):
        return None
    return by_code(seen, int(end["exitCode"]), _last_words(seen, pod), seen.place_of(pod), pod)


def by_code(seen: Seen, code: int, words: list[str], where: str, pod: Object | None = None) -> Finding:
    if code in contract.EXIT_CODES:
        meaning, retry_helps, step = contract.EXIT_CODES[code]
        retry = {True: "a retry may help", False: "no retry helps before that is corrected", None: ""}[retry_helps]
        steps = [f"{step}; {retry}" if step and retry else step or retry]
        return Finding(
            f"exit code {code}: {meaning}", where, words + _credentials(code, pod), [*steps, *begin_again(seen)]
        )
    signal, step = SIGNALS.get(code - 128, ("", "")) if code > 128 else ("", "")
    if code in (126, 127):
        signal, step = "its command is not there", "correct image.repository and image.tag, or extraArgs"
    what = f"exit code {code}: {signal or (f'signal {code - 128}' if 128 < code < 160 else 'none of the job’s own')}"
    steps = [step or f"kubectl logs -n {seen.namespace} {name_of(pod or {})} has all that it said"]
    return Finding(what, where, words, [*steps, *begin_again(seen)])


def _credentials(code: int, pod: Object | None) -> list[str]:
    """Which Secret storage has refused."""
    env = contract.container(dig(pod, "spec", default={})).get("env") or []
    names = sorted({str(name) for one in env if (name := dig(one, "valueFrom", "secretKeyRef", "name"))})
    account = dig(pod, "spec", "serviceAccountName", default="default")
    source = f"Secret {', '.join(names)}" if names else f"the role of service account {account} or of the node"
    return [f"its credentials come from {source}"] if code == 77 and pod else []


def begin_again(seen: Seen) -> list[str]:
    """How a Job that has given up is begun again."""
    if not condition(seen.job or {}, "Failed"):
        return []
    return [
        f"then: kubectl delete job -n {seen.namespace} {name_of(seen.job or {})}; helm upgrade -n {seen.namespace}"
        f" {seen.release} CHART --reset-then-reuse-values; it goes on from its last checkpoint"
    ]


def _other_end(seen: Seen, pod: Object) -> Finding | None:
    if dig(pod, "status", "phase") != "Failed":
        return None
    reason, message = (dig(pod, "status", part, default="") for part in ("reason", "message"))
    told = [f"cluster: {reason}: {message}"] if reason or message else []
    step = f"kubectl describe pod -n {seen.namespace} {name_of(pod)} shows all there is"
    return Finding(f"its pod failed{f': {reason}' if reason else ''}", seen.place_of(pod), told, [step])


ENDS = [
    _out_of_memory, _evicted, _not_admitted, _disrupted, _init_container, _not_started, _exit_code, _other_end,
]  # fmt: skip
"""The first that knows the pod's end counts."""


def code_of(pod: Object) -> int | None:
    code = dig(terminated(pod), "exitCode")
    return None if code is None else int(code)


def _last_words(seen: Seen, pod: Object) -> list[str]:
    """The last line that it said: of the termination message, or else of its log."""
    lines = [line for line in str(dig(terminated(pod), "message", default="")).splitlines() if line.strip()]
    if not lines and pod is seen.pod:
        lines = seen.said
    return [f"log: {text_of(line)}" for line in lines[-1:]]


def text_of(line: str) -> str:
    """What a line of the log says, be it text or JSON; without what the exit code says already."""
    found = event_of(line)
    if found is not None and found[0] == "failed":
        return str(found[1].get("error"))
    try:
        return str(json.loads(line)["text"])
    except (ValueError, TypeError, KeyError):
        return line
