"""Upgrades: which changes are another run, and what becomes of the earlier ones."""

import copy
import json
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.helm import apiserver
from tests.helm.chart import CHART, FILES, Helm, Manifest, Rendered, environment, pods

OTHER_RUNS = [
    "training.epochs=31",
    "training.batchSize=21",
    "training.learningRate=0.01",
    "training.imageSize=151",
    "training.seed=1",
    "training.trainPerClass=999",
    'checkpoint.every="61s"',
    'checkpoint.to="bucket"',
    'export="onnx"',
    'archive.key="train.zip"',
    'output.prefix="other"',
    'runId="mine"',
    "rerun=2",
    'rerun="again"',
    'storage.region="eu-west-3"',
    'credentials.existingSecret="storage"',
    'credentials={"accessKeyId": "a", "secretAccessKey": "b"}',
    'credentials={"accessKeyId": "a", "secretAccessKey": "c"}',
    'serviceAccount.annotations={"a": "b"}',
    'image.tag="nightly"',
    "gpu.count=0",
    "gpu.count=2",
    'gpu.resource="nvidia.com/mig-1g.10gb"',
    'resources.limits.memory="9Gi"',
    'shm.size="2Gi"',
    'volume.storageClass="fast"',
    'volume.accessMode="ReadWriteMany"',
    'volume.type="emptyDir"',
    "job.terminationGracePeriodSeconds=61",
    'kueue.queueName="gpus"',
    'nodeSelector={"a": "b"}',
    'podLabels={"a": "b"}',
    'extraEnv=[{"name": "A", "value": "b"}]',
    'extraArgs=["--seed=1"]',
    "diagnosticMode=true",
    "workers=2",
    "workers=3",
]
SAME_RUN = [
    "job.backoffLimit=4",
    "job.activeDeadlineSeconds=3600",
    "job.ttlSecondsAfterFinished=3600",
    "job.suspend=true",
    'job.annotations={"a": "b"}',
    'volume.size="11Gi"',
    "volume.keep=true",
    "networkPolicy.enabled=true",
]


def immutable(job: Manifest) -> dict[str, Any]:
    """What the API server lets nobody change in a Job."""
    changeable = {"backoffLimit", "activeDeadlineSeconds", "ttlSecondsAfterFinished", "suspend"}
    return {name: value for name, value in job["spec"].items() if name not in changeable}


def test_what_the_pod_runs_with_names_the_job(helm4: Helm) -> None:
    names = [helm4.of(setting).job_name for setting in ("training.seed=0", *OTHER_RUNS)]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("setting", SAME_RUN)
def test_what_can_be_changed_in_place_is_the_same_run(helm4: Helm, setting: str) -> None:
    before, after = helm4.of().job, helm4.of(setting).job
    assert after["metadata"]["name"] == before["metadata"]["name"]
    assert immutable(after) == immutable(before)


def test_a_claim_that_differs_in_what_is_fixed_is_another(helm4: Helm) -> None:
    settings = [
        'volume.size="11Gi"', 'volume.storageClass="fast"', 'volume.storageClass="slow"',
        'volume.accessMode="ReadWriteMany"',
    ]  # fmt: skip
    fixed: dict[str, dict[str, Any]] = {}
    for rendered in [helm4.of(), *map(helm4.of, settings)]:
        claim = rendered.one("PersistentVolumeClaim")
        spec = {name: value for name, value in claim["spec"].items() if name != "resources"}
        assert fixed.setdefault(claim["metadata"]["name"], spec) == spec
    assert len(fixed) == 4


def test_unchanged_values_change_nothing(helm: Helm, tmp_path: Path) -> None:
    """However they come: from the command line, or from a file, as `--reuse-values` reads those of the last release."""
    given = ("--set=bucket=pets", "--set=training.seed=4294967295,rerun=1735689600,training.learningRate=0.00001")
    file = tmp_path / "file.json"
    file.write_text(
        json.dumps(
            {
                "bucket": "pets",
                "rerun": 1735689600,
                "training": {"seed": 4294967295, "learningRate": 0.00001},
            }
        )
    )
    first = helm.template(*given).text
    assert helm.template(*given, "--is-upgrade").text == first
    assert helm.template(f"--values={file}", "--is-upgrade").text == first


@pytest.fixture
def newer(tmp_path: Path) -> Path:
    """The chart as its next release will be, with the same job in it."""
    chart = tmp_path / "chart"
    shutil.copytree(CHART, chart)
    about = chart / "Chart.yaml"
    about.write_text(re.sub("(?m)^version: .*", "version: 99.0.0+next", about.read_text()))
    return chart


def test_a_newer_chart_is_the_same_run(helm: Helm, newer: Path) -> None:
    old, new = helm.of().job, helm.of(chart=newer).job
    assert old["metadata"]["labels"]["helm.sh/chart"] != new["metadata"]["labels"]["helm.sh/chart"]
    assert (old["metadata"]["name"], old["spec"]) == (new["metadata"]["name"], new["spec"])


def test_a_newer_image_is_another_run(helm4: Helm, newer: Path) -> None:
    about = newer / "Chart.yaml"
    about.write_text(re.sub("(?m)^appVersion: .*", "appVersion: 99.0.0", about.read_text()))
    assert helm4.of(chart=newer).job_name != helm4.of().job_name


@pytest.mark.parametrize("name", FILES)
def test_labels_that_change_with_a_release_stay_out_of_pods(helm4: Helm, name: str) -> None:
    for pod in pods(helm4.template(f"--values={FILES[name]}").manifests):
        if pod.owner["kind"] != "Pod":
            assert pod.metadata["labels"].keys() & {
                "helm.sh/chart", "app.kubernetes.io/version", "app.kubernetes.io/managed-by",
            } == set()  # fmt: skip


@pytest.mark.parametrize("release", ["a", "catsdogs-train", "x" * 53, "a.b", "x" * 45 + "-catsdog"])
def test_names_fit(helm: Helm, release: str) -> None:
    rendered = helm.of('kueue.queueName="gpus"', release=release)
    scheduled = helm.of('cronJob.schedule="@daily"', release=release).one("CronJob")
    assert re.fullmatch("[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", rendered.job_name)
    assert re.fullmatch("[a-z0-9]([-a-z0-9]{0,50}[a-z0-9])?", scheduled["metadata"]["name"])
    assert rendered.job_name.startswith(scheduled["metadata"]["name"])


def test_the_run_is_called_like_its_job(helm4: Helm) -> None:
    told = environment(helm4.of().job["spec"]["template"]["spec"])
    assert told["CATSDOGS_RUN_ID"] == {"fieldRef": {"fieldPath": "metadata.labels['batch.kubernetes.io/job-name']"}}
    told = environment(helm4.of('runId="mine"').job["spec"]["template"]["spec"])
    assert told["CATSDOGS_RUN_ID"] == "mine"


def in_cluster(job: Manifest, namespace: str = "vision") -> Manifest:
    """The Job as the API server has it some time after helm made it, begun."""
    job = copy.deepcopy(job)
    metadata, spec = job["metadata"], job["spec"]
    metadata |= {"namespace": namespace, "uid": "7c5b0905", "resourceVersion": "410", "generation": 1}
    metadata["annotations"] |= {"meta.helm.sh/release-name": "pets", "meta.helm.sh/release-namespace": namespace}
    spec["selector"] = {"matchLabels": {"batch.kubernetes.io/controller-uid": "7c"}}
    spec |= {"completions": 1, "parallelism": 1, "completionMode": "NonIndexed"} | spec
    spec.setdefault("suspend", False)
    spec["template"]["metadata"]["labels"]["batch.kubernetes.io/controller-uid"] = "7c"
    spec["template"]["spec"] |= {"dnsPolicy": "ClusterFirst", "schedulerName": "default-scheduler"}
    job["status"] = {"startTime": "2026-01-01T00:00:00Z", "succeeded": 1}
    return job


class Cluster:
    """What helm would send to a cluster that has certain Jobs."""

    def __init__(self, helm: Helm, directory: Path):
        self.helm = helm
        self.directory = directory

    def install(self, jobs: list[Manifest], *settings: str, secrets: Sequence[Manifest] = ()) -> Rendered:
        with apiserver.serving(jobs, self.directory, secrets) as kubeconfig:
            process = self.helm(
                "install", "pets", CHART, "--namespace=vision", "--dry-run=server", "--disable-openapi-validation",
                "--set=bucket=pets", *(f"--set-json={setting}" for setting in settings), kubeconfig=kubeconfig,
            )  # fmt: skip
        assert process.returncode == 0, process.stderr
        _, _, rest = process.stdout.partition("\nMANIFEST:\n")
        manifests, _, self.notes = rest.partition("\nNOTES:\n")
        return Rendered.of(manifests)

    def jobs(self, jobs: list[Manifest], *settings: str) -> dict[str, Manifest]:
        made = self.install(jobs, *settings).all("Job")
        by_name = {job["metadata"]["name"]: job for job in made}
        assert len(by_name) == len(made)
        return by_name


@pytest.fixture
def cluster(helm: Helm, tmp_path: Path) -> Cluster:
    return Cluster(helm, tmp_path)


def test_earlier_jobs_stay_as_helm_wrote_them(cluster: Cluster) -> None:
    """With the very fields of the old manifest, neither more nor fewer, there is nothing that helm would change."""
    first, second = cluster.helm.of("training.seed=1").job, cluster.helm.of("training.seed=2").job
    jobs = cluster.jobs([in_cluster(first), in_cluster(second)], "training.seed=3")
    assert len(jobs) == 3
    for earlier in (first, second):
        again = jobs[earlier["metadata"]["name"]]
        assert again["spec"] == earlier["spec"]
        for name in ("labels", "annotations"):
            assert earlier["metadata"][name].items() <= again["metadata"][name].items()


def test_the_current_job_is_there_once(cluster: Cluster) -> None:
    job = cluster.helm.of().job
    assert cluster.jobs([in_cluster(job)]) == {job["metadata"]["name"]: job}


def test_a_schedule_leaves_earlier_jobs(cluster: Cluster) -> None:
    job = cluster.helm.of().job
    assert cluster.jobs([in_cluster(job)], 'cronJob.schedule="@daily"').keys() == {job["metadata"]["name"]}


def test_only_the_releases_own_begun_jobs_stay(cluster: Cluster) -> None:
    def earlier(name: str) -> Manifest:
        job = in_cluster(cluster.helm.of().job)
        job["metadata"]["name"] = name
        return job

    foreign = earlier("of-another-release")
    foreign["metadata"]["annotations"]["meta.helm.sh/release-name"] = "cats"
    by_hand = earlier("made-by-hand")
    del by_hand["metadata"]["annotations"]["meta.helm.sh/release-name"]
    unlike = earlier("of-another-chart")
    unlike["metadata"]["labels"]["app.kubernetes.io/name"] = "birds"
    bare = earlier("without-anything")
    del bare["metadata"]["annotations"], bare["metadata"]["labels"]
    waiting = earlier("never-begun")
    del waiting["status"]["startTime"]
    going = earlier("being-deleted")
    going["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    others = [foreign, by_hand, unlike, bare, waiting, going]
    assert len(cluster.jobs([*others, earlier("mine")], "training.seed=3")) == 2


def test_earlier_workers_still_find_each_other(cluster: Cluster) -> None:
    several = in_cluster(cluster.helm.of("workers=2").job)
    policy = "networkPolicy.enabled=true"
    before, after = cluster.helm.of("workers=2", policy), cluster.install([several], policy)
    assert len(after.all("Job")) == 2
    for kind in ("Service", "NetworkPolicy"):
        assert after.one(kind) == before.one(kind)
    assert cluster.install([in_cluster(cluster.helm.of("training.seed=1").job)], policy).all("Service") == []


def test_kueues_decisions_stay(cluster: Cluster) -> None:
    """It starts Jobs and adds tolerations: to write them back would stop the run or be refused."""
    queue = 'kueue.queueName="gpus"'
    job = in_cluster(cluster.helm.of(queue).job)
    job["spec"]["suspend"] = False
    tolerations = [{"key": "nvidia.com/gpu", "operator": "Exists"}, {"key": "spot", "operator": "Exists"}]
    job["spec"]["template"]["spec"]["tolerations"] = tolerations
    name = job["metadata"]["name"]
    for settings in ([queue], [queue, "training.seed=3"], []):
        again = cluster.jobs([job], *settings)[name]["spec"]
        assert again["suspend"] is False
        assert again["template"]["spec"]["tolerations"] == tolerations


def test_notes_say_what_runs_and_what_to_do(cluster: Cluster) -> None:
    job = cluster.install([]).job_name
    assert f"Job {job} trains baseline on 1 × nvidia.com/gpu." in cluster.notes
    assert f"kubectl logs -n vision -f job/{job}" in cluster.notes
    assert f"s3://pets/runs/{job}/" in cluster.notes
    assert "helm upgrade -n vision pets CHART --reset-then-reuse-values --set rerun=NEW_TEXT" in cluster.notes
    assert "helm test -n vision pets" in cluster.notes


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (['runId="mine"'], ["s3://pets/runs/mine/", "--set runId=NEW_ID"]),
        (["gpu.count=0"], ["trains baseline on CPUs."]),
        (
            ["workers=3"],
            [
                "trains baseline on 3 workers, each with 1 × nvidia.com/gpu.",
                "batch.kubernetes.io/job-completion-index=0",
            ],
        ),
        (["job.suspend=true"], ["It is suspended"]),
        (['kueue.queueName="gpus"'], ["when Kueue admits it to the queue gpus"]),
        (["diagnosticMode=true"], ["sleeps", "kubectl exec -n vision -it job/"]),
        (
            ['cronJob.schedule="@daily"'],
            ["CronJob pets-catsdogs-train trains baseline", "--from=cronjob/pets-catsdogs-train", "s3://pets/runs/"],
        ),
    ],
)
def test_notes_fit_the_values(cluster: Cluster, settings: list[str], said: list[str]) -> None:
    cluster.install([], *settings)
    for text in said:
        assert text in cluster.notes


def test_notes_keep_secrets(cluster: Cluster) -> None:
    cluster.install([], 'credentials={"accessKeyId": "AKIAEXAMPLE", "secretAccessKey": "only-an-example"}')
    assert "AKIAEXAMPLE" not in cluster.notes
    assert "only-an-example" not in cluster.notes
