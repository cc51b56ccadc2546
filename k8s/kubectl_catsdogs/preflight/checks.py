"""What the cluster must have for a release of the chart, and what it means if it has not. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from kubectl_catsdogs.api.resources import amount, barred, extended, free, offered, on, requested, shown
from kubectl_catsdogs.base.contract import Object, dig, name_of
from kubectl_catsdogs.base.text import listed

DEFAULT_CLASS = "storageclass.kubernetes.io/is-default-class"
ENFORCED = "pod-security.kubernetes.io/enforce"
LEVELS = ("privileged", "baseline", "restricted")


@dataclass(frozen=True)
class Wanted:
    """What the release is to be installed with; the defaults are those of the chart's values."""

    gpu_resource: str = "nvidia.com/gpu"
    gpus: int = 1
    secret: str = ""
    """Empty: the service account's or the node's role counts, or the chart makes one."""
    keys: tuple[str, ...] = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
    """The Secret's keys, as credentials.keys names them."""
    volume_type: str = "pvc"
    storage_class: str = ""
    """Empty: the cluster's default."""
    claim: str = ""
    """One that is there already, volume.existingClaim."""
    tolerations: list[Object] = field(
        default_factory=lambda: [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}]
    )
    """Of a pod with GPUs and of any."""
    node_selector: dict[str, str] = field(default_factory=dict)
    requests: dict[str, str] = field(default_factory=lambda: {"cpu": "2", "memory": "4Gi"})
    workers: int = 1

    @property
    def pod(self) -> Object:
        """The chart's pod, as far as the scheduler's sums go."""
        limits = {self.gpu_resource: str(self.gpus)} if self.gpus else {}
        container = {"resources": {"requests": self.requests, "limits": limits}}
        return {
            "spec": {"containers": [container], "tolerations": self.tolerations, "nodeSelector": self.node_selector}
        }

    @property
    def made(self) -> list[str]:
        """What helm creates; in a Secret it keeps the release."""
        claims = ["persistentvolumeclaims"] if self.volume_type == "pvc" and not self.claim else []
        services = ["services"] if self.workers > 1 else []
        return ["jobs", "serviceaccounts", "secrets", *claims, *services]


OK, PROBLEM, UNKNOWN = "ok", "problem", "unknown"


class Line(NamedTuple):
    mark: str
    text: str
    fix: str = ""


def gpus(wanted: Wanted, nodes: list[Object], others: list[Object] | None) -> Line:
    """`others` are the pods that have a node; None if they may not be read."""
    name = wanted.gpu_resource
    if not wanted.gpus:
        return Line(OK, "no GPU is asked for")
    having = [node for node in nodes if offered(node, name)]
    if not having:
        return _no_gpu(name, nodes)
    usable = [node for node in having if not barred(wanted.pod, node)]
    if not usable:
        fix = "set tolerations or nodeSelector, or `kubectl uncordon` one"
        return Line(PROBLEM, f"the pod may use no node that offers {name}: {_bars(having)}", fix)
    most = max(offered(node, name) for node in usable)
    if most < wanted.gpus:
        return Line(PROBLEM, f"no node offers {wanted.gpus} {name}, the most is {most:g}", f"set gpu.count={most:g}")
    fit = [node for node in usable if offered(node, name) >= wanted.gpus]
    places = sum(int(offered(node, name) // wanted.gpus) for node in fit)
    if places < wanted.workers:
        return _too_few(wanted, places, f"with {wanted.gpus} {name} each", fit)
    text = f"{len(fit)} node(s) offer at least {wanted.gpus} {name} ({listed(_names(fit))})"
    if others is None:
        return Line(OK, f"{text}; how many are free may not be read")
    left = {name_of(node): free(node, name, others) for node in fit}
    text += f"; free: {listed([f'{value:g} on {node}' for node, value in left.items()])}"
    if max(left.values()) < wanted.gpus:
        takers = [pod for node in fit for pod in on(node, others) if requested(pod).get(name)]
        who = listed([f"{dig(pod, 'metadata', 'namespace')}/{name_of(pod)}" for pod in takers])
        text += f"; the run will wait for one of {who}"
    return Line(OK, text)


def _too_few(wanted: Wanted, places: int, what: str, nodes: list[Object]) -> Line:
    text = f"the nodes have room for {places} of {wanted.workers} workers {what} ({listed(_names(nodes))})"
    return Line(PROBLEM, text, f"add nodes, or set workers={places}: none trains before all are there")


def _no_gpu(name: str, nodes: list[Object]) -> Line:
    has = sorted({resource for node in nodes for resource in extended(node)})
    fix = "add a node with it, or its device plugin; or train on CPUs: gpu.count=0"
    if has:
        fix += f"; or set gpu.resource to what is there: {listed(has)}"
    return Line(PROBLEM, f"none of the {len(nodes)} node(s) offers {name}", fix)


def _bars(nodes: list[Object]) -> str:
    found = []
    for node in nodes:
        taints = [str(taint.get("key")) for taint in dig(node, "spec", "taints", default=[])]
        cordoned = "is cordoned" if dig(node, "spec", "unschedulable") else "lacks labels of nodeSelector"
        found.append(f"{name_of(node)} {f'has the taint {listed(taints)}' if taints else cordoned}")
    return listed(found)


def _names(items: list[Object]) -> list[str]:
    return [name_of(item) for item in items]


def room(wanted: Wanted, nodes: list[Object]) -> Line:
    """CPU and memory on one node, whoever has them now."""
    usable = [node for node in nodes if not barred(wanted.pod, node)]
    having = [node for node in usable if offered(node, wanted.gpu_resource) >= wanted.gpus] or usable
    asked = {name: value for name, value in requested(wanted.pod).items() if name != wanted.gpu_resource}
    text = listed([shown(name, value) for name, value in asked.items()])
    fit = [node for node in having if all(offered(node, name) >= value for name, value in asked.items())]
    if fit:
        places = sum(min(int(offered(node, name) // value) for name, value in asked.items()) for node in fit)
        if places < wanted.workers:
            return _too_few(wanted, places, f"with {text} each", fit)
        return Line(OK, f"{len(fit)} node(s) have {text} ({listed(_names(fit))})")
    return Line(PROBLEM, f"no node that it may use has {text}", "lower resources.requests, or add a larger node")


def secret(wanted: Wanted, namespace: str, found: Object | None) -> Line:
    """`found` is the Secret with the credentials, None if there is none of that name."""
    if not wanted.secret:
        return Line(OK, "no Secret is named: keys among the values count, or a role of the service account or node")
    if found is None:
        literals = " ".join(f"--from-literal={key}=…" for key in wanted.keys)
        fix = f"kubectl create secret generic -n {namespace} {wanted.secret} {literals}"
        return Line(PROBLEM, f"Secret {wanted.secret} is not there", fix)
    has = dig(found, "data", default={})
    missing = [key for key in wanted.keys if key not in has]
    if missing:
        fix = f"add it, or name the Secret's own in credentials.keys: it has {listed(sorted(has)) or 'none'}"
        return Line(PROBLEM, f"Secret {wanted.secret} has no key {listed(missing)}", fix)
    if empty := [key for key in wanted.keys if not has[key]]:
        return Line(PROBLEM, f"Secret {wanted.secret} has nothing in {listed(empty)}", "write the value into it")
    return Line(OK, f"Secret {wanted.secret} has the key(s) {listed(list(wanted.keys))}")


def storage(wanted: Wanted, classes: list[Object]) -> Line:
    names = _names(classes)
    fix = f"classes here: {listed(sorted(names)) or 'none'}; set volume.storageClass to one, or volume.type=emptyDir"
    if wanted.storage_class:
        if wanted.storage_class in names:
            return Line(OK, f"storage class {wanted.storage_class} is there")
        return Line(PROBLEM, f"storage class {wanted.storage_class} is not there", fix)
    default = [one for one in classes if dig(one, "metadata", "annotations", DEFAULT_CLASS) == "true"]
    if not default:
        return Line(PROBLEM, "no storage class is the cluster's default", fix)
    # Of several the API server takes the newest.
    newest = max(default, key=lambda one: str(dig(one, "metadata", "creationTimestamp", default="")))
    return Line(OK, f"storage class {name_of(newest)} is the cluster's default")


def claim(wanted: Wanted, found: Object | None) -> Line:
    if found is None:
        fix = "create it, or leave volume.existingClaim empty: the chart then makes one"
        return Line(PROBLEM, f"volume claim {wanted.claim} is not there", fix)
    phase = dig(found, "status", "phase", default="Pending")
    if phase == "Lost":
        return Line(PROBLEM, f"volume claim {wanted.claim} has lost its volume", "delete it, and create it anew")
    return Line(OK, f"volume claim {wanted.claim} is there, {phase}")


def permission(resources: list[str], refused: Iterable[str], namespace: str) -> Line:
    """`refused` are those of the resources that the user may not create."""
    if names := list(refused):
        role = f"kubectl create rolebinding NAME -n {namespace} --clusterrole=edit --user=YOU"
        return Line(PROBLEM, f"you may not create {listed(names)} in namespace {namespace}", f"have somebody: {role}")
    return Line(OK, f"you may create {listed(resources)} in namespace {namespace}")


def pod_security(namespace: str, found: Object | None) -> Line:
    """`found` is the namespace, None if it is not there. The chart's pods meet the strictest level."""
    if found is None:
        fix = f"kubectl create namespace {namespace}, or helm install --create-namespace"
        return Line(PROBLEM, f"namespace {namespace} is not there", fix)
    level = dig(found, "metadata", "labels", ENFORCED)
    if level is None:
        return Line(OK, "the namespace sets no Pod Security level; the chart's pods meet the strictest, restricted")
    if level not in LEVELS:
        # The API server enforces the strictest then.
        return Line(OK, f"the namespace's Pod Security level {level} is none, which counts as restricted; it is met")
    return Line(OK, f"the namespace's Pod Security level {level} is met: the chart's pods meet restricted")


def quota(wanted: Wanted, found: list[Object]) -> Line:
    """Whether the run's requests fit into what the namespace's quotas leave."""
    asked = {name: value * wanted.workers for name, value in requested(wanted.pod).items()}
    short = []
    for one in found:
        for name, hard in dig(one, "status", "hard", default={}).items():
            value = asked.get(name.removeprefix("requests."))
            used = dig(one, "status", "used", name, default="0")
            if value and amount(hard) - amount(used) < value:
                short.append(f"{used} of {hard} {name} are used (quota {name_of(one)})")
    if short:
        fix = "wait for other pods to end, ask for a larger quota, or lower gpu.count or resources"
        return Line(PROBLEM, f"the namespace's quota leaves too little: {listed(short)}", fix)
    return Line(OK, "the namespace's quotas leave enough" if found else "the namespace has no quota")
