"""What becomes of a release: changed, undone, removed, repeated by the clock, and beside another one."""

import pytest

from tests.cluster.releases import LONG, Namespace, Release, Run, until
from tests.helm import binaries
from tests.helm.chart import Helm
from tests.published import check_manifest

pytestmark = pytest.mark.timeout(3600)

OTHER = {"training": {"seed": 1}}
EPHEMERAL = {"events", "events.events.k8s.io"}


@pytest.fixture(params=[3, 4], ids=["helm3", "helm4"])
def either(namespace: Namespace, request: pytest.FixtureRequest) -> Namespace:
    """Both Helms are in use, and differ in how they apply a change."""
    namespace.helm = Helm(binaries.helm(request.param))
    return namespace


def identities(release: Release) -> dict[str, str]:
    """Job → uid, which is another one if it was deleted and made anew."""
    return {job["metadata"]["name"]: job["metadata"]["uid"] for job in release.items("jobs")}


def contents(namespace: Namespace) -> set[str]:
    """All objects of all kinds, as KIND/NAME."""
    kinds = namespace.kubectl("api-resources", "--namespaced", "--verbs=list", "--output=name").stdout.split()
    listed = ",".join(kind for kind in kinds if kind not in EPHEMERAL)
    found = namespace.kubectl("get", listed, "--output=name")
    assert found.returncode == 0, found.stderr
    return set(found.stdout.split())


def check_left(namespace: Namespace, expected: set[str]) -> None:
    """Of what was made in the namespace; the volumes of claims that went have gone with them."""
    until(lambda: contents(namespace) == expected, "it is gone", 60, lambda: str(contents(namespace) ^ expected))

    def volumes() -> int:
        claims = [volume["spec"]["claimRef"] for volume in namespace.api.items("/api/v1/persistentvolumes")]
        return [claim["namespace"] for claim in claims].count(namespace.name)

    claims = len(namespace.items("persistentvolumeclaims"))
    until(lambda: volumes() == claims, "the volumes are gone", 60)


def test_life_of_a_release(either: Namespace) -> None:
    """Install, upgrade unchanged and changed, roll back, upgrade again, uninstall."""
    before = contents(either)
    release = either.install("pets")
    first = release.run
    check_manifest(first.succeed())
    only = identities(release)

    release.upgrade()
    assert identities(release) == only
    assert len(release.items("pods")) == 1

    release.upgrade(OTHER)
    [second] = [Run(either, name) for name in set(identities(release)) - set(only)]
    check_manifest(second.succeed())
    assert identities(release).items() > only.items()
    # The earlier one keeps its log.
    assert "published" in first.log()
    assert first.published["model.keras"] != second.published["model.keras"]

    either.run_helm("rollback", "pets", "1")
    until(lambda: identities(release) == only, "only the first Job is left", 60)

    # Its result is still in the bucket, so that the run has nothing more to do.
    release.upgrade(OTHER)
    second.succeed()
    assert [said["event"] for said in second.said()] == ["already-published"]

    release.uninstall()
    check_left(either, before)
    check_manifest(first.published)


def test_upgrade_while_running(either: Namespace) -> None:
    """The run that goes on is not touched, and both come to their ends."""
    release = either.install("pets", LONG)
    first = release.run
    first.until_said("epoch", epoch=3)
    only = identities(release)
    release.upgrade(LONG)
    assert identities(release) == only
    release.upgrade(LONG, OTHER)
    assert identities(release).items() > only.items()
    assert first.condition("Complete") is None
    for name in release.jobs:
        run = Run(either, name)
        check_manifest(run.succeed())
        assert run.ends == [(0, "Completed")]
        assert "resumed" not in [said["event"] for said in run.said()]


def test_uninstall_while_running_leaves_only_a_kept_volume(either: Namespace) -> None:
    before = contents(either)
    release = either.install("pets", LONG, {"volume": {"keep": True}})
    run = release.run
    run.until_said("epoch", epoch=3)
    [claim] = [item["metadata"]["name"] for item in release.items("persistentvolumeclaims")]
    release.uninstall()
    check_left(either, before | {f"persistentvolumeclaim/{claim}"})
    # Another release finds the checkpoints there.
    again = either.install("again", LONG, {"volume": {"existingClaim": claim}, "runId": run.name}).run
    assert again.finish() == "Complete", again.story()
    assert "resumed" in [said["event"] for said in again.said()]
    check_manifest(run.published)


def test_two_releases_side_by_side(namespace: Namespace) -> None:
    cats, dogs = namespace.install("cats"), namespace.install("dogs", OTHER)
    runs = [cats.run, dogs.run]
    for run in runs:
        check_manifest(run.succeed())
    assert runs[0].published["model.keras"] != runs[1].published["model.keras"]
    cats.uninstall()
    assert dogs.jobs == [runs[1].name]
    assert "published" in runs[1].log()


def test_helm_test(namespace: Namespace) -> None:
    namespace.install("pets", {"job": {"suspend": True}})
    assert "Succeeded" in namespace.run_helm("test", "pets")
    namespace.install("birds", {"job": {"suspend": True}, "archive": {"key": "birds.zip"}})
    process = namespace.helm("test", "birds", f"--namespace={namespace.name}", kubeconfig=namespace.cluster.kubeconfig)
    assert process.returncode != 0
    assert "birds.zip" in namespace.kubectl("logs", "birds-catsdogs-train-test").stdout.splitlines()[-1]


def test_schedule(namespace: Namespace) -> None:
    release = namespace.install("nightly", {"cronJob": {"schedule": "* * * * *"}})
    name = "nightly-catsdogs-train"
    made = namespace.kubectl("create", "job", f"--from=cronjob/{name}", "at-once")
    assert made.returncode == 0, made.stderr
    check_manifest(Run(namespace, "at-once").succeed())

    def scheduled() -> list[str]:
        jobs = [job["metadata"] for job in namespace.items("jobs")]
        return [job["name"] for job in jobs if job["name"].startswith(f"{name}-")]

    until(scheduled, "the clock makes a Job", 90, lambda: namespace.kubectl("describe", "cronjobs").stdout)
    check_manifest(Run(namespace, scheduled()[0]).succeed())
    release.uninstall()
    until(lambda: not namespace.items("cronjobs") + namespace.items("jobs"), "it is gone with its Jobs", 60)


def test_network_policy(namespace: Namespace) -> None:
    release = namespace.install("pets", {"networkPolicy": {"enabled": True}})
    [policy] = release.items("networkpolicies")
    host, _, port = namespace.storage.relay.endpoint.removeprefix("http://").partition(":")
    assert {"ports": [{"port": int(port), "protocol": "TCP"}], "to": [{"ipBlock": {"cidr": f"{host}/32"}}]} in policy[
        "spec"
    ]["egress"]
    # Whether it is enforced is up to the cluster's network; here it must not be in the way.
    check_manifest(release.run.succeed())
