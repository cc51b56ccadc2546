"""The key of several workers: random, the same for all revisions of a release, and in no other place."""

import base64
from pathlib import Path

import pytest

from tests.helm.chart import CHART, Helm, Manifest, Rendered, environment
from tests.helm.relations import problems
from tests.helm.test_upgrade import Cluster, in_cluster

NAME = "pets-catsdogs-train-worker-key"


def key(rendered: Rendered, name: str = "key") -> str:
    return base64.b64decode(rendered.one("Secret")["data"][name]).decode()


def test_one_worker_has_none(helm4: Helm) -> None:
    assert "worker-key" not in helm4.of().text
    assert helm4.of().all("Secret") == []


def test_each_release_has_another(helm: Helm) -> None:
    """Also one of the same name, elsewhere: nobody can derive it."""
    renderings = [helm.of("workers=2"), helm.of("workers=2", "rerun=1"), helm.of("workers=2", release="cats")]
    keys = {key(rendered) for rendered in renderings}
    assert len(keys) == 3
    for rendered in renderings:
        assert len(key(rendered)) == 64
        assert rendered.text.count(key(rendered)) == 0
        encoded = rendered.one("Secret")["data"]["key"]
        assert rendered.text.count(encoded) == 1
        assert problems(rendered.manifests, set()) == []


def test_workers_read_it_from_a_file(helm4: Helm) -> None:
    pod = helm4.of("workers=2").job["spec"]["template"]["spec"]
    file = Path(environment(pod)["CATSDOGS_WORKER_KEY_FILE"])
    [mount] = [mount for mount in pod["containers"][0]["volumeMounts"] if mount["name"] == "worker-key"]
    [volume] = [volume for volume in pod["volumes"] if volume["name"] == "worker-key"]
    assert (Path(mount["mountPath"]), mount["readOnly"]) == (file.parent, True)
    assert volume["secret"] == {"secretName": NAME, "items": [{"key": "key", "path": file.name}]}


def test_a_scheduled_run_has_it_too(helm4: Helm) -> None:
    rendered = helm4.of("workers=2", 'cronJob.schedule="@daily"')
    assert len(key(rendered)) == 64
    assert problems(rendered.manifests, set()) == []


def test_own_secret(helm4: Helm) -> None:
    rendered = helm4.of("workers=2", 'workerKey={"existingSecret": "mine", "key": "random"}')
    assert rendered.all("Secret") == []
    pod = rendered.job["spec"]["template"]["spec"]
    [volume] = [volume for volume in pod["volumes"] if volume["name"] == "worker-key"]
    assert volume["secret"] == {"secretName": "mine", "items": [{"key": "random", "path": "random"}]}
    assert environment(pod)["CATSDOGS_WORKER_KEY_FILE"].endswith("/random")
    # As Argo CD needs it: no rendering differs from another.
    again = helm4("template", "pets", CHART, "--namespace=vision", "--set=bucket=pets,workers=2",
                  "--set=workerKey.existingSecret=mine,workerKey.key=random")  # fmt: skip
    assert again.stdout == rendered.text


@pytest.fixture
def cluster(helm: Helm, tmp_path: Path) -> Cluster:
    return Cluster(helm, tmp_path)


def live(cluster: Cluster) -> tuple[Manifest, Manifest]:
    """The Job and the Secret of a release with two workers, as the cluster has them."""
    first = cluster.helm.of("workers=2", "training.seed=1")
    job, secret = in_cluster(first.job), first.one("Secret")
    # By these, Helm knows what is its own.
    names = ("meta.helm.sh/release-name", "meta.helm.sh/release-namespace")
    annotations = {name: job["metadata"]["annotations"][name] for name in names}
    return job, {**secret, "metadata": {**secret["metadata"], "annotations": annotations}}


def test_an_upgrade_keeps_it(cluster: Cluster) -> None:
    job, secret = live(cluster)
    for settings in (["workers=2", "training.seed=2"], ["workers=3"]):
        upgraded = cluster.install([job], *settings, secrets=[secret])
        assert upgraded.one("Secret")["data"] == secret["data"]
    assert cluster.install([], "workers=2").one("Secret")["data"] != secret["data"]


def test_it_stays_as_long_as_a_run_of_several_workers(cluster: Cluster) -> None:
    """Also while the release's current run has one worker."""
    job, secret = live(cluster)
    assert cluster.install([job], "workers=1", secrets=[secret]).one("Secret")["data"] == secret["data"]
    assert cluster.install([], "workers=1", secrets=[secret]).all("Secret") == []
