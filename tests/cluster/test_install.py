"""From `helm install` to a verified result in the bucket."""

import pytest

from catsdogs.results import manifest
from catsdogs.storage.address import open_store
from tests.cluster.api import PermissionDenied
from tests.cluster.releases import RESTRICTED, Namespace
from tests.published import check_manifest

pytestmark = pytest.mark.timeout(3600)


def test_install_publishes_a_verified_run(namespace: Namespace, monkeypatch: pytest.MonkeyPatch) -> None:
    run = namespace.install("pets", {"logFormat": "text"}).run
    published = run.succeed()
    check_manifest(published)
    with monkeypatch.context() as patch:
        for name, value in namespace.storage.server.environment.items():
            patch.setenv(name, value)
        manifest.verify(open_store(f"s3://{namespace.bucket}/runs/{run.name}"))
    assert run.ends == [(0, "Completed")]
    # As a user would read it.
    log = namespace.kubectl("logs", f"job/{run.name}")
    assert log.stderr == ""
    lines = log.stdout.splitlines()
    assert f"run {run.name}" in lines[0]
    assert "published 11 artifacts" in lines[-1]
    assert all(line.isprintable() for line in lines)


def test_namespace_refuses_what_is_not_restricted(namespace: Namespace) -> None:
    """Else the other tests' namespaces would prove nothing."""
    assert namespace.api.get(f"/api/v1/namespaces/{namespace.name}")["metadata"]["labels"][RESTRICTED] == "restricted"
    pod = {"metadata": {"name": "free"}, "spec": {"containers": [{"name": "free", "image": namespace.cluster.image}]}}
    with pytest.raises(PermissionDenied, match='violates PodSecurity \\\\"restricted:latest\\\\"'):
        namespace.api("POST", namespace.path("pods"), pod)
