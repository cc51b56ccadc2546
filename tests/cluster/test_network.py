"""NetworkPolicies, which kube-router enforces here: who can connect to whom."""

import contextlib
from collections.abc import Iterator

import pytest

from tests.cluster.api import Object
from tests.cluster.cluster import Own
from tests.cluster.releases import LONG, Namespace, Run, Storage, until
from tests.cluster.test_workers import TWO, name_of, said_by, until_epoch, worker
from tests.helm.chart import Helm

pytestmark = pytest.mark.timeout(1800)

STRANGER = "stranger"
PORTS = (2222, 2223)
CONNECT = "import socket, sys; socket.create_connection((sys.argv[1], int(sys.argv[2])), 3)"


@pytest.fixture
def strangers(own: Own, storage: Storage, helm: Helm, namespace: Namespace) -> Iterator[list[Namespace]]:
    """Pods that belong to no run: one beside the run's, and one with its labels in another namespace. From now on the
    cluster enforces policies."""
    own.enforce_policies()
    with contextlib.ExitStack() as stack:
        other = stack.enter_context(Namespace(namespace.cluster, storage, helm, namespace.folder))
        labels = {"app.kubernetes.io/name": "catsdogs-train", "app.kubernetes.io/instance": "other"}
        own_labels = {"app.kubernetes.io/name": "catsdogs-train", "app.kubernetes.io/instance": "pets"}
        for place, worn in ((namespace, labels), (other, own_labels)):
            place.api("POST", place.path("pods"), stranger(place.cluster.image, worn))
        for place in (namespace, other):
            until(lambda: is_running(place), "the stranger runs", 90)  # noqa: B023
        yield [namespace, other]


def stranger(image: str, labels: dict[str, str]) -> Object:
    security = {
        "runAsNonRoot": True, "runAsUser": 10001, "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]}, "seccompProfile": {"type": "RuntimeDefault"},
    }  # fmt: skip
    command = ["python3", "-m", "http.server", str(PORTS[0])]
    container = {"name": "catsdogs", "image": image, "command": command, "securityContext": security}
    return {
        "metadata": {"name": STRANGER, "labels": labels},
        "spec": {"containers": [container], "terminationGracePeriodSeconds": 0},
    }


def is_running(namespace: Namespace) -> bool:
    return str(namespace.api.get(namespace.path("pods", STRANGER))["status"].get("phase")) == "Running"


def connects(namespace: Namespace, pod: str, address: str, port: int) -> bool:
    told = namespace.kubectl("exec", pod, "-c", "catsdogs", "--", "python3", "-c", CONNECT, address, str(port))
    # kube-router rejects, others drop.
    assert told.returncode == 0 or "TimeoutError" in told.stderr or "ConnectionRefusedError" in told.stderr, told.stderr
    return told.returncode == 0


def address_of(run: Run, index: int) -> str:
    return str(worker(run, index)["status"]["podIP"])


def test_only_workers_connect_to_workers(namespace: Namespace, strangers: list[Namespace]) -> None:
    """While they train. With the value that says so, anybody does."""
    release = namespace.install("pets", LONG, TWO, {"training": {"epochs": 400}})
    run = release.run
    until_epoch(run, 2)
    zero, one = (address_of(run, index) for index in (0, 1))
    for place in strangers:
        for address in (zero, one):
            for port in PORTS:
                assert not connects(place, STRANGER, address, port), (place.name, address, port)
    for index, address in ((1, zero), (0, one)):
        assert connects(namespace, name_of(worker(run, index)), address, PORTS[0])
    # In a container too, the training process can be confined.
    assert [said["event"] for index in (0, 1) for said in said_by(run, index) if said["event"] == "unconfined"] == []

    release.upgrade(LONG, TWO, {"training": {"epochs": 400}, "networkPolicy": {"allowAnyIngress": True}})
    assert release.items("networkpolicies") == []
    for place in strangers:
        until(lambda: connects(place, STRANGER, zero, PORTS[0]), "anybody may connect", 60)  # noqa: B023


def test_a_limited_run_reaches_its_bucket_and_nobody_else(namespace: Namespace, strangers: list[Namespace]) -> None:
    """A single worker: the policy is a choice there."""
    release = namespace.install("pets", {"networkPolicy": {"enabled": True}, "diagnosticMode": True})
    run = release.run
    until(lambda: [pod["status"]["phase"] for pod in run.pods] == ["Running"], "it runs", 90, run.story)
    [pod] = run.pods
    host, _, port = namespace.storage.relay.endpoint.removeprefix("http://").partition(":")
    assert connects(namespace, name_of(pod), host, int(port))
    other = namespace.api.get(namespace.path("pods", STRANGER))["status"]["podIP"]
    assert connects(strangers[1], STRANGER, other, PORTS[0])
    assert not connects(namespace, name_of(pod), other, PORTS[0])
