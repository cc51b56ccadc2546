"""The plugin's other commands: why, submit, runs and stop."""

import json

import pytest

from tests.cluster.api import Object
from tests.cluster.cluster import GPU
from tests.cluster.plugin import Plugin
from tests.cluster.releases import LONG, Namespace, Run, until
from tests.published import check_manifest

pytestmark = pytest.mark.timeout(3600)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"credentials": {"existingSecret": "wrong"}}, ["77", "credentials"]),
        ({"credentials": {"existingSecret": "absent"}}, ["absent"]),
        ({"bucket": "nobodys-pets"}, ["78", "nobodys-pets"]),
        ({"archive": {"key": "datasets/birds.zip"}}, ["65", "datasets/birds.zip"]),
        (
            {"resources": {"requests": {"memory": "64Mi"}, "limits": {"memory": "200Mi"}}, "job": {"backoffLimit": 0}},
            ["out of memory", "200Mi"],
        ),
        ({"gpu": {"count": 64}}, [GPU]),
        ({"image": {"tag": "nobodys", "pullPolicy": "Never"}}, ["nobodys"]),
    ],
    ids=["wrong secret", "no secret", "no bucket", "no archive", "memory", "gpu", "image"],
)
def test_why_names_it(namespace: Namespace, plugin: Plugin, values: Object, words: list[str]) -> None:
    namespace.secret("wrong", {**namespace.storage.keys(), "AWS_SECRET_ACCESS_KEY": "0" * 40})
    namespace.install("pets", values)
    said: list[str] = []

    def named() -> bool:
        said[:] = [plugin("why", "pets").stdout]
        return all(word in said[0] for word in words)

    until(named, f"why says {words}", 90, lambda: said[0], interval=1)


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
