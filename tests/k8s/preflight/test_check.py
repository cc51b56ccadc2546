"""`kubectl catsdogs check`: each condition as data, and the real command against an API server."""

import re
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from kubectl_catsdogs.base.errors import ConfigError
from kubectl_catsdogs.preflight import checks
from kubectl_catsdogs.preflight.checks import OK, PROBLEM, Line
from kubectl_catsdogs.preflight.requirements import Requirements, requirements_of
from tests.conftest import REPOSITORY
from tests.k8s.conftest import Plugin
from tests.k8s.fakes import rbac
from tests.k8s.fakes.api import Api
from tests.k8s.fakes.objects import Object
from tests.k8s.fakes.runs import GPU, claim, node, other, storage_class

CHART = REPOSITORY / "helm/catsdogs-train"
ACCESS, KEY = "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"


def secret(**data: str) -> Object:
    return {"metadata": {"name": "storage"}, "data": data}


def default(name: str, made: str = "2026-01-01T00:00:00Z") -> Object:
    annotations = {"storageclass.kubernetes.io/is-default-class": "true"}
    return {"metadata": {"name": name, "annotations": annotations, "creationTimestamp": made}}


def namespace(level: str | None = None) -> Object:
    labels = {"pod-security.kubernetes.io/enforce": level} if level else {}
    return {"metadata": {"name": "default", "labels": labels}}


def quota(used: str, hard: str = "2", name: str = "requests.nvidia.com/gpu") -> Object:
    return {"metadata": {"name": "gpus"}, "status": {"hard": {name: hard}, "used": {name: used}}}


class Case(NamedTuple):
    name: str
    judge: Callable[..., Line]
    wanted: Requirements
    args: tuple[Any, ...]
    mark: str
    text: str
    fix: str = ""


PLAIN, STORED = Requirements(), Requirements(secret="storage")
TABLE = [
    Case("GPUs free", checks.gpus, PLAIN, ([node("a", 4)], [other("x", "a", gpus="3")]), OK, "free: 1 on a"),
    Case(
        "GPUs taken",
        checks.gpus,
        PLAIN,
        ([node("a", 1)], [other("x", "a", gpus="1")]),
        OK,
        "free: 0 on a; the run will wait for the end of team-b/x",
    ),
    Case("GPUs, pods unread", checks.gpus, PLAIN, ([node("a", 1)], None), OK, "how many are free cannot be read"),
    Case(
        "no GPU",
        checks.gpus,
        PLAIN,
        ([node("a"), node("b")], []),
        PROBLEM,
        f"no node offers {GPU} (2 nodes in all)",
        "gpu.count=0",
    ),
    Case(
        "other GPUs",
        checks.gpus,
        PLAIN,
        ([node("a", offers={"amd.com/gpu": "1"})], []),
        PROBLEM,
        "(1 node in all)",
        "gpu.resource to what the nodes offer: amd.com/gpu",
    ),
    Case(
        "too few GPUs",
        checks.gpus,
        Requirements(gpus=8),
        ([node("a", 4), node("b", 2)], []),
        PROBLEM,
        f"no node offers 8 {GPU}, the most is 4",
        "gpu.count=4",
    ),
    Case(
        "GPUs for all workers",
        checks.gpus,
        Requirements(gpus=2, workers=3),
        ([node("a", 4), node("b", 2)], []),
        OK,
        f"2 nodes with at least 2 {GPU}",
    ),
    Case(
        "GPUs for some workers",
        checks.gpus,
        Requirements(gpus=2, workers=4),
        ([node("a", 5), node("b", 2)], []),
        PROBLEM,
        f"room for 3 of 4 workers with 2 {GPU} each (a, b)",
        "workers=3",
    ),
    Case(
        "room for some workers",
        checks.room,
        Requirements(gpus=0, workers=10),
        ([node("a"), node("b", offers={"memory": "5Gi"})],),
        PROBLEM,
        "room for 9 of 10 workers with 2 cpu, 4 Gi of memory each (a, b)",
        "workers=9",
    ),
    Case(
        "quota for some workers",
        checks.quota,
        Requirements(workers=2),
        ([quota("1")],),
        PROBLEM,
        "1 of 2 requests.nvidia.com/gpu are used",
    ),
    Case(
        "tainted",
        checks.gpus,
        PLAIN,
        ([node("a", 4, taint="dedicated=x:NoSchedule"), node("b")], []),
        PROBLEM,
        "a has the taint dedicated",
        "tolerations",
    ),
    Case(
        "tainted as the chart tolerates",
        checks.gpus,
        PLAIN,
        ([node("a", 4, taint=f"{GPU}=present:NoSchedule")], []),
        OK,
        "1 node with at least 1",
    ),
    Case("cordoned", checks.gpus, PLAIN, ([node("a", 4, cordoned=True)], []), PROBLEM, "a is cordoned", "uncordon"),
    Case(
        "labels",
        checks.gpus,
        Requirements(node_selector={"gpu": "a100"}),
        ([node("a", 4)], []),
        PROBLEM,
        "a lacks labels of nodeSelector",
        "nodeSelector",
    ),
    Case("without GPUs", checks.gpus, Requirements(gpus=0), ([], None), OK, "no GPU is requested"),
    Case("room", checks.room, PLAIN, ([node("a", 1), node("b")],), OK, "1 node with 2 cpu, 4 Gi of memory (a)"),
    Case(
        "no room",
        checks.room,
        PLAIN,
        ([node("a", 1, offers={"memory": "2Gi"}), node("b")],),
        PROBLEM,
        "no node that the pod may use has 2 cpu, 4 Gi of memory",
        "resources.requests",
    ),
    Case(
        "Secret",
        checks.secret,
        STORED,
        (
            "default",
            secret(AWS_ACCESS_KEY_ID="eA==", AWS_SECRET_ACCESS_KEY="eA=="),
        ),
        OK,
        "Secret storage has AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY",
    ),
    Case(
        "no Secret",
        checks.secret,
        STORED,
        (
            "default",
            None,
        ),
        PROBLEM,
        "Secret storage does not exist",
        f"kubectl create secret generic -n default storage --from-literal={ACCESS}=… --from-literal={KEY}=…",
    ),
    Case(
        "no key",
        checks.secret,
        STORED,
        (
            "default",
            secret(AWS_ACCESS_KEY_ID="eA==", other="eA=="),
        ),
        PROBLEM,
        f"Secret storage has no key {KEY}",
        "it has AWS_ACCESS_KEY_ID, other",
    ),
    Case(
        "empty key",
        checks.secret,
        STORED,
        (
            "default",
            secret(AWS_ACCESS_KEY_ID="eA==", AWS_SECRET_ACCESS_KEY=""),
        ),
        PROBLEM,
        f"has an empty {KEY}",
        "set its value",
    ),
    Case(
        "no Secret named",
        checks.secret,
        PLAIN,
        (
            "default",
            None,
        ),
        OK,
        "no Secret is named",
    ),
    Case(
        "default class",
        checks.storage,
        PLAIN,
        ([storage_class(), default("old"), default("new", "2027")],),
        OK,
        "storage class new is the cluster's default",
    ),
    Case(
        "no default class",
        checks.storage,
        PLAIN,
        ([storage_class()],),
        PROBLEM,
        "no storage class is the cluster's",
        "classes here: standard",
    ),
    Case("no class", checks.storage, PLAIN, ([],), PROBLEM, "no storage class", "classes here: none"),
    Case("class", checks.storage, Requirements(storage_class="standard"), ([storage_class()],), OK, "standard exists"),
    Case(
        "another class",
        checks.storage,
        Requirements(storage_class="fast"),
        ([storage_class()],),
        PROBLEM,
        "storage class fast does not exist",
        "volume.storageClass",
    ),
    Case("claim", checks.claim, Requirements(claim="data"), (claim("Bound"),), OK, "volume claim data exists, Bound"),
    Case(
        "no claim",
        checks.claim,
        Requirements(claim="data"),
        (None,),
        PROBLEM,
        "volume claim data does not exist",
        "create",
    ),
    Case(
        "lost claim",
        checks.claim,
        Requirements(claim="data"),
        (claim("Lost"),),
        PROBLEM,
        "has lost its volume",
        "create it again",
    ),
    Case("quota", checks.quota, PLAIN, ([quota("1"), quota("1Gi", "8Gi", "requests.memory")],), OK, "leave enough"),
    Case("no quota", checks.quota, PLAIN, ([],), OK, "has no quota"),
    Case(
        "quota used up",
        checks.quota,
        PLAIN,
        ([quota("2")],),
        PROBLEM,
        "2 of 2 requests.nvidia.com/gpu are used (quota gpus)",
        "wait",
    ),
    Case(
        "quota too small",
        checks.quota,
        PLAIN,
        ([quota("7Gi", "8Gi", "memory")],),
        PROBLEM,
        "7Gi of 8Gi memory",
        "wait",
    ),
]


@pytest.mark.parametrize("case", TABLE, ids=lambda case: case.name)
def test_condition(case: Case) -> None:
    line = case.judge(case.wanted, *case.args)
    assert line.mark == case.mark
    assert case.text in line.text
    assert case.fix in line.fix
    assert bool(line.fix) == (line.mark == PROBLEM)


@pytest.mark.parametrize(
    ("found", "mark", "text"),
    [
        (namespace(), OK, "sets no Pod Security level"),
        (namespace("restricted"), OK, "level restricted is met"),
        (namespace("baseline"), OK, "level baseline is met"),
        (namespace("strict"), OK, "level strict is unknown, so restricted counts"),
        (None, PROBLEM, "namespace default does not exist"),
    ],
)
def test_pod_security(found: Object | None, mark: str, text: str) -> None:
    line = checks.pod_security("default", found)
    assert (line.mark, bool(line.fix)) == (mark, mark == PROBLEM)
    assert text in line.text


def test_defaults_are_those_of_the_chart() -> None:
    assert requirements_of(CHART / "values.yaml") == Requirements()


def test_values_and_flags_over_them(tmp_path: Path) -> None:
    values = {
        "gpu": {"count": 2, "resource": "amd.com/gpu", "tolerations": [{"key": "amd.com/gpu"}]},
        "credentials": {"existingSecret": "mine", "keys": {"accessKeyId": "id", "sessionToken": "token"}},
        "volume": {"storageClass": "fast", "existingClaim": "data", "type": "pvc", "accessMode": "ReadWriteMany"},
        "tolerations": [{"key": "spot"}],
        "nodeSelector": {"zone": "a"},
        "resources": {"requests": {"memory": "16Gi"}},
        "workers": 3,
        "bucket": "pets",
    }
    path = tmp_path / "values.yaml"
    path.write_text(yaml.safe_dump(values))
    wanted = Requirements(
        "amd.com/gpu", 2, "mine", ("id", KEY, "token"), "pvc", "fast", "data",
        [{"key": "amd.com/gpu"}, {"key": "spot"}], {"zone": "a"}, {"cpu": "2", "memory": "16Gi"}, 3,
    )  # fmt: skip
    assert requirements_of(path) == wanted
    # The workers' Service.
    assert "services" in wanted.created
    assert "services" not in Requirements().created
    over = requirements_of(path, gpus=0, secret="theirs", gpu_resource=None, storage_class="slow")
    assert (over.gpus, over.secret, over.gpu_resource, over.storage_class) == (0, "theirs", "amd.com/gpu", "slow")
    assert over.tolerations == [{"key": "spot"}]
    path.write_text("workers: 2")
    # Each worker's claim, which is not helm's to make.
    assert (requirements_of(path).volume_type, requirements_of(path, workers=1).volume_type) == ("ephemeral", "pvc")
    assert "persistentvolumeclaims" not in requirements_of(path).created


@pytest.mark.parametrize(
    "text",
    ["- a\n", "gpu: {count: many}", "a: b: c", "resources: {requests: {memory: lots}}", "credentials: {keys: 1}"],
)
def test_values_that_are_none(tmp_path: Path, text: str) -> None:
    path = tmp_path / "values.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"values\.yaml: not the values of the chart"):
        requirements_of(path)


# The command


@pytest.fixture
def ready(api: Api) -> Api:
    api.put("namespaces", namespace("restricted"))
    api.put("nodes", node("a", gpus=2))
    api.put("pods", other("train-x", "a", gpus="1"))
    api.put("secrets", secret(AWS_ACCESS_KEY_ID="eA==", AWS_SECRET_ACCESS_KEY="eA=="))
    api.put("storageclasses", default("standard"))
    return api


def test_all_is_well(ready: Api, plugin: Plugin) -> None:
    told = plugin("check", "--secret", "storage")
    assert (told.returncode, told.stderr) == (0, "")
    assert told.stdout.splitlines() == [
        "ok       you may create jobs, serviceaccounts, secrets, persistentvolumeclaims in namespace default",
        "ok       the namespace's Pod Security level restricted is met: the chart's pods meet restricted",
        "ok       the namespace has no quota",
        "ok       Secret storage has AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY",
        "ok       storage class standard is the cluster's default",
        f"ok       1 node with at least 1 {GPU} (a); free: 1 on a",
        "ok       1 node with 2 cpu, 4 Gi of memory (a)",
    ]
    assert all(rbac.allows(one, "catsdogs-installer", "catsdogs-cluster") for one in ready.requests)
    assert "eA==" not in told.stdout


def test_each_problem_with_its_fix(api: Api, plugin: Plugin) -> None:
    api.denied |= {("create", "jobs"), ("create", "secrets")}
    api.put("nodes", node("a"))
    told = plugin(
        "check", "--secret=storage", "--storage-class=fast", "--gpus=2", "--gpu-resource=nvidia.com/mig-1g.10gb"
    )
    assert (told.returncode, told.stderr) == (78, "")
    lines = told.stdout.splitlines()
    problems = [line.removeprefix("problem  ") for line in lines if line.startswith("problem")]
    assert problems == [
        "you may not create jobs, secrets in namespace default",
        "namespace default does not exist",
        "Secret storage does not exist",
        "storage class fast does not exist",
        "no node offers nvidia.com/mig-1g.10gb (1 node in all)",
    ]
    fixes = [after.startswith("         fix: ") for line, after in pairwise(lines) if line.startswith("problem")]
    assert fixes == [True] * 5


def test_values_of_the_release(ready: Api, plugin: Plugin, tmp_path: Path) -> None:
    path = tmp_path / "values.yaml"
    path.write_text("gpu: {count: 0}\nvolume: {existingClaim: data}\ncredentials: {existingSecret: mine}\n")
    told = plugin("check", "-f", path, "--secret", "storage")
    assert told.returncode == 78
    assert "problem  volume claim data does not exist" in told.stdout
    assert "ok       no GPU is requested" in told.stdout
    assert "Secret storage has AWS_" in told.stdout
    assert "persistentvolumeclaims" not in told.stdout.splitlines()[0]


def test_a_volume_that_goes_with_its_pod_needs_no_class(ready: Api, plugin: Plugin, tmp_path: Path) -> None:
    ready.remove("storageclasses", "standard")
    assert plugin("check").returncode == 78
    path = tmp_path / "values.yaml"
    path.write_text("volume: {type: emptyDir}\n")
    told = plugin("check", "-f", path)
    assert told.returncode == 0
    assert "volume.type=emptyDir needs no storage class" in told.stdout


@pytest.mark.parametrize(
    ("text", "mark", "created"),
    [
        ("workers: 1", "", False),
        ("workers: 1\nnetworkPolicy: {enabled: true}", "", True),
        ("workers: 2", "ok", True),
        ("workers: 2\nnetworkPolicy: {allowAnyIngress: true}", "warning", False),
        ("workers: 2\nnetworkPolicy: {enabled: true, allowAnyIngress: true}", "warning", True),
    ],
)
def test_who_may_connect_to_workers(
    text: str, mark: str, created: bool, ready: Api, plugin: Plugin, tmp_path: Path
) -> None:
    ready.put("nodes", node("b", gpus=2))
    path = tmp_path / "values.yaml"
    path.write_text(text)
    told = plugin("check", "-f", path)
    assert (told.returncode, told.stderr) == (0, "")
    assert ("networkpolicies" in told.stdout.splitlines()[0]) == created
    lines = [line for line in told.stdout.splitlines() if "connect to the" in line]
    assert [line.split()[0] for line in lines] == ([mark] if mark else [])
    assert ("fix: leave networkPolicy.allowAnyIngress out" in told.stdout) == (mark == "warning")


def test_who_may_not_create_the_policy_learns_it(ready: Api, plugin: Plugin) -> None:
    ready.denied.add(("create", "networkpolicies"))
    told = plugin("check", "--workers=2", "--gpus=0")
    assert told.returncode == 78
    assert "problem  you may not create networkpolicies in namespace default" in told.stdout


def test_what_may_not_be_read_is_a_line(ready: Api, plugin: Plugin) -> None:
    ready.denied |= {("get", "*"), ("list", "*")}
    told = plugin("check", "--secret=storage")
    assert (told.returncode, told.stderr) == (0, "")
    unknown = [line for line in told.stdout.splitlines() if line.startswith("unknown")]
    assert [re.sub(r": [a-z]+ (\"\S+\" )?is forbidden.*", "", line) for line in unknown] == [
        "unknown  cannot read the namespace's Pod Security level",
        "unknown  cannot read quotas",
        "unknown  cannot read Secret storage",
        "unknown  cannot read storage classes",
        "unknown  cannot read nodes and their resources",
    ]


def test_who_has_the_gpus_may_not_be_read(ready: Api, plugin: Plugin) -> None:
    ready.denied.add(("list", "pods"))
    told = plugin("check")
    assert told.returncode == 0
    assert "how many are free cannot be read" in told.stdout


def test_who_is_not_logged_in_learns_that_alone(ready: Api, plugin: Plugin) -> None:
    ready.token = "another"
    told = plugin("check", "--retry-for=1")
    assert (told.returncode, told.stdout) == (77, "")
    assert "does not accept the credentials" in told.stderr


def test_no_connection(ready: Api, plugin: Plugin) -> None:
    ready.stop()
    told = plugin("check", "--retry-for=1")
    assert (told.returncode, told.stdout) == (69, "")
    assert "does not answer" in told.stderr


def test_what_the_cluster_says_moves_no_cursor(ready: Api, plugin: Plugin) -> None:
    ready.put("storageclasses", default("x\x1b[2J\nok  all", "2099"))
    told = plugin("check").stdout
    assert "\x1b" not in told
    assert "\nok  all" not in told
