"""How the plugin talks to an API server, and the command line around it."""

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from kubectl_catsdogs.api.client import Cluster
from kubectl_catsdogs.api.retry import RetryPolicy
from kubectl_catsdogs.base.errors import ConfigError, Conflict, NotFound, PermissionDenied, Unavailable
from tests.conftest import REPOSITORY
from tests.k8s.conftest import Plugin
from tests.k8s.fakes import objects, rbac
from tests.k8s.fakes.api import Api, Fault


@pytest.fixture
def cluster(api: Api, kubeconfig: Path) -> Cluster:
    return Cluster.connect(str(kubeconfig), None, None, RetryPolicy(budget=5))


def test_a_list_of_many_pages(api: Api, cluster: Cluster) -> None:
    for number in range(510):
        api.put("jobs", objects.job(f"pets-{number:03d}", "pets" if number % 2 else "dogs"))
    assert len(cluster.list("jobs")) == 510
    assert len(cluster.list("jobs", labels="app.kubernetes.io/instance=pets")) == 255
    assert [job["metadata"]["name"] for job in cluster.list("jobs", fields="metadata.name=pets-007")] == ["pets-007"]


def test_a_list_that_is_too_old_begins_again(api: Api, cluster: Cluster) -> None:
    for number in range(510):
        api.put("jobs", objects.job(f"pets-{number:03d}"))
    cluster.list("jobs")
    pages = len(api.requests)
    api.faults.append(Fault("list", "jobs", 410))
    assert len({job["metadata"]["name"] for job in cluster.list("jobs")}) == 510
    assert len(api.requests) == pages + 1 + pages


def test_objects_are_created_and_changed(api: Api, cluster: Cluster) -> None:
    job = objects.job()
    cluster.create("jobs", job)
    with pytest.raises(Conflict, match='"pets-1" already exists'):
        cluster.create("jobs", job)
    cluster.patch("jobs", "pets-1", {"spec": {"suspend": True}, "metadata": {"labels": None}})
    assert cluster.get("jobs", "pets-1")["spec"]["suspend"] is True
    assert "labels" not in cluster.get("jobs", "pets-1")["metadata"]
    api.remove("jobs", "pets-1")
    with pytest.raises(NotFound, match='"pets-1" not found'):
        cluster.get("jobs", "pets-1")


def test_an_object_whose_answer_was_lost_is_not_a_conflict(api: Api, cluster: Cluster) -> None:
    lost: list[str] = []

    def cut(plural: str, item: objects.Object) -> None:
        lost.append(plural)
        api.stop()
        threading.Timer(0.3, api.start).start()

    api.on_create = cut
    assert cluster.create("jobs", objects.job())["metadata"]["name"] == "pets-1"
    assert lost == ["jobs"]
    assert len(api.all("jobs")) == 1


def test_what_one_may(api: Api, cluster: Cluster) -> None:
    api.denied |= {("create", "jobs"), ("get", "pods/log")}
    assert cluster.may("list", "jobs")
    assert not cluster.may("create", "jobs")
    assert cluster.may("get", "pods")
    assert not cluster.may("get", "pods/log")


def test_a_retry_waits_as_long_as_it_is_told(api: Api, cluster: Cluster) -> None:
    api.faults.append(Fault("list", "pods", 429, headers={"Retry-After": "1"}))
    began = time.monotonic()
    cluster.list("pods")
    assert 1 <= time.monotonic() - began < 3


@pytest.mark.parametrize(
    ("status", "kind"),
    [(400, ConfigError), (422, ConfigError), (403, PermissionDenied), (404, NotFound), (409, Conflict)],
)
def test_what_a_retry_cannot_help_fails_at_once(api: Api, cluster: Cluster, status: int, kind: type[Exception]) -> None:
    api.faults.append(Fault(status=status, message="what the\nserver says", times=5))
    with pytest.raises(kind, match=r"what the\\nserver says"):
        cluster.list("pods")
    assert len(api.requests) == 1


def test_retries_end_with_the_budget(api: Api, kubeconfig: Path) -> None:
    policy = RetryPolicy(budget=0.5)
    cluster = Cluster.connect(str(kubeconfig), None, None, policy)
    cluster.list("pods")
    reasons: list[str] = []
    cluster.on_wait = reasons.append
    api.faults.append(Fault(status=503, times=1000))
    with pytest.raises(Unavailable, match="503: a fault of the test"):
        cluster.list("pods")
    assert reasons == []
    policy.budget = 2
    with pytest.raises(Unavailable):
        cluster.list("pods")
    assert reasons == ["the API server answers 503: a fault of the test"]


def test_flags_count_after_the_command_and_before_it(api: Api, plugin: Plugin, kubeconfig: Path) -> None:
    config = api.kubeconfig()
    config["contexts"].append({"name": "other", "context": {"cluster": "test", "user": "test", "namespace": "red"}})
    kubeconfig.write_text(json.dumps(config))
    missing = ("pets", "--timeout", "0.1s")
    for before, after, namespace in (
        (("--context", "other"), (), "red"),
        ((), ("--context", "other"), "red"),
        (("-n", "blue"), ("--context", "other"), "blue"),
        (("-n", "blue"), ("-n", "green"), "green"),
    ):
        ended = plugin(*before, "follow", *missing, *after)
        assert f"in namespace {namespace} after" in ended.stderr
        assert ended.returncode == 65


def test_several_kubeconfigs_are_one(api: Api, plugin: Plugin, kubeconfig: Path) -> None:
    config = api.kubeconfig()
    first = {name: value for name, value in config.items() if name not in ("clusters", "users")}
    other = kubeconfig.with_name("other")
    other.write_text(json.dumps(config | {"contexts": []}))
    kubeconfig.write_text(json.dumps(first | {"clusters": [], "users": []}))
    missing = plugin("follow", "--timeout", "0.1s", env={"KUBECONFIG": f"{kubeconfig}:{other}"})
    assert missing.returncode == 65


def test_help_does_not_wait_for_the_client() -> None:
    code = (
        "import sys; from kubectl_catsdogs.cli import plugin; plugin.main(['follow', '--help'], standalone_mode=False)"
    )
    code += "; sys.exit('kubernetes' in sys.modules or 'urllib3' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY / "k8s", check=True, capture_output=True)


@pytest.mark.parametrize(("words", "found"), [(["fol"], "follow"), (["follow", "--name"], "--namespace")])
def test_kubectl_completes_it(words: list[str], found: str) -> None:
    code = "from kubectl_catsdogs.completion import main; main()"
    ended = subprocess.run(
        [sys.executable, "-c", code, *words], cwd=REPOSITORY / "k8s", capture_output=True, text=True, check=True
    )
    assert [line.split("\t")[0] for line in ended.stdout.splitlines()] == [found, ":4"]


def test_a_shell_completes_it() -> None:
    asked = {"_KUBECTL_CATSDOGS_COMPLETE": "bash_complete", "COMP_WORDS": "kubectl-catsdogs fol", "COMP_CWORD": "1"}
    ended = subprocess.run(
        [sys.executable, "-m", "kubectl_catsdogs"],
        env=os.environ | asked,
        cwd=REPOSITORY / "k8s",
        capture_output=True,
        text=True,
        check=True,
    )
    assert ended.stdout == "plain,follow\n"


@pytest.mark.parametrize(("program", "word"), [("kubectl-catsdogs", "--version"), ("kubectl_complete-catsdogs", "f")])
def test_its_programs_are_installed(program: str, word: str) -> None:
    """kubectl finds them by these names."""
    path = Path(sys.executable).with_name(program)
    assert subprocess.run([path, word], capture_output=True, check=True).stdout


def test_whoever_only_looks_can_change_nothing() -> None:
    verbs = {verb for rule in rbac.roles()["catsdogs-viewer"] for verb in rule["verbs"]}
    assert verbs <= {"get", "list", "watch"}
