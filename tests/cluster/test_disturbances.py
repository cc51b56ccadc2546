"""What happens to pods, nodes and control planes, in the middle of an epoch: the run ends as if nothing had."""

import time
from pathlib import Path

import numpy as np
import pytest

from tests.cluster.api import Object
from tests.cluster.cluster import Cluster, Own
from tests.cluster.releases import LONG, Namespace, Run, Storage, until
from tests.helm.chart import Helm
from tests.published import check_manifest, rows, weights

pytestmark = pytest.mark.timeout(3600)

EPOCHS = LONG["training"]["epochs"]
COLUMNS = ("epoch", "loss", "accuracy", "val_loss", "val_accuracy")
AWAY_SECONDS = 60


@pytest.fixture(scope="module")
def undisturbed(
    cluster: Cluster, storage: Storage, helm: Helm, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, bytes]:
    with Namespace(cluster, storage, helm, tmp_path_factory.mktemp("undisturbed")) as namespace:
        return namespace.install("pets", LONG).run.succeed()


def check_same(published: dict[str, bytes], undisturbed: dict[str, bytes], scratch: Path, epochs: int = EPOCHS) -> None:
    """The same figures in every epoch and the same weights, bit for bit, and a manifest that verifies."""
    check_manifest(published)
    ours, theirs = (
        [[row[name] for name in COLUMNS] for row in rows(run["history.csv"])] for run in (published, undisturbed)
    )
    assert ours == theirs
    assert len(ours) == epochs
    mine, others = (weights(run["model.keras"], scratch) for run in (published, undisturbed))
    assert all(np.array_equal(one, other) for one, other in zip(mine, others, strict=True))


def caught(namespace: Namespace, name: str, *values: Object) -> Run:
    """A run that has come to its fifth epoch, and is somewhere in a later one."""
    run = namespace.install(name, LONG, *values).run
    run.until_said("epoch", epoch=5)
    return run


def check_went_on(run: Run) -> None:
    """In one further pod, from a checkpoint, with no failure counted."""
    [resumed] = [said for said in run.said() if said["event"] == "resumed"]
    assert 5 <= resumed["epoch"] <= EPOCHS
    check_nothing_counted(run)


def check_nothing_counted(run: Run) -> None:
    status = run.job["status"]
    assert (status.get("failed", 0), status["succeeded"]) == (0, 1)


def test_pod_deleted(namespace: Namespace, undisturbed: dict[str, bytes], tmp_path: Path) -> None:
    run = caught(namespace, "pets")
    deleted = run.pod
    with run.last_line() as said:
        assert namespace.kubectl("delete", "pod", deleted).returncode == 0
    assert "SIGTERM received: progress is saved" in said[0]
    check_same(run.succeed(), undisturbed, tmp_path)
    assert run.pod != deleted
    check_went_on(run)


def test_pod_killed_without_notice(namespace: Namespace, undisturbed: dict[str, bytes], tmp_path: Path) -> None:
    """As when its node is lost. Nobody has told Kubernetes that this was no failure, so this one counts."""
    run = caught(namespace, "pets", {"job": {"backoffLimit": 1}})
    assert namespace.kubectl("delete", "pod", run.pod, "--grace-period=0", "--force").returncode == 0
    check_same(run.succeed(), undisturbed, tmp_path)
    assert [said["event"] for said in run.said()].count("resumed") == 1


def test_node_drained(namespace: Namespace, own: Own, undisturbed: dict[str, bytes], tmp_path: Path) -> None:
    run = caught(namespace, "drained")
    [evicted] = run.pods
    node = evicted["spec"]["nodeName"]
    selector = "--pod-selector=app.kubernetes.io/instance=drained"
    try:
        drain = namespace.kubectl("drain", node, selector, "--ignore-daemonsets", "--delete-emptydir-data")
        assert drain.returncode == 0, drain.stderr
        until(lambda: run.pods and run.pod != evicted["metadata"]["name"], "another pod", 60, run.story)
        # The only node takes no pods, which is no failure either.
        assert run.pods[-1]["status"]["phase"] == "Pending"
    finally:
        assert namespace.kubectl("uncordon", node).returncode == 0
    check_same(run.succeed(), undisturbed, tmp_path)
    check_went_on(run)


def test_pod_evicted_by_the_api(namespace: Namespace, undisturbed: dict[str, bytes], tmp_path: Path) -> None:
    """What a drain, an autoscaler and a descheduler call; without a volume that outlives the pod."""
    run = caught(namespace, "pets", {"volume": {"type": "emptyDir"}})
    name = run.pod
    eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name}}
    namespace.api("POST", namespace.path("pods", f"{name}/eviction"), eviction)
    check_same(run.succeed(), undisturbed, tmp_path)
    assert run.pod != name
    check_went_on(run)


def test_kubelet_restarted(namespace: Namespace, own: Own, undisturbed: dict[str, bytes], tmp_path: Path) -> None:
    run = caught(namespace, "pets")
    own.restart_kubelet()
    check_same(run.succeed(), undisturbed, tmp_path)
    check_undisturbed_pod(run)


def test_api_server_restarted(namespace: Namespace, own: Own, undisturbed: dict[str, bytes], tmp_path: Path) -> None:
    run = caught(namespace, "pets")
    own.restart_api_server(away=5)
    check_same(run.succeed(), undisturbed, tmp_path)
    check_undisturbed_pod(run)


def check_undisturbed_pod(run: Run) -> None:
    """The run has not noticed anything."""
    check_nothing_counted(run)
    assert run.ends == [(0, "Completed")]
    assert "resumed" not in [said["event"] for said in run.said()]


def test_storage_away_for_a_minute(namespace: Namespace, undisturbed: dict[str, bytes], tmp_path: Path) -> None:
    run = caught(namespace, "pets", {"checkpoint": {"to": "bucket"}})
    with namespace.storage.relay.away():
        time.sleep(AWAY_SECONDS)
        assert run.condition("Complete") is None
    check_same(run.succeed(), undisturbed, tmp_path)
    check_undisturbed_pod(run)
    assert "waiting" in [said["event"] for said in run.said()]
