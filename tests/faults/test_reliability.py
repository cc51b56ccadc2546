"""docs/reliability.md and docs/security.md name the tests behind each promise, so that they cannot go stale."""

import ast
import re
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY

DOCUMENTS = ("reliability.md", "security.md")
NAMED = {
    test
    for name in DOCUMENTS
    for test in re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", (REPOSITORY / "docs" / name).read_text())
}


def functions_in(path: Path) -> set[str]:
    """Names of the test functions, those in classes too."""
    nodes = ast.walk(ast.parse(path.read_text()))
    return {node.name for node in nodes if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")}


@pytest.mark.parametrize("name", DOCUMENTS)
def test_each_row_names_tests(name: str) -> None:
    rows = [line for line in (REPOSITORY / "docs" / name).read_text().splitlines() if line.startswith("| ")]
    rows = [row for row in rows if not row.endswith("| tests |")]
    assert len(rows) > 10
    assert [row for row in rows if "`tests/" not in row.rsplit("|", 2)[1]] == []


@pytest.mark.parametrize("path", sorted({path for path, _ in NAMED}))
def test_each_named_test_exists(path: str) -> None:
    assert {name for there, name in NAMED if there == path} <= functions_in(REPOSITORY / path)


@pytest.mark.parametrize("path", sorted(Path(__file__).parent.glob("test_*.py")), ids=lambda path: path.name)
def test_each_test_shows_a_promise(path: Path) -> None:
    if path != Path(__file__):
        told = {name for there, name in NAMED if REPOSITORY / there == path}
        assert functions_in(path) <= told


@pytest.mark.parametrize("path", sorted(Path(__file__).parent.glob("test_*.py")), ids=lambda path: path.name)
def test_no_promise_is_known_to_be_broken(path: Path) -> None:
    assert "pytest.mark." + "xfail" not in path.read_text()
