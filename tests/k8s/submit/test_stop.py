"""`kubectl catsdogs stop`: a run ends so that it can go on, and what was saved is told."""

import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from kubectl_catsdogs.base.errors import NotFound, Usage
from kubectl_catsdogs.jobs.progress import Progress
from kubectl_catsdogs.submit.stopping import find, summary
from tests.k8s.conftest import Plugin
from tests.k8s.fakes import objects, rbac
from tests.k8s.fakes.api import Api
from tests.k8s.fakes.logs import epoch

Object = dict[str, Any]
SAVED = "catsdogs: SIGTERM received: progress is saved; the same command goes on from there"
RESUME = """kubectl patch job pets-1 -n default -p '{"spec":{"suspend":false}}'"""


class Controllers:
    """The Job controller's and the kubelet's part: a Job that is suspended has its pods ended, and deleted."""

    def __init__(self, api: Api):
        self.api = api
        self.code = 75
        self.last_words = SAVED
        self.vanishes = False
        """Whether a pod is gone before anybody has seen that it ended."""
        self.takes = 0.3
        """Seconds from SIGTERM to a container's end."""
        self.hangs = False
        self.verdict: Object | None = None
        """A condition that the Job gets."""
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._over.wait(0.05):
            for job in self.api.all("jobs"):
                if job["spec"].get("suspend") and job.get("status", {}).get("active"):
                    self._suspend(job)

    def _suspend(self, job: Object) -> None:
        # Pods that are being ended count as active no longer.
        if not self.hangs:
            job = self.api.put("jobs", job | {"status": {"terminating": 1}})
        for pod in self.api.all("pods"):
            if self.hangs:
                return
            name = pod["metadata"]["name"]
            if pod["status"]["phase"] == "Running":
                time.sleep(self.takes)
                self.api.write(name, self.last_words)
                self.api.end_log(name)
                if not self.vanishes:
                    objects.end(self.api, pod, self.code)
            self.api.remove("pods", name)
        self.api.put("jobs", job | {"status": {"conditions": [self.verdict]} if self.verdict else {}})


@pytest.fixture
def controllers(api: Api) -> Iterator[Controllers]:
    found = Controllers(api)
    yield found
    found.stop()
    # No request of `stop` may need more than its own Role.
    assert [request for request in api.requests if not rbac.allows(request, "catsdogs-runner")] == []


def running(api: Api, name: str = "pets-1") -> Object:
    """The pod of a Job that has come to its second epoch."""
    pod = objects.start(api, api.put("jobs", objects.job(name, active=1)))
    api.write(pod["metadata"]["name"], *epoch(1))
    return pod


def test_stop_waits_for_the_pod_and_tells_what_was_saved(api: Api, controllers: Controllers, plugin: Plugin) -> None:
    running(api)
    done = plugin("stop", "pets-1")
    assert (done.returncode, done.stderr) == (0, "-- stopping run pets-1, which saves its progress\n")
    assert done.stdout.splitlines() == [
        "run pets-1 is stopped after epoch 1 of 3: SIGTERM received: progress is saved",
        f"resume it with: {RESUME}",
    ]
    assert api.all("pods") == []
    job = api.find("jobs", "pets-1")
    assert job is not None
    assert job["spec"]["suspend"] is True
    again = plugin("stop", "pets")
    assert again.returncode == 0
    assert again.stdout.splitlines() == ["run pets-1 is not active: Suspended", f"resume it with: {RESUME}"]


def test_a_pod_that_vanishes_as_it_ends(api: Api, controllers: Controllers, plugin: Plugin) -> None:
    controllers.vanishes = True
    running(api)
    done = plugin("stop", "pets-1")
    assert done.returncode == 0
    assert "is stopped after epoch 1 of 3: SIGTERM received: progress is saved" in done.stdout


def test_a_run_that_is_killed_is_not_stopped_in_order(api: Api, controllers: Controllers, plugin: Plugin) -> None:
    controllers.code, controllers.last_words = 137, "10:00:05 fetching images: 5 of 10"
    running(api)
    done = plugin("stop", "pets-1")
    assert done.returncode == 1
    assert "not in order: pod pets-1-abcde ended with exit code 137 (killed)" in done.stdout
    assert "it resumes from its last checkpoint" in done.stdout


def test_a_run_that_has_not_begun(api: Api, controllers: Controllers, plugin: Plugin) -> None:
    api.put("pods", objects.pod(api.put("jobs", objects.job(active=1))))
    done = plugin("stop", "pets")
    assert done.returncode == 0
    assert done.stdout.splitlines()[0] == "run pets-1 is stopped; it had not begun"


def test_a_pod_that_does_not_end(api: Api, controllers: Controllers, plugin: Plugin) -> None:
    controllers.hangs = True
    running(api)
    done = plugin("stop", "pets-1", "--timeout", "1s")
    assert done.returncode == 69
    assert "pod pets-1-abcde still exists after 1s" in done.stderr


def test_a_log_that_may_not_be_read(api: Api, controllers: Controllers, plugin: Plugin) -> None:
    api.denied.add(("get", "pods/log"))
    controllers.takes = 3
    running(api)
    done = plugin("stop", "pets-1")
    assert done.returncode == 0
    assert "run pets-1 is stopped: exit code 75 (interrupted (SIGTERM, SIGINT), progress saved)" in done.stdout
    assert "what was saved is unknown" in done.stderr


def test_one_that_kueue_has_admitted(api: Api, controllers: Controllers, plugin: Plugin) -> None:
    api.missing_groups.clear()
    job = objects.job(active=1)
    job["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] = "gpus"
    stored = api.put("jobs", job)
    objects.start(api, stored)
    owner = {"kind": "Job", "name": "pets-1", "uid": stored["metadata"]["uid"]}
    api.put("workloads", {"metadata": {"name": "job-other"}, "spec": {"active": True}})
    api.put("workloads", {"metadata": {"name": "job-pets-1", "ownerReferences": [owner]}, "spec": {"active": True}})

    def kueue() -> None:
        while True:
            time.sleep(0.05)
            workload = api.find("workloads", "job-pets-1")
            assert workload is not None
            if not workload["spec"]["active"]:
                api.put("jobs", {**stored, "spec": {**stored["spec"], "suspend": True}})
                return

    threading.Thread(target=kueue, daemon=True).start()
    done = plugin("stop", "pets-1")
    assert done.returncode == 0, done.stderr
    assert [item["spec"]["active"] for item in api.all("workloads")] == [True, False]
    assert 'kubectl patch workload job-pets-1 -n default --type=merge -p \'{"spec":{"active":true}}\'' in done.stdout
    assert not [request for request in api.requests if (request.verb, request.resource) == ("patch", "jobs")]


def test_a_run_of_a_schedule(api: Api, controllers: Controllers, plugin: Plugin) -> None:
    job = objects.job(active=1)
    job["metadata"]["ownerReferences"] = [{"kind": "CronJob", "name": "weekly", "uid": "u"}]
    objects.start(api, api.put("jobs", job))
    done = plugin("stop", "pets-1")
    assert done.returncode == 0
    assert "CronJob weekly starts no other run until this one has ended" in done.stderr


def test_a_missing_permission_is_one_line_and_stops_nothing(api: Api, controllers: Controllers, plugin: Plugin) -> None:
    api.denied.add(("patch", "jobs"))
    running(api)
    done = plugin("stop", "pets-1")
    assert (done.returncode, done.stdout) == (77, "")
    assert 'cannot patch resource "jobs"' in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_run_that_has_ended(api: Api, controllers: Controllers, plugin: Plugin) -> None:
    api.put("jobs", objects.job(conditions=[{"type": "Complete", "status": "True"}]))
    done = plugin("stop", "pets")
    assert (done.returncode, done.stdout) == (0, "run pets-1 is not active: Succeeded\n")
    assert not [request for request in api.requests if request.verb == "patch"]
    assert plugin("stop", "dogs").returncode == 65


def test_which_run_is_meant() -> None:
    over: Any = {"conditions": [{"type": "Complete", "status": "True"}]}
    jobs = [
        objects.job("pets-3"),
        objects.job("pets-2", env={"CATSDOGS_RUN_ID": "mine"}, **over),
        objects.job("pets-1", env={"CATSDOGS_RUN_ID": "mine"}),
        objects.job("dogs-1", "dogs"),
        objects.job("old-2", "old", **over),
        objects.job("old-1", "old", **over),
    ]
    meant = {"pets-3": "pets-3", "pets-2": "pets-2", "mine": "pets-1", "dogs": "dogs-1", "old": "old-2"}
    for name, expected in meant.items():
        assert find(jobs, name, "default")["metadata"]["name"] == expected
    assert (
        find([objects.job("cats-1", "same"), objects.job("same", "cats")], "same", "default")["metadata"]["name"]
        == "same"
    )
    with pytest.raises(Usage, match="pets has several runs; name one: pets-3, pets-1"):
        find(jobs, "pets", "default")
    with pytest.raises(NotFound, match="no release or run cats"):
        find(jobs, "cats", "default")


def test_a_run_that_ends_by_itself_meanwhile(api: Api, controllers: Controllers, plugin: Plugin) -> None:
    controllers.code, controllers.verdict = 0, {"type": "Complete", "status": "True"}
    running(api)
    done = plugin("stop", "pets-1")
    assert (done.returncode, done.stdout) == (0, "run pets-1 is complete; its result is at s3://pets/runs/pets-1/\n")


def test_before_its_job_is_known_to_be_complete() -> None:
    done = objects.pod(objects.job(), phase="Succeeded", state={"terminated": {"exitCode": 0}})
    assert summary("run a", [done], Progress(), "") == ("run a ended before it could be stopped", 0)
