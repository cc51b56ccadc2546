"""Why the Job controller has created no pod: a quota, or the API server rejects it. Pure."""

from kubectl_catsdogs.api.resources import amount
from kubectl_catsdogs.base.objects import Object, dig, name_of
from kubectl_catsdogs.diagnose.finding import Finding, Rule, first_rule
from kubectl_catsdogs.diagnose.snapshot import Snapshot

REJECTIONS = [
    Rule(
        r"failed quota: (?P<name>[^:]+): must specify (?P<what>.*)",
        "the quota {name} requires values that its pod does not set: {what}",
        "set them in the values resources.requests and resources.limits",
    ),
    Rule(
        r"violates PodSecurity \"(?P<level>[^\"]*)\": (?P<what>.*)",
        "the namespace's Pod Security level {level} forbids its pod: {what}",
        "the chart's own pods meet it: undo changes to podSecurityContext, securityContext, initContainers and"
        " extraVolumes; or use another namespace",
    ),
    Rule(
        r"serviceaccount \"(?P<name>[^\"]*)\" not found",
        "its service account {name} does not exist",
        "create it, correct serviceAccount.name, or set serviceAccount.create=true",
    ),
    Rule(
        r"no PriorityClass with name (?P<name>\S+) was found",
        "the priority class {name} does not exist",
        "correct priorityClassName; `kubectl get priorityclass` shows the existing ones",
    ),
    Rule(
        r"RuntimeClass \"(?P<name>[^\"]*)\" not found",
        "the runtime class {name} does not exist",
        "correct runtimeClassName; `kubectl get runtimeclass` shows the existing ones",
    ),
    Rule(
        r"(?P<what>(?:maximum|minimum) \S+ usage per (?:Container|Pod) is [^\]]*)",
        "a LimitRange of the namespace forbids what it requests: {what}",
        "change the values resources.requests and resources.limits",
    ),
    Rule(
        r"admission webhook \"(?P<name>[^\"]*)\" denied the request: (?P<what>.*)",
        "the admission webhook {name} forbids its pod: {what}",
        "change the values that it names, or ask the cluster's administrators",
    ),
    Rule(
        r"failed calling webhook \"(?P<name>[^\"]*)\"",
        "the admission webhook {name} does not answer, and no pod can be created without it",
        "ask the cluster's administrators: `kubectl get mutatingwebhookconfigurations,validatingwebhookconfigurations`",
    ),
]
"""The API server's answer to the Job controller → what it means."""


def over_quota(snapshot: Snapshot) -> Finding | None:
    message = _rejection(snapshot)
    rule = Rule(r"exceeded quota: (?P<name>[^,]+), (?P<what>.*)", "{name}", "")
    if not (match := rule.apply(message)):
        return None
    return Finding(
        f"the quota {match[0]} of the namespace does not allow its pod",
        f"ResourceQuota {match[0]}",
        [f"Job controller: {message}", *_used_up(snapshot.quotas or [])],
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


def rejected(snapshot: Snapshot) -> Finding | None:
    message = _rejection(snapshot)
    if not message or "exceeded quota" in message:
        return None
    known = first_rule(REJECTIONS, message)
    what, step = known or ("the API server rejects its pod", "correct the values that the message names")
    return Finding(what, snapshot.job_place, [f"Job controller: {message}"], [step])


def _rejection(snapshot: Snapshot) -> str:
    """Return why the Job controller's last attempt to create a pod failed; empty if it did not."""
    messages = snapshot.messages(snapshot.job, "FailedCreate", "SuccessfulCreate")
    return messages[-1] if messages and not messages[-1].startswith("Created pod") else ""


def no_pod_yet(snapshot: Snapshot) -> Finding | None:
    return Finding(
        "the Job controller has created no pod yet",
        snapshot.job_place,
        [],
        ["wait some seconds; if that does not help, kube-controller-manager does not run, or events cannot be read"],
    )
