"""`kubectl catsdogs submit`: further runs of what the chart made, one or a sweep of them."""

import copy
import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from kubectl_catsdogs.api.client import Cluster
from kubectl_catsdogs.api.watch import Changed, Listed, Message
from kubectl_catsdogs.submit.sweep import Sweep
from tests.helm.chart import environment
from tests.k8s.conftest import Plugin, Starter
from tests.k8s.fakes import objects, rbac
from tests.k8s.fakes.api import Api, Fault

pytestmark = pytest.mark.usefixtures("a_runner")

SECONDS = 20
"""How long a test waits for what takes a moment."""


@pytest.fixture
def a_runner(api: Api) -> Iterator[None]:
    """No request of `submit` may need more than its own Role."""
    yield
    assert [request for request in api.requests if not rbac.allows(request, "catsdogs-runner")] == []


def names_of(items: list[dict[str, Any]]) -> list[str]:
    return [item["metadata"]["name"] for item in items]


def release(api: Api, env: dict[str, str] | None = None, **status: Any) -> dict[str, Any]:
    """An installed release with its service account, and its Job."""
    job = objects.job("pets-catsdogs-train-0123456789", env={"CATSDOGS_SEED": "0", **(env or {})}, **status)
    job["spec"]["template"]["spec"]["serviceAccountName"] = "pets"
    api.put("serviceaccounts", {"metadata": {"name": "pets", "uid": "uid-sa", "labels": job["metadata"]["labels"]}})
    return api.put("jobs", job)


def made(api: Api) -> list[dict[str, Any]]:
    return [job for job in api.all("jobs") if job["metadata"]["labels"]["app.kubernetes.io/managed-by"] != "Helm"]


def told(job: dict[str, Any], name: str) -> Any:
    return environment(job["spec"]["template"]["spec"]).get(f"CATSDOGS_{name}")


def test_submit_makes_a_run_that_goes_with_the_release(api: Api, plugin: Plugin) -> None:
    release(api)
    done = plugin("submit", "--from", "pets", "--set", "epochs=50")
    assert done.returncode == 0, done.stderr
    [job] = made(api)
    name = job["metadata"]["name"]
    assert done.stdout == f"run {name} (epochs=50): submitted\n"
    assert done.stderr == f"-- follow a run with: kubectl catsdogs follow -n default {name}\n"
    assert told(job, "EPOCHS") == "50"
    assert job["metadata"]["ownerReferences"] == [
        {"apiVersion": "v1", "kind": "ServiceAccount", "name": "pets", "uid": "uid-sa"}
    ]
    again = plugin("submit", "--from=pets", "--set=epochs=50")
    assert again.returncode == 0
    assert again.stdout == f"run {name} (epochs=50): already exists, Pending\n"
    assert len(made(api)) == 1


def test_a_dry_run_prints_what_would_be_made(api: Api, plugin: Plugin) -> None:
    release(api)
    dry = plugin("submit", "--from", "pets", "--set", "epochs=50", "--sweep", "seed=1,2", "--dry-run")
    assert dry.returncode == 0, dry.stderr
    assert made(api) == []
    plugin("submit", "--from", "pets", "--set", "epochs=50", "--sweep", "seed=1,2")
    stored = {job["metadata"]["name"]: job for job in made(api)}
    printed = list(yaml.safe_load_all(dry.stdout))
    assert [told(job, "SEED") for job in printed] == ["1", "2"]
    for job in printed:
        found = stored[job["metadata"]["name"]]
        assert (job["spec"], job["metadata"]["ownerReferences"]) == (
            found["spec"],
            found["metadata"]["ownerReferences"],
        )


def test_what_is_there_already_is_not_made_again(api: Api, plugin: Plugin) -> None:
    job = release(api)
    for settings in [], ["--set", "seed=0"]:
        done = plugin("submit", "--from", "pets", *settings)
        assert done.returncode == 2
        assert f"these are the settings of run {job['metadata']['name']}, which already exists" in done.stderr
    assert made(api) == []
    swept = plugin("submit", "--from", "pets", "--sweep", "seed=0,1")
    assert swept.stdout.splitlines()[0] == f"run {job['metadata']['name']}: already exists, Pending"
    assert [told(job, "SEED") for job in made(api)] == ["1"]
    repeated = plugin("submit", "--from", "pets", "--set", "run_id=again")
    assert repeated.stdout == "run again (run_id=again): submitted\n"
    other = plugin("submit", "--from", "pets", "--set", "run_id=again", "--set", "epochs=3")
    assert other.returncode == 78
    assert "is a run with that id and other settings" in other.stderr
    # What another release publishes elsewhere may be called the same.
    cats = objects.job("cats-1", "cats", env={"CATSDOGS_OUTPUT": "s3://cats/runs"})
    api.put("jobs", cats)
    assert plugin("submit", "--from", "cats", "--set", "run_id=again").returncode == 0


def finish(api: Api, name: str, failed: str = "", message: str = "") -> None:
    """The Job controller's verdict, on a Job that was just made as well."""
    job = api.find("jobs", name)
    assert job is not None
    api.put("jobs", {"status": {}, **job})
    objects.finish(api, name, failed, message)


def finish_each(api: Api, failed: str = "", message: str = "") -> None:
    """The Job controller's part: all Jobs that are made end at once, but for a moment."""

    def end(plural: str, item: dict[str, Any]) -> None:
        time.sleep(0.05)
        finish(api, item["metadata"]["name"], failed, message)

    api.on_create = end


def test_wait_ends_with_the_exit_code_of_the_job(api: Api, plugin: Plugin) -> None:
    release(api)
    finish_each(api)
    good = plugin("submit", "--from", "pets", "--set", "epochs=50", "--wait")
    assert good.returncode == 0
    assert re.search(r"is complete; its result is at s3://pets/runs/pets-catsdogs-train-\w+/$", good.stdout.strip())
    finish_each(api, "PodFailurePolicy", "Container catsdogs failed with exit code 77 matching FailJob rule")
    bad = plugin("submit", "--from", "pets", "--sweep", "epochs=50,51", "--wait")
    assert bad.returncode == 77
    assert "epochs=50): already exists, Succeeded" in bad.stdout
    again = plugin("submit", "--from", "pets", "--set", "epochs=51", "--wait")
    assert again.returncode == 77
    assert "already exists, Failed; to resume it, correct the cause" in again.stdout
    assert plugin("submit", "--from", "pets", "--sweep", "epochs=51,50", "--wait").returncode == 77
    with_nobody = plugin("submit", "--from", "pets", "--set", "epochs=51")
    assert with_nobody.returncode == 0
    assert plugin("submit", "--from", "pets", "--sweep", "epochs=51,52,53", "--parallel", "1").returncode == 0
    assert len(made(api)) == 4


def test_wait_for_a_run_that_is_removed_or_stopped(api: Api, start_plugin: Starter) -> None:
    release(api)
    process = start_plugin("submit", "--from", "pets", "--sweep", "seed=1,2", "--wait")
    until(lambda: len(made(api)) == 2)
    first, second = names_of(made(api))
    finish(api, first)
    api.remove("jobs", first)
    job = api.find("jobs", second)
    assert job is not None
    job["spec"]["suspend"] = True
    api.put("jobs", job)
    out, err = process.communicate(timeout=SECONDS)
    assert process.returncode == 75, err
    assert f"run {first} is complete" in out.decode()
    assert f"run {second} is stopped" in out.decode()


def until(met: Any) -> None:
    deadline = time.monotonic() + SECONDS
    while not met():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


def test_a_sweep_has_so_many_at_work_and_goes_on_after_an_interruption(api: Api, start_plugin: Starter) -> None:
    release(api)
    sweep = ("submit", "--from", "pets", "--sweep", "learning_rate=1e-2,1e-3,1e-4", "--sweep", "seed=1,2", "--parallel")
    process = start_plugin(*sweep, "2", "--wait")
    until(lambda: len(made(api)) == 2)
    # Also a stream that is cut, and a server that forgets, must not make it lose count.
    api.forget()
    time.sleep(0.5)
    assert len(made(api)) == 2
    first = names_of(made(api))
    finish(api, first[0])
    assert process.stdout is not None
    told_so_far = [process.stdout.readline().split()[-1] for _ in range(4)]
    assert [word for word in told_so_far if word == b"submitted"] == [b"submitted"] * 3
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=SECONDS)
    assert process.returncode == 130
    assert "submitted runs continue, and the same command submits the other 3" in err.decode()
    process = start_plugin(*sweep, "3", "--wait")
    until(lambda: len(made(api)) == 4)
    time.sleep(0.3)
    assert len(made(api)) == 4
    finished = {first[0]}
    while len(finished) < 6:
        for name in names_of(made(api)):
            if name not in finished:
                finish(api, name)
                finished.add(name)
        assert len(made(api)) - len(finished) <= 3
        time.sleep(0.05)
    out, err = process.communicate(timeout=SECONDS)
    assert process.returncode == 0, err
    rates = [(told(job, "LEARNING_RATE"), told(job, "SEED")) for job in made(api)]
    assert sorted(rates) == [(rate, seed) for rate in ("0.0001", "0.001", "0.01") for seed in "12"]
    assert out.decode().count("already exists") == 3
    assert out.decode().count("is complete") == 5


def test_what_another_has_made_meanwhile(api: Api, plugin: Plugin) -> None:
    release(api)
    name = yaml.safe_load(plugin("submit", "--from", "pets", "--set", "epochs=3", "--dry-run").stdout)["metadata"][
        "name"
    ]
    # Which a list by the release's label does not show.
    api.put("jobs", objects.job(name, "others"))
    done = plugin("submit", "--from", "pets", "--set", "epochs=3")
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"run {name} (epochs=3): already exists, Pending\n"


def test_what_the_watch_brings_out_of_order(api: Api, kubeconfig: Path) -> None:
    said: list[str] = []
    first, second = objects.job("pets-1"), objects.job("pets-2")
    for job in (first, second):
        del job["metadata"]["uid"]
    sweep = Sweep(Cluster.connect(str(kubeconfig), None, None), [first, second], 1, True, said.append)
    there = {"pets-2": objects.job("pets-2", conditions=[{"type": "Complete", "status": "True"}])}
    sweep._create(there)
    # A list that was read before the Job was made.
    sweep._take(Message("jobs", Listed([there["pets-2"]])), there)
    # And one that was there, but is not when its turn comes.
    sweep._take(Message("jobs", Changed(there["pets-2"], True)), there)
    finish(api, "pets-1")
    sweep._take(Message("jobs", Changed(api.all("jobs")[0], False)), there)
    sweep._create(there)
    assert said == [
        "run pets-1: submitted",
        "run pets-1 is complete; its result is at s3://pets/runs/pets-1/",
        "run pets-2: submitted",
    ]


def test_the_release_s_present_description_is_taken(api: Api, plugin: Plugin) -> None:
    old = release(api, {"CATSDOGS_SEED": "1"})
    api.put("jobs", {**old, "metadata": {**old["metadata"], "creationTimestamp": "2020-01-01T00:00:00Z"}})
    new = objects.job("pets-catsdogs-train-1123456789", env={"CATSDOGS_SEED": "2"})
    api.put("jobs", new)
    plugin("submit", "--from", "pets", "--set", "epochs=3")
    assert [told(job, "SEED") for job in made(api)] == ["2"]
    # A further one is of the release, and not of that.
    plugin("submit", "--from", "pets", "--set", "batch_size=3")
    assert sorted(str(told(job, "EPOCHS")) for job in made(api)) == ["3", "None"]
    # A run can be named instead.
    plugin("submit", "--from", old["metadata"]["name"], "--set", "epochs=4")
    assert {told(job, "EPOCHS"): told(job, "SEED") for job in made(api)}["4"] == "1"
    # With a schedule, Jobs are of the time before it.
    spec = copy.deepcopy(new["spec"])
    del spec["selector"]
    spec["template"]["spec"]["containers"][0]["env"].append({"name": "CATSDOGS_SEED", "value": "3"})
    template = {"metadata": {"labels": new["metadata"]["labels"]}, "spec": spec}
    api.put(
        "cronjobs",
        {"metadata": {"name": "pets", "labels": new["metadata"]["labels"]}, "spec": {"jobTemplate": template}},
    )
    plugin("submit", "--from", "pets", "--set", "epochs=5")
    assert {told(job, "EPOCHS"): told(job, "SEED") for job in made(api)}["5"] == "3"


def test_a_volume_that_one_node_can_mount_is_told(api: Api, plugin: Plugin) -> None:
    job = release(api)
    job["spec"]["template"]["spec"]["volumes"] = [{"name": "data", "persistentVolumeClaim": {"claimName": "pets-vol"}}]
    api.put("jobs", job)
    claim = {"metadata": {"name": "pets-vol"}, "spec": {"accessModes": ["ReadWriteOnce"]}}
    api.put("persistentvolumeclaims", claim)
    warned = plugin("submit", "--from", "pets", "--set", "epochs=3")
    assert "share the volume pets-vol with pets-catsdogs-train-0123456789 (ReadWriteOnce)" in warned.stderr
    finish(api, job["metadata"]["name"])
    finish(api, made(api)[0]["metadata"]["name"])
    finish_each(api)
    in_turn = plugin("submit", "--from", "pets", "--sweep", "epochs=4,7", "--parallel", "1", "--wait")
    assert (in_turn.returncode, in_turn.stderr) == (0, "")
    api.put("persistentvolumeclaims", {**claim, "spec": {"accessModes": ["ReadWriteMany"]}})
    assert "share" not in plugin("submit", "--from", "pets", "--sweep", "epochs=5,6").stderr


@pytest.mark.parametrize(
    ("denied", "code", "says"),
    [
        (("create", "jobs"), 77, 'cannot create resource "jobs"'),
        (("list", "jobs"), 77, 'cannot list resource "jobs"'),
        (("list", "cronjobs"), 77, 'cannot list resource "cronjobs"'),
        (("get", "serviceaccounts"), 0, "helm uninstall will not delete these runs"),
    ],
)
def test_a_missing_permission_is_one_line(
    api: Api, plugin: Plugin, denied: tuple[str, str], code: int, says: str
) -> None:
    release(api)
    api.denied.add(denied)
    done = plugin("submit", "--from", "pets", "--set", "epochs=3")
    assert done.returncode == code
    assert says in done.stderr
    if code:
        assert len(done.stderr.splitlines()) == 1
        assert done.stdout == ""


def test_no_such_release(api: Api, plugin: Plugin) -> None:
    done = plugin("submit", "--from", "pets", "--set", "epochs=3")
    assert (done.returncode, done.stdout) == (65, "")
    assert done.stderr == "kubectl catsdogs: namespace default has no release or run pets; see `helm list`\n"


def test_a_release_whose_own_job_is_gone(api: Api, plugin: Plugin) -> None:
    job = release(api)
    plugin("submit", "--from", "pets", "--set", "epochs=3")
    api.remove("jobs", job["metadata"]["name"])
    [left] = names_of(made(api))
    done = plugin("submit", "--from", "pets", "--set", "epochs=4")
    assert done.returncode == 65
    assert f"release pets has no Job of its own any more; start from another run: --from {left}" in done.stderr
    assert plugin("submit", "--from", left, "--set", "epochs=4").returncode == 0
    assert sorted(told(job, "EPOCHS") for job in made(api)) == ["3", "4"]


def test_nothing_is_asked_of_the_cluster_for_a_wrong_value(api: Api, plugin: Plugin) -> None:
    done = plugin("submit", "--from", "pets", "--set", "epochs=none")
    assert done.returncode == 2
    assert done.stderr == "kubectl catsdogs: epochs=none: 'none' is not a valid integer range.\n"
    assert api.requests == []


def test_an_answer_that_was_lost_makes_no_second_run(api: Api, plugin: Plugin) -> None:
    release(api)
    api.faults.append(Fault("create", "jobs", 503))
    done = plugin("submit", "--from", "pets", "--set", "epochs=3")
    assert done.returncode == 0, done.stderr
    assert len(made(api)) == 1


def test_what_the_cluster_says_moves_no_cursor(api: Api, plugin: Plugin) -> None:
    release(api, {"CATSDOGS_OUTPUT": "s3://pets/\x1b[31mruns"})
    finish_each(api)
    done = plugin("submit", "--from", "pets", "--set", "epochs=3", "--wait")
    assert "\x1b" not in done.stdout + done.stderr
    assert "\\x1b[31mruns" in done.stdout
