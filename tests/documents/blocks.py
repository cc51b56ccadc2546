"""The command blocks of README and docs, for the tests that type them."""

import re
from typing import NamedTuple

from tests.conftest import REPOSITORY

DOCUMENTS = [
    REPOSITORY / "README.md",
    REPOSITORY / "CONTRIBUTING.md",
    *sorted((REPOSITORY / "docs").glob("*.md")),
    REPOSITORY / "helm/catsdogs-train/README.md",
    REPOSITORY / "benchmarks/RESULTS.md",
]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


class Block(NamedTuple):
    document: str
    """Its path in the repository."""
    language: str
    text: str


def blocks() -> list[Block]:
    """Return every fenced block of every document, in order."""
    return [
        Block(str(path.relative_to(REPOSITORY)), language, text)
        for path in DOCUMENTS
        for language, text in FENCE.findall(path.read_text())
    ]


def block(document: str, beginning: str) -> str:
    """Return the text of the one `sh` block that begins so."""
    [text] = [
        found.text
        for found in blocks()
        if (found.document, found.language) == (document, "sh") and found.text.startswith(beginning)
    ]
    return text
