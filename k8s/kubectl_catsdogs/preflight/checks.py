"""Whether the cluster has what a release requires, one check each, and how to correct it if not. Pure."""

from collections.abc import Iterable
from typing import NamedTuple

from kubectl_catsdogs.api.resources import amount, barred, extended, free, offered, on, requested, shown
from kubectl_catsdogs.base.objects import Object, dig, name_of
from kubectl_catsdogs.base.text import listed, plural
from kubectl_catsdogs.preflight.requirements import Requirements

DEFAULT_CLASS = "storageclass.kubernetes.io/is-default-class"
ENFORCED = "pod-security.kubernetes.io/enforce"
LEVELS = ("privileged", "baseline", "restricted")


OK, WARNING, PROBLEM, UNKNOWN = "ok", "warning", "problem", "unknown"


class Line(NamedTuple):
    mark: str
    text: str
    fix: str = ""


def gpus(required: Requirements, nodes: list[Object], others: list[Object] | None) -> Line:
    """`others` are the pods that have a node; None if they may not be read."""
    name = required.gpu_resource
    if not required.gpus:
        return Line(OK, "no GPU is requested")
    having = [node for node in nodes if offered(node, name)]
    if not having:
        return _no_gpu(name, nodes)
    usable = [node for node in having if not barred(required.pod, node)]
    if not usable:
        fix = "set tolerations or nodeSelector, or `kubectl uncordon` one"
        return Line(PROBLEM, f"the pod may use no node that offers {name}: {_bars(having)}", fix)
    most = max(offered(node, name) for node in usable)
    if most < required.gpus:
        return Line(PROBLEM, f"no node offers {required.gpus} {name}, the most is {most:g}", f"set gpu.count={most:g}")
    fit = [node for node in usable if offered(node, name) >= required.gpus]
    places = sum(int(offered(node, name) // required.gpus) for node in fit)
    if places < required.workers:
        return _too_few(required, places, f"with {required.gpus} {name} each", fit)
    text = f"{plural(len(fit), 'node')} with at least {required.gpus} {name} ({listed(_names(fit))})"
    if others is None:
        return Line(OK, f"{text}; how many are free cannot be read")
    left = {name_of(node): free(node, name, others) for node in fit}
    text += f"; free: {listed([f'{value:g} on {node}' for node, value in left.items()])}"
    if max(left.values()) < required.gpus:
        takers = [pod for node in fit for pod in on(node, others) if requested(pod).get(name)]
        who = listed([f"{dig(pod, 'metadata', 'namespace')}/{name_of(pod)}" for pod in takers])
        text += f"; the run will wait for the end of {who}"
    return Line(OK, text)


def _too_few(required: Requirements, places: int, what: str, nodes: list[Object]) -> Line:
    text = f"the nodes have room for {places} of {required.workers} workers {what} ({listed(_names(nodes))})"
    return Line(PROBLEM, text, f"add nodes, or set workers={places}: training starts once all workers run")


def _no_gpu(name: str, nodes: list[Object]) -> Line:
    has = sorted({resource for node in nodes for resource in extended(node)})
    fix = "add a node with it, or its device plugin; or train on CPUs: gpu.count=0"
    if has:
        fix += f"; or set gpu.resource to what the nodes offer: {listed(has)}"
    return Line(PROBLEM, f"no node offers {name} ({plural(len(nodes), 'node')} in all)", fix)


def _bars(nodes: list[Object]) -> str:
    bars = []
    for node in nodes:
        taints = [str(taint.get("key")) for taint in dig(node, "spec", "taints", default=[])]
        cordoned = "is cordoned" if dig(node, "spec", "unschedulable") else "lacks labels of nodeSelector"
        bars.append(f"{name_of(node)} {f'has the taint {listed(taints)}' if taints else cordoned}")
    return listed(bars)


def _names(items: list[Object]) -> list[str]:
    return [name_of(item) for item in items]


def room(required: Requirements, nodes: list[Object]) -> Line:
    """CPU and memory of one node, whether free or not."""
    usable = [node for node in nodes if not barred(required.pod, node)]
    having = [node for node in usable if offered(node, required.gpu_resource) >= required.gpus] or usable
    asked = {name: value for name, value in requested(required.pod).items() if name != required.gpu_resource}
    text = listed([shown(name, value) for name, value in asked.items()])
    fit = [node for node in having if all(offered(node, name) >= value for name, value in asked.items())]
    if fit:
        places = sum(min(int(offered(node, name) // value) for name, value in asked.items()) for node in fit)
        if places < required.workers:
            return _too_few(required, places, f"with {text} each", fit)
        return Line(OK, f"{plural(len(fit), 'node')} with {text} ({listed(_names(fit))})")
    return Line(PROBLEM, f"no node that the pod may use has {text}", "lower resources.requests, or add a larger node")


def ingress(required: Requirements) -> Line | None:
    """Return who may connect to the workers' ports; None for a single worker, which opens none."""
    if required.workers == 1:
        return None
    if required.any_ingress:
        return Line(
            WARNING,
            "anybody who can reach the workers may connect to them, read and write their volume and change the model",
            "leave networkPolicy.allowAnyIngress out",
        )
    return Line(
        OK, "a NetworkPolicy lets only the release's pods connect to the workers, if the network plugin enforces it"
    )


def secret(required: Requirements, namespace: str, existing: Object | None) -> Line:
    """`existing` is the Secret with the credentials, None without one."""
    if not required.secret:
        return Line(
            OK, "no Secret is named: credentials come from the values, or a role of the service account or node"
        )
    if existing is None:
        literals = " ".join(f"--from-literal={key}=…" for key in required.keys)
        fix = f"kubectl create secret generic -n {namespace} {required.secret} {literals}"
        return Line(PROBLEM, f"Secret {required.secret} does not exist", fix)
    has = dig(existing, "data", default={})
    missing = [key for key in required.keys if key not in has]
    if missing:
        fix = f"add it, or name the Secret's own in credentials.keys: it has {listed(sorted(has)) or 'none'}"
        return Line(PROBLEM, f"Secret {required.secret} has no key {listed(missing)}", fix)
    if empty := [key for key in required.keys if not has[key]]:
        return Line(PROBLEM, f"Secret {required.secret} has an empty {listed(empty)}", "set its value")
    return Line(OK, f"Secret {required.secret} has {listed(list(required.keys))}")


def storage(required: Requirements, classes: list[Object]) -> Line:
    names = _names(classes)
    fix = f"classes here: {listed(sorted(names)) or 'none'}; set volume.storageClass to one, or volume.type=emptyDir"
    if required.storage_class:
        if required.storage_class in names:
            return Line(OK, f"storage class {required.storage_class} exists")
        return Line(PROBLEM, f"storage class {required.storage_class} does not exist", fix)
    default = [entry for entry in classes if dig(entry, "metadata", "annotations", DEFAULT_CLASS) == "true"]
    if not default:
        return Line(PROBLEM, "no storage class is the cluster's default", fix)
    # The API server uses the newest of several.
    newest = max(default, key=lambda entry: str(dig(entry, "metadata", "creationTimestamp", default="")))
    return Line(OK, f"storage class {name_of(newest)} is the cluster's default")


def claim(required: Requirements, existing: Object | None) -> Line:
    if existing is None:
        fix = "create it, or leave volume.existingClaim empty: the chart then creates one"
        return Line(PROBLEM, f"volume claim {required.claim} does not exist", fix)
    phase = dig(existing, "status", "phase", default="Pending")
    if phase == "Lost":
        return Line(PROBLEM, f"volume claim {required.claim} has lost its volume", "delete it, and create it again")
    return Line(OK, f"volume claim {required.claim} exists, {phase}")


def permission(resources: list[str], denied: Iterable[str], namespace: str) -> Line:
    """`denied` are those of the resources that the user may not create."""
    if names := list(denied):
        role = f"kubectl create rolebinding NAME -n {namespace} --clusterrole=edit --user=YOU"
        return Line(
            PROBLEM, f"you may not create {listed(names)} in namespace {namespace}", f"ask an administrator for: {role}"
        )
    return Line(OK, f"you may create {listed(resources)} in namespace {namespace}")


def pod_security(namespace: str, existing: Object | None) -> Line:
    """`existing` is the namespace, None without one. The chart's pods meet the strictest level."""
    if existing is None:
        fix = f"kubectl create namespace {namespace}, or helm install --create-namespace"
        return Line(PROBLEM, f"namespace {namespace} does not exist", fix)
    level = dig(existing, "metadata", "labels", ENFORCED)
    if level is None:
        return Line(OK, "the namespace sets no Pod Security level; the chart's pods meet the strictest, restricted")
    if level not in LEVELS:
        # The API server then enforces the strictest.
        return Line(OK, f"the namespace's Pod Security level {level} is unknown, so restricted counts, which is met")
    return Line(OK, f"the namespace's Pod Security level {level} is met: the chart's pods meet restricted")


def quota(required: Requirements, quotas: list[Object]) -> Line:
    """Check that the namespace's quotas leave enough for the run's requests."""
    asked = {name: value * required.workers for name, value in requested(required.pod).items()}
    short = []
    for entry in quotas:
        for name, hard in dig(entry, "status", "hard", default={}).items():
            value = asked.get(name.removeprefix("requests."))
            used = dig(entry, "status", "used", name, default="0")
            if value and amount(hard) - amount(used) < value:
                short.append(f"{used} of {hard} {name} are used (quota {name_of(entry)})")
    if short:
        fix = "wait for other pods to end, ask for a larger quota, or lower gpu.count or resources"
        return Line(PROBLEM, f"the namespace's quota leaves too little: {listed(short)}", fix)
    return Line(OK, "the namespace's quotas leave enough" if quotas else "the namespace has no quota")
