"""The real helm, in both versions that are in use."""

import pytest

from tests.helm import binaries
from tests.helm.chart import Helm


@pytest.fixture(scope="session", params=[3, 4], ids=["helm3", "helm4"])
def helm(request: pytest.FixtureRequest) -> Helm:
    if not binaries.AVAILABLE:
        pytest.skip("the pinned helm is for Linux on x86-64")
    return Helm(binaries.helm(request.param))


@pytest.fixture(scope="session")
def helm4() -> Helm:
    """One of the two, where rendering is not what is tested."""
    if not binaries.AVAILABLE:
        pytest.skip("the pinned helm is for Linux on x86-64")
    return Helm(binaries.helm(4))
