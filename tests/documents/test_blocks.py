"""No command stands in README or docs that no test types."""

import pytest

from tests.documents.blocks import Block, blocks

HERE, IMAGE, CLUSTER = "tests/documents/test_commands.py", "tests/image/test_readme.py", "tests/cluster/test_readme.py"
TARGET = "a target that .ci/run calls, or that takes too long for a test"
TYPED = {
    "README.md": {
        "make demo\n": HERE,
        "make demo ARCHIVE=": HERE,
        "make test\n": TARGET,
        "python3 -m venv": HERE,
        "export AWS_ACCESS_KEY_ID=": HERE,
        "make image\n": IMAGE,
        "docker run --rm --gpus all --user": IMAGE,
        "docker run --rm --gpus all -e": IMAGE,
        "make image IMAGE=": IMAGE,
        "helm install": CLUSTER,
        "pip install ./k8s": HERE,
    },
    "CONTRIBUTING.md": {"make test ": TARGET},
    "docs/kubectl.md": {"pip install ./k8s": HERE, 'eval "$(_KUBECTL_CATSDOGS_COMPLETE=': HERE},
    "docs/recipes.md": {"catsdogs run": HERE},
    "docs/runs.md": {
        "catsdogs runs": HERE,
        "catsdogs verify": HERE,
        "catsdogs predict": HERE,
        "pip install '.[onnx]'": HERE,
        "pip install '.[mlflow]'": HERE,
    },
    "docs/workers.md": {"for index in 0 1; do": HERE},
    "helm/catsdogs-train/README.md": {"helm ": CLUSTER, "kubectl ": CLUSTER},
    "benchmarks/RESULTS.md": {"catsdogs run": HERE, "make bench": TARGET},
}
"""Document → beginning of a block → what types it."""


def commands() -> list[Block]:
    return [block for block in blocks() if block.language == "sh"]


@pytest.mark.parametrize("block", commands(), ids=lambda block: f"{block.document}: {block.text.splitlines()[0]}")
def test_every_command_block_is_typed(block: Block) -> None:
    assert sum(block.text.startswith(beginning) for beginning in TYPED.get(block.document, ())) == 1


def test_every_entry_has_its_block() -> None:
    for document, entries in TYPED.items():
        texts = [block.text for block in commands() if block.document == document]
        assert [start for start in entries if not any(text.startswith(start) for text in texts)] == []


def test_every_block_says_what_it_is() -> None:
    assert [f"{block.document}: {block.text.splitlines()[0]}" for block in blocks() if not block.language] == []
