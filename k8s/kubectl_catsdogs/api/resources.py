"""What pods request and nodes offer, as the scheduler computes it. Pure."""

from collections.abc import Iterable
from decimal import Decimal
from typing import Any

from kubectl_catsdogs.base.objects import Object, dig, name_of

GIB = 2**30
WITH_NODE = "status.phase!=Succeeded,status.phase!=Failed,spec.nodeName!="
"""Field selector of the pods that take resources of a node."""


def amount(quantity: Any) -> Decimal:
    """'4Gi' → 4294967296, '500m' → 0.5."""
    # Here, as importing the client is slow and many commands need no quantities.
    from kubernetes.utils.quantity import parse_quantity

    return Decimal(parse_quantity(quantity))  # type: ignore[no-untyped-call]


def requested(pod: Object) -> dict[str, Decimal]:
    """Return what the scheduler reserves for a pod: its containers' sum, or an init container's request if larger."""
    total: dict[str, Decimal] = {}
    spec = pod.get("spec") or {}
    for entry in (*(spec.get("containers") or []), {"resources": {"requests": spec.get("overhead")}}):
        for name, value in _requests(entry).items():
            total[name] = total.get(name, Decimal(0)) + value
    for entry in spec.get("initContainers") or []:
        for name, value in _requests(entry).items():
            total[name] = max(total.get(name, Decimal(0)), value)
    return total


def _requests(container: Object) -> dict[str, Decimal]:
    # Without a request the limit counts as one; extended resources have only limits.
    both = dig(container, "resources", "limits", default={}) | dig(container, "resources", "requests", default={})
    return {name: amount(value) for name, value in both.items()}


def offered(node: Object, name: str) -> Decimal:
    return amount(dig(node, "status", "allocatable", name, default=0))


def free(node: Object, name: str, others: Iterable[Object]) -> Decimal:
    """Return what the pods on this node leave of the resource. `others` may contain pods on other nodes."""
    return offered(node, name) - sum((requested(pod).get(name, Decimal(0)) for pod in on(node, others)), Decimal(0))


def on(node: Object, pods: Iterable[Object]) -> list[Object]:
    return [pod for pod in pods if dig(pod, "spec", "nodeName") == name_of(node)]


def extended(node: Object) -> dict[str, Decimal]:
    """Return the node's resources that device plugins offer: those with a domain of their own."""
    names = dig(node, "status", "allocatable", default={})
    offers = {name: offered(node, name) for name in names if "/" in name and not name.startswith("kubernetes.io/")}
    return {name: value for name, value in offers.items() if value}


def shown(name: str, value: Decimal) -> str:
    """'4 Gi of memory', '2 nvidia.com/gpu'."""
    if name in ("memory", "ephemeral-storage"):
        return f"{float(value) / GIB:.3g} Gi of {name}"
    return f"{float(value):g} {name}"


def barred(pod: Object, node: Object) -> bool:
    """Return whether taints, nodeSelector or a cordon keep the pod from the node, however much room it has."""
    taints = [taint for taint in dig(node, "spec", "taints", default=[]) if taint.get("effect") != "PreferNoSchedule"]
    labels = dig(node, "metadata", "labels", default={})
    asked = dig(pod, "spec", "nodeSelector", default={})
    return (
        any(not tolerated(taint, pod) for taint in taints)
        or bool(dig(node, "spec", "unschedulable"))
        or any(labels.get(key) != value for key, value in asked.items())
    )


def tolerated(taint: Object, pod: Object) -> bool:
    for entry in dig(pod, "spec", "tolerations", default=[]):
        key = entry.get("key") in (None, "", taint.get("key"))
        value = entry.get("operator") == "Exists" or (
            entry.get("key") and entry.get("value", "") == taint.get("value", "")
        )
        if key and value and entry.get("effect") in (None, "", taint.get("effect")):
            return True
    return False
