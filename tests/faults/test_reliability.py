"""docs/reliability.md names the test behind each promise, and the gaps that are known: neither can go stale."""

import ast
import re
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY

DOCUMENT = (REPOSITORY / "docs" / "reliability.md").read_text()
NAMED = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", DOCUMENT)


def functions_in(path: Path) -> set[str]:
    """Names of the test functions, those in classes too."""
    nodes = ast.walk(ast.parse(path.read_text()))
    return {node.name for node in nodes if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")}


def gaps_in(path: Path) -> set[str]:
    """The reasons for which tests are expected to fail."""
    calls = (node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call))
    return {
        ast.literal_eval(keyword.value)
        for call in calls
        if ast.unparse(call.func) == "pytest.mark.xfail"
        for keyword in call.keywords
        if keyword.arg == "reason"
    }


def test_document_names_tests() -> None:
    assert len(NAMED) > 40


@pytest.mark.parametrize("path", sorted({path for path, _ in NAMED}))
def test_each_named_test_exists(path: str) -> None:
    assert {name for there, name in NAMED if there == path} <= functions_in(REPOSITORY / path)


@pytest.mark.parametrize("path", sorted(Path(__file__).parent.glob("test_*.py")), ids=lambda path: path.name)
def test_each_test_shows_a_promise(path: Path) -> None:
    if path != Path(__file__):
        told = {name for there, name in NAMED if REPOSITORY / there == path}
        assert functions_in(path) <= told


def test_gaps_are_those_that_the_tests_know() -> None:
    section = DOCUMENT.partition("## Known gaps")[2].partition("\n## ")[0]
    listed = {" ".join(item.split()) for item in re.findall(r"^- (.+?)(?=\n- |\n\n|\Z)", section, re.M | re.S)}
    known = {gap for path in Path(__file__).parent.glob("test_*.py") for gap in gaps_in(path)}
    assert {item.partition(": ")[2] for item in listed} == known
