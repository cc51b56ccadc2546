"""`kubectl catsdogs follow`: from the install to the outcome, whatever is replaced or restarted meanwhile."""

import json

import pytest

from tests.cluster.cluster import Own
from tests.cluster.plugin import Plugin
from tests.cluster.releases import LONG, Namespace
from tests.published import check_manifest

pytestmark = pytest.mark.timeout(3600)


def events(lines: list[str]) -> list[str]:
    """Those that are the job's, in JSON, among what else is told."""
    return [line for line in lines if line.startswith("{")]


def test_follow_from_install_to_the_verified_result(namespace: Namespace, plugin: Plugin) -> None:
    run = namespace.install("pets").run
    followed = plugin("follow", "pets")
    assert followed.returncode == 0, followed.stdout + followed.stderr
    assert events(followed.stdout.splitlines()) == run.log().splitlines()
    check_manifest(run.succeed())


def test_follow_over_a_deleted_pod_and_a_restarted_api_server(namespace: Namespace, plugin: Plugin, own: Own) -> None:
    run = namespace.install("pets", LONG).run
    with plugin.beginning("follow", "pets") as follower:
        run.until_said("epoch", epoch=3)
        with run.last_line():
            assert namespace.kubectl("delete", "pod", run.pod).returncode == 0
        # In this order, as the run may well end while there is no API server.
        run.until_said("resumed")
        own.restart_api_server(away=3)
        check_manifest(run.succeed())
        assert follower.wait(60) == 0
    logged = run.log().splitlines()
    # Without a gap or a repeated line; what came before is the first pod's, whose log is gone.
    told = events(plugin.told)
    assert told[-len(logged) :] == logged
    assert len(told) == len(set(told))
    epochs = [said["epoch"] for said in map(json.loads, told) if said["event"] == "epoch"]
    assert epochs == list(range(1, 61))


def test_follow_ends_with_the_exit_code_of_the_job(namespace: Namespace, plugin: Plugin) -> None:
    namespace.install("pets", {"archive": {"key": "datasets/birds.zip"}})
    followed = plugin("follow", "pets")
    assert followed.returncode == 65
    assert "datasets/birds.zip" in followed.stdout + followed.stderr
