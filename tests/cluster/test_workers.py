"""Several workers: an Indexed Job, whose pods find each other by name, start together, and survive the loss of one."""

import json
from pathlib import Path

import pytest

from tests.cluster.api import Object
from tests.cluster.cluster import Cluster
from tests.cluster.plugin import Plugin
from tests.cluster.releases import LONG, Namespace, Release, Run, Storage, until
from tests.cluster.test_disturbances import check_same
from tests.helm.chart import Helm
from tests.published import check_manifest, objects, rows

pytestmark = pytest.mark.timeout(3600)

EPOCHS = 24
INDEX = "batch.kubernetes.io/job-completion-index"
TWO: Object = {
    "workers": 2,
    # A lost worker is replaced, and counts where nobody told Kubernetes that it was no failure.
    "job": {"backoffLimit": 1},
    "heartbeatTimeout": "5s",
}
SHORTER: Object = {"training": {"epochs": EPOCHS}}
APART: Object = {
    "affinity": {
        "podAntiAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": [
                {
                    "labelSelector": {"matchLabels": {"app.kubernetes.io/instance": "pets"}},
                    "topologyKey": "kubernetes.io/hostname",
                }
            ]
        }
    }
}
"""Values for which a cluster of one node has no place for the second worker."""


def worker(run: Run, index: int) -> Object:
    """The newest pod of that worker."""
    return [pod for pod in run.pods if pod["metadata"]["labels"][INDEX] == str(index)][-1]


def name_of(pod: Object) -> str:
    return str(pod["metadata"]["name"])


def phases(run: Run) -> list[str]:
    return [pod["status"]["phase"] for pod in run.pods]


def resolved(release: Release, pod: Object, index: int) -> str:
    """The address under which that pod knows the worker."""
    code = (
        "import os, socket; template = os.environ['CATSDOGS_WORKER_ADDRESS'].rpartition(':')[0];"
        f"print(socket.gethostbyname(template.replace('{{index}}', '{index}')))"
    )
    found = release.namespace.kubectl("exec", name_of(pod), "--", "python3", "-c", code)
    return found.stdout.strip() or found.stderr


def test_workers_find_each_other_by_name(namespace: Namespace) -> None:
    """Those of two runs of one release, which share its Service."""
    release = namespace.install("pets", TWO, {"diagnosticMode": True})
    until(lambda: phases(release.run) == ["Running"] * 2, "both run", 90, release.run.story)
    release.upgrade(TWO, {"diagnosticMode": True, "rerun": 2, "workers": 3})
    until(lambda: phases(release.run) == ["Running"] * 3, "three more run", 90, release.run.story)
    for name, workers in zip(release.jobs, (2, 3), strict=True):
        run = Run(namespace, name)
        for pod in run.pods:
            for index in range(workers):
                address = worker(run, index)["status"]["podIP"]
                until(lambda: resolved(release, pod, index) == address, "its name is known", 30, run.story)  # noqa: B023


@pytest.fixture(scope="module")
def undisturbed(
    cluster: Cluster, storage: Storage, helm: Helm, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, bytes]:
    with Namespace(cluster, storage, helm, tmp_path_factory.mktemp("undisturbed")) as namespace:
        return namespace.install("pets", LONG, SHORTER, TWO).run.succeed(600)


def caught(namespace: Namespace) -> Run:
    """A run whose workers have come to the fifth epoch together, and are somewhere in a later one."""
    run = namespace.install("pets", LONG, SHORTER, TWO).run
    until_epoch(run, 5)
    return run


def until_epoch(run: Run, number: int) -> None:
    def trains() -> bool:
        assert not run.condition("Failed"), run.story()
        return any(said["event"] == "epoch" and said["epoch"] == number for said in said_by(run, 0))

    until(trains, f"epoch {number} ends", 300, run.story)


def said_by(run: Run, index: int) -> list[Object]:
    """By the worker's newest pod."""
    pods = [pod for pod in run.pods if pod["metadata"]["labels"][INDEX] == str(index)]
    return run.said(name_of(pods[-1])) if pods else []


@pytest.mark.parametrize("index", [0, 1])
def test_worker_killed_without_notice(
    namespace: Namespace, undisturbed: dict[str, bytes], tmp_path: Path, index: int
) -> None:
    """As when its node is lost. The other ends in order, and both are replaced."""
    run = caught(namespace)
    lost = name_of(worker(run, index))
    assert namespace.kubectl("delete", "pod", lost, "--grace-period=0", "--force").returncode == 0
    check_same(run.succeed(600), undisturbed, tmp_path, EPOCHS)
    [resumed] = [said for said in said_by(run, 0) if said["event"] == "resumed"]
    assert 5 <= resumed["epoch"] <= EPOCHS
    assert name_of(worker(run, index)) != lost
    # What was killed may have counted, and the other has not.
    assert run.job["status"].get("failed", 0) <= 1


def test_worker_deleted_in_order(namespace: Namespace, undisturbed: dict[str, bytes], tmp_path: Path) -> None:
    """As when its node is drained: no failure is counted."""
    run = caught(namespace)
    assert namespace.kubectl("delete", "pod", name_of(worker(run, 1))).returncode == 0
    check_same(run.succeed(600), undisturbed, tmp_path, EPOCHS)
    assert run.job["status"].get("failed", 0) == 0


def test_another_number_goes_on(namespace: Namespace) -> None:
    """Two workers begin, and one alone goes on from their checkpoint."""
    shared: Object = {"runId": "elastic", "checkpoint": {"to": "bucket"}}
    release = namespace.install("pets", LONG, SHORTER, TWO, shared)
    two = release.run
    until_epoch(two, 5)
    namespace.api.merge(namespace.path("jobs", two.name), {"spec": {"suspend": True}})
    until(lambda: not two.pods, "its pods are gone", 90, two.story)
    assert two.condition("Complete") is None
    release.upgrade(LONG, SHORTER, shared)
    one = release.run
    assert one.finish(600) == "Complete", one.story()
    [resumed] = [said for said in one.said() if said["event"] == "resumed"]
    assert 5 <= resumed["epoch"] <= EPOCHS
    published = objects(namespace.storage.server, namespace.bucket, "runs/elastic/")
    check_manifest(published)
    assert [int(row["epoch"]) for row in rows(published["history.csv"])] == list(range(1, EPOCHS + 1))


def test_the_plugin_shows_both(namespace: Namespace, plugin: Plugin) -> None:
    """On a volume that both share."""
    run = namespace.install("pets", TWO, {"volume": {"accessMode": "ReadWriteMany"}}).run
    followed = plugin("follow", "pets")
    assert followed.returncode == 0, followed.stdout + followed.stderr
    said = [json.loads(line) for line in followed.stdout.splitlines() if line.startswith("{")]
    # What is the same for both is said once.
    assert [event["epoch"] for event in said if event["event"] == "epoch"] == [1, 2]
    assert {event.get("worker", 0) for event in said} == {0, 1}
    assert all(line.startswith(("{", "worker 1: ")) for line in followed.stdout.splitlines())
    assert f"run {run.name} is complete" in followed.stderr
    [row] = json.loads(plugin("runs", "pets", "-o", "json").stdout)
    assert (row["workers"], row["state"], row["epochs_done"]) == (2, "Succeeded", 2)
    check_manifest(run.published)


def test_none_trains_before_all_are_there(namespace: Namespace, plugin: Plugin) -> None:
    """The one that has a place waits for the other, says so, and gives up; the plugin names the other."""
    run = namespace.install("pets", TWO, APART, {"workerTimeout": "20s", "job": {"backoffLimit": 0}}).run
    until(lambda: sorted(phases(run)) == ["Pending", "Running"], "one of two runs", 60, run.story)
    there, missing = sorted(run.pods, key=lambda pod: pod["status"]["phase"], reverse=True)
    index = missing["metadata"]["labels"][INDEX]
    said: list[str] = []

    def named() -> bool:
        said[:] = [plugin("why", "pets").stdout]
        return f"worker {index}" in said[0] and "anti-affinity" in said[0]

    until(named, "why names the worker without a node", 20, lambda: said[0], interval=1)
    assert run.fail() == "BackoffLimitExceeded"
    [end] = run.ends
    assert end == (69, "Error")
    words = namespace.kubectl("logs", name_of(there)).stdout
    assert f"worker {index}" in words.splitlines()[-1]
    assert "epoch" not in [said["event"] for said in run.said(name_of(there))]
