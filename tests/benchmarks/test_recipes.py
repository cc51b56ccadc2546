import subprocess
import sys

import pytest

from tests.conftest import REPOSITORY


@pytest.mark.slow
def test_the_table_of_the_recipes_is_what_the_code_gives() -> None:
    table = subprocess.run(
        [sys.executable, "-m", "benchmarks.recipes"], cwd=REPOSITORY, capture_output=True, text=True, check=True
    ).stdout
    assert table.splitlines()[2].startswith("| `baseline` | 3,453,121 | 150×150 | 0.47 ")
    assert table in (REPOSITORY / "docs" / "recipes.md").read_text()
