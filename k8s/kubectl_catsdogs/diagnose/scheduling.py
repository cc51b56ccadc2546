"""Why no node takes a pod: what the scheduler reports, and what the nodes and their pods show. Pure."""

import re
from collections.abc import Iterator
from typing import NamedTuple

from kubectl_catsdogs.api.resources import barred, extended, free, offered, on, requested, shown
from kubectl_catsdogs.base.objects import Object, dig, name_of
from kubectl_catsdogs.base.text import listed, plural
from kubectl_catsdogs.diagnose.finding import Finding, Rule, first_rule
from kubectl_catsdogs.diagnose.snapshot import Snapshot

CONDITIONS = {
    "node.kubernetes.io/unschedulable": "cordoned",
    "node.kubernetes.io/not-ready": "not ready",
    "node.kubernetes.io/unreachable": "unreachable",
    "node.kubernetes.io/memory-pressure": "short of memory",
    "node.kubernetes.io/disk-pressure": "short of disk",
    "node.kubernetes.io/pid-pressure": "short of process ids",
    "node.kubernetes.io/network-unavailable": "without network",
    "node.cloudprovider.kubernetes.io/uninitialized": "being set up",
    "node.cloudprovider.kubernetes.io/shutdown": "shut down",
}
"""Taints that report a node's condition: a toleration would not help."""
CONTROL_PLANE = ("node-role.kubernetes.io/control-plane", "node-role.kubernetes.io/master")

RULES = [
    Rule(
        r"didn't match Pod's node affinity/selector|didn't match node selector|the requested node name",
        "without the labels that nodeSelector or affinity requires",
        "correct the values nodeSelector and affinity, or label a node; `kubectl get nodes --show-labels` shows them",
    ),
    Rule(
        r"were unschedulable",
        "cordoned",
        "wait for the end of its maintenance, or `kubectl uncordon` it",
    ),
    Rule(
        r"didn't find available persistent volumes to bind|did not have enough free storage",
        "without a volume for its claim",
        "free or add a persistent volume, lower volume.size, or set another volume.storageClass",
    ),
    Rule(
        r"PersistentVolume's node affinity|volume node affinity conflict|no available volume zone",
        "its volume is out of reach, on another node or in another zone",
        "free resources on a node near the volume, or set another volume.storageClass for a volume elsewhere",
    ),
    Rule(
        r"ReadWriteOncePod access mode already in-use|had no available disk",
        "its volume is in use by another pod",
        "wait until that pod has ended, or set volume.accessMode=ReadWriteMany if the class offers it",
    ),
    Rule(
        r"topology spread constraints",
        "topologySpreadConstraints would be violated",
        "relax the value topologySpreadConstraints",
    ),
    Rule(
        r"pod affinity rules|anti-affinity rules",
        "excluded by affinity between pods",
        "correct the value affinity; other pods' anti-affinity counts, too",
    ),
    Rule(r"^Too many pods", "no more pods allowed", "wait for pods to end, or add a node"),
    Rule(r"max volume count", "no more volumes allowed", "wait for pods to end"),
]
"""The scheduler's reason for some of the nodes → what it means. The first that matches counts."""


class Reason(NamedTuple):
    nodes: str
    """The number of nodes it applies to; 'all' for what keeps the pod from any."""
    text: str


def unschedulable(snapshot: Snapshot) -> str:
    """Return what the scheduler reports about the newest pod; empty if it reports nothing."""
    for entry in dig(snapshot.pod, "status", "conditions", default=[]):
        if entry.get("type") == "PodScheduled" and entry.get("status") == "False":
            return str(entry.get("message") or "")
    return next(iter(snapshot.messages(snapshot.pod, "FailedScheduling")[::-1]), "")


def reasons(message: str) -> list[Reason]:
    """'0/3 nodes are available: 1 node(s) had untolerated taint {a: b}, 2 Insufficient cpu. preemption: …' → two."""
    match = re.match(
        r"0/\d+ nodes are available: (.*?)\.?(?: preemption: .*| no new claims to deallocate.*)?$", message, re.DOTALL
    )
    if not match:
        return [Reason("all", message)] if message else []
    parts = re.findall(r"(?:^|, )(\d+) (.*?)(?=, \d+ |$)", match[1], re.DOTALL)
    # A reason that the scheduler finds before it looks at the nodes has no count.
    return [Reason(*part) for part in parts] or [Reason("all", match[1])]


def gated(snapshot: Snapshot) -> Finding | None:
    gates = [str(gate.get("name")) for gate in dig(snapshot.pod, "spec", "schedulingGates", default=[])]
    if not gates:
        return None
    steps = ["the gates' owner removes them: often a queue such as Kueue, when it admits the pod"]
    return Finding(f"it is held back by scheduling gates: {listed(gates)}", snapshot.pod_place, [], steps)


def not_considered(snapshot: Snapshot) -> Finding | None:
    steps = ["wait some seconds; if that does not help, kube-scheduler does not run"]
    return Finding("the scheduler has not considered it yet", snapshot.pod_place, [], steps)


class Ranked(NamedTuple):
    rank: int
    finding: Finding


def no_node(snapshot: Snapshot) -> list[Finding]:
    """The scheduler's reasons apply to different nodes: those of nodes with the rare resources come first."""
    message = unschedulable(snapshot)
    ranked: list[Ranked] = [*_of_resources(snapshot, message)]
    for reason in reasons(message):
        if taint := re.search(r"untolerated taint\(?s?\)? \{([^:}]+): ?([^}]*)\}", reason.text):
            ranked.append(_of_taint(snapshot, reason, *taint.groups()))
        elif not _insufficient(reason) and not _about_claim(reason):
            ranked.append(_of_rule(snapshot, reason))
    findings = [entry.finding for entry in sorted(ranked, key=lambda entry: entry.rank)]
    words = re.sub(r"[.]? preemption: .*", "", message, flags=re.DOTALL)
    # The scheduler's message contains all reasons, so it is shown once.
    first = [finding._replace(evidence=[f"scheduler: {words}", *finding.evidence]) for finding in findings[:1]]
    return first + findings[1:]


def _about_claim(reason: Reason) -> bool:
    """Return whether volumes.py diagnoses it."""
    return reason.nodes == "all" and "persistentvolumeclaim" in reason.text.lower()


def _nodes(reason: Reason, names: list[str]) -> str:
    """'2 nodes (a, b)', 'all nodes'."""
    count = "all nodes" if reason.nodes == "all" else plural(reason.nodes, "node")
    return f"{count} ({listed(names)})" if names else count


def _of_resources(snapshot: Snapshot, message: str) -> Iterator[Ranked]:
    """What no node has, what none has enough of, and what other pods have taken."""
    short = {match[1]: reason.nodes for reason in reasons(message) if (match := _insufficient(reason))}
    requests = requested(snapshot.pod or {})
    for name in sorted(requests, key=lambda name: "/" not in name):
        if snapshot.nodes and message and all(offered(node, name) == 0 for node in snapshot.nodes):
            yield Ranked(0, _nowhere(snapshot, name))
        elif name in short and snapshot.nodes:
            yield Ranked(2 if "/" in name else 3, _too_little(snapshot, name))
        elif name in short:
            what = f"{plural(short[name], 'node')}: too little {name} free, or none at all"
            steps = ["wait for other pods to end: it then starts by itself", f"or lower {_value(name)}, or add a node"]
            yield Ranked(2 if "/" in name else 3, Finding(what, snapshot.pod_place, [], steps))


def _insufficient(reason: Reason) -> re.Match[str] | None:
    return re.fullmatch(r"Insufficient (\S+)", reason.text)


def _nowhere(snapshot: Snapshot, name: str) -> Finding:
    nodes = snapshot.nodes or []
    offers = [f"node {name_of(node)} offers {_all_shown(node)}" for node in nodes if extended(node)]
    steps = [f"add a node with {name}; if a node has such GPUs, install their device plugin or operator"]
    if offers:
        steps.append("or name what a node offers: --set gpu.resource=…")
    steps.append("or train on CPUs: --set gpu.count=0")
    evidence = offers[:8] or [f"no node offers any GPU or other device ({plural(len(nodes), 'node')} in all)"]
    return Finding(f"no node has the resource {name}", snapshot.pod_place, evidence, steps)


def _all_shown(node: Object) -> str:
    return " and ".join(shown(name, value) for name, value in extended(node).items())


def _too_little(snapshot: Snapshot, name: str) -> Finding:
    pod, nodes = snapshot.pod or {}, snapshot.nodes or []
    nodes = [node for node in nodes if not barred(pod, node)] or nodes
    request = requested(pod)[name]
    largest = max(nodes, key=lambda node: offered(node, name))
    if offered(largest, name) < request:
        what = f"no node is large enough: it requests {shown(name, request)}"
        evidence = [f"node {name_of(largest)}, the largest that it may use, has {shown(name, offered(largest, name))}"]
        return Finding(what, snapshot.pod_place, evidence, [f"lower {_value(name)}, or add a larger node"])
    what = f"it requests {shown(name, request)}, and no node that it may use has that much free"
    if "/" in name:
        what = f"every {name} that it may use is taken: it requests {shown(name, request)}"
    steps = ["wait for these pods to end: it then starts by itself", f"or lower {_value(name)}, or add a node"]
    if snapshot.others is None:
        return Finding(what, snapshot.pod_place, [f"node {name_of(node)} has some" for node in nodes[:8]], steps)
    evidence = []
    for node in nodes:
        takers = [other for other in on(node, snapshot.others) if requested(other).get(name)]
        takers.sort(key=lambda other: -requested(other)[name])
        names = [f"{_full_name(other)} ({shown(name, requested(other)[name])})" for other in takers]
        left = shown(name, free(node, name, snapshot.others))
        if offered(node, name):
            evidence.append(f"node {name_of(node)}: {left} free; taken by {listed(names) or 'nobody'}")
    return Finding(what, snapshot.pod_place, evidence[:8], steps)


def _full_name(pod: Object) -> str:
    return f"{dig(pod, 'metadata', 'namespace', default='')}/{name_of(pod)}"


def _value(name: str) -> str:
    return "gpu.count" if "/" in name else f"resources.requests.{name}"


def _of_taint(snapshot: Snapshot, reason: Reason, key: str, value: str) -> Ranked:
    nodes = [node for node in snapshot.nodes or [] if _effect(node, key)]
    which = _nodes(reason, [name_of(node) for node in nodes])
    rank = 1 if _have_rare(snapshot, nodes) else 4
    if key in CONDITIONS:
        steps = ["wait for the node, or look at it with `kubectl describe node`"]
        return Ranked(1 if rank == 1 else 5, Finding(f"{which}: {CONDITIONS[key]}", snapshot.pod_place, [], steps))
    if key in CONTROL_PLANE:
        steps = ["add a worker node, or remove this node's taint"]
        return Ranked(
            5, Finding(f"{which}: part of the control plane, which runs no such pods", snapshot.pod_place, [], steps)
        )
    effect = next((_effect(node, key) for node in nodes), "")
    if not nodes and any(key.split("/")[0] == name.split("/")[0] for name in _rare(snapshot)):
        # The usual taint of nodes with GPUs; which nodes have it may not be read.
        rank = 1
    taint = f"{key}={value}" if value else key
    taint += f":{effect}" if effect else ""
    toleration = f"key: {key}, operator: Exists" + (f", effect: {effect}" if effect else "")
    steps = [f"if it may run there, add {{{toleration}}} to the value tolerations"]
    return Ranked(rank, Finding(f"{which}: taint {taint}, which it does not tolerate", snapshot.pod_place, [], steps))


def _rare(snapshot: Snapshot) -> list[str]:
    """Return the extended resources that the pod requests."""
    return [name for name in requested(snapshot.pod or {}) if "/" in name]


def _have_rare(snapshot: Snapshot, nodes: list[Object]) -> bool:
    rare = _rare(snapshot)
    return bool(rare) and any(all(offered(node, name) for name in rare) for node in nodes)


def _effect(node: Object, key: str) -> str:
    """Return the effect of the node's taint with that key; empty without one."""
    taints = dig(node, "spec", "taints", default=[])
    return next((str(taint.get("effect")) for taint in taints if taint.get("key") == key), "")


def _of_rule(snapshot: Snapshot, reason: Reason) -> Ranked:
    """Labels, volumes, spreading, and reasons that no rule knows."""
    known = first_rule(RULES, reason.text)
    describe = f"kubectl describe pod -n {snapshot.namespace} {name_of(snapshot.pod or {})} shows more"
    what, step = known or (reason.text.removeprefix("node(s) "), describe)
    cordoned = [node for node in snapshot.nodes or [] if dig(node, "spec", "unschedulable")]
    if "were unschedulable" in reason.text:
        finding = Finding(
            f"{_nodes(reason, [name_of(node) for node in cordoned])}: {what}", snapshot.pod_place, [], [step]
        )
        return Ranked(1 if _have_rare(snapshot, cordoned) else 5, finding)
    evidence = _required_labels(snapshot) if "selector" in reason.text else []
    return Ranked(3, Finding(f"{_nodes(reason, [])}: {what}", snapshot.pod_place, evidence, [step]))


def _required_labels(snapshot: Snapshot) -> list[str]:
    selector = dig(snapshot.pod, "spec", "nodeSelector", default={})
    affinity = dig(snapshot.pod, "spec", "affinity", "nodeAffinity", default={})
    terms = dig(affinity, "requiredDuringSchedulingIgnoredDuringExecution", "nodeSelectorTerms", default=[])
    labels = [f"{key}={value}" for key, value in selector.items()]
    for entry in [entry for term in terms for entry in term.get("matchExpressions") or []]:
        labels.append(f"{entry.get('key')} {entry.get('operator')} {','.join(entry.get('values') or [])}".strip())
    return [f"it requires {listed(labels)}"] if labels else []
