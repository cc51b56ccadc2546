"""What pods ask for and nodes offer: the scheduler's sums. Pure."""

from collections.abc import Iterable
from decimal import Decimal
from typing import Any

from kubectl_catsdogs.base.contract import Object, dig, name_of

GIB = 2**30


def amount(quantity: Any) -> Decimal:
    """'4Gi' → 4294967296, '500m' → 0.5."""
    # Here, so that what needs no sums need not wait for the client.
    from kubernetes.utils.quantity import parse_quantity

    return Decimal(parse_quantity(quantity))  # type: ignore[no-untyped-call]


def requested(pod: Object) -> dict[str, Decimal]:
    """What the scheduler reserves for a pod: its containers' sum, or an init container's if that is more."""
    total: dict[str, Decimal] = {}
    spec = pod.get("spec") or {}
    for one in (*(spec.get("containers") or []), {"resources": {"requests": spec.get("overhead")}}):
        for name, value in _requests(one).items():
            total[name] = total.get(name, Decimal(0)) + value
    for one in spec.get("initContainers") or []:
        for name, value in _requests(one).items():
            total[name] = max(total.get(name, Decimal(0)), value)
    return total


def _requests(container: Object) -> dict[str, Decimal]:
    # A limit is a request as well, where there is none; of extended resources there are only limits.
    both = dig(container, "resources", "limits", default={}) | dig(container, "resources", "requests", default={})
    return {name: amount(value) for name, value in both.items()}


def offered(node: Object, name: str) -> Decimal:
    return amount(dig(node, "status", "allocatable", name, default=0))


def free(node: Object, name: str, others: Iterable[Object]) -> Decimal:
    """Of all pods that have a node, those on this one count."""
    return offered(node, name) - sum((requested(pod).get(name, Decimal(0)) for pod in on(node, others)), Decimal(0))


def on(node: Object, pods: Iterable[Object]) -> list[Object]:
    return [pod for pod in pods if dig(pod, "spec", "nodeName") == name_of(node)]


def extended(node: Object) -> dict[str, Decimal]:
    """The node's resources that a device plugin offers: those with a domain of their own."""
    names = dig(node, "status", "allocatable", default={})
    found = {name: offered(node, name) for name in names if "/" in name and not name.startswith("kubernetes.io/")}
    return {name: value for name, value in found.items() if value}


def shown(name: str, value: Decimal) -> str:
    """'4 Gi of memory', '2 nvidia.com/gpu'."""
    if name in ("memory", "ephemeral-storage"):
        return f"{float(value) / GIB:.3g} Gi of {name}"
    return f"{float(value):g} {name}"


def barred(pod: Object, node: Object) -> bool:
    """Whether the pod may not use the node, whatever room it has; by taints and nodeSelector."""
    taints = [one for one in dig(node, "spec", "taints", default=[]) if one.get("effect") != "PreferNoSchedule"]
    labels = dig(node, "metadata", "labels", default={})
    asked = dig(pod, "spec", "nodeSelector", default={})
    return (
        any(not tolerated(taint, pod) for taint in taints)
        or bool(dig(node, "spec", "unschedulable"))
        or any(labels.get(key) != value for key, value in asked.items())
    )


def tolerated(taint: Object, pod: Object) -> bool:
    for one in dig(pod, "spec", "tolerations", default=[]):
        key = one.get("key") in (None, "", taint.get("key"))
        value = one.get("operator") == "Exists" or (one.get("key") and one.get("value", "") == taint.get("value", ""))
        if key and value and one.get("effect") in (None, "", taint.get("effect")):
            return True
    return False
