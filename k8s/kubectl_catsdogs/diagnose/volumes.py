"""Why a volume claim has no volume, as far as that keeps the pod waiting. Pure."""

from kubectl_catsdogs.base.contract import Object, dig, name_of
from kubectl_catsdogs.base.text import listed
from kubectl_catsdogs.diagnose import scheduling
from kubectl_catsdogs.diagnose.snapshot import Finding, Seen


def claims_of(pod: Object) -> list[str]:
    """The names of the pod's volume claims, also of those made for it alone."""
    found = []
    for volume in dig(pod, "spec", "volumes", default=[]):
        if name := dig(volume, "persistentVolumeClaim", "claimName"):
            found.append(str(name))
        elif "ephemeral" in volume:
            found.append(f"{name_of(pod)}-{volume['name']}")
    return found


def unbound(seen: Seen) -> list[Finding]:
    message = scheduling.unschedulable(seen)
    there = {name_of(claim): claim for claim in seen.claims or []}
    found = []
    for name in claims_of(seen.pod or {}):
        claim = there.get(name)
        if f'"{name}" not found' in message or (claim is None and seen.claims is not None):
            found.append(_missing(name))
        elif f'"{name}" is being deleted' in message or dig(claim, "metadata", "deletionTimestamp"):
            found.append(_deleted(seen, name))
        elif claim is not None and dig(claim, "status", "phase") != "Bound":
            found += [one for one in [_unbound(seen, claim, message)] if one]
        elif claim is None and "unbound immediate PersistentVolumeClaims" in message:
            steps = [f"kubectl describe pvc -n {seen.namespace} {name} shows why"]
            found.append(Finding(f"its volume claim {name} has no volume", f"PersistentVolumeClaim {name}", [], steps))
    return found


def _missing(name: str) -> Finding:
    steps = ["create it, or leave volume.existingClaim empty and upgrade the release: the chart then makes one"]
    return Finding(f"its volume claim {name} is not there", f"PersistentVolumeClaim {name}", [], steps)


def _deleted(seen: Seen, name: str) -> Finding:
    steps = [f"when it is gone, upgrade the release to have it again; kubectl describe pvc -n {seen.namespace} {name}"]
    return Finding(
        f"its volume claim {name} is being deleted, once no pod uses it", f"PersistentVolumeClaim {name}", [], steps
    )


def _unbound(seen: Seen, claim: Object, message: str) -> Finding | None:
    """None if the claim waits for the pod, and not the pod for the claim."""
    name, place = name_of(claim), f"PersistentVolumeClaim {name_of(claim)}"
    what = f"its volume claim {name} has no volume"
    wanted = dig(claim, "spec", "storageClassName")
    failed = [f"provisioner: {text}" for text in seen.events_of(claim, "ProvisioningFailed")[-1:]]
    waits = [f"volumes: {text}" for text in seen.events_of(claim, "FailedBinding", "ExternalProvisioning")[-1:]]
    if dig(claim, "status", "phase") == "Lost":
        steps = [f"kubectl delete pvc -n {seen.namespace} {name}, and upgrade the release: the run begins anew"]
        return Finding(f"{what} any more: the one it had is gone", place, [], steps)
    classes = None if seen.classes is None else {name_of(one): one for one in seen.classes}
    if wanted == "":
        steps = ["make a PersistentVolume without a class that fits it, or use a claim with one"]
        return Finding(f"{what}: it asks for one without a class, and none is free", place, waits, steps)
    if classes is not None and not wanted:
        evidence = [f"classes here: {listed(sorted(classes)) or 'none'}", *waits]
        steps = ["name one: --set volume.storageClass=…"] if classes else []
        steps.append("or do without, if progress may be lost with the pod: --set volume.type=emptyDir")
        return Finding(f"{what}: no storage class is the cluster's default", place, evidence, steps)
    if classes is not None and wanted not in classes:
        evidence = [f"classes here: {listed(sorted(classes)) or 'none'}", *failed, *waits]
        return Finding(
            f"{what}: there is no storage class {wanted}", place, evidence,
            ["set volume.storageClass to one that is there, or volume.type=emptyDir"],
        )  # fmt: skip
    if failed:
        steps = ["the message is the storage provider's: a smaller volume.size, another volume.accessMode or another"]
        return Finding(f"{what}: making one fails", place, failed, [f"{steps[0]} volume.storageClass may help"])
    mode = dig(classes, wanted, "volumeBindingMode")
    provisioner = dig(classes, wanted, "provisioner")
    if (mode == "WaitForFirstConsumer" or classes is None) and "unbound immediate" not in message:
        if not seen.pod or dig(seen.pod, "spec", "nodeName") or not dig(claim, "metadata", "annotations", SELECTED):
            return None
        by = provisioner or "its provisioner"
        return Finding(f"{what} yet: {by} is making one", place, waits, [f"wait; or see whether {by} is at work"])
    if provisioner == "kubernetes.io/no-provisioner":
        steps = [f"make a PersistentVolume of class {wanted}, or set another volume.storageClass"]
        return Finding(f"{what}: its class {wanted} makes none by itself, and none is free", place, waits, steps)
    evidence = [f"its storage class is {wanted}"] if wanted else []
    by = f"{provisioner} has not made one" if provisioner else "its provisioner has not made one"
    steps = [f"wait a minute; if it stays so, see whether {provisioner or 'the provisioner'} is at work"]
    return Finding(f"{what} yet: {by}", place, evidence + waits, steps)


SELECTED = "volume.kubernetes.io/selected-node"
"""The scheduler's annotation of a claim: the volume is to be made for that node."""
