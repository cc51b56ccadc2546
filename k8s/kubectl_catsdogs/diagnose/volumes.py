"""Why a volume claim that the pod waits for has no volume. Pure."""

from kubectl_catsdogs.base.objects import Object, dig, name_of
from kubectl_catsdogs.base.text import listed
from kubectl_catsdogs.diagnose import scheduling
from kubectl_catsdogs.diagnose.finding import Finding
from kubectl_catsdogs.diagnose.snapshot import Snapshot


def claims_of(pod: Object) -> list[str]:
    """Return the names of the pod's volume claims, including those created for it alone."""
    names = []
    for volume in dig(pod, "spec", "volumes", default=[]):
        if name := dig(volume, "persistentVolumeClaim", "claimName"):
            names.append(str(name))
        elif "ephemeral" in volume:
            names.append(f"{name_of(pod)}-{volume['name']}")
    return names


def unbound(snapshot: Snapshot) -> list[Finding]:
    message = scheduling.unschedulable(snapshot)
    existing = {name_of(claim): claim for claim in snapshot.claims or []}
    findings = []
    for name in claims_of(snapshot.pod or {}):
        claim = existing.get(name)
        if f'"{name}" not found' in message or (claim is None and snapshot.claims is not None):
            findings.append(_missing(name))
        elif f'"{name}" is being deleted' in message or dig(claim, "metadata", "deletionTimestamp"):
            findings.append(_deleted(snapshot, name))
        elif claim is not None and dig(claim, "status", "phase") != "Bound":
            findings += [finding for finding in [_unbound(snapshot, claim, message)] if finding]
        elif claim is None and "unbound immediate PersistentVolumeClaims" in message:
            steps = [f"kubectl describe pvc -n {snapshot.namespace} {name} shows why"]
            findings.append(
                Finding(f"its volume claim {name} has no volume", f"PersistentVolumeClaim {name}", [], steps)
            )
    return findings


def _missing(name: str) -> Finding:
    steps = ["create it, or leave volume.existingClaim empty and upgrade the release: the chart then creates one"]
    return Finding(f"its volume claim {name} does not exist", f"PersistentVolumeClaim {name}", [], steps)


def _deleted(snapshot: Snapshot, name: str) -> Finding:
    steps = [
        f"once it is gone, upgrade the release to create it again; kubectl describe pvc -n {snapshot.namespace} {name}"
    ]
    return Finding(
        f"its volume claim {name} is being deleted, once no pod uses it", f"PersistentVolumeClaim {name}", [], steps
    )


def _unbound(snapshot: Snapshot, claim: Object, message: str) -> Finding | None:
    """Return None if the claim waits for the pod rather than the pod for the claim."""
    name, place = name_of(claim), f"PersistentVolumeClaim {name_of(claim)}"
    what = f"its volume claim {name} has no volume"
    wanted = dig(claim, "spec", "storageClassName")
    failed = [f"provisioner: {text}" for text in snapshot.messages(claim, "ProvisioningFailed")[-1:]]
    waits = [f"volumes: {text}" for text in snapshot.messages(claim, "FailedBinding", "ExternalProvisioning")[-1:]]
    if dig(claim, "status", "phase") == "Lost":
        delete = f"kubectl delete pvc -n {snapshot.namespace} {name}"
        steps = [f"{delete}, and upgrade the release: the run starts from the beginning"]
        return Finding(f"{what} any more: its volume is gone", place, [], steps)
    classes = None if snapshot.classes is None else {name_of(entry): entry for entry in snapshot.classes}
    if wanted == "":
        steps = ["create a matching PersistentVolume without a class, or use a claim with a class"]
        return Finding(f"{what}: it requests one without a class, and none is free", place, waits, steps)
    if classes is not None and not wanted:
        evidence = [f"classes here: {listed(sorted(classes)) or 'none'}", *waits]
        steps = ["name a class: --set volume.storageClass=…"] if classes else []
        steps.append("or use --set volume.type=emptyDir, if progress may be lost with the pod")
        return Finding(f"{what}: no storage class is the cluster's default", place, evidence, steps)
    if classes is not None and wanted not in classes:
        evidence = [f"classes here: {listed(sorted(classes)) or 'none'}", *failed, *waits]
        return Finding(
            f"{what}: the storage class {wanted} does not exist", place, evidence,
            ["set volume.storageClass to an existing one, or volume.type=emptyDir"],
        )  # fmt: skip
    if failed:
        steps = [
            "the message is the storage provider's; try a smaller volume.size, another volume.accessMode or another"
        ]
        return Finding(f"{what}: provisioning fails", place, failed, [f"{steps[0]} volume.storageClass"])
    mode = dig(classes, wanted, "volumeBindingMode")
    provisioner = dig(classes, wanted, "provisioner")
    if (mode == "WaitForFirstConsumer" or classes is None) and "unbound immediate" not in message:
        if (
            not snapshot.pod
            or dig(snapshot.pod, "spec", "nodeName")
            or not dig(claim, "metadata", "annotations", SELECTED)
        ):
            return None
        by = provisioner or "its provisioner"
        return Finding(f"{what} yet: {by} is creating one", place, waits, [f"wait, or check that {by} runs"])
    if provisioner == "kubernetes.io/no-provisioner":
        steps = [f"create a PersistentVolume of class {wanted}, or set another volume.storageClass"]
        return Finding(f"{what}: its class {wanted} creates none by itself, and none is free", place, waits, steps)
    evidence = [f"its storage class is {wanted}"] if wanted else []
    by = f"{provisioner} has not created one" if provisioner else "its provisioner has not created one"
    steps = [f"wait a minute; if that does not help, check that {provisioner or 'the provisioner'} runs"]
    return Finding(f"{what} yet: {by}", place, evidence + waits, steps)


SELECTED = "volume.kubernetes.io/selected-node"
"""The scheduler's annotation of a claim: the node for which to create the volume."""
