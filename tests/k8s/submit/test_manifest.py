"""A further run's Job, against what the real helm makes of the chart."""

import copy
import re
from pathlib import Path
from typing import Any

import kubernetes_validate  # type: ignore[import-untyped]
import pytest

from kubectl_catsdogs.base.chart import run_id
from kubectl_catsdogs.base.errors import ConfigError
from kubectl_catsdogs.submit import settings
from kubectl_catsdogs.submit.manifest import job_of, source_of
from tests.helm import binaries
from tests.helm.chart import FILES, Helm, Manifest, environment
from tests.helm.relations import problems
from tests.helm.test_upgrade import INIT, Cluster


@pytest.fixture(scope="module")
def helm() -> Helm:
    if not binaries.AVAILABLE:
        pytest.skip("the pinned helm is for Linux on x86-64")
    return Helm(binaries.helm(4))


def live(manifest: Manifest) -> dict[str, Any]:
    """A Job as the API server gives it: with its ids, labels and defaults."""
    job: dict[str, Any] = copy.deepcopy(manifest)
    uid, name = "6d2e", job["metadata"]["name"]
    job["metadata"] |= {
        "uid": uid,
        "resourceVersion": "7",
        "generation": 1,
        "creationTimestamp": "2026-01-01T00:00:00Z",
        "managedFields": [{"manager": "helm"}],
    }
    job["metadata"]["annotations"] |= {"meta.helm.sh/release-name": "pets", "meta.helm.sh/release-namespace": "vision"}
    job["spec"] |= {"selector": {"matchLabels": {"batch.kubernetes.io/controller-uid": uid}}, "completions": 1}
    job["spec"] |= {"parallelism": 1, "completionMode": "NonIndexed", "suspend": job["spec"].get("suspend", False)}
    template = job["spec"]["template"]
    template["metadata"]["creationTimestamp"] = None
    template["metadata"]["labels"] |= {
        "batch.kubernetes.io/controller-uid": uid,
        "batch.kubernetes.io/job-name": name,
        "controller-uid": uid,
        "job-name": name,
    }
    template["spec"]["dnsPolicy"] = "ClusterFirst"
    job["status"] = {"startTime": "2026-01-01T00:00:00Z", "active": 1}
    return job


def same_pods(one: Manifest, other: Manifest) -> None:
    """Whether both run the same: the order of variables alone may differ."""
    texts = []
    for job in (one, other):
        template = copy.deepcopy(job["spec"]["template"])
        template["spec"]["containers"][0]["env"] = environment(template["spec"])
        texts.append(template)
    assert texts[0] == texts[1]


AS_HELM = [
    ("epochs=50", "training.epochs=50"),
    ("batch_size=64", "training.batchSize=64"),
    ("learning-rate=1e-3", "training.learningRate=0.001"),
    ("image_size=99", "training.imageSize=99"),
    ("seed=7", "training.seed=7"),
    ("train_per_class=10", "training.trainPerClass=10"),
    ("validation_per_class=11", "training.validationPerClass=11"),
    ("test_per_class=12", "training.testPerClass=12"),
    ("checkpoint_every=5", 'checkpoint.every="5"'),
    ("run_id=mine", 'runId="mine"'),
]


@pytest.mark.parametrize(("given", "value"), AS_HELM)
def test_a_run_is_what_the_chart_would_have_made_with_that_value(helm: Helm, given: str, value: str) -> None:
    [told] = settings.combinations([given], [])
    submitted = job_of(source_of(live(helm.of().job)), told, "vision")
    same_pods(submitted, helm.of(value).job)
    assert submitted["spec"]["podFailurePolicy"] == helm.of(value).job["spec"]["podFailurePolicy"]


@pytest.mark.parametrize("name", FILES)
def test_of_every_kind_of_release(helm: Helm, name: str) -> None:
    rendered = helm.template(f"--values={FILES[name]}")
    item = (rendered.all("Job") + rendered.all("CronJob"))[0]
    if item["kind"] == "Job":
        item = live(item)
    if name == "diagnostic":
        with pytest.raises(ConfigError, match="does not train"):
            source_of(item)
        return
    job = job_of(source_of(item), {"epochs": "51"}, "vision")
    kubernetes_validate.validate(job, "1.34", strict=True)
    assert re.fullmatch("[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", job["metadata"]["name"])
    labels, annotations = job["metadata"]["labels"], job["metadata"]["annotations"]
    # What `runs` and `follow` look for, and nothing by which helm would take it for its own.
    assert labels["app.kubernetes.io/instance"] == "pets"
    assert labels["app.kubernetes.io/managed-by"] == "kubectl-catsdogs"
    assert not [key for key in {**labels, **annotations} if "helm" in key]
    assert job["spec"].get("suspend", False) == ("kueue" in name)
    assert ("kueue.x-k8s.io/queue-name" in labels) == ("kueue" in name)
    assert run_id(job) == job["metadata"]["name"] != item["metadata"]["name"]
    assert "status" not in job
    assert "selector" not in job["spec"]
    if name == "full":
        assert annotations["example.com/team"] == "vision"
    # Of that run in turn, as the API server gives it.
    assert job_of(source_of(live(job)), {"epochs": "51"}, "vision")["spec"] == job["spec"]


def test_arguments_and_variables_that_would_win_are_gone(helm: Helm) -> None:
    source = source_of(
        helm.of(
            'extraArgs=["--epochs=3", "--seed", "4", "--run-id=mine", "--require-gpu", "--test-per-class=9"]',
            'extraEnv=[{"name": "CATSDOGS_BATCH_SIZE", "value": "9"}]',
        ).job
    )
    job = job_of(source, {"epochs": "5", "seed": "6", "batch_size": "7"}, "vision")
    container = job["spec"]["template"]["spec"]["containers"][0]
    assert container["args"] == ["run", "--require-gpu", "--test-per-class=9"]
    assert [entry for entry in container["env"] if entry["name"] == "CATSDOGS_BATCH_SIZE"] == [
        {"name": "CATSDOGS_BATCH_SIZE", "value": "7"}
    ]
    assert (environment(job["spec"]["template"]["spec"])["CATSDOGS_EPOCHS"], run_id(job)) == (
        "5",
        job["metadata"]["name"],
    )


def test_names_follow_from_what_runs(helm: Helm) -> None:
    source = source_of(live(helm.of('runId="mine"').job))
    names = [
        job_of(source, settings, "vision")["metadata"]["name"]
        for settings in ({"epochs": "2"}, {"epochs": "3"}, {"epochs": "2", "seed": "1"}, {"run_id": "other"})
    ]
    assert len(set(names)) == len(names)
    assert all(re.fullmatch("pets-catsdogs-train-[0-9a-f]{10}", name) for name in names)
    assert job_of(source, {"seed": "0", "epochs": "2"}, "vision")["metadata"]["name"] == names[0]
    assert job_of(source_of(helm.of('runId="mine"').job), {"epochs": "2"}, "vision")["metadata"]["name"] == names[0]
    newer = source_of(helm.of('image.tag="next"').job)
    assert job_of(newer, {"epochs": "2"}, "vision")["metadata"]["name"] not in names
    long = source_of(helm.template("--set=bucket=pets", release="x" * 53).job)
    assert len(job_of(long, {"epochs": "2"}, "vision")["metadata"]["name"]) <= 63


def test_a_job_without_the_chart_s_annotation(helm: Helm) -> None:
    """As a CronJob makes them."""
    job = live(helm.of().job)
    del job["metadata"]["annotations"]["catsdogs-train/spec"]
    made = job_of(source_of(job), {"epochs": "2"}, "vision")
    kubernetes_validate.validate(made, "1.34", strict=True)
    same_labels = helm.of().job["spec"]["template"]["metadata"]["labels"]
    assert made["spec"]["template"]["metadata"]["labels"] == same_labels
    assert "selector" not in made["spec"]


def test_values_that_the_annotation_leaves_out_are_in_further_runs(helm: Helm) -> None:
    """And in the runs that are made from those, whose annotations leave them out, too."""
    secret = 'extraEnv=[{"name": "MLFLOW_TRACKING_PASSWORD", "value": "only-an-example"}]'
    own = live(helm.of(secret, INIT).job)
    further = job_of(source_of(own), {"epochs": "2"}, "vision")
    again = job_of(source_of(live(further)), {"epochs": "3"}, "vision")
    for job in (own, further, again):
        assert environment(job["spec"]["template"]["spec"])["MLFLOW_TRACKING_PASSWORD"] == "only-an-example"
        assert job["spec"]["template"]["spec"]["initContainers"][0]["args"] == ["only-an-example"]
        assert "only-an-example" not in str(job["metadata"])
        assert "CATSDOGS_RECIPE" in job["metadata"]["annotations"]["catsdogs-train/spec"]
    assert environment(again["spec"]["template"]["spec"])["CATSDOGS_EPOCHS"] == "3"


@pytest.mark.parametrize(
    "annotation", ["", "{", "[]", "null", "1", "[" * 100_000, '{"template": []}', '{"template": {"spec": {}}}', "{}"]
)
def test_an_annotation_that_is_none(annotation: str, helm: Helm) -> None:
    job = live(helm.of().job)
    expected = job_of(source_of(job), {"epochs": "2"}, "vision")
    job["metadata"]["annotations"]["catsdogs-train/spec"] = annotation
    made = job_of(source_of(job), {"epochs": "2"}, "vision")
    assert made["spec"]["template"]["spec"]["containers"] == expected["spec"]["template"]["spec"]["containers"]


def test_helm_leaves_it_alone(helm: Helm, tmp_path: Path) -> None:
    """An upgrade would take over, and keep for its own, what looks like a Job of an earlier revision."""
    own = live(helm.of().job)
    submitted = {**job_of(source_of(own), {"epochs": "2"}, "vision"), "status": own["status"]}
    jobs = Cluster(helm, tmp_path).jobs([own, submitted], "training.seed=3")
    assert own["metadata"]["name"] in jobs
    assert submitted["metadata"]["name"] not in jobs
    assert len(jobs) == 2


def test_submit_makes_runs_of_as_many_workers(helm: Helm) -> None:
    """They find each other through the release's Service, by their own Job's name."""
    rendered = helm.template(f"--values={FILES['workers']}")
    made = job_of(source_of(rendered.job), {"epochs": "7"}, "vision")
    same = ("completionMode", "completions", "parallelism", "backoffLimit")
    assert {name: made["spec"][name] for name in same} == {name: rendered.job["spec"][name] for name in same}
    pod = made["spec"]["template"]["spec"]
    assert pod["subdomain"] == rendered.one("Service")["metadata"]["name"]
    told = environment(pod)
    assert told["CATSDOGS_EPOCHS"] == "7"
    assert told["CATSDOGS_WORKER_ADDRESS"].startswith("$(JOB_NAME)-{index}.")
    assert list(told).index("JOB_NAME") < list(told).index("CATSDOGS_WORKER_ADDRESS")
    others = [manifest for manifest in rendered.manifests if manifest["kind"] != "Job"]
    assert problems([*others, made], set()) == []
