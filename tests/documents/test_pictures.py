"""docs/bucket.md says of each kind of image what becomes of it."""

import contextlib
import re

import pytest

from catsdogs.data.images import NotAnImage, check, decode
from tests.conftest import REPOSITORY
from tests.documents.pictures import ROWS, Row

pytestmark = pytest.mark.filterwarnings("ignore:::PIL")


def accepted(data: bytes, more_formats: bool) -> bool:
    if not more_formats:
        with contextlib.suppress(NotAnImage):
            check(data)
            return True
    with contextlib.suppress(NotAnImage):
        return decode(data, (9, 9), more_formats=more_formats).shape == (9, 9, 3)
    return False


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.image)
def test_each_image_ends_as_the_table_says(row: Row) -> None:
    for number, make in enumerate(row.files):
        data = make()
        assert (accepted(data, False), accepted(data, True)) == (row.split, row.predict), number


def test_every_test_named_exists() -> None:
    text = (REPOSITORY / "docs" / "bucket.md").read_text()
    named = set(re.findall(r"`(tests/\S+\.py)::(\w+)`", text))
    assert len(named) > 8
    for path, name in named:
        assert f"def {name}(" in (REPOSITORY / path).read_text(), name
