"""What values may be: refused ones with their messages, the schema, the command's options, the documented table."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from catsdogs.cli import catsdogs as command
from catsdogs.config.extras import FORMATS
from catsdogs.config.recipes import RECIPES
from catsdogs.options import OPTIONS as TABLE
from docs import values as documented
from tests.conftest import Catsdogs
from tests.helm.chart import CHART, FILES, HELM_3_SLOW, Helm, environment, pods
from tests.servers import S3Server

DEFAULTS: dict[str, Any] = yaml.safe_load((CHART / "values.yaml").read_text())
SCHEMA: dict[str, Any] = json.loads((CHART / "values.schema.json").read_text())
OPTIONS = {str(option.envvar): option for option in command.commands["run"].params}


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ('bucket=""', "bucket: required; name the bucket that holds the archive, --set bucket=NAME"),
        (
            'credentials={"existingSecret": "a", "accessKeyId": "b"}',
            "credentials: set existingSecret or the keys, not both",
        ),
        (
            'credentials.accessKeyId="a"',
            "credentials: set both accessKeyId and secretAccessKey, or neither",
        ),
        (
            'credentials.secretAccessKey="a"',
            "credentials: set both accessKeyId and secretAccessKey, or neither",
        ),
        ('credentials.sessionToken="a"', "credentials.sessionToken: requires accessKeyId and secretAccessKey"),
        (
            'serviceAccount={"create": false, "annotations": {"a": "b"}}',
            "serviceAccount.annotations: require serviceAccount.create; annotate an existing account yourself",
        ),
        ('storage.caBundle={"configMap": "a", "secret": "b"}', "storage.caBundle: set configMap or secret, not both"),
        (
            'volume={"type": "emptyDir", "existingClaim": "a"}',
            "volume.existingClaim: requires volume.type pvc, not emptyDir",
        ),
        (
            'workers=2,volume.existingClaim="a"',
            "volume.existingClaim: workers would share the claim; set volume.accessMode=ReadWriteMany if it allows"
            " that, or leave it empty",
        ),
        ("workers=2,volume.keep=true", "volume.keep: applies only to a claim that the chart creates"),
        ('volume={"type": "ephemeral", "keep": true}', "volume.keep: applies only to a claim that the chart creates"),
        ('volume={"existingClaim": "a", "keep": true}', "volume.keep: applies only to a claim that the chart creates"),
        (
            'cronJob.schedule="@daily",runId="a"',
            "runId: each scheduled run needs its own name; leave it empty",
        ),
        (
            'extraEnv=[{"name": "CATSDOGS_SEED", "value": "1"}]',
            "extraEnv: CATSDOGS_SEED is already set by the chart, or is listed twice",
        ),
        (
            'extraVolumes=[{"name": "data", "emptyDir": {}}]',
            "extraVolumes: data is already set by the chart, or is listed twice",
        ),
        (
            'extraVolumeMounts=[{"name": "shm", "mountPath": "/tmp"}]',
            "extraVolumeMounts: /tmp is already set by the chart, or is listed twice",
        ),
    ],
)
@HELM_3_SLOW
def test_contradictions_are_refused_in_a_line(helm: Helm, setting: str, message: str) -> None:
    process = helm("template", "pets", CHART, f"--values={FILES['minimal']}", f"--set-json={setting}")
    assert process.returncode == 1
    assert re.search(rf": {re.escape(message)}$", process.stderr, re.MULTILINE), process.stderr


@pytest.mark.parametrize(
    "setting",
    [
        "buckett=1",
        "volume.sizee=1",
        "storage.caBundle.configmap=1",
        "credentials.keys.accessKey=1",
        'bucket="s3://pets"',
        "bucket=7",
        'archive.key="/datasets/dogs-vs-cats.zip"',
        'archive.key=""',
        'archive.uri="s3://pets"',
        'archive.uri="https://example.com/a.zip"',
        'output.prefix="runs/"',
        'runId=".hidden"',
        'runId="a/b"',
        'storage.endpoint="s3.example.com"',
        'storage.addressingStyle="host"',
        'storage.checksums="never"',
        'training.recipe="alexnet"',
        "training.epochs=0",
        "training.epochs=1.5",
        'training.epochs="many"',
        "training.batchSize=0",
        "training.learningRate=0",
        'training.learningRate="fast"',
        "training.learningRate=11",
        "training.imageSize=1025",
        "training.seed=-1",
        "training.seed=4294967296",
        "training.trainPerClass=0",
        "workers=0",
        "workers=1001",
        "workers=1.5",
        'workerTimeout="soon"',
        "heartbeatTimeout=0",
        'checkpoint.every="often"',
        "checkpoint.every=0",
        'storage.timeout="soon"',
        "storage.timeout=0",
        'checkpoint.to="tape"',
        'logFormat="xml"',
        'image.repository=""',
        'image.digest="sha256:123"',
        'image.pullPolicy="Sometimes"',
        "gpu.count=-1",
        "gpu.count=0.5",
        'gpu.resource="gpu"',
        'resources.limits.memory="lots"',
        "resources.claims=[]",
        'shm.size="1"',
        'volume.type="hostPath"',
        'volume.size="big"',
        'volume.accessMode="ReadOnlyMany"',
        'volume.keep="yes"',
        "job.backoffLimit=-1",
        "job.activeDeadlineSeconds=0",
        "job.terminationGracePeriodSeconds=0",
        'cronJob.concurrencyPolicy="Queue"',
        'kueue.queueName="Not A Name"',
        "nodeSelector.gpu=true",
        "networkPolicy.endpointPorts=[0]",
        'extraEnv={"A": "b"}',
        "extraArgs=[1]",
    ],
)
@HELM_3_SLOW
def test_bad_values_are_refused_with_their_path(helm: Helm, setting: str) -> None:
    process = helm("template", "pets", CHART, f"--values={FILES['minimal']}", f"--set-json={setting}")
    assert process.returncode == 1
    # Helm 3 writes a.b and names an unknown key apart from its place, Helm 4 writes /a/b.
    *place, key = setting.partition("=")[0].split(".")
    [line, *_] = [line for line in process.stderr.splitlines() if key in line]
    assert all(part in line for part in place), process.stderr


@pytest.mark.parametrize(
    ("option", "text"),
    [
        ("training.learningRate", "0.001"),
        ("training.learningRate", "1e-05"),
        ("training.epochs", "5"),
        ("checkpoint.every", "90"),
        ("checkpoint.every", "1.5m"),
        ("resources.limits.cpu", "3"),
        ("resources.limits.cpu", "2500m"),
        ("rerun", "2026"),
        ("rerun", "again"),
        ("runId", "2026-11.a_b"),
    ],
)
def test_good_values_can_be_given_on_the_command_line(helm: Helm, option: str, text: str) -> None:
    assert text in helm.template("--set=bucket=pets", f"--set={option}={text}").text


def objects(schema: dict[str, Any], path: str = "values") -> Iterator[tuple[str, dict[str, Any]]]:
    if schema.get("type") == "object":
        yield path, schema
    for name, inner in schema.get("properties", {}).items():
        yield from objects(inner, f"{path}.{name}")


def test_the_schema_knows_the_values_and_no_others() -> None:
    foreign = {"values.global", "values.affinity", "values.podSecurityContext", "values.securityContext"}
    for path, schema in objects(SCHEMA):
        if path in foreign:
            assert schema == {"type": "object"}, path
            continue
        assert schema["additionalProperties"] is False, path
        values: Any = DEFAULTS
        for part in path.split(".")[1:]:
            values = values[part]
        # `global` is Helm's own, for charts that have this one in them.
        assert schema["properties"].keys() - {"global"} == values.keys(), path


def test_every_option_of_the_command_is_a_value_and_the_other_way_round(helm4: Helm) -> None:
    told = set()
    for name in ("full", "workers"):
        [pod, *_] = pods(helm4.template(f"--values={FILES[name]}").manifests)
        told |= {name for name in environment(pod.spec) if name.startswith("CATSDOGS_")}
    assert told == OPTIONS.keys()


def test_options_name_the_values_that_set_them() -> None:
    """`kubectl catsdogs submit` refers to them."""
    names = {entry.chart_value for entry in TABLE.values()} - {None}
    assert names - documented.leaves(DEFAULTS).keys() == set()


def option(name: str) -> Any:
    return OPTIONS[name].type


def test_the_schema_and_the_command_agree_on_what_is_allowed() -> None:
    training = SCHEMA["properties"]["training"]["properties"]
    assert training["recipe"]["enum"] == list(RECIPES) == list(option("CATSDOGS_RECIPE").choices)
    storage = SCHEMA["properties"]["storage"]["properties"]
    assert storage["addressingStyle"]["enum"] == list(option("CATSDOGS_ADDRESSING_STYLE").choices)
    assert SCHEMA["properties"]["logFormat"]["enum"] == list(option("CATSDOGS_LOG_FORMAT").choices)
    checkpoint = SCHEMA["properties"]["checkpoint"]["properties"]
    assert checkpoint["to"]["enum"] == ["", *option("CATSDOGS_CHECKPOINT_TO").choices]
    assert SCHEMA["properties"]["workers"]["minimum"] == option("CATSDOGS_WORKERS").min
    for value, schema in training.items():
        kind = option("CATSDOGS_" + re.sub("([A-Z])", r"_\1", value).upper())
        if isinstance(kind, click.types._NumberRangeBase):
            least = schema["exclusiveMinimum"] if kind.min_open else schema["minimum"]
            assert (least, schema.get("maximum")) == (kind.min, kind.max), value


@pytest.mark.parametrize(
    ("value", "good", "bad"),
    [
        ("runId", ["a", "A-b_c.9", "-a", "x" * 100], ["x" * 101, ".a", "a b", "a/b", "ä"]),
        ("checkpoint.every", ["90", "90s", "1.5m", "1h"], ["1d", "-1s", "s", "inf", "nan", ""]),
        ("workerTimeout", ["90", "90s", "1.5m", "1h"], ["1d", "-1s", ""]),
        ("heartbeatTimeout", ["90", "90s", "1.5m", "1h"], ["1d", "-1s", ""]),
        ("export", ["", *FORMATS, ",".join(FORMATS), "tflite,tflite"], ["onnx,", ",", "onnx tflite", "ONNX", "pb"]),
    ],
)
def test_the_schema_and_the_command_agree_on_texts(helm4: Helm, value: str, good: list[str], bad: list[str]) -> None:
    kind = option("CATSDOGS_" + re.sub("([A-Z])", r"_\1", value).replace(".", "_").upper())
    for text in good:
        kind.convert(text, None, None)
        helm4.of(f"{value}={json.dumps(text)}")
    for text in bad:
        with pytest.raises(click.BadParameter):
            kind.convert(text, None, None)
        assert helm4(
            "template", "pets", CHART, "--set=bucket=pets", f"--set-json={value}={json.dumps(text)}"
        ).returncode


BASES: dict[str, Any] = {
    "credentials.keys.": {"credentials": {"existingSecret": "a"}},
    "credentials.accessKeyId": {"credentials": {"accessKeyId": "a", "secretAccessKey": "a"}},
    "credentials.se": {"credentials": {"accessKeyId": "a", "secretAccessKey": "a"}},
    "storage.caBundle.key": {"storage": {"caBundle": {"configMap": "a"}}},
    "cronJob.": {"cronJob": {"schedule": "@daily"}},
    "networkPolicy.endpoint": {"networkPolicy": {"enabled": True}},
    "networkPolicy.extra": {"networkPolicy": {"enabled": True}},
    "networkPolicy.allowAnyIngress": {"workers": 2},
    # Without a Secret of the user's, each rendering has another key.
    "workerTimeout": {"workers": 2, "workerKey": {"existingSecret": "a"}},
    "workerKey.": {"workers": 2, "workerKey": {"existingSecret": "a"}},
    "heartbeatTimeout": {"workers": 2, "workerKey": {"existingSecret": "a"}},
}
"""The beginning of a name → what must be set for such values to count."""
OTHERS = {
    "archive.uri": "s3://other/train.zip",
    "checkpoint.every": "2m",
    "heartbeatTimeout": "2m",
    "storage.timeout": "3m",
    "checkpoint.to": "bucket",
    "cronJob.concurrencyPolicy": "Allow",
    "export": "onnx",
    "extraArgs": ["--seed=1"],
    "gpu.resource": "amd.com/gpu",
    "image.digest": "sha256:" + "0" * 64,
    "image.pullPolicy": "Always",
    "logFormat": "json",
    "networkPolicy.endpointPorts": [7],
    "resources.limits.memory": "9Gi",
    "resources.requests.memory": "5Gi",
    "shm.size": "7Gi",
    "storage.addressingStyle": "path",
    "storage.checksums": "when_required",
    "storage.endpoint": "http://other",
    "volume.accessMode": "ReadWriteMany",
    "volume.size": "7Gi",
    "volume.type": "emptyDir",
    "workerTimeout": "2m",
    "training.precision": "mixed_bfloat16",
    "training.recipe": "compact",
}
"""Values besides the default, where the type alone does not suggest one."""


def another(name: str, default: Any) -> Any:
    match default:
        case _ if name in OTHERS:
            return OTHERS[name]
        case bool():
            return not default
        case int():
            return default + 1
        case None:
            return 7
        case str():
            return "other"
        case dict():
            return {"example.com/other": "1"}
        case list():
            return [{"name": "other", "mountPath": "/other"}]


@pytest.mark.parametrize("name", documented.leaves(DEFAULTS))
def test_every_value_has_an_effect(helm4: Helm, name: str) -> None:
    base = [values for start, values in BASES.items() if name.startswith(start)] or [{}]
    arguments = [f"--set-json={json.dumps({'bucket': 'pets', **base[0]})}"]
    change = f"--set-json={name}={json.dumps(another(name, documented.leaves(DEFAULTS)[name]))}"
    unchanged = helm4.template(*arguments, change).manifests == helm4.template(*arguments).manifests
    assert not unchanged


def test_a_value_without_a_comment_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(documented, "VALUES", tmp_path / "values.yaml")
    documented.VALUES.write_text("# The first.\na:\n  b: 1\nc:\n  # The second,\n  # at length.\n  d: x\n")
    assert documented.table().splitlines()[2:] == [
        '| `a` | The first. | `{"b": 1}` |',
        "| `c.d` | The second, at length. | `x` |",
    ]
    documented.VALUES.write_text("# The first.\na: 1\nb: 2\n")
    with pytest.raises(ValueError, match="b has no comment"):
        documented.table()


def test_the_command_understands_what_the_pod_is_told(
    helm4: Helm, catsdogs: Catsdogs, seaweedfs: S3Server, bucket: str, sample_archive: Path
) -> None:
    """The test pod's command, with the test pod's environment, on a real bucket."""
    seaweedfs.client().upload_file(str(sample_archive), bucket, "datasets/dogs-vs-cats.zip")
    rendered = helm4.template(
        f"--set=bucket={bucket},storage.endpoint={seaweedfs.endpoint},storage.region=us-east-1",
        f"--set=credentials.accessKeyId={seaweedfs.access_key},credentials.secretAccessKey={seaweedfs.secret_key}",
        "--set=training.trainPerClass=15,training.validationPerClass=4,training.testPerClass=4,training.epochs=2",
        "--set=training.learningRate=0.001,storage.addressingStyle=path,storage.checksums=when_required,gpu.count=0",
    )
    pod = rendered.one("Pod")["spec"]
    told = {name: value for name, value in environment(pod).items() if isinstance(value, str)}
    credentials = {"AWS_ACCESS_KEY_ID": seaweedfs.access_key, "AWS_SECRET_ACCESS_KEY": seaweedfs.secret_key}
    process = catsdogs(*pod["containers"][0]["args"], env=told | credentials)
    assert (process.returncode, process.stderr) == (0, "")
    assert f"{rendered.job_name}, not published yet" in process.stdout
    assert "2 epochs" in process.stdout
    assert f"s3://{bucket}/runs/{rendered.job_name}/" in process.stdout
