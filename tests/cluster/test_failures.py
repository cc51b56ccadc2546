"""Runs that cannot succeed: the Job says so, and is tried again only where that may help."""

import pytest

from tests.cluster.api import Object
from tests.cluster.cluster import GPU
from tests.cluster.releases import LARGE, Namespace, Run, memory, until

pytestmark = pytest.mark.timeout(3600)


def check_given_up(run: Run, code: int, words: str) -> None:
    """At once, by the podFailurePolicy, with the cause as the pod's last line."""
    assert run.fail() == "PodFailurePolicy"
    assert run.ends == [(code, "Error")]
    assert words in run.last_words().splitlines()[-1]


def test_wrong_secret_key(namespace: Namespace) -> None:
    namespace.secret("wrong", {**namespace.storage.keys(), "AWS_SECRET_ACCESS_KEY": "0" * 40})
    run = namespace.install("pets", {"credentials": {"existingSecret": "wrong"}}).run
    check_given_up(run, 77, "credentials")


def test_no_such_bucket(namespace: Namespace) -> None:
    run = namespace.install("pets", {"bucket": "nobodys-pets"}).run
    check_given_up(run, 78, "nobodys-pets")


def test_no_such_archive(namespace: Namespace) -> None:
    run = namespace.install("pets", {"archive": {"key": "datasets/birds.zip"}}).run
    check_given_up(run, 65, "datasets/birds.zip")


def test_secret_that_is_not_there_yet(namespace: Namespace) -> None:
    """The kubelet waits for it: no failure is counted, and the run goes on once it is there."""
    run = namespace.install("pets", {"credentials": {"existingSecret": "late"}, "job": {"backoffLimit": 0}}).run

    def waits() -> bool:
        return any(
            status["state"].get("waiting", {}).get("reason") == "CreateContainerConfigError"
            for pod in run.pods
            for status in pod["status"].get("containerStatuses", [])
        )

    until(waits, "the pod waits for its Secret", 60, run.story)
    assert run.job["status"].get("failed", 0) == 0
    namespace.secret("late", namespace.storage.keys())
    run.succeed()


def test_too_little_memory(namespace: Namespace) -> None:
    """For TensorFlow, and for the model: seen before the kernel kills the run, and not tried again."""
    check_given_up(namespace.install("small", memory("200Mi")).run, 78, "raise the container's limit")
    check_given_up(namespace.install("large", LARGE, memory("1400Mi")).run, 78, "20 images of 400 pixels")


def test_memory_that_does_not_last(namespace: Namespace) -> None:
    """Only the kernel knows that it was the memory, so it may be tried again, as often as the chart is told."""
    run = namespace.install("pets", LARGE, memory("1800Mi"), {"job": {"backoffLimit": 1}}).run
    assert run.fail() == "BackoffLimitExceeded"
    assert run.ends == [(137, "OOMKilled")] * 2


def gpu(count: int) -> Object:
    return {"gpu": {"count": count}, "job": {"backoffLimit": 0}}


def unschedulable(run: Run) -> str:
    """What the scheduler says about the only pod; empty while it says nothing."""
    conditions = [item for pod in run.pods for item in pod["status"].get("conditions", [])]
    return next((item["message"] for item in conditions if item.get("reason") == "Unschedulable"), "")


def test_no_gpu_left(namespace: Namespace) -> None:
    """The run waits until the GPU is free. Then it fails, since what the node offers here is only a number."""
    holder = namespace.install("holder", gpu(1), {"diagnosticMode": True, "job": {"terminationGracePeriodSeconds": 1}})
    until(lambda: holder.run.pods[-1]["status"]["phase"] == "Running", "the GPU is taken", 60, holder.run.story)
    run = namespace.install("waiting", gpu(1)).run
    until(lambda: f"Insufficient {GPU}" in unschedulable(run), "the scheduler says why", 30, run.story)
    status = run.job["status"]
    assert (status["active"], status.get("failed", 0)) == (1, 0)
    holder.uninstall()
    assert run.fail() == "BackoffLimitExceeded"
    assert run.ends == [(69, "Error")]
    assert "no usable GPU" in run.last_words()


def test_more_gpus_than_any_node_has(namespace: Namespace) -> None:
    run = namespace.install("pets", gpu(64)).run
    until(lambda: f"Insufficient {GPU}" in unschedulable(run), "the scheduler says why", 30, run.story)
    assert (run.condition("Failed"), run.job["status"].get("failed", 0)) == (None, 0)
