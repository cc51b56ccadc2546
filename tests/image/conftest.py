"""The engine, with the image built, for all tests of the image."""

import os
from collections.abc import Iterator

import pytest

from tests.image.engine import Engine, NoEngine, base_image, engine

IMAGE = "catsdogs-train:test"


@pytest.fixture(scope="session")
def docker() -> Iterator[Engine]:
    """An engine that has the image."""
    try:
        with engine() as found:
            found.build(IMAGE, base_image(found))
            yield found
    except NoEngine as reason:
        # So that a machine that should have an engine cannot pass without one.
        if os.environ.get("CATSDOGS_TEST_ENGINE") == "required":
            pytest.fail(str(reason))
        pytest.skip(str(reason))
