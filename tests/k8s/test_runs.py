"""`kubectl catsdogs runs`: what is known of the runs of a release, as a table and as JSON."""

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from kubectl_catsdogs.jobs.progress import Progress
from kubectl_catsdogs.jobs.state import state_of
from kubectl_catsdogs.runs import Run, run_of, table
from tests.k8s.conftest import Plugin
from tests.k8s.fakes import logs, objects, rbac
from tests.k8s.fakes.api import Api, Fault

pytestmark = pytest.mark.usefixtures("a_viewer")

Object = dict[str, Any]
POD = objects.pod(objects.job(), phase="Running", state={"running": {}})
PENDING = objects.pod(objects.job())
NOW = "2026-01-01T00:00:00Z"


@pytest.fixture
def a_viewer(request: pytest.FixtureRequest) -> Iterator[None]:
    """No request of `runs` may need more than the viewer's Role."""
    api = request.getfixturevalue("api") if "api" in request.fixturenames else None
    yield
    if api is not None:
        assert [one for one in api.requests if not rbac.allows(one, "catsdogs-viewer")] == []


def ended(code: int) -> Object:
    state = {"terminated": {"exitCode": code}}
    return objects.pod(objects.job(), phase="Failed" if code else "Succeeded", state=state)


def job(suspend: bool = False, queue: str = "", deleted: str = "", **status: Any) -> Object:
    made = objects.job(**status)
    made["spec"]["suspend"] = suspend
    made["metadata"] |= {"deletionTimestamp": deleted} if deleted else {}
    made["metadata"]["labels"] |= {"kueue.x-k8s.io/queue-name": queue} if queue else {}
    return made


def failed(reason: str, message: str = "") -> list[Object]:
    return [{"type": "Failed", "status": "True", "reason": reason, "message": message}]


POLICY = failed("PodFailurePolicy", "Container catsdogs for pod a/b failed with exit code 65 matching FailJob rule")
STATES: list[tuple[Object, list[Object], tuple[str, int | None]]] = [
    (job(), [], ("Pending", None)),
    (job(), [PENDING], ("Pending", None)),
    (job(), [POD], ("Running", None)),
    (job(), [ended(69), POD], ("Running", 69)),
    (job(), [ended(69), PENDING], ("Pending", 69)),
    (job(), [ended(75)], ("Interrupted", 75)),
    (job(), [ended(69)], ("Retrying", 69)),
    (job(), [{**POD, "metadata": {**POD["metadata"], "deletionTimestamp": NOW}}], ("Stopping", None)),
    (job(deleted=NOW), [], ("Stopping", None)),
    (job(suspend=True), [], ("Suspended", None)),
    (job(suspend=True), [POD], ("Stopping", None)),
    (job(suspend=True), [ended(75)], ("Suspended", 75)),
    (job(suspend=True, queue="gpus"), [], ("Queued", None)),
    (job(conditions=[{"type": "Complete", "status": "True"}]), [], ("Succeeded", 0)),
    (job(conditions=POLICY), [], ("Failed", 65)),
    (job(conditions=failed("BackoffLimitExceeded")), [ended(75), ended(69)], ("Failed", 69)),
    (job(conditions=failed("BackoffLimitExceeded")), [ended(1)], ("Failed", 1)),
    (job(conditions=failed("BackoffLimitExceeded")), [], ("Failed", None)),
    (job(conditions=failed("DeadlineExceeded")), [ended(75)], ("Failed", 75)),
]


@pytest.mark.parametrize(("job", "pods", "expected"), STATES)
def test_the_state_of_a_run(job: Object, pods: list[Object], expected: tuple[str, int | None]) -> None:
    assert state_of(job, pods) == expected


STARTED = {"recipe": "baseline", "epochs": 3}


def epoch(number: int, accuracy: float) -> tuple[str, Object]:
    return "epoch", {"epoch": number, "epochs": 3, "accuracy": 0.75, "val_accuracy": accuracy, "remaining": 20.0}


TRAINED = ("trained", {"epochs": 3, "best_epoch": 2, "val_accuracy": 0.812})
EVALUATED = ("evaluated", {"accuracy": 0.75})


def lines(*events: tuple[str, Object], form: str = "mixed") -> list[str]:
    return [line for event, data in events for line in logs.lines(event, form=form, **data)]


@pytest.mark.parametrize("form", logs.FORMATS)
def test_epochs_and_accuracies_are_those_that_the_job_says(api: Api, plugin: Plugin, form: str) -> None:
    made = api.put("jobs", objects.job(env={"CATSDOGS_EPOCHS": "3"}))
    first = objects.start(api, made, "pets-1-aaaaa")
    api.write("pets-1-aaaaa", *lines(("started", STARTED), epoch(1, 0.625), epoch(2, 0.812), form=form), "no event")
    objects.end(api, first, 75)
    objects.start(api, made, "pets-1-bbbbb")
    resumed = ("resumed", {"epoch": 3, "epochs": 3, "step": 4, "steps": 10, "checkpoint": "e2"})
    api.write("pets-1-bbbbb", *lines(("started", STARTED), resumed, form=form))

    def found() -> Object:
        done = plugin("runs", "pets", "-o", "json")
        assert (done.returncode, done.stderr) == (0, "")
        [run] = json.loads(done.stdout)
        assert isinstance(run, dict)
        return run

    run = found()
    created = run.pop("created")
    assert run == {
        "run": "pets-1",
        "job": "pets-1",
        "release": "pets",
        "state": "Running",
        "exit_code": 75,
        "recipe": "baseline",
        "set": "",
        "epochs_done": 2,
        "epochs": 3,
        "best_validation_accuracy": 0.812,
        "test_accuracy": None,
        "gpu": "nvidia.com/gpu",
        "gpus": 1,
        "workers": 1,
        "workers_running": 1,
        "result": "s3://pets/runs/pets-1",
    }
    assert datetime.fromisoformat(created) <= datetime.now(UTC)
    api.write("pets-1-bbbbb", *lines(epoch(3, 0.6875), TRAINED, EVALUATED, form=form))
    objects.finish(api)
    run = found()
    assert (run["state"], run["epochs_done"], run["best_validation_accuracy"], run["test_accuracy"]) == (
        "Succeeded",
        3,
        0.812,
        0.75,
    )


def test_a_log_in_text_leaves_progress_unknown(api: Api, plugin: Plugin) -> None:
    objects.start(api, api.put("jobs", objects.job(env={"CATSDOGS_EPOCHS": "3"})), "pets-1-aaaaa")
    api.write("pets-1-aaaaa", *lines(("started", STARTED), epoch(1, 0.625), form="text"), "{", "{}", "[" * 3000)
    [run] = json.loads(plugin("runs", "-o", "json").stdout)
    assert (run["state"], run["epochs"], run["epochs_done"], run["recipe"]) == ("Running", 3, None, "baseline")


def test_the_table(api: Api, plugin: Plugin) -> None:
    old = objects.job("pets-1", env={"CATSDOGS_EPOCHS": "30"}, conditions=[{"type": "Complete", "status": "True"}])
    age = datetime.now(UTC) - timedelta(hours=3, seconds=30)
    old["metadata"]["creationTimestamp"] = age.strftime("%Y-%m-%dT%H:%M:%SZ")
    api.put("jobs", old)
    new = objects.job("pets-2", env={"CATSDOGS_RUN_ID": "again", "CATSDOGS_EPOCHS": "3"})
    new["metadata"]["annotations"] = {"catsdogs-train/set": "epochs=3 run_id=again"}
    new["spec"]["template"]["spec"]["containers"][0]["resources"] = {"limits": {"cpu": "4", "memory": "8Gi"}}
    pod = objects.start(api, api.put("jobs", new))
    api.write(pod["metadata"]["name"], *lines(("started", STARTED), epoch(1, 0.625)))
    # Of another chart, and so no run.
    other = objects.job("other-1", "other")
    other["spec"]["template"]["spec"]["containers"][0]["name"] = "web"
    api.put("jobs", other)
    done = plugin("runs")
    assert (done.returncode, done.stderr) == (0, "")
    head, *rows = [re.split(" {3,}", line) for line in done.stdout.splitlines()]
    assert head == ["RUN", "STATE", "AGE", "RECIPE", "EPOCHS", "BEST", "GPU", "SET", "RESULT"]
    assert [row[:2] + row[3:] for row in rows] == [
        ["again", "Running", "baseline", "1/3", "62.5 %", "-", "epochs=3 run_id=again", "s3://pets/runs/again"],
        ["pets-1", "Succeeded", "baseline", "30/30", "-", "1 × nvidia.com/gpu", "-", "s3://pets/runs/pets-1"],
    ]
    assert rows[1][2] == "3h"
    # Each column begins where its title does.
    assert (
        len({line.index("   s3://") for line in done.stdout.splitlines()[1:]} | {done.stdout.index("   RESULT")}) == 1
    )


def test_runs_of_a_schedule_and_of_several_releases(api: Api, plugin: Plugin) -> None:
    scheduled = objects.job("cats-29012345", "cats")
    scheduled["metadata"]["ownerReferences"] = [{"kind": "CronJob", "name": "cats", "controller": True}]
    api.put("jobs", scheduled)
    api.put("jobs", objects.job())
    head, *rows = [line.split() for line in plugin("runs").stdout.splitlines()]
    assert head[:2] == ["RELEASE", "RUN"]
    assert sorted(row[:2] for row in rows) == [["cats", "cats-29012345"], ["pets", "pets-1"]]
    head, row = [line.split() for line in plugin("runs", "cats").stdout.splitlines()]
    assert (head[0], row[0]) == ("RUN", "cats-29012345")


def test_no_runs(api: Api, plugin: Plugin) -> None:
    none = plugin("runs", "pets")
    assert (none.returncode, none.stdout) == (0, "")
    assert none.stderr == "-- no runs of release pets in namespace default\n"
    assert plugin("runs", "-o", "json").stdout == "[]\n"


def test_logs_that_cannot_be_read_leave_figures_unknown(api: Api, plugin: Plugin) -> None:
    pod = objects.start(api, api.put("jobs", objects.job(env={"CATSDOGS_EPOCHS": "3"})))
    api.write(pod["metadata"]["name"], *lines(epoch(1, 0.625), epoch(2, 0.75)))
    api.faults.append(Fault("get", "pods/log", after=120))
    cut = plugin("runs", "-o", "json")
    assert cut.returncode == 0
    assert json.loads(cut.stdout)[0]["epochs_done"] in (None, 1)
    api.denied.add(("get", "pods/log"))
    denied = plugin("runs")
    assert denied.returncode == 0
    assert "-/3" in denied.stdout
    assert 'cannot get resource "pods/log"' in denied.stderr
    assert denied.stderr.endswith("without it, epochs and accuracies are unknown\n")
    assert len(denied.stderr.splitlines()) == 1


@pytest.mark.parametrize("denied", ["jobs", "pods"])
def test_a_missing_permission_is_one_line(api: Api, plugin: Plugin, denied: str) -> None:
    api.put("jobs", objects.job())
    api.denied.add(("list", denied))
    done = plugin("runs")
    assert (done.returncode, done.stdout) == (77, "")
    assert f'cannot list resource "{denied}"' in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_what_the_cluster_says_moves_no_cursor(api: Api, plugin: Plugin) -> None:
    api.put("jobs", objects.job(env={"CATSDOGS_OUTPUT": "s3://\x1b[2Jpets\n", "CATSDOGS_RECIPE": "base\x07line"}))
    shown, data = plugin("runs"), plugin("runs", "-o", "json")
    assert len(shown.stdout.splitlines()) == 2
    for done in (shown, data):
        assert "\x1b" not in done.stdout
        assert "\x07" not in done.stdout
    assert "base\\x07line" in shown.stdout


@pytest.mark.parametrize("number", ["9" * 5000, "x", "-1", "", "1e9"])
def test_numbers_that_are_none_hide_no_run(number: str, api: Api, plugin: Plugin) -> None:
    """Whoever may create a Job or a pod chooses them, and Python reads no text of 5,000 digits as a number."""
    odd = api.put("jobs", objects.job("odd-1", env={"CATSDOGS_EPOCHS": number}))
    pod = objects.pod(odd)
    pod["metadata"]["labels"]["batch.kubernetes.io/job-completion-index"] = number
    odd["spec"]["template"]["spec"]["containers"][0]["resources"] = {"limits": {"nvidia.com/gpu": number}}
    odd["spec"] |= {"completions": 2, "completionMode": "Indexed"}
    odd["status"] = {"conditions": [
        {"type": "Failed", "status": "True", "reason": "PodFailurePolicy", "message": f"exit code {number}"},
    ]}  # fmt: skip
    api.put("jobs", odd)
    api.put("pods", pod)
    api.put("jobs", objects.job())
    for command in (("runs",), ("runs", "-o", "json"), ("why", "odd-1")):
        done = plugin(*command)
        assert done.returncode in (0, 78), done.stderr
        assert "Traceback" not in done.stderr
        assert command[0] == "why" or ("odd-1" in done.stdout and "pets-1" in done.stdout)


def test_what_is_unknown_is_a_dash() -> None:
    bare = objects.job()
    bare["spec"]["template"]["spec"]["containers"][0] |= {"env": [], "resources": {}}
    run = run_of(bare, [POD], Progress())
    assert (run.recipe, run.epochs_done, run.epochs, run.gpu, run.gpus) == (None, None, None, None, 0)
    row = table([run], datetime.now(UTC)).splitlines()[1].split()
    assert row == ["pets-1", "Running", "-", "-", "-", "-", "-", "/pets-1"]


def test_a_tab_in_a_value_moves_no_column() -> None:
    named = objects.job(env={"CATSDOGS_RECIPE": "base\tline"})
    head, row = table([run_of(named, [POD], Progress())], datetime.now(UTC)).splitlines()
    assert row[head.index("RECIPE") :].startswith("base line   ")


def test_a_code_is_shown_where_it_is_one_of_a_failure() -> None:
    now = datetime.now(UTC)

    def shown(made: Object, *pods: Object) -> str:
        return re.split(" {3,}", table([run_of(made, list(pods), Progress())], now).splitlines()[1])[1]

    assert shown(job(conditions=POLICY)) == "Failed (65)"
    assert shown(job(conditions=failed("DeadlineExceeded"))) == "Failed"
    assert shown(job(), ended(75)) == "Interrupted (75)"
    assert shown(job(), ended(75), POD) == "Running"


def test_a_gpu_may_be_any_extended_resource() -> None:
    mig = objects.job()
    limits = {"nvidia.com/mig-1g.10gb": "2", "cpu": 1}
    mig["spec"]["template"]["spec"]["containers"][0]["resources"] = {"limits": limits}
    run: Run = run_of(mig, [], Progress())
    assert (run.gpu, run.gpus) == ("nvidia.com/mig-1g.10gb", 2)
