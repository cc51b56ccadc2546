"""`kubectl catsdogs follow`: from the moment of install to the end, whatever happens to streams, servers and pods."""

import json
import random
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from catsdogs.runtime.errors import EXIT_CODES
from kubectl_catsdogs.jobs.outcome import outcome
from tests.k8s.conftest import Plugin, Starter
from tests.k8s.fakes import objects, rbac
from tests.k8s.fakes.api import Api, Fault

pytestmark = pytest.mark.usefixtures("a_viewer")

SECONDS = 30
"""How long a test waits for what takes a moment."""


@pytest.fixture
def a_viewer(api: Api) -> Iterator[None]:
    """No request of `follow` may need more than its own Role."""
    yield
    assert [request for request in api.requests if not rbac.allows(request, "catsdogs-viewer")] == []


def until(met: Callable[[], object]) -> None:
    deadline = time.monotonic() + SECONDS
    while not met():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


def asked(api: Api, verb: str, resource: str) -> int:
    """How many such requests there were."""
    return sum((request.verb, request.resource) == (verb, resource) for request in api.requests)


def finished(process: "subprocess.Popen[bytes]") -> tuple[int, bytes, str]:
    out, err = process.communicate(timeout=SECONDS)
    return process.returncode, out, err.decode()


def test_from_before_the_install_to_the_end(api: Api, start_plugin: Starter) -> None:
    process = start_plugin("follow", "pets")
    until(lambda: asked(api, "list", "jobs") > 0)
    job = api.put("jobs", objects.job())
    pod = api.put("pods", objects.pod(job))
    name = pod["metadata"]["name"]
    api.put("events", objects.event(job, "job-controller", "SuccessfulCreate", f"Created pod: {name}"))
    taken = "0/3 nodes are available: 3 Insufficient nvidia.com/gpu. preemption: 0/3 nodes are available."
    waits = api.put("events", objects.event(pod, "default-scheduler", "FailedScheduling", taken))
    api.put("events", waits | {"count": 2})
    api.put(
        "events", objects.event(pod, "default-scheduler", "Scheduled", f"Successfully assigned default/{name} to n1")
    )
    api.put("events", objects.event(pod, "kubelet", "Pulling", 'Pulling image "r/i:1"'))
    api.put(
        "events",
        objects.event(pod, "kubelet", "Pulled", 'Successfully pulled image "r/i:1" in 12.3s (12.3s including)'),
    )
    pod = objects.start(api, job)
    api.write(name, "catsdogs 0.1.0: run pets-1", "published")
    objects.end(api, pod, 0)
    objects.finish(api)
    code, out, err = finished(process)
    assert out == api.log_of(name)
    assert code == 0
    assert err.splitlines() == [
        "-- no run of release pets in namespace default yet; waiting up to 10m",
        "-- run pets-1: Job pets-1 in namespace default",
        f"-- Job controller: created pod {name}",
        f"-- scheduler: no node for {name} yet: of 3 nodes, 3 Insufficient nvidia.com/gpu",
        f"-- scheduler: {name} is assigned to node n1",
        "-- kubelet: pulling image r/i:1",
        "-- kubelet: image r/i:1 is present, pulled in 12.3s",
        "-- run pets-1 is complete; its result is at s3://pets/runs/pets-1/",
    ]


def test_fifty_disconnections_leave_no_trace_in_the_log(api: Api, start_plugin: Starter) -> None:
    dice = random.Random(7)
    job = api.put("jobs", objects.job())
    pod = objects.start(api, job)
    name = pod["metadata"]["name"]
    api.faults += [Fault("get", "pods/log", after=dice.randrange(40, 6000)) for _ in range(50)]
    process = start_plugin("follow", "pets")
    second = 0
    number = 0
    while number < 1500 or any(fault.times for fault in api.faults):
        number += 1
        # Bursts with one time and even one text, and two streams whose times are not quite in order.
        second += dice.random() < 0.05
        nanos = dice.choice((1, 2, 999_999_999))
        text = dice.choice(
            ("same", f"line {number} " + "x" * dice.randrange(40), "", "\x1b[31m tab\t\xe9 ", b"\xff\xfe")
        )
        api.write(name, text, stamp=f"2026-01-01T00:{second // 60:02d}:{second % 60:02d}.{nanos:09d}Z")
        if number % 20 == 0:
            time.sleep(0.02)
    objects.end(api, pod, 0)
    objects.finish(api)
    code, out, err = finished(process)
    assert out == api.log_of(name)
    assert code == 0
    assert "missing" not in err
    assert asked(api, "get", "pods/log") > 50


def test_a_line_with_the_time_of_an_earlier_second_is_not_lost(api: Api, start_plugin: Starter) -> None:
    """Standard output and error are stamped apart: a line may come after one of the next second."""
    job = api.put("jobs", objects.job())
    pod = objects.start(api, job)
    name = pod["metadata"]["name"]
    api.faults.append(Fault("get", "pods/log", after=40))
    api.write(name, "one", stamp="2026-01-01T00:00:10.100000000Z")
    process = start_plugin("follow")
    until(lambda: asked(api, "get", "pods/log") > 0)
    api.write(name, "late", stamp="2026-01-01T00:00:09.900000000Z")
    api.write(name, "two", stamp="2026-01-01T00:00:10.200000000Z")
    objects.end(api, pod, 0)
    objects.finish(api)
    code, out, err = finished(process)
    assert (code, out) == (0, b"one\nlate\ntwo\n")
    assert asked(api, "get", "pods/log") > 1
    assert "missing" not in err


def test_a_replaced_pod(api: Api, start_plugin: Starter) -> None:
    job = api.put("jobs", objects.job())
    first = objects.start(api, job, "pets-1-aaaaa")
    api.write("pets-1-aaaaa", "one", "two")
    process = start_plugin("follow")
    until(lambda: asked(api, "get", "pods/log") > 0)
    objects.end(api, first, 75)
    second = objects.start(api, job, "pets-1-bbbbb")
    api.write("pets-1-bbbbb", "three")
    log = api.log_of("pets-1-aaaaa") + api.log_of("pets-1-bbbbb")
    until(lambda: asked(api, "get", "pods/log") > 2)
    api.remove("pods", "pets-1-aaaaa")
    objects.end(api, second, 0)
    objects.finish(api)
    code, out, err = finished(process)
    assert (code, out) == (0, log)
    assert "-- pod pets-1-aaaaa ended with exit code 75 (interrupted (SIGTERM, SIGINT), progress saved)" in err
    assert "missing" not in err


def test_a_pod_that_goes_with_its_log(api: Api, start_plugin: Starter) -> None:
    job = api.put("jobs", objects.job())
    objects.start(api, job, "pets-1-aaaaa")
    api.write("pets-1-aaaaa", "one")
    api.faults.append(Fault("get", "pods/log", after=60))
    process = start_plugin("follow")
    until(lambda: asked(api, "get", "pods/log") > 0)
    api.faults.append(Fault("get", "pods", 503, times=3))
    api.write("pets-1-aaaaa", "two and more than sixty bytes, so that the stream is cut in the middle")
    api.remove("pods", "pets-1-aaaaa")
    second = objects.start(api, job, "pets-1-bbbbb")
    objects.end(api, second, 0)
    objects.finish(api)
    code, out, err = finished(process)
    assert (code, out) == (0, b"one\n")
    assert "-- log of pets-1-aaaaa: its pod is gone, and its log with it: lines may be missing at the end" in err


def test_an_api_server_that_restarts(api: Api, start_plugin: Starter) -> None:
    job = api.put("jobs", objects.job())
    pod = objects.start(api, job)
    name = pod["metadata"]["name"]
    api.write(name, "one")
    process = start_plugin("follow")
    until(lambda: asked(api, "get", "pods/log") > 0)
    api.stop()
    time.sleep(1.5)
    api.write(name, "two")
    objects.end(api, pod, 0)
    objects.finish(api)
    api.start()
    code, out, err = finished(process)
    assert (code, out) == (0, b"one\ntwo\n")
    assert "kubectl catsdogs: retrying: " in err


def test_a_watch_that_cannot_go_on(api: Api, start_plugin: Starter) -> None:
    job = api.put("jobs", objects.job())
    pod = objects.start(api, job)
    process = start_plugin("follow")
    until(lambda: asked(api, "watch", "jobs") and asked(api, "watch", "pods") and asked(api, "get", "pods/log"))
    before = {plural: asked(api, "list", plural) for plural in ("jobs", "pods")}
    api.forget()
    api.faults += [Fault("watch", plural, 410) for plural in before]
    until(lambda: all(asked(api, "list", plural) > number for plural, number in before.items()))
    objects.end(api, pod, 0)
    objects.finish(api)
    assert finished(process)[0] == 0


def test_a_list_that_is_too_old_to_go_on_is_read_again(api: Api, plugin: Plugin) -> None:
    for number in range(600):
        api.put("jobs", objects.job(f"other-{number:03d}", "others"))
    _failed(api, 65)
    api.faults.append(Fault("list", "jobs", 410))
    assert plugin("follow", "pets").returncode == 65


@pytest.mark.parametrize(("status", "headers"), [(429, {"Retry-After": "1"}), (503, {})])
def test_a_server_with_no_time(api: Api, plugin: Plugin, status: int, headers: dict[str, str]) -> None:
    _failed(api, 65)
    api.faults.append(Fault(status=status, headers=headers, times=3))
    assert plugin("follow").returncode == 65


def test_a_server_that_stays_away(api: Api, plugin: Plugin) -> None:
    api.stop()
    ended = plugin("follow", "--retry-for", "1s")
    assert ended.returncode == 69
    assert len(ended.stderr.splitlines()) == 1
    assert f"{api.address} does not answer: " in ended.stderr


def test_a_token_that_expires(api: Api, kubeconfig: Path, start_plugin: Starter) -> None:
    """The kubeconfig gets a new one; the streams that are open then go on, and later ones use it."""
    api.token = "token"
    job = api.put("jobs", objects.job())
    pod = objects.start(api, job)
    api.write(pod["metadata"]["name"], "one")
    process = start_plugin("follow")
    until(lambda: asked(api, "get", "pods/log") > 0)
    api.token = "renewed"
    api.stop()
    api.start()
    time.sleep(0.5)
    kubeconfig.write_text(json.dumps(api.kubeconfig("renewed")))
    api.write(pod["metadata"]["name"], "two")
    objects.end(api, pod, 0)
    objects.finish(api)
    assert finished(process)[:2] == (0, b"one\ntwo\n")


def test_a_token_of_an_exec_plugin_is_asked_for_again(api: Api, kubeconfig: Path, plugin: Plugin) -> None:
    _failed(api, 65)
    api.token = "second"
    counter = kubeconfig.parent / "asked"
    script = kubeconfig.parent / "login"
    script.write_text(
        f"""#!/bin/sh
echo >> {counter}
[ $(wc -l < {counter}) = 1 ] && token=first || token=second
echo '{{"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential", "status": {{"token": "'$token'"}}}}'
"""
    )
    script.chmod(0o755)
    config = api.kubeconfig()
    login = {"apiVersion": "client.authentication.k8s.io/v1", "command": str(script), "interactiveMode": "Never"}
    config["users"][0]["user"] = {"exec": login}
    kubeconfig.write_text(json.dumps(config))
    assert plugin("follow").returncode == 65
    assert len(counter.read_text()) == 2


def test_a_token_that_is_wrong(api: Api, plugin: Plugin) -> None:
    api.token = "another"
    ended = plugin("follow")
    assert ended.returncode == 77
    assert (
        ended.stderr == "kubectl catsdogs: the API server does not accept the credentials: Unauthorized; log in again\n"
    )


@pytest.mark.parametrize("code", EXIT_CODES)
def test_every_exit_code_of_the_job_has_its_outcome(code: int) -> None:
    job = objects.job()
    end = {"terminated": {"exitCode": code}}
    told = (
        f"Container catsdogs for pod default/pets-1-abcde failed with exit code {code} matching FailJob rule at index 0"
    )
    for reason, message in (("PodFailurePolicy", told), ("BackoffLimitExceeded", "Job has reached the backoff limit")):
        condition = {"type": "Failed" if code else "Complete", "status": "True", "reason": reason, "message": message}
        found = outcome(job | {"status": {"conditions": [condition]}}, [objects.pod(job, state=end)])
        assert found is not None
        assert found.exit_code == code
        assert EXIT_CODES[code][0] in found.text or code == 0


@pytest.mark.parametrize("code", [1, 65])
def test_the_jobs_exit_code_is_passed_on(api: Api, plugin: Plugin, code: int) -> None:
    _failed(api, code)
    ended = plugin("follow", "pets")
    assert ended.returncode == code
    assert f"run pets-1 failed: exit code {code} (" in ended.stderr
    assert ended.stderr.splitlines()[-2].endswith("): what failed, on what")
    assert ended.stderr.splitlines()[-1] == "-- next: kubectl catsdogs why -n default pets"


def test_the_exit_code_of_a_pod_that_is_gone(api: Api, plugin: Plugin) -> None:
    api.put("jobs", objects.job())
    told = "Container catsdogs for pod default/pets-1-abcde failed with exit code 78 matching FailJob rule at index 0"
    objects.finish(api, failed="PodFailurePolicy", message=told)
    ended = plugin("follow")
    assert ended.returncode == 78
    assert "run pets-1 failed: exit code 78 (settings that contradict each other" in ended.stderr


def test_a_failed_job_is_never_a_success() -> None:
    condition = {"type": "Failed", "status": "True", "reason": "DeadlineExceeded"}
    job = objects.job(conditions=[condition])
    found = outcome(job, [objects.pod(job, state={"terminated": {"exitCode": 0}})])
    assert found is not None
    assert found.exit_code == 1


def test_a_deadline(api: Api, plugin: Plugin) -> None:
    job = objects.job()
    job["spec"]["activeDeadlineSeconds"] = 60
    api.put("jobs", job)
    objects.finish(api, failed="DeadlineExceeded", message="Job was active longer than specified deadline")
    ended = plugin("follow")
    assert ended.returncode == 1
    assert "failed: it ran longer than job.activeDeadlineSeconds, 60 s, allows" in ended.stderr


def test_a_job_that_is_deleted(api: Api, start_plugin: Starter) -> None:
    job = api.put("jobs", objects.job())
    pod = objects.start(api, job)
    process = start_plugin("follow")
    until(lambda: asked(api, "get", "pods/log") and asked(api, "watch", "jobs"))
    objects.end(api, pod, 75)
    api.remove("jobs", "pets-1")
    api.remove("pods", pod["metadata"]["name"])
    code, _, err = finished(process)
    assert code == 75
    assert "run pets-1 was removed: its Job pets-1 is deleted" in err


def test_a_job_that_is_stopped(api: Api, start_plugin: Starter) -> None:
    job = api.put("jobs", objects.job(active=1))
    pod = objects.start(api, job)
    process = start_plugin("follow")
    until(lambda: asked(api, "get", "pods/log") and asked(api, "watch", "jobs"))
    job["spec"]["suspend"] = True
    job["status"] = {}
    objects.end(api, pod, 75)
    api.put("jobs", job)
    code, _, err = finished(process)
    assert code == 75
    assert "run pets-1 was stopped: its Job pets-1 is suspended" in err


def test_a_job_that_is_suspended_is_waited_for(api: Api, start_plugin: Starter) -> None:
    job = objects.job()
    job["spec"]["suspend"] = True
    job["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] = "gpus"
    job = api.put("jobs", job)
    process = start_plugin("follow")
    until(lambda: asked(api, "watch", "pods") and asked(api, "watch", "jobs"))
    job["spec"]["suspend"] = False
    api.put("jobs", job)
    objects.end(api, objects.start(api, job), 0)
    objects.finish(api)
    code, _, err = finished(process)
    assert code == 0
    assert "-- the Job is suspended; it starts when Kueue admits it to the queue gpus" in err


def test_the_last_line_needs_no_newline(api: Api, plugin: Plugin) -> None:
    job = api.put("jobs", objects.job())
    pod = objects.start(api, job)
    api.write(pod["metadata"]["name"], "one")
    api.write(pod["metadata"]["name"], "two", end=b"")
    objects.end(api, pod, 0)
    objects.finish(api)
    assert plugin("follow").stdout == "one\ntwo\n"


def test_a_pod_of_an_earlier_job_of_the_same_name_is_not_its_own(api: Api, plugin: Plugin) -> None:
    job = api.put("jobs", objects.job())
    other = objects.pod(job, "pets-1-other", "Failed", {"terminated": {"exitCode": 78}})
    other["metadata"]["labels"]["batch.kubernetes.io/controller-uid"] = "another"
    api.put("pods", other)
    api.write("pets-1-other", "from another life")
    api.end_log("pets-1-other")
    objects.end(api, objects.start(api, job), 65)
    objects.finish(api, failed="BackoffLimitExceeded")
    ended = plugin("follow")
    assert (ended.returncode, ended.stdout) == (65, "")


def test_a_rotated_log_says_what_may_be_missing(api: Api, start_plugin: Starter) -> None:
    job = api.put("jobs", objects.job())
    pod = objects.start(api, job)
    name = pod["metadata"]["name"]
    api.write(name, "one", stamp="2026-01-01T00:00:01.000000001Z")
    api.faults.append(Fault("get", "pods/log", after=len("2026-01-01T00:00:01.000000001Z one\n")))
    process = start_plugin("follow")
    until(lambda: asked(api, "get", "pods/log") > 0)
    api.faults.append(Fault("get", "pods", 503, times=4))
    api.write(name, "two", stamp="2026-01-01T00:00:02.000000001Z")
    api.rotate(name)
    api.write(name, "three", stamp="2026-01-01T00:00:03.000000001Z")
    objects.end(api, pod, 0)
    objects.finish(api)
    code, out, err = finished(process)
    assert (code, out) == (0, b"one\nthree\n")
    between = "between 2026-01-01T00:00:01.000000001Z and 2026-01-01T00:00:03.000000001Z"
    assert err.count(f"lines may be missing {between}: the kubelet has rotated it") == 1


def test_a_container_that_the_kubelet_restarts(api: Api, start_plugin: Starter) -> None:
    job = api.put("jobs", objects.job())
    pod = objects.start(api, job)
    name = pod["metadata"]["name"]
    api.write(name, "one")
    api.faults.append(Fault("get", "pods/log", after=len("2026-01-01T00:00:01.000000001Z one\n")))
    process = start_plugin("follow")
    until(lambda: asked(api, "get", "pods/log") > 0)
    api.faults.append(Fault("get", "pods", 503, times=4))
    api.write(name, "two")
    again = objects.pod(job, name, "Running", {"running": {}}, restarts=1)
    api.put("pods", again)
    api.end_log(name)
    api.write(name, "three", restart=1)
    api.end_log(name, restart=1)
    ended = {"terminated": {"exitCode": 0}}
    api.put("pods", objects.pod(job, name, "Succeeded", ended, restarts=1))
    objects.finish(api)
    assert finished(process)[:2] == (0, b"one\ntwo\nthree\n")


def test_ctrl_c_stops_following_and_not_the_job(api: Api, start_plugin: Starter) -> None:
    job = api.put("jobs", objects.job())
    objects.start(api, job)
    process = start_plugin("follow", "pets", "-n", "default")
    until(lambda: asked(api, "get", "pods/log") > 0)
    process.send_signal(signal.SIGINT)
    code, out, err = finished(process)
    assert (code, out) == (130, b"")
    told = "-- stopped following; the run continues; follow it again with: kubectl catsdogs follow pets -n default"
    assert err.splitlines()[-1] == told
    assert {request.verb for request in api.requests} <= {"get", "list", "watch"}


def test_a_release_that_is_not_there(api: Api, plugin: Plugin) -> None:
    api.put("jobs", objects.job("dogs-1", "dogs"))
    ended = plugin("follow", "pets", "--timeout", "0.2s")
    assert (ended.returncode, ended.stdout) == (65, "")
    last = ended.stderr.splitlines()[-1]
    assert last.startswith("kubectl catsdogs: no run of release pets in namespace default after ")
    assert "releases with a run: dogs" in last


def test_two_releases_are_a_choice(api: Api, plugin: Plugin) -> None:
    api.put("jobs", objects.job("dogs-1", "dogs"))
    api.put("jobs", objects.job())
    ended = plugin("follow")
    assert ended.returncode == 2
    several = "namespace default has several releases; name one: dogs, pets"
    assert ended.stderr == f"kubectl catsdogs: {several}\n"


def test_the_newest_run_or_the_one_that_is_named(api: Api, plugin: Plugin) -> None:
    for name, code, made in (("pets-2", 78, "2026-01-02T00:00:00Z"), ("pets-1", 65, "2026-01-01T00:00:00Z")):
        job = objects.job(name, env={"CATSDOGS_RUN_ID": f"run-of-{name}"})
        job["metadata"]["creationTimestamp"] = made
        objects.end(api, objects.start(api, api.put("jobs", job), f"{name}-abcde"), code)
        told = f"Container catsdogs for pod default/{name}-abcde failed with exit code {code} matching"
        objects.finish(api, name, "PodFailurePolicy", told)
    assert plugin("follow", "pets").returncode == 78
    assert plugin("follow", "run-of-pets-1").returncode == 65


@pytest.mark.parametrize(
    ("verb", "resource"), [("list", "jobs"), ("watch", "jobs"), ("list", "pods"), ("get", "pods/log")]
)
def test_a_missing_permission_is_one_clear_line(api: Api, plugin: Plugin, verb: str, resource: str) -> None:
    job = api.put("jobs", objects.job())
    objects.start(api, job)
    api.denied.add((verb, resource))
    ended = plugin("follow")
    assert ended.returncode == 77
    *reports, last = ended.stderr.splitlines()
    assert all(line.startswith("-- run pets-1: ") for line in reports)
    assert f'cannot {verb} resource "{resource}"' in last
    assert last.endswith("; docs/kubectl.md has the Role that is needed")


def test_without_events_the_pods_own_words_are_told(api: Api, start_plugin: Starter) -> None:
    api.denied.add(("*", "events"))
    job = api.put("jobs", objects.job())
    waiting = {"waiting": {"reason": "ImagePullBackOff", "message": "Back-off pulling image"}}
    process = start_plugin("follow")
    until(lambda: asked(api, "list", "events") and asked(api, "watch", "pods"))
    time.sleep(0.2)
    api.put("pods", objects.pod(job, state=waiting))
    objects.end(api, objects.start(api, job), 0)
    objects.finish(api)
    code, _, err = finished(process)
    assert code == 0
    assert err.count('cannot list resource "events"') == 1
    assert err.count("-- pets-1-abcde waits: ImagePullBackOff: Back-off pulling image") == 1


def test_what_the_cluster_says_does_not_steer_a_terminal(api: Api, plugin: Plugin) -> None:
    job = _failed(api, 65)
    # The watch comes too late for them.
    api.faults.append(Fault("list", "events", 503, times=2))
    api.put("events", objects.event(job, "job-controller", "Odd\x1b[2J", "a\nb\x07 {braces}"))
    ended = plugin("follow")
    assert "-- Job controller: Odd\\x1b[2J: a b\\x07 {braces}" in ended.stderr
    assert not re.search(r"[\x00-\x09\x0b-\x1f]", ended.stderr)


def test_a_kubeconfig_that_leads_nowhere(kubeconfig: Path, plugin: Plugin) -> None:
    ended = plugin("follow", "--kubeconfig", "nowhere")
    assert (ended.returncode, len(ended.stderr.splitlines())) == (78, 1)
    ended = plugin("--context", "absent", "follow")
    assert (ended.returncode, len(ended.stderr.splitlines())) == (78, 1)
    assert "absent" in ended.stderr
    kubeconfig.write_text("a: [b")
    ended = plugin("follow")
    assert (ended.returncode, len(ended.stderr.splitlines())) == (78, 1)


def test_a_reader_that_goes_away(api: Api, start_plugin: Starter) -> None:
    job = api.put("jobs", objects.job())
    pod = objects.start(api, job)
    process = start_plugin("follow")
    assert process.stdout is not None
    api.write(pod["metadata"]["name"], "one")
    assert process.stdout.readline() == b"one\n"
    process.stdout.close()
    while process.poll() is None:
        api.write(pod["metadata"]["name"], "more")
        time.sleep(0.05)
    assert process.returncode == 141


def _failed(api: Api, code: int) -> objects.Object:
    """A Job that has failed with it, as a whole, in its only pod."""
    job = api.put("jobs", objects.job())
    pod = objects.start(api, job)
    objects.end(api, pod, code, message="a line before\nwhat failed, on what")
    told = f"Container catsdogs for pod default/{pod['metadata']['name']} failed with exit code {code} matching FailJob"
    objects.finish(api, failed="PodFailurePolicy", message=told)
    return job
