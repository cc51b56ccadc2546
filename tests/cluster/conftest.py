"""One cluster and one S3 server for all tests; a namespace and a bucket for each."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster import cluster as clusters
from tests.cluster import sandbox
from tests.cluster.binaries import Missing
from tests.cluster.cluster import Cluster, Own
from tests.cluster.plugin import Plugin
from tests.cluster.releases import Namespace, Storage
from tests.cluster.storage import Relay
from tests.helm import binaries
from tests.helm.chart import Helm
from tests.image.engine import NoEngine
from tests.servers import S3Server


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    try:
        with clusters.cluster() as found:
            yield found
        if found.own is not None:
            assert sandbox.remains() == []
    except (Missing, NoEngine) as reason:
        # So that a machine that should have a cluster cannot pass without one.
        if os.environ.get("CATSDOGS_TEST_ENGINE") == "required":
            pytest.fail(str(reason))
        pytest.skip(str(reason))


@pytest.fixture(scope="session")
def own(cluster: Cluster) -> Own:
    """For tests that restart parts of the cluster."""
    if cluster.own is None:
        pytest.skip("the cluster of KUBECONFIG is not ours to disturb")
    return cluster.own


@pytest.fixture(scope="session")
def helm() -> Helm:
    if not binaries.AVAILABLE:
        pytest.skip("the pinned helm is for Linux on x86-64")
    return Helm(binaries.helm(4))


@pytest.fixture(scope="session")
def storage(cluster: Cluster, seaweedfs: S3Server, sample_archive: Path) -> Iterator[Storage]:
    with Relay(seaweedfs, cluster.address) as relay:
        yield Storage(seaweedfs, relay, sample_archive)


@pytest.fixture
def namespace(cluster: Cluster, storage: Storage, helm: Helm, tmp_path: Path) -> Iterator[Namespace]:
    with Namespace(cluster, storage, helm, tmp_path) as found:
        yield found


@pytest.fixture
def plugin(namespace: Namespace, tmp_path: Path) -> Plugin:
    return Plugin(namespace, tmp_path)
