"""The plugin's other commands: why, check, submit, runs and stop."""

import json

import pytest

from tests.cluster.api import Object
from tests.cluster.cluster import GPU
from tests.cluster.plugin import Plugin
from tests.cluster.releases import LARGE, LONG, SECRET, Namespace, Run, memory, until
from tests.published import check_manifest

pytestmark = pytest.mark.timeout(3600)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"credentials": {"existingSecret": "wrong"}}, ["77", "credentials"]),
        ({"credentials": {"existingSecret": "absent"}}, ["absent"]),
        ({"bucket": "nobodys-pets"}, ["78", "nobodys-pets"]),
        ({"archive": {"key": "datasets/birds.zip"}}, ["65", "datasets/birds.zip"]),
        (memory("200Mi"), ["78", "256 MiB"]),
        (
            {**memory("2200Mi"), **LARGE, "job": {"backoffLimit": 0}},
            ["out of memory", "2200Mi"],
        ),
        ({"gpu": {"count": 64}}, [GPU]),
        ({"image": {"tag": "nobodys", "pullPolicy": "Never"}}, ["nobodys"]),
    ],
    ids=["wrong secret", "no secret", "no bucket", "no archive", "memory", "killed for memory", "gpu", "image"],
)
def test_why_names_it(namespace: Namespace, plugin: Plugin, values: Object, words: list[str]) -> None:
    namespace.secret("wrong", {**namespace.storage.keys(), "AWS_SECRET_ACCESS_KEY": "0" * 40})
    namespace.install("pets", values)
    said: list[str] = []

    def named() -> bool:
        said[:] = [plugin("why", "pets").stdout]
        return all(word in said[0] for word in words)

    until(named, f"why says {words}", 90, lambda: said[0], interval=1)


def test_why_says_who_has_the_gpu(namespace: Namespace, plugin: Plugin) -> None:
    holder = namespace.install("holder", {"gpu": {"count": 1}, "diagnosticMode": True})
    until(lambda: holder.run.pods[-1]["status"]["phase"] == "Running", "the GPU is taken", 60, holder.run.story)
    namespace.install("waiting", {"gpu": {"count": 1}})
    said: list[str] = []

    def named() -> bool:
        said[:] = [plugin("why", "waiting").stdout]
        return GPU in said[0] and holder.run.pods[-1]["metadata"]["name"] in said[0]

    until(named, "why names the pod that has it", 90, lambda: said[0], interval=1)


def test_check(namespace: Namespace, plugin: Plugin) -> None:
    """Of the namespace as the tests prepare it, and of one that lacks a Secret and GPUs."""
    good = plugin("check", f"--secret={SECRET}")
    assert good.returncode == 0, good.stdout + good.stderr
    bad = plugin("check", "--secret=absent", "--gpus=64")
    assert bad.returncode == 78, bad.stdout + bad.stderr
    assert "absent" in bad.stdout
    assert GPU in bad.stdout


def test_submit_a_sweep(namespace: Namespace, plugin: Plugin) -> None:
    release = namespace.install("pets")
    release.run.succeed()
    swept = plugin("submit", "--from", "pets", "--sweep", "learning_rate=1e-3,1e-4,1e-5", "--parallel", "2", "--wait")
    assert swept.returncode == 0, swept.stdout + swept.stderr
    runs = [Run(namespace, job["metadata"]["name"]) for job in namespace.items("jobs")]
    # The first is the release's own, which is published and is not made again.
    assert len(runs) == 3
    for run in runs:
        check_manifest(run.succeed())
    rates = {json.loads(run.published["run.json"])["settings"]["learning_rate"] for run in runs}
    assert rates == {1e-3, 1e-4, 1e-5}
    listed = plugin("runs", "pets").stdout
    assert all(run.name in listed for run in runs)


def test_stop_saves_progress(namespace: Namespace, plugin: Plugin) -> None:
    run = namespace.install("pets", LONG).run
    run.until_said("epoch", epoch=3)
    with run.last_line() as said:
        stopped = plugin("stop", run.name)
    assert stopped.returncode == 0, stopped.stdout + stopped.stderr
    assert "progress is saved" in said[0]
    assert run.condition("Complete") is None
