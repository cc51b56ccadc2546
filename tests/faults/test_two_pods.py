"""Two pods with one run id, as when a node comes back: one publishes, and nothing of the two is mixed."""

import hashlib
import json
import signal
import time
from pathlib import Path

import pytest

from tests.faults.conftest import Undisturbed
from tests.faults.proxy import Fault, Proxy
from tests.faults.running import RUN_ID, Job, ended, together
from tests.published import objects
from tests.servers import S3Server

PUBLISHED, INTERRUPTED = 0, 75

IN_FLIGHT = {
    "the lease": Fault("hold", "PUT", "*/lease.json"),
    "an artifact": Fault("hold", "PUT", "*/metrics.json"),
    "the model": Fault("hold", "PUT", "*/model.keras"),
    "the manifest": Fault("hold", "PUT", "*/manifest.json"),
}
"""What a publisher has sent, and what has not arrived yet."""


def pod(name: str, undisturbed: Undisturbed, directory: Path) -> Path:
    """A volume on which the run is trained, with figures and a log of its own."""
    volume = undisturbed.trained(directory / name)
    run = volume / "work" / RUN_ID
    metrics, record = run / "artifacts" / "metrics.json", run / "artifacts" / "artifacts.json"
    metrics.write_text(json.dumps({**json.loads(metrics.read_text()), "pod": name}))
    complete = json.loads(record.read_text())
    complete["artifacts"]["metrics.json"] = hashlib.sha256(metrics.read_bytes()).hexdigest()
    record.write_text(json.dumps(complete))
    with (run / "log.jsonl").open("a") as log:
        log.write(json.dumps({"event": "pod", "pod": name}) + "\n")
    return volume


def publisher(published: dict[str, bytes]) -> str:
    """The pod whose figures are published; its log must be, too."""
    name = str(json.loads(published["metrics.json"])["pod"])
    marks = [json.loads(line) for line in published["log.jsonl"].splitlines()]
    assert [mark["pod"] for mark in marks if mark["event"] == "pod"] == [name]
    return name


def check_ends(jobs: dict[str, Job]) -> list[str]:
    """The pods that say that they have published. Each of the others says in one line why not, or that it is done."""
    for job in jobs.values():
        code = job.wait()
        assert code in (PUBLISHED, INTERRUPTED), job.stderr
        if code == INTERRUPTED:
            assert "another process" in job.said()
        else:
            assert job.stderr == ""
            assert ("published" in job.names) != ("already-published" in job.names)
    return [name for name, job in jobs.items() if "published" in job.names]


def check_publishes(undisturbed: Undisturbed, server: S3Server, bucket: str, volume: Path) -> None:
    """What is trained on the volume, undisturbed."""
    arguments = undisturbed.arguments(bucket, volume)
    code, job = ended("publish", *arguments, env=server.environment, directory=volume.parent)
    assert (code, job.stderr, job.names[-1]) == (PUBLISHED, "", "published")


@pytest.mark.parametrize("attempt", [0, *(pytest.param(attempt, marks=pytest.mark.slow) for attempt in range(1, 6))])
def test_two_runs_started_together(
    attempt: int, undisturbed: Undisturbed, seaweedfs: S3Server, bucket: str, tmp_path: Path
) -> None:
    jobs = {
        name: Job(
            "run", *undisturbed.arguments(bucket, tmp_path / name, "--checkpoint-to=bucket"),
            env=seaweedfs.environment, directory=tmp_path,
        )
        for name in ("one", "two")
    }  # fmt: skip
    with together(list(jobs.values())):
        assert len(check_ends(jobs)) == 1
    undisturbed.check(objects(seaweedfs, bucket, f"runs/{RUN_ID}/"), tmp_path)


@pytest.mark.parametrize("in_flight", ["the model", "the manifest"])
def test_second_publisher_waits_for_the_first(
    in_flight: str, undisturbed: Undisturbed, seaweedfs: S3Server, bucket: str, tmp_path: Path
) -> None:
    held = IN_FLIGHT[in_flight]
    volumes = {name: pod(name, undisturbed, tmp_path) for name in ("one", "two")}
    with Proxy(seaweedfs, held) as slow:
        one = Job("publish", *undisturbed.arguments(bucket, volumes["one"]), env=slow.environment, directory=tmp_path)
        with together([one]) as jobs:
            slow.reached(held)
            jobs.append(
                Job(
                    "publish", *undisturbed.arguments(bucket, volumes["two"]), env=seaweedfs.environment,
                    directory=tmp_path,
                )
            )  # fmt: skip
            time.sleep(2.5)
            assert "manifest.json" not in objects(seaweedfs, bucket, f"runs/{RUN_ID}/")
            slow.release()
            assert check_ends(dict(zip(volumes, jobs, strict=True))) == ["one"]
    published = objects(seaweedfs, bucket, f"runs/{RUN_ID}/")
    undisturbed.check(published, tmp_path)
    assert publisher(published) == "one"


@pytest.mark.parametrize(
    "in_flight", [pytest.param(name, marks=() if name == "the model" else pytest.mark.slow) for name in IN_FLIGHT]
)
def test_publisher_that_was_thought_dead(
    in_flight: str, undisturbed: Undisturbed, seaweedfs: S3Server, bucket: str, tmp_path: Path
) -> None:
    """One is stopped in the middle, another finishes, the first goes on, and what it had sent arrives late."""
    held = IN_FLIGHT[in_flight]
    volumes = {name: pod(name, undisturbed, tmp_path) for name in ("one", "two")}
    with Proxy(seaweedfs, held) as slow:
        arguments = undisturbed.arguments(bucket, volumes["one"])
        with Job("publish", *arguments, env=slow.environment, directory=tmp_path) as one:
            slow.reached(held)
            one.process.send_signal(signal.SIGSTOP)
            check_publishes(undisturbed, seaweedfs, bucket, volumes["two"])
            before = objects(seaweedfs, bucket, f"runs/{RUN_ID}/")
            slow.release()
            one.process.send_signal(signal.SIGCONT)
            assert check_ends({"one": one}) == []
    published = objects(seaweedfs, bucket, f"runs/{RUN_ID}/")
    assert published == before, "not a byte has changed"
    undisturbed.check(published, tmp_path)
    assert publisher(published) == "two"


@pytest.mark.slow
@pytest.mark.parametrize("in_flight", IN_FLIGHT)
def test_publisher_that_is_dead(
    in_flight: str, undisturbed: Undisturbed, seaweedfs: S3Server, bucket: str, tmp_path: Path
) -> None:
    """Killed in the middle, its volume lost: the next one, elsewhere, publishes all of its own."""
    held = IN_FLIGHT[in_flight]
    volumes = {name: pod(name, undisturbed, tmp_path) for name in ("one", "two")}
    with Proxy(seaweedfs, held) as slow:
        arguments = undisturbed.arguments(bucket, volumes["one"])
        with Job("publish", *arguments, env=slow.environment, directory=tmp_path) as one:
            slow.reached(held)
            one.kill()
    check_publishes(undisturbed, seaweedfs, bucket, volumes["two"])
    published = objects(seaweedfs, bucket, f"runs/{RUN_ID}/")
    undisturbed.check(published, tmp_path)
    assert publisher(published) == "two"
