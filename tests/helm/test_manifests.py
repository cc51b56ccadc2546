"""Every values file of the matrix, rendered by both helms: schemas, relations, security, and what the docs promise."""

import base64
import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import kubernetes_validate  # type: ignore[import-untyped]
import pytest
import yaml

from catsdogs import __version__
from catsdogs.runtime.errors import EXIT_CODES, Interrupted
from tests.helm.chart import CHART, FILES, Helm, Manifest, Rendered, containers, environment, pods
from tests.helm.relations import Names, problems
from tests.helm.security import violations

EVERY_FILE = pytest.mark.parametrize("name", FILES)
OUTSIDE: Names = {
    ("ConfigMap", "private-authority"),
    ("ConfigMap", "site"),
    ("PersistentVolumeClaim", "shared-images"),
    ("Secret", "private-authority"),
    ("Secret", "registry"),
    ("Secret", "storage"),
    ("ServiceAccount", "trainer"),
}
"""What the files of the matrix say is in the cluster already."""
OLDEST = yaml.safe_load((CHART / "Chart.yaml").read_text())["kubeVersion"].removeprefix(">=").removesuffix(".0-0")
NEWEST = kubernetes_validate.latest_version()


def file(name: str) -> str:
    return f"--values={FILES[name]}"


@EVERY_FILE
def test_lint_finds_nothing(helm: Helm, name: str) -> None:
    process = helm("lint", "--strict", CHART, file(name))
    assert process.returncode == 0, process.stdout
    assert "[WARNING]" not in process.stdout


@EVERY_FILE
def test_both_helms_make_the_same(helm4: Helm, helm: Helm, name: str) -> None:
    # The key of several workers is random; with a Secret of the user's, there is none.
    given = (file(name), "--set=workerKey.existingSecret=mine")
    assert helm.template(*given).manifests == helm4.template(*given).manifests


@pytest.mark.parametrize("version", [OLDEST, NEWEST])
@EVERY_FILE
def test_manifests_fit_the_schemas(helm4: Helm, name: str, version: str) -> None:
    for manifest in helm4.template(file(name), f"--kube-version={version}").manifests:
        kubernetes_validate.validate(manifest, version, strict=True)


def test_an_older_kubernetes_is_refused(helm: Helm) -> None:
    process = helm("template", "pets", CHART, file("minimal"), "--kube-version=1.30.9")
    assert process.returncode == 1
    assert "kubeVersion: >=1.31.0-0" in process.stderr


@EVERY_FILE
def test_relations_hold(helm4: Helm, name: str) -> None:
    assert problems(helm4.template(file(name)).manifests, OUTSIDE) == []


@pytest.mark.parametrize(
    ("broken", "problem"),
    [
        (lambda pod, _: pod["volumes"].pop(), "Job: no volume worker-key for its mount"),
        (lambda pod, _: pod["containers"][0]["volumeMounts"].pop(), "Job: no mount for volume worker-key"),
        (lambda pod, _: pod["volumes"].append(pod["volumes"][-1]), "Job: volume worker-key: there 2 times"),
        (lambda pod, _: pod.update(serviceAccountName="nobody"), "ServiceAccount nobody: neither made nor there"),
        (lambda _, made: made["Secret"]["data"].popitem(), "Secret pets-catsdogs-train: has no AWS_SECRET_ACCESS_KEY"),
        (
            lambda pod, _: pod["volumes"][-1]["secret"]["items"][0].update(key="x"),
            "Secret pets-catsdogs-train-worker-key: has no x",
        ),
        (lambda _, made: made["Secret"]["metadata"].update(name="x"), "Secret x: made and not used"),
        (
            lambda pod, _: pod["containers"][0]["resources"]["requests"].update(memory="5Gi"),
            "Job: requests 5Gi memory, more than the limit 4Gi",
        ),
        (
            lambda pod, _: pod["containers"][0]["resources"]["limits"].update({"nvidia.com/gpu": 0.5}),
            "Job: 0.5 is no number of nvidia.com/gpu",
        ),
        (
            lambda pod, _: pod["containers"][0]["resources"]["limits"].pop("cpu"),
            "Job: OMP_NUM_THREADS is a limit that is not set",
        ),
        (lambda pod, _: pod["containers"][0].update(name="x"), "Job: podFailurePolicy knows a container catsdogs"),
        (lambda pod, _: pod.update(restartPolicy="OnFailure"), "Job: restartPolicy OnFailure forbids podFailurePolicy"),
        (lambda _, made: made["Job"]["metadata"].update(name="x" * 64), f"Job {'x' * 64}: longer than 63"),
        (lambda _, made: made["Job"]["metadata"].pop("namespace"), "Job {job}: not in the release's namespace"),
        (
            lambda _, made: made["Secret"]["metadata"]["labels"].update(a="x" * 64),
            "Secret pets-catsdogs-train: label a longer than 63",
        ),
        (
            lambda pod, _: pod["containers"][0]["env"].append({"name": "CATSDOGS_SEED", "value": "1"}),
            "Job: variable CATSDOGS_SEED: there 2 times",
        ),
        (
            lambda pod, made: made["Pod"]["spec"]["containers"][0].update(env=pod["containers"][0]["env"]),
            "Pod: has no label with a Job's name",
        ),
        (
            lambda _, made: made["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"].update(a="b"),
            "Pod: the NetworkPolicy does not select {labels}",
        ),
        (lambda pod, _: pod.update(subdomain="x"), "Job: no Service x for its workers' names"),
        (
            lambda _, made: made["Service"]["spec"]["selector"].update(a="b"),
            "Job: the Service does not select {labels}",
        ),
        (lambda _, made: made["Job"]["spec"].update(parallelism=1), "Job: not all of 2 workers run at a time"),
        (
            lambda _, made: made["Job"]["metadata"].update(name="x" * 62),
            f"Job: the host name {'x' * 62}-1 is longer than 63",
        ),
    ],
)
def test_a_broken_relation_is_found(
    helm4: Helm, broken: Callable[[dict[str, Any], dict[str, Manifest]], None], problem: str
) -> None:
    settings = "--set=networkPolicy.enabled=true,workers=2"
    manifests = copy.deepcopy(helm4.template(file("cpu"), settings).manifests)
    # The first of each kind: of the Secrets, the credentials.
    made = {manifest["kind"]: manifest for manifest in reversed(manifests)}
    problem = problem.format(job=made["Job"]["metadata"]["name"], labels=made["Pod"]["metadata"]["labels"])
    broken(made["Job"]["spec"]["template"]["spec"], made)
    assert problem in problems(manifests, OUTSIDE)


@EVERY_FILE
def test_pods_pass_the_restricted_standard(helm4: Helm, name: str) -> None:
    for pod in pods(helm4.template(file(name)).manifests):
        assert list(violations(pod.spec)) == []


@pytest.mark.parametrize(
    ("setting", "violation"),
    [
        ("podSecurityContext.runAsNonRoot=false", "catsdogs may be root"),
        ("podSecurityContext.runAsUser=0", "catsdogs is root"),
        ('podSecurityContext.seccompProfile.type="Unconfined"', "catsdogs has no seccomp profile"),
        ("securityContext.privileged=true", "catsdogs is privileged"),
        ("securityContext.allowPrivilegeEscalation=null", "catsdogs may escalate"),
        ('securityContext.capabilities.drop=["NET_RAW"]', "catsdogs keeps capabilities"),
        ('securityContext.capabilities.add=["SYS_ADMIN"]', "catsdogs adds capabilities"),
        ('extraVolumes=[{"name": "host", "hostPath": {"path": "/"}}]', "volume host is a hostPath"),
        ('initContainers=[{"name": "first", "image": "x"}]', "first may escalate"),
    ],
)
def test_a_violation_of_the_standard_is_found(helm4: Helm, setting: str, violation: str) -> None:
    job = helm4.of(setting).job
    assert violation in violations(job["spec"]["template"]["spec"])


@EVERY_FILE
def test_the_root_is_read_only_and_no_token_is_there_unasked(helm4: Helm, name: str) -> None:
    rendered = helm4.template(file(name))
    asked = name == "full"
    for pod in pods(rendered.manifests):
        assert pod.spec["automountServiceAccountToken"] is asked
        for container in containers(pod.spec):
            assert container["securityContext"]["readOnlyRootFilesystem"] is True
    for account in rendered.all("ServiceAccount"):
        assert account["automountServiceAccountToken"] is asked


@pytest.mark.parametrize("name", ["minimal", "cron"])
def test_exit_codes_are_treated_as_their_table_says(helm4: Helm, name: str) -> None:
    [owner] = [pod.owner for pod in pods(helm4.template(file(name)).manifests) if pod.owner["kind"] != "Pod"]
    spec = owner["spec"] if name == "minimal" else owner["spec"]["jobTemplate"]["spec"]
    hopeless = sorted(code for code, (_, retryable) in EXIT_CODES.items() if retryable is False)
    on_code = {"containerName": "catsdogs", "operator": "In"}
    # In this order: the first that fits counts, so that bad data ends the Job even on a node that is drained.
    assert spec["podFailurePolicy"]["rules"] == [
        {"action": "FailJob", "onExitCodes": on_code | {"values": hopeless}},
        {"action": "Ignore", "onExitCodes": on_code | {"values": [Interrupted.exit_code]}},
        {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
    ]
    assert spec["template"]["spec"]["restartPolicy"] == "Never"


def test_the_chart_has_the_packages_version(helm4: Helm) -> None:
    about = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert about["appVersion"] == __version__
    [image] = yaml.safe_load(about["annotations"]["artifacthub.io/images"])
    assert image["image"] == environment_image(helm4.template(file("minimal")))
    assert yaml.safe_load(about["annotations"]["artifacthub.io/changes"])


def environment_image(rendered: Rendered) -> str:
    return str(rendered.job["spec"]["template"]["spec"]["containers"][0]["image"])


def test_one_value_is_enough(helm4: Helm) -> None:
    job = helm4.template(file("minimal")).job["spec"]
    pod = job["template"]["spec"]
    assert job["backoffLimit"] == 3
    assert "suspend" not in job
    assert "ttlSecondsAfterFinished" not in job
    assert "activeDeadlineSeconds" not in job
    assert pod["terminationGracePeriodSeconds"] == 60
    assert pod["tolerations"] == [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}]
    # A Service called catsdogs would otherwise set variables that look like options.
    assert pod["enableServiceLinks"] is False
    [container] = pod["containers"]
    assert container["args"] == ["run"]
    assert "command" not in container
    assert container["terminationMessagePolicy"] == "FallbackToLogsOnError"
    assert container["resources"]["limits"] == {"cpu": 4, "memory": "8Gi", "nvidia.com/gpu": 1}
    assert environment(pod) == {
        "CATSDOGS_ARCHIVE": "s3://pets/datasets/dogs-vs-cats.zip",
        "CATSDOGS_OUTPUT": "s3://pets/runs",
        "CATSDOGS_VOLUME": "/data",
        "CATSDOGS_RUN_ID": {"fieldRef": {"fieldPath": "metadata.labels['batch.kubernetes.io/job-name']"}},
        "CATSDOGS_RECIPE": "baseline",
        "CATSDOGS_SEED": "0",
        "CATSDOGS_TRAIN_PER_CLASS": "1000",
        "CATSDOGS_VALIDATION_PER_CLASS": "500",
        "CATSDOGS_TEST_PER_CLASS": "500",
        "CATSDOGS_REQUIRE_GPU": "true",
        "CATSDOGS_CHECKPOINT_EVERY": "60s",
        "CATSDOGS_CHECKPOINT_TO": "volume",
        "CATSDOGS_ADDRESSING_STYLE": "auto",
        "CATSDOGS_STORAGE_TIMEOUT": "2m",
        "CATSDOGS_LOG_FORMAT": "mixed",
        "AWS_REQUEST_CHECKSUM_CALCULATION": "when_supported",
        "AWS_RESPONSE_CHECKSUM_VALIDATION": "when_supported",
        **{
            name: {"resourceFieldRef": {"resource": "limits.cpu"}}
            for name in ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS")
        },
    }
    volumes = {volume.pop("name"): volume for volume in copy.deepcopy(pod["volumes"])}
    assert volumes["tmp"] == {"emptyDir": {"sizeLimit": "2Gi"}}
    assert volumes["shm"] == {"emptyDir": {"medium": "Memory", "sizeLimit": "1Gi"}}
    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    assert mounts == {"data": "/data", "tmp": "/tmp", "shm": "/dev/shm"}
    assert pod["securityContext"]["fsGroupChangePolicy"] == "OnRootMismatch"


def test_storage_is_told_of(helm4: Helm) -> None:
    pod = helm4.template(file("full")).job["spec"]["template"]["spec"]
    told = environment(pod)
    expected = {
        "CATSDOGS_ARCHIVE": "s3://kaggle/competitions/dogs-vs-cats/train.zip",
        "CATSDOGS_OUTPUT": "s3://pets/team/runs",
        "CATSDOGS_RUN_ID": "the-run",
        "CATSDOGS_ADDRESSING_STYLE": "path",
        "CATSDOGS_STORAGE_TIMEOUT": "5m",
        "AWS_ENDPOINT_URL_S3": "https://minio.storage.svc:9443",
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_REQUEST_CHECKSUM_CALCULATION": "when_required",
        "AWS_RESPONSE_CHECKSUM_VALIDATION": "when_required",
        "AWS_CA_BUNDLE": "/etc/catsdogs/ca/ca.crt",
    }
    assert expected.items() <= told.items()
    assert {"name": "ca", "mountPath": "/etc/catsdogs/ca", "readOnly": True} in pod["containers"][0]["volumeMounts"]


@EVERY_FILE
def test_credentials_come_from_a_secret_or_from_a_role(helm4: Helm, name: str) -> None:
    expected: dict[str, Any] = {
        "existing": ("storage", {"ACCESS_KEY_ID": "access", "SECRET_ACCESS_KEY": "secret", "SESSION_TOKEN": "token"}),
        "cpu": (
            "pets-catsdogs-train",
            {"ACCESS_KEY_ID": "AWS_ACCESS_KEY_ID", "SECRET_ACCESS_KEY": "AWS_SECRET_ACCESS_KEY"},
        ),
        "full": (
            "pets-training",
            {key: f"AWS_{key}" for key in ("ACCESS_KEY_ID", "SECRET_ACCESS_KEY", "SESSION_TOKEN")},
        ),
    }
    secret, keys = expected.get(name, ("", {}))
    rendered = helm4.template(file(name), "--set=workerKey.existingSecret=mine")
    for pod in pods(rendered.manifests):
        told = environment(pod.spec)
        credentials = {key: value for key, value in told.items() if key.startswith("AWS_") and isinstance(value, dict)}
        assert credentials == {
            f"AWS_{variable}": {"secretKeyRef": {"name": secret, "key": key}} for variable, key in keys.items()
        }
    assert len(rendered.all("Secret")) == (name in ("cpu", "full"))


def test_secret_values_stand_in_the_secret_alone(helm: Helm) -> None:
    values = ("AKIAEXAMPLE", "only-an-example", "only-an-example-too")
    rendered = helm.template(file("full"))
    data = rendered.one("Secret")["data"]
    assert sorted(base64.b64decode(value).decode() for value in data.values()) == sorted(values)
    elsewhere = json.dumps([manifest for manifest in rendered.manifests if manifest["kind"] != "Secret"])
    for value in values:
        assert value not in elsewhere
        assert base64.b64encode(value.encode()).decode() not in elsewhere


def test_a_role_is_the_service_accounts(helm4: Helm) -> None:
    rendered = helm4.template(file("irsa"))
    account = rendered.one("ServiceAccount")
    assert account["metadata"]["annotations"] == {
        "eks.amazonaws.com/role-arn": "arn:aws:iam::123456789012:role/catsdogs"
    }
    assert rendered.job["spec"]["template"]["spec"]["serviceAccountName"] == account["metadata"]["name"]


@pytest.mark.parametrize(
    ("settings", "volume", "checkpoints"),
    [
        ([], {"persistentVolumeClaim": {"claimName": "pets-catsdogs-train-c2a7a9"}}, "volume"),
        (['volume.existingClaim="mine"'], {"persistentVolumeClaim": {"claimName": "mine"}}, "volume"),
        (['volume.type="emptyDir"', 'volume.size="3Gi"'], {"emptyDir": {"sizeLimit": "3Gi"}}, "bucket"),
        (
            ['volume.type="ephemeral"', 'volume.storageClass="fast"', 'volume.accessMode="ReadWriteOncePod"'],
            {
                "ephemeral": {
                    "volumeClaimTemplate": {
                        "metadata": {
                            "labels": {
                                "app.kubernetes.io/name": "catsdogs-train",
                                "app.kubernetes.io/instance": "pets",
                            }
                        },
                        "spec": {
                            "accessModes": ["ReadWriteOncePod"],
                            "storageClassName": "fast",
                            "resources": {"requests": {"storage": "10Gi"}},
                        },
                    }
                }
            },
            "bucket",
        ),
    ],
)
def test_checkpoints_outlive_the_volume(
    helm4: Helm, settings: list[str], volume: dict[str, Any], checkpoints: str
) -> None:
    rendered = helm4.of(*settings)
    pod = rendered.job["spec"]["template"]["spec"]
    assert {"name": "data", **volume} in pod["volumes"]
    assert environment(pod)["CATSDOGS_CHECKPOINT_TO"] == checkpoints
    assert len(rendered.all("PersistentVolumeClaim")) == (settings == [])
    other = "bucket" if checkpoints == "volume" else "volume"
    chosen = helm4.of(*settings, f'checkpoint.to="{other}"').job["spec"]["template"]["spec"]
    assert environment(chosen)["CATSDOGS_CHECKPOINT_TO"] == other


def test_the_claim_is_as_asked_and_is_kept_by_choice(helm4: Helm) -> None:
    claim = helm4.template(file("full")).one("PersistentVolumeClaim")
    assert claim["metadata"]["annotations"] == {"helm.sh/resource-policy": "keep", "example.com/backup": "no"}
    assert claim["spec"] == {
        "accessModes": ["ReadWriteMany"],
        "storageClassName": "fast",
        "resources": {"requests": {"storage": "50Gi"}},
    }
    assert "annotations" not in helm4.template(file("minimal")).one("PersistentVolumeClaim")["metadata"]


def test_nothing_but_the_volume_survives_uninstall(helm4: Helm) -> None:
    for manifest in helm4.template(file("full")).manifests:
        kept = "helm.sh/resource-policy" in manifest["metadata"].get("annotations", {})
        assert kept is (manifest["kind"] == "PersistentVolumeClaim")


def test_without_gpus_it_asks_for_none(helm4: Helm) -> None:
    pod = helm4.template(file("cpu")).job["spec"]["template"]["spec"]
    assert "tolerations" not in pod
    assert pod["containers"][0]["resources"]["limits"].keys() == {"cpu", "memory"}
    told = environment(pod)
    assert "CATSDOGS_REQUIRE_GPU" not in told
    assert told["NVIDIA_VISIBLE_DEVICES"] == "void"


def test_gpus_are_asked_for_by_their_name(helm4: Helm) -> None:
    pod = helm4.template(file("full")).job["spec"]["template"]["spec"]
    assert pod["containers"][0]["resources"]["limits"]["nvidia.com/mig-1g.10gb"] == 2
    assert [toleration["key"] for toleration in pod["tolerations"]] == ["nvidia.com/gpu", "spot"]
    assert environment(pod)["CATSDOGS_REQUIRE_GPU"] == "true"
    assert "NVIDIA_VISIBLE_DEVICES" not in environment(pod)


def test_other_arithmetic_is_asked_for_only_where_it_is_wanted(helm4: Helm) -> None:
    usual = environment(helm4.template(file("cpu")).job["spec"]["template"]["spec"])
    assert not {"CATSDOGS_PRECISION", "CATSDOGS_XLA"} & usual.keys()
    other = helm4.template(file("cpu"), "--set=training.precision=mixed_bfloat16,training.xla=true")
    told = environment(other.job["spec"]["template"]["spec"])
    assert (told["CATSDOGS_PRECISION"], told["CATSDOGS_XLA"]) == ("mixed_bfloat16", "true")


def test_a_schedule_makes_a_cronjob_of_the_same_pod(helm4: Helm) -> None:
    rendered = helm4.template(file("cron"))
    cron = rendered.one("CronJob")["spec"]
    assert rendered.all("Job") == []
    assert {key: value for key, value in cron.items() if key != "jobTemplate"} == {
        "schedule": "0 3 * * 0",
        "timeZone": "Europe/Paris",
        "concurrencyPolicy": "Forbid",
        "startingDeadlineSeconds": 3600,
        "successfulJobsHistoryLimit": 3,
        "failedJobsHistoryLimit": 3,
        "suspend": False,
    }
    once = helm4.template(file("cron"), "--set=cronJob.schedule=").job
    assert cron["jobTemplate"]["spec"] == once["spec"]
    assert cron["jobTemplate"]["metadata"]["annotations"] == {"example.com/team": "vision"}


def test_kueue_decides_when_the_run_starts(helm4: Helm) -> None:
    job = helm4.template(file("kueue")).job
    assert job["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "gpus"
    assert job["spec"]["suspend"] is True
    several = helm4.template(file("kueue"), "--set=workers=2").job
    assert several["metadata"]["labels"] == job["metadata"]["labels"]
    wanted = {"suspend": True, "completionMode": "Indexed", "completions": 2, "parallelism": 2}
    assert wanted.items() <= several["spec"].items(), "it is admitted whole, or not at all"
    cron = helm4.template(file("kueue-cron")).one("CronJob")["spec"]
    assert cron["suspend"] is True
    assert cron["jobTemplate"]["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "gpus"
    assert cron["jobTemplate"]["spec"]["suspend"] is True


def test_the_job_may_wait_and_end_as_asked(helm4: Helm) -> None:
    spec = helm4.template(file("full")).job["spec"]
    asked = {"backoffLimit": 1, "activeDeadlineSeconds": 86400, "ttlSecondsAfterFinished": 0, "suspend": True}
    assert asked.items() <= spec.items()
    assert spec["template"]["spec"]["terminationGracePeriodSeconds"] == 120


def test_the_diagnostic_pod_sleeps(helm4: Helm) -> None:
    container = helm4.template(file("diagnostic")).job["spec"]["template"]["spec"]["containers"][0]
    assert container["command"] == ["sh", "-c", "trap exit TERM; sleep infinity & wait"]
    assert "args" not in container


def test_the_test_pod_plans_what_the_job_runs(helm4: Helm) -> None:
    rendered = helm4.template(file("full"))
    pod, job = rendered.one("Pod"), rendered.job["spec"]["template"]
    assert pod["metadata"]["annotations"]["helm.sh/hook"] == "test"
    assert pod["metadata"]["annotations"]["helm.sh/hook-delete-policy"] == "before-hook-creation,hook-succeeded"
    [theirs], [ours] = job["spec"]["containers"], pod["spec"]["containers"]
    assert (theirs["args"], ours["args"]) == (["run", "--checkpoint-every=2m"], ["plan", "--checkpoint-every=2m"])
    assert ours["image"] == theirs["image"]
    told = environment(job["spec"])
    del told["CATSDOGS_REQUIRE_GPU"]
    assert environment(pod["spec"]) == told | {"NVIDIA_VISIBLE_DEVICES": "void"}
    # It must start while a run has the GPU and the volume.
    assert ours["resources"]["limits"].keys() == {"cpu", "memory"}
    assert {"name": "data", "emptyDir": {"sizeLimit": "50Gi"}} in pod["spec"]["volumes"]
    for field in ("nodeSelector", "affinity", "tolerations", "serviceAccountName", "imagePullSecrets"):
        assert pod["spec"][field] == job["spec"][field]


def test_the_network_policy_leaves_dns_and_the_endpoint(helm4: Helm) -> None:
    dns = {"ports": [{"port": 53, "protocol": "UDP"}, {"port": 53, "protocol": "TCP"}]}

    def egress(*settings: str) -> list[dict[str, Any]]:
        spec = helm4.of("networkPolicy.enabled=true", *settings).one("NetworkPolicy")["spec"]
        assert spec["policyTypes"] == ["Ingress", "Egress"]
        assert "ingress" not in spec
        assert spec["egress"][0] == dns
        return list(spec["egress"][1:])

    def port(number: int) -> list[dict[str, Any]]:
        return [{"port": number, "protocol": "TCP"}]

    assert egress() == [{"ports": port(443)}]
    assert egress('storage.endpoint="http://storage.example.com"') == [{"ports": port(80)}]
    assert egress('storage.endpoint="https://storage.example.com:8443/s3"') == [{"ports": port(8443)}]
    assert egress('storage.endpoint="http://10.20.30.40:9000"') == [
        {"ports": port(9000), "to": [{"ipBlock": {"cidr": "10.20.30.40/32"}}]}
    ]
    full = helm4.template(file("full")).one("NetworkPolicy")["spec"]["egress"]
    peer = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "storage"}}}
    assert full == [dns, {"ports": port(9000), "to": [peer]}, {"to": [{"ipBlock": {"cidr": "192.0.2.1/32"}}]}]


def test_an_image_is_named_by_tag_or_digest(helm4: Helm) -> None:
    digest = "sha256:" + "a" * 64
    assert environment_image(helm4.of('image.tag="nightly"')) == "catsdogs-train:nightly"
    assert environment_image(helm4.of('image.tag="nightly"', f'image.digest="{digest}"')) == f"catsdogs-train@{digest}"


def test_what_users_add_reaches_the_pod(helm4: Helm) -> None:
    values = yaml.safe_load(Path(FILES["full"]).read_text())
    rendered = helm4.template(file("full"))
    template = rendered.job["spec"]["template"]
    pod, [container] = template["spec"], template["spec"]["containers"]
    assert values["podLabels"].items() <= template["metadata"]["labels"].items()
    assert values["podAnnotations"].items() <= template["metadata"]["annotations"].items()
    assert container["env"][-1:] == values["extraEnv"]
    assert container["envFrom"] == values["extraEnvFrom"]
    assert container["volumeMounts"][-1:] == values["extraVolumeMounts"]
    assert pod["volumes"][-1:] == values["extraVolumes"]
    for field in (
        "initContainers", "imagePullSecrets", "runtimeClassName", "priorityClassName", "nodeSelector", "affinity",
        "topologySpreadConstraints",
    ):  # fmt: skip
        assert pod[field] == values[field]
    assert rendered.job["metadata"]["annotations"]["example.com/team"] == "vision"
