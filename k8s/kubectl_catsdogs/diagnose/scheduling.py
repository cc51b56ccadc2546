"""Why no node takes a pod: what the scheduler says, and what the nodes and their pods show. Pure."""

import re
from collections.abc import Iterator
from typing import NamedTuple

from kubectl_catsdogs.api.resources import barred, extended, free, offered, on, requested, shown
from kubectl_catsdogs.base.contract import Object, dig, name_of
from kubectl_catsdogs.base.text import listed
from kubectl_catsdogs.diagnose.snapshot import Finding, Rule, Seen, first_rule

CONDITIONS = {
    "node.kubernetes.io/unschedulable": "is cordoned",
    "node.kubernetes.io/not-ready": "is not ready",
    "node.kubernetes.io/unreachable": "is unreachable",
    "node.kubernetes.io/memory-pressure": "is short of memory",
    "node.kubernetes.io/disk-pressure": "is short of disk",
    "node.kubernetes.io/pid-pressure": "is short of process ids",
    "node.kubernetes.io/network-unavailable": "has no network",
    "node.cloudprovider.kubernetes.io/uninitialized": "is being set up",
    "node.cloudprovider.kubernetes.io/shutdown": "is shut down",
}
"""Taints that say how a node is: no toleration is the answer to them."""
CONTROL_PLANE = ("node-role.kubernetes.io/control-plane", "node-role.kubernetes.io/master")

RULES = [
    Rule(
        r"didn't match Pod's node affinity/selector|didn't match node selector|the requested node name",
        "lack the labels that nodeSelector or affinity asks for",
        "correct the values nodeSelector and affinity, or label a node; `kubectl get nodes --show-labels` shows them",
    ),
    Rule(
        r"were unschedulable",
        "are cordoned",
        "wait for whoever maintains them, or `kubectl uncordon` one",
    ),
    Rule(
        r"didn't find available persistent volumes to bind|did not have enough free storage",
        "have no volume for its claim",
        "free or add a persistent volume, lower volume.size, or set another volume.storageClass",
    ),
    Rule(
        r"PersistentVolume's node affinity|volume node affinity conflict|no available volume zone",
        "cannot reach its volume, which lies on another node or in another zone",
        "free a node where the volume lies, or set another volume.storageClass for a volume elsewhere",
    ),
    Rule(
        r"ReadWriteOncePod access mode already in-use|had no available disk",
        "find its volume in use by another pod",
        "wait until that pod has ended, or set volume.accessMode=ReadWriteMany where the class offers it",
    ),
    Rule(
        r"topology spread constraints",
        "would break its topologySpreadConstraints",
        "relax the value topologySpreadConstraints",
    ),
    Rule(
        r"pod affinity rules|anti-affinity rules",
        "are ruled out by affinity between pods",
        "correct the value affinity; another pod's anti-affinity counts, too",
    ),
    Rule(r"^Too many pods", "have as many pods as they may", "wait for pods to end, or add a node"),
    Rule(r"max volume count", "have as many volumes as they may", "wait for pods to end"),
]
"""The scheduler's reason for some of the nodes, with their count → what it means. The first that fits counts."""


class Reason(NamedTuple):
    nodes: str
    """How many of them it holds for; 'all' for what keeps the pod from any."""
    text: str


def unschedulable(seen: Seen) -> str:
    """What the scheduler says of the newest pod; empty while it says nothing."""
    for one in dig(seen.pod, "status", "conditions", default=[]):
        if one.get("type") == "PodScheduled" and one.get("status") == "False":
            return str(one.get("message") or "")
    return next(iter(seen.events_of(seen.pod, "FailedScheduling")[::-1]), "")


def reasons(message: str) -> list[Reason]:
    """'0/3 nodes are available: 1 node(s) had untolerated taint {a: b}, 2 Insufficient cpu. preemption: …' → two."""
    found = re.match(
        r"0/\d+ nodes are available: (.*?)\.?(?: preemption: .*| no new claims to deallocate.*)?$", message, re.DOTALL
    )
    if not found:
        return [Reason("all", message)] if message else []
    parts = re.findall(r"(?:^|, )(\d+) (.*?)(?=, \d+ |$)", found[1], re.DOTALL)
    # One that the scheduler gives before it looks at the nodes has no count.
    return [Reason(*part) for part in parts] or [Reason("all", found[1])]


def findings(seen: Seen) -> list[Finding]:
    """The scheduler's reasons hold for different nodes: first come those of the nodes that have what is rare."""
    message = unschedulable(seen)
    found: list[Ranked] = [*_of_resources(seen, message)]
    for reason in reasons(message):
        if taint := re.search(r"untolerated taint\(?s?\)? \{([^:}]+): ?([^}]*)\}", reason.text):
            found.append(_of_taint(seen, reason, *taint.groups()))
        elif not _insufficient(reason) and not _of_claim(reason):
            found.append(_of_rule(seen, reason))
    ranked = [one.finding for one in sorted(found, key=lambda one: one.rank)]
    words = re.sub(r"[.]? preemption: .*", "", message, flags=re.DOTALL)
    # Its words say all of it, so once is enough.
    return [one._replace(evidence=[f"scheduler: {words}", *one.evidence]) for one in ranked[:1]] + ranked[1:]


def _of_claim(reason: Reason) -> bool:
    """What findings_volumes.py tells."""
    return reason.nodes == "all" and "persistentvolumeclaim" in reason.text.lower()


class Ranked(NamedTuple):
    rank: int
    finding: Finding


def _of_resources(seen: Seen, message: str) -> Iterator[Ranked]:
    """What no node has, what none has enough of, and what others have taken."""
    short = {found[1]: reason.nodes for reason in reasons(message) if (found := _insufficient(reason))}
    wanted = requested(seen.pod or {})
    for name in sorted(wanted, key=lambda name: "/" not in name):
        if seen.nodes and message and all(offered(node, name) == 0 for node in seen.nodes):
            yield Ranked(0, _nowhere(seen, name))
        elif name in short and seen.nodes:
            yield Ranked(2 if "/" in name else 3, _too_little(seen, name))
        elif name in short:
            what = f"{short[name]} node(s) have too little {name} free, or none at all"
            steps = ["wait for other pods to end: it then starts by itself", f"or lower {_value(name)}, or add a node"]
            yield Ranked(2 if "/" in name else 3, Finding(what, seen.pod_place, [], steps))


def _insufficient(reason: Reason) -> re.Match[str] | None:
    return re.fullmatch(r"Insufficient (\S+)", reason.text)


def _nowhere(seen: Seen, name: str) -> Finding:
    nodes = seen.nodes or []
    has = [f"node {name_of(node)} offers {_all_shown(node)}" for node in nodes if extended(node)]
    steps = [f"add a node with {name}; where a node has such GPUs, install their device plugin or operator"]
    if has:
        steps.append("or name what a node offers: --set gpu.resource=…")
    steps.append("or train on CPUs: --set gpu.count=0")
    evidence = has[:8] or [f"none of the {len(nodes)} node(s) offers any GPU or other device"]
    return Finding(f"no node has the resource {name}", seen.pod_place, evidence, steps)


def _all_shown(node: Object) -> str:
    return " and ".join(shown(name, value) for name, value in extended(node).items())


def _too_little(seen: Seen, name: str) -> Finding:
    pod, nodes = seen.pod or {}, seen.nodes or []
    nodes = [node for node in nodes if not barred(pod, node)] or nodes
    wanted = requested(pod)[name]
    largest = max(nodes, key=lambda node: offered(node, name))
    if offered(largest, name) < wanted:
        what = f"no node is large enough: it asks for {shown(name, wanted)}"
        has = f"node {name_of(largest)}, the largest that it may use, has {shown(name, offered(largest, name))}"
        return Finding(what, seen.pod_place, [has], [f"lower {_value(name)}, or add a larger node"])
    what = f"it asks for {shown(name, wanted)}, and no node that it may use has that much free"
    if "/" in name:
        what = f"every {name} that it may use is taken: it asks for {shown(name, wanted)}"
    steps = ["wait for these pods to end: it then starts by itself", f"or lower {_value(name)}, or add a node"]
    if seen.others is None:
        return Finding(what, seen.pod_place, [f"node {name_of(node)} has some" for node in nodes[:8]], steps)
    evidence = []
    for node in nodes:
        takers = [other for other in on(node, seen.others) if requested(other).get(name)]
        takers.sort(key=lambda other: -requested(other)[name])
        names = [f"{_full_name(other)} ({shown(name, requested(other)[name])})" for other in takers]
        left = shown(name, free(node, name, seen.others))
        if offered(node, name):
            evidence.append(f"node {name_of(node)}: {left} free; taken by {listed(names) or 'nobody'}")
    return Finding(what, seen.pod_place, evidence[:8], steps)


def _full_name(pod: Object) -> str:
    return f"{dig(pod, 'metadata', 'namespace', default='')}/{name_of(pod)}"


def _value(name: str) -> str:
    return "gpu.count" if "/" in name else f"resources.requests.{name}"


def _of_taint(seen: Seen, reason: Reason, key: str, value: str) -> Ranked:
    nodes = [node for node in seen.nodes or [] if _effect(node, key)]
    which = f" ({listed([name_of(node) for node in nodes])})" if nodes else ""
    rank = 1 if _have_what_is_rare(seen, nodes) else 4
    if key in CONDITIONS:
        what = f"{reason.nodes} node(s){which}: {CONDITIONS[key]}"
        step = "wait for the node, or look at it with `kubectl describe node`"
        return Ranked(1 if rank == 1 else 5, Finding(what, seen.pod_place, [], [step]))
    if key in CONTROL_PLANE:
        what = f"{reason.nodes} node(s){which} are of the control plane, which takes no such pods"
        return Ranked(5, Finding(what, seen.pod_place, [], ["add a node for work, or remove this one's taint"]))
    effect = next((_effect(node, key) for node in nodes), "")
    if not nodes and any(key.split("/")[0] == name.split("/")[0] for name in _rare(seen)):
        # As nodes with GPUs are tainted; which ones may not be read.
        rank = 1
    taint = f"{key}={value}" if value else key
    taint += f":{effect}" if effect else ""
    toleration = f"key: {key}, operator: Exists" + (f", effect: {effect}" if effect else "")
    what = f"{reason.nodes} node(s){which} have the taint {taint}, which it does not tolerate"
    step = f"if it may run there, add {{{toleration}}} to the value tolerations"
    return Ranked(rank, Finding(what, seen.pod_place, [], [step]))


def _rare(seen: Seen) -> list[str]:
    return [name for name in requested(seen.pod or {}) if "/" in name]


def _have_what_is_rare(seen: Seen, nodes: list[Object]) -> bool:
    return bool(_rare(seen)) and any(all(offered(node, name) for name in _rare(seen)) for node in nodes)


def _effect(node: Object, key: str) -> str:
    """Of the node's taint with that key; empty without one."""
    taints = dig(node, "spec", "taints", default=[])
    return next((str(taint.get("effect")) for taint in taints if taint.get("key") == key), "")


def _of_rule(seen: Seen, reason: Reason) -> Ranked:
    """Labels, volumes, spreading, and what we have no words for."""
    known = first_rule(RULES, reason.text)
    steps = [known[1] if known else f"kubectl describe pod -n {seen.namespace} {name_of(seen.pod or {})} shows all"]
    what = f"{reason.nodes} node(s) {known[0]}" if known else f"{reason.nodes} node(s): {reason.text}"
    cordoned = [node for node in seen.nodes or [] if dig(node, "spec", "unschedulable")]
    if "were unschedulable" in reason.text:
        what += f" ({listed([name_of(node) for node in cordoned])})" if cordoned else ""
        return Ranked(1 if _have_what_is_rare(seen, cordoned) else 5, Finding(what, seen.pod_place, [], steps))
    return Ranked(3, Finding(what, seen.pod_place, _asked_labels(seen) if "selector" in reason.text else [], steps))


def _asked_labels(seen: Seen) -> list[str]:
    asked = dig(seen.pod, "spec", "nodeSelector", default={})
    affinity = dig(seen.pod, "spec", "affinity", "nodeAffinity", default={})
    terms = dig(affinity, "requiredDuringSchedulingIgnoredDuringExecution", "nodeSelectorTerms", default=[])
    found = [f"{key}={value}" for key, value in asked.items()]
    for one in [one for term in terms for one in term.get("matchExpressions") or []]:
        found.append(f"{one.get('key')} {one.get('operator')} {','.join(one.get('values') or [])}".strip())
    return [f"it asks for {listed(found)}"] if found else []
