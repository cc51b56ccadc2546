"""A storage class whose volumes are folders of the node.

Kubernetes' own provisioner of such makes volumes that an unprivileged pod cannot write to. These are of type
`local`, for which the kubelet sets the pod's group.
"""

import contextlib
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import urllib3

from tests.cluster.api import Api, Object, PermissionDenied

CLASS = "folders"
PROVISIONER = "catsdogs-train/folders"
INTERVAL = 0.3


@contextlib.contextmanager
def provisioning(api: Api, node: str, outside: Path, inside: Path) -> Iterator[None]:
    """The cluster's default class, for as long as the block lasts. `outside` is where `inside` lies here."""
    api(
        "POST",
        "/apis/storage.k8s.io/v1/storageclasses",
        {
            "metadata": {"name": CLASS, "annotations": {"storageclass.kubernetes.io/is-default-class": "true"}},
            "provisioner": PROVISIONER,
        },
    )
    ended = threading.Event()

    def provide() -> None:
        while not ended.wait(INTERVAL):
            # The API server may be restarted meanwhile.
            with contextlib.suppress(urllib3.exceptions.HTTPError, PermissionDenied):
                _provide(api, node, outside, inside)

    thread = threading.Thread(target=provide, name="volumes")
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _provide(api: Api, node: str, outside: Path, inside: Path) -> None:
    known = {volume["metadata"]["name"]: volume for volume in api.items("/api/v1/persistentvolumes")}
    for claim in api.items("/api/v1/persistentvolumeclaims"):
        name = f"pvc-{claim['metadata']['uid']}"
        if claim["spec"].get("storageClassName") == CLASS and name not in known:
            (outside / name).mkdir(parents=True, exist_ok=True)
            api("POST", "/api/v1/persistentvolumes", _volume(name, claim, node, inside / name))
    for name, volume in known.items():
        if volume["spec"].get("storageClassName") == CLASS and volume["status"]["phase"] == "Released":
            shutil.rmtree(outside / name, ignore_errors=True)
            api("DELETE", f"/api/v1/persistentvolumes/{name}")


def _volume(name: str, claim: Object, node: str, folder: Path) -> Object:
    here = {"key": "kubernetes.io/hostname", "operator": "In", "values": [node]}
    return {
        "metadata": {"name": name, "annotations": {"pv.kubernetes.io/provisioned-by": PROVISIONER}},
        "spec": {
            "accessModes": claim["spec"]["accessModes"],
            "capacity": claim["spec"]["resources"]["requests"],
            "claimRef": {
                "apiVersion": "v1",
                "kind": "PersistentVolumeClaim",
                "namespace": claim["metadata"]["namespace"],
                "name": claim["metadata"]["name"],
                "uid": claim["metadata"]["uid"],
            },
            "persistentVolumeReclaimPolicy": "Delete",
            "storageClassName": CLASS,
            "local": {"path": str(folder)},
            "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [here]}]}},
        },
    }
