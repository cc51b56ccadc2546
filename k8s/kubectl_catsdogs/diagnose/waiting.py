"""Why there is no pod, or no node for it: suspended, refused, held back, without a volume. Pure."""

from kubectl_catsdogs.api.resources import amount
from kubectl_catsdogs.base import contract
from kubectl_catsdogs.base.contract import Object, dig, name_of
from kubectl_catsdogs.base.text import listed
from kubectl_catsdogs.diagnose import scheduling
from kubectl_catsdogs.diagnose.snapshot import Finding, Rule, Seen, first_rule

# Suspended


def deactivated(seen: Seen) -> Finding | None:
    if dig(seen.workload, "spec", "active") is not False:
        return None
    name = name_of(seen.workload or {})
    patch = """--type=merge -p '{"spec":{"active":true}}'"""
    return Finding(
        "its Kueue Workload is deactivated: by hand, or since it was evicted or not ready too often",
        f"Workload {name}",
        _kueue_says(seen),
        [f"kubectl patch workload -n {seen.namespace} {name} {patch} puts it back into the queue"],
    )


def queued(seen: Seen) -> Finding | None:
    queue = dig(seen.job, "metadata", "labels", contract.QUEUE)
    if queue is None or seen.workload is None or dig(seen.workload, "spec", "active") is False:
        return None
    name = name_of(seen.workload)
    return Finding(
        f"it waits until Kueue admits it to the queue {queue}",
        f"Workload {name}",
        _kueue_says(seen),
        [
            "wait: it starts by itself once there is quota",
            f"or correct what Kueue says is wrong: kubectl describe workload -n {seen.namespace} {name}",
        ],
    )


def not_queued(seen: Seen) -> Finding | None:
    queue = dig(seen.job, "metadata", "labels", contract.QUEUE)
    if queue is None or seen.workload is not None:
        return None
    return Finding(
        f"it is for Kueue's queue {queue}, and Kueue has made no Workload of it that could be read",
        seen.job_place,
        [],
        [
            f"kubectl get localqueue,workload -n {seen.namespace} shows whether Kueue and the queue are there",
            "or run without Kueue: --set kueue.queueName=",
        ],
    )


def _kueue_says(seen: Seen) -> list[str]:
    lines = []
    for one in dig(seen.workload, "status", "conditions", default=[]):
        kind, status = one.get("type"), one.get("status")
        refused = status == "False" and kind in ("QuotaReserved", "Admitted", "PodsReady")
        if refused or (status == "True" and kind in ("Evicted", "Preempted", "DeactivationTarget")):
            lines.append(f"Kueue: {kind} is {status}, {one.get('reason')}: {one.get('message')}")
    for check in dig(seen.workload, "status", "admissionChecks", default=[]):
        if check.get("state") != "Ready":
            lines.append(f"Kueue: admission check {check.get('name')} is {check.get('state')}: {check.get('message')}")
    return lines


def by_hand(seen: Seen) -> Finding | None:
    if dig(seen.job, "metadata", "labels", contract.QUEUE) is not None:
        return None
    name = name_of(seen.job or {})
    patch = """--type=merge -p '{"spec":{"suspend":false}}'"""
    return Finding(
        "the Job is suspended: by the value job.suspend, by `kubectl catsdogs stop` or by hand",
        seen.job_place,
        [],
        [f"kubectl patch job -n {seen.namespace} {name} {patch} starts it; it goes on from its last checkpoint"],
    )


# No pod, as the API server takes none

REFUSALS = [
    Rule(
        r"failed quota: (?P<name>[^:]+): must specify (?P<what>.*)",
        "the quota {name} demands what its pod does not name: {what}",
        "name it in the values resources.requests and resources.limits",
    ),
    Rule(
        r"violates PodSecurity \"(?P<level>[^\"]*)\": (?P<what>.*)",
        "the namespace's Pod Security level {level} forbids its pod: {what}",
        "the chart's own pods meet it: undo changes to podSecurityContext, securityContext, initContainers and"
        " extraVolumes; or use another namespace",
    ),
    Rule(
        r"serviceaccount \"(?P<name>[^\"]*)\" not found",
        "its service account {name} is not there",
        "create it, correct serviceAccount.name, or set serviceAccount.create=true",
    ),
    Rule(
        r"no PriorityClass with name (?P<name>\S+) was found",
        "there is no priority class {name}",
        "correct priorityClassName; `kubectl get priorityclass` shows those that are there",
    ),
    Rule(
        r"RuntimeClass \"(?P<name>[^\"]*)\" not found",
        "there is no runtime class {name}",
        "correct runtimeClassName; `kubectl get runtimeclass` shows those that are there",
    ),
    Rule(
        r"(?P<what>(?:maximum|minimum) \S+ usage per (?:Container|Pod) is [^\]]*)",
        "a LimitRange of the namespace forbids what it asks for: {what}",
        "change the values resources.requests and resources.limits",
    ),
    Rule(
        r"admission webhook \"(?P<name>[^\"]*)\" denied the request: (?P<what>.*)",
        "the admission webhook {name} forbids its pod: {what}",
        "change the values that it names, or ask whoever runs it",
    ),
    Rule(
        r"failed calling webhook \"(?P<name>[^\"]*)\"",
        "the admission webhook {name} does not answer, and no pod can be made without it",
        "ask whoever runs it: `kubectl get mutatingwebhookconfigurations,validatingwebhookconfigurations`",
    ),
]
"""What the API server answers to the Job controller → what it means."""


def over_quota(seen: Seen) -> Finding | None:
    message = _refusal(seen)
    rule = Rule(r"exceeded quota: (?P<name>[^,]+), (?P<what>.*)", "{name}", "")
    if not (found := rule.apply(message)):
        return None
    return Finding(
        f"the quota {found[0]} of the namespace does not allow its pod",
        f"ResourceQuota {found[0]}",
        [f"Job controller: {message}", *_used_up(seen.quotas or [])],
        [
            "wait for other pods to end: the Job controller tries again by itself",
            "or lower gpu.count or resources, or ask for a larger ResourceQuota",
        ],
    )


def _used_up(quotas: list[Object]) -> list[str]:
    lines = []
    for quota in quotas:
        hard, used = (dig(quota, "status", part, default={}) for part in ("hard", "used"))
        for name in sorted(hard):
            if amount(used.get(name, 0)) >= amount(hard[name]):
                lines.append(f"quota {name_of(quota)}: {used.get(name)} of {hard[name]} {name} are used")
    return lines


def refused(seen: Seen) -> Finding | None:
    message = _refusal(seen)
    if not message or "exceeded quota" in message:
        return None
    known = first_rule(REFUSALS, message)
    what, step = known or ("the API server takes no pod of it", "correct the values that the message names")
    return Finding(what, seen.job_place, [f"Job controller: {message}"], [step])


def _refusal(seen: Seen) -> str:
    """Why the Job controller's newest attempt to make a pod has failed; empty if it has not."""
    messages = seen.events_of(seen.job, "FailedCreate", "SuccessfulCreate")
    return messages[-1] if messages and not messages[-1].startswith("Created pod") else ""


def no_pod_yet(seen: Seen) -> Finding | None:
    return Finding(
        "the Job controller has made no pod yet",
        seen.job_place,
        [],
        ["wait some seconds; if it stays so, kube-controller-manager is not at work, or events may not be read"],
    )


# Others without it


def for_others(seen: Seen) -> Finding | None:
    """Several workers start together."""
    newest = {contract.worker_of(pod): pod for pod in seen.pods}
    state = {index: str(dig(pod, "status", "phase", default="Pending")) for index, pod in newest.items()}
    awaited = [index for index in range(contract.workers(seen.job)) if state.get(index) not in ("Running", "Succeeded")]
    there = [index for index in sorted(state) if state[index] == "Running"]
    if not awaited or not there:
        return None
    shown = [
        f"worker {one}: " + (f"pod {name_of(newest[one])}, {state[one]}" if one in state else "no pod")
        for one in awaited
    ]
    limit = contract.options(seen.job or {}).get("worker_timeout", "workerTimeout")
    return Finding(
        f"{_workers(there)} {'wait' if there[1:] else 'waits'} for {_workers(awaited)} of {contract.workers(seen.job)}",
        seen.job_place,
        shown[:8],
        [f"see to {_workers(awaited)}: whoever waits longer than workerTimeout, {limit}, fails with 69"],
    )


def _workers(indexes: list[int]) -> str:
    return f"worker{'s' if len(indexes) > 1 else ''} {listed([str(index) for index in indexes])}"


# A pod without a node


def gated(seen: Seen) -> Finding | None:
    gates = [str(gate.get("name")) for gate in dig(seen.pod, "spec", "schedulingGates", default=[])]
    if not gates:
        return None
    steps = ["whoever set these gates removes them: often a queue such as Kueue, when it admits the pod"]
    return Finding(f"it is held back by scheduling gates: {listed(gates)}", seen.pod_place, [], steps)


def not_looked_at(seen: Seen) -> Finding | None:
    return Finding(
        "the scheduler has not looked at it yet",
        seen.pod_place,
        [],
        ["wait some seconds; if it stays so, kube-scheduler is not at work"],
    )


def told_by_scheduler(seen: Seen) -> list[Finding]:
    return scheduling.findings(seen)
