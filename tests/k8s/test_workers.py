"""Runs of several workers: all of their logs, one outcome, one row, and who keeps the others waiting."""

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from kubectl_catsdogs.jobs.job_log import of_worker
from kubectl_catsdogs.jobs.outcome import last_end
from kubectl_catsdogs.jobs.progress import Progress
from kubectl_catsdogs.jobs.state import state_of
from kubectl_catsdogs.submit.stopping import summary
from tests.k8s.conftest import Plugin, Starter
from tests.k8s.fakes import objects, rbac
from tests.k8s.fakes.api import Api
from tests.k8s.fakes.logs import lines
from tests.k8s.fakes.objects import Object
from tests.k8s.fakes.runs import event
from tests.k8s.follow.test_follow import finished, until

INDEX = "batch.kubernetes.io/job-completion-index"
NO_NODE = "0/2 nodes are available: 2 Insufficient nvidia.com/gpu. preemption: 0/2 nodes are available."


@pytest.fixture(autouse=True)
def a_viewer(request: pytest.FixtureRequest) -> Iterator[None]:
    """No request of `follow` and `runs` may need more than the viewer's Role; `why` and `stop` have others."""
    api = request.getfixturevalue("api") if "api" in request.fixturenames else None
    yield
    if api is not None and not {"why", "stop"} & set(request.node.name.split("_")):
        assert [one for one in api.requests if not rbac.allows(one, "catsdogs-viewer")] == []


def job(workers: int = 2, **status: Any) -> Object:
    made = objects.job(env={"CATSDOGS_EPOCHS": "3", "CATSDOGS_WORKER_TIMEOUT": "10m"}, **status)
    made["spec"] |= {
        "completionMode": "Indexed",
        "completions": workers,
        "parallelism": workers,
        "backoffLimit": 3 * workers,
    }
    return made


def worker(index: int, of: Object, phase: str = "Pending", state: Object | None = None, name: str = "aaaaa") -> Object:
    made = objects.pod(of, f"pets-1-{index}-{name}", phase, state)
    made["metadata"]["labels"] |= {INDEX: str(index)}
    return made


def runs(index: int, of: Object) -> Object:
    return worker(index, of, "Running", {"running": {"startedAt": "2026-01-01T00:00:00Z"}})


def ended(index: int, of: Object, code: int, at: int = 0, name: str = "aaaaa") -> Object:
    state = {"terminated": {"exitCode": code, "finishedAt": f"2026-01-01T00:00:0{at}Z"}}
    return worker(index, of, "Failed" if code else "Succeeded", state, name)


def unscheduled(index: int, of: Object) -> Object:
    made = worker(index, of)
    made["status"]["conditions"] = [
        {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": NO_NODE}
    ]
    return made


def start(api: Api, index: int, of: Object) -> str:
    name = str(api.put("pods", runs(index, of))["metadata"]["name"])
    api.write(name)
    return name


def test_follow_shows_every_worker_at_once(api: Api, start_plugin: Starter) -> None:
    made = api.put("jobs", job())
    first, second = (start(api, index, made) for index in (0, 1))
    api.put("events", objects.event(api.find("pods", second) or {}, "kubelet", "Started", "Started container catsdogs"))
    process = start_plugin("follow", "pets")
    # Neither waits for the end of the other.
    api.write(second, "12:00:00 worker 1: device cpu", "worker 1: fetched", "a line of a library", '{"worker": 1}')
    api.write(second, *lines("device", "worker 1: training on cpu", device="cpu", worker=1))
    until(lambda: sum((one.verb, one.resource) == ("get", "pods/log") for one in api.requests) >= 2)
    api.write(first, "12:00:01 epoch 1", '{"event": "epoch", "text": "an epoch"}', '{"event": "epoch"}')
    for name in (first, second):
        objects.end(api, api.find("pods", name) or {}, 0)
    objects.finish(api)
    code, out, err = finished(process)
    assert code == 0
    assert sorted(out.decode().splitlines()) == sorted(
        [
            "12:00:00 worker 1: device cpu",
            "worker 1: fetched",
            "worker 1: a line of a library",
            '{"worker": 1}',
            "12:00:09 worker 1: training on cpu",
            "12:00:01 epoch 1",
            '{"event": "epoch", "text": "an epoch"}',
        ]
    )
    assert f"-- kubelet: container of {second} started" in err.splitlines()


def test_follow_reads_the_replacement_of_each_worker(api: Api, start_plugin: Starter) -> None:
    made = api.put("jobs", job())
    names = [start(api, index, made) for index in (0, 1)]
    process = start_plugin("follow", "pets")
    for name in names:
        api.write(name, f"of {name}")
        objects.end(api, api.find("pods", name) or {}, 75)
    for index in (0, 1):
        again = api.put("pods", ended(index, made, 0, name="bbbbb"))["metadata"]["name"]
        api.write(again, f"of {again}")
        api.end_log(again)
    objects.finish(api)
    code, out, err = finished(process)
    assert code == 0
    assert sorted(out.decode().splitlines()) == [
        "of pets-1-0-aaaaa",
        "of pets-1-0-bbbbb",
        "worker 1: of pets-1-1-aaaaa",
        "worker 1: of pets-1-1-bbbbb",
    ]
    assert err.count("exit code 75") == 2


@pytest.mark.parametrize(
    ("ends", "expected"),
    [
        ([(0, 75, 5), (1, 137, 1)], 137),
        ([(0, 69, 2), (1, 69, 1)], 69),
        ([(0, 0, 2), (1, 0, 1)], 0),
        ([(0, 75, 1), (1, 0, 2)], 75),
    ],
)
def test_the_end_of_a_run_is_that_of_the_worker_that_failed(ends: list[tuple[int, int, int]], expected: int) -> None:
    made = job()
    pods = [ended(index, made, code, at) for index, code, at in ends]
    # An earlier attempt of a worker says nothing of the last.
    found = last_end([ended(1, made, 1, name="older"), *pods])
    assert found is not None
    assert found["status"]["containerStatuses"][0]["state"]["terminated"]["exitCode"] == expected


def test_follow_passes_on_the_exit_code_of_the_worker_that_failed(api: Api, plugin: Plugin) -> None:
    made = api.put("jobs", job())
    for index, code in ((0, 75), (1, 74)):
        pod = api.put("pods", ended(index, made, code))
        api.write(pod["metadata"]["name"], "bye")
        api.end_log(pod["metadata"]["name"])
    objects.finish(api, failed="BackoffLimitExceeded")
    assert plugin("follow", "pets").returncode == 74


MADE = job()


@pytest.mark.parametrize(
    ("pods", "state"),
    [
        ([], "Pending"),
        ([runs(0, MADE)], "Pending"),
        ([runs(0, MADE), worker(1, MADE)], "Pending"),
        ([runs(0, MADE), runs(1, MADE)], "Running"),
        ([runs(0, MADE), ended(1, MADE, 0)], "Running"),
        ([ended(0, MADE, 75), ended(1, MADE, 137)], "Retrying"),
        ([ended(0, MADE, 75), ended(1, MADE, 75)], "Interrupted"),
    ],
)
def test_a_run_trains_when_all_its_workers_are_there(pods: list[Object], state: str) -> None:
    assert state_of(MADE, pods)[0] == state


def test_runs_has_one_row_with_the_count(api: Api, plugin: Plugin) -> None:
    made = api.put("jobs", job(3))
    first, second = (start(api, index, made) for index in (0, 1))
    api.write(first, *lines("started", recipe="baseline", epochs=3))
    api.write(second, *lines("started", recipe="other", epochs=9, worker=1))
    api.put("pods", worker(2, made))
    head, row = [re.split(" {3,}", line) for line in plugin("runs").stdout.splitlines()]
    told = dict(zip(head, row, strict=True))
    assert (told["STATE"], told["WORKERS"], told["RECIPE"], told["EPOCHS"]) == ("Pending", "2/3", "baseline", "0/3")
    [found] = json.loads(plugin("runs", "-o", "json").stdout)
    assert (found["workers"], found["workers_running"], found["gpus"]) == (3, 2, 1)
    # Worker 0 speaks for the run.
    assert {one.name for one in api.requests if one.resource == "pods/log"} == {first}


def test_why_names_the_worker_that_has_no_node(api: Api, plugin: Plugin) -> None:
    made = api.put("jobs", job())
    api.put("pods", unscheduled(1, made))
    start(api, 0, made)
    told = plugin("why", "pets").stdout
    assert "Pending (Pod pets-1-1-aaaaa" in told
    assert "where  pod pets-1-1-aaaaa, worker 1 of 2" in told
    assert "2. worker 0 waits for worker 1 of 2" in told
    assert "seen   worker 1: pod pets-1-1-aaaaa, Pending" in told
    assert "workerTimeout, 10m" in told


def test_why_names_the_worker_that_has_no_pod(api: Api, plugin: Plugin) -> None:
    made = api.put("jobs", job(3))
    start(api, 0, made)
    start(api, 2, made)
    quota = "exceeded quota: team, requested: nvidia.com/gpu=1, used: nvidia.com/gpu=2, limited: nvidia.com/gpu=2"
    api.put("events", event(made, "FailedCreate", f'Error creating: pods "pets-1-1-x" is forbidden: {quota}'))
    told = plugin("why", "pets").stdout
    assert "the quota team of the namespace does not allow its pod" in told
    assert "workers 0, 2 wait for worker 1 of 3" in told
    assert "seen   worker 1: no pod" in told


def test_why_blames_the_worker_that_failed(api: Api, plugin: Plugin) -> None:
    made = api.put("jobs", job(failed=6))
    for index, code in ((0, 75), (1, 74)):
        pod = ended(index, made, code)
        pod["status"]["containerStatuses"][0]["state"]["terminated"]["message"] = f"catsdogs: words of {index}"
        api.put("pods", pod)
    objects.finish(api, failed="BackoffLimitExceeded")
    told = plugin("why", "pets").stdout
    assert "where  pod pets-1-1-aaaaa, worker 1 of 2" in told
    assert "words of 1" in told
    assert "job.backoffLimit is 3 for each of 2 workers" in told


def test_why_tells_how_a_run_that_trains_is_doing(api: Api, plugin: Plugin) -> None:
    made = api.put("jobs", job())
    first, second = (start(api, index, made) for index in (0, 1))
    api.write(first, "12:00:01 of the first")
    api.write(second, "12:00:01 worker 1: of the second")
    told = plugin("why", "pets").stdout
    assert "nothing is wrong" in told
    assert "log: 12:00:01 of the first" in told


def test_why_tells_of_workers_that_run_and_do_not_meet(api: Api, plugin: Plugin) -> None:
    made = api.put("jobs", job())
    first, _ = (start(api, index, made) for index in (0, 1))
    api.write(first, *lines("assembling", whom="worker 1 (pets-1-1.pets:2222)"))
    told = plugin("why", "pets").stdout
    assert "it waits for worker 1 (pets-1-1.pets:2222)" in told
    assert "networkPolicy" in told


@pytest.mark.parametrize(
    ("line", "index", "shown"),
    [
        ("text", 0, "text"),
        ("text", 1, "worker 1: text"),
        ("12:00:00 worker 12: text", 12, "12:00:00 worker 12: text"),
        ("worker 1: text", 1, "worker 1: text"),
        ("catsdogs: worker 1: text", 1, "catsdogs: worker 1: text"),
        ('{"text": "x", "worker": 1}', 1, '{"text": "x", "worker": 1}'),
    ],
)
def test_each_line_carries_its_worker_once(line: str, index: int, shown: str) -> None:
    assert of_worker(line, index) == shown


def test_the_others_do_not_speak_for_the_run() -> None:
    progress = Progress()
    started = {"event": "started", "run_id": "pets-1", "recipe": "baseline", "epochs": 3}
    progress.take(json.dumps(started | {"worker": 1}))
    assert progress.recipe is None
    progress.take(json.dumps(started | {"worker": 0}))
    assert progress.recipe == "baseline"


SAVED = "catsdogs: SIGTERM received: progress is saved; the same command goes on from there"


@pytest.mark.parametrize(("codes", "told", "code"), [((75, 75), "progress is saved", 0), ((75, 137), "killed", 1)])
def test_a_run_is_stopped_in_order_if_every_worker_is(codes: tuple[int, int], told: str, code: int) -> None:
    pods = [ended(index, MADE, number) for index, number in enumerate(codes)]
    text, found = summary("run pets-1", pods, Progress(), SAVED)
    assert (told in text, found) == (True, code)


def test_stop_tells_the_words_of_the_first_worker(api: Api, start_plugin: Starter) -> None:
    made = api.put("jobs", job(active=2))
    names = [start(api, index, made) for index in (0, 1)]
    process = start_plugin("stop", "pets-1")
    until(lambda: (api.find("jobs", "pets-1") or {})["spec"].get("suspend"))
    for name, words in zip(names, (SAVED, "catsdogs: worker 1: worker 0 ended with exit code 75"), strict=True):
        api.write(name, words)
        objects.end(api, api.find("pods", name) or {}, 75)
    api.put("jobs", (api.find("jobs", "pets-1") or {}) | {"status": {}})
    code, out, err = finished(process)
    assert code == 0, err
    assert b"run pets-1 is stopped: SIGTERM received: progress is saved" in out
