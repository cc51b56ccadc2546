"""The table of helm/catsdogs-train/README.md, made from the comments in values.yaml by `make docs`."""

import json
import re
from pathlib import Path
from typing import Any

import yaml

VALUES = Path(__file__).parents[1] / "helm/catsdogs-train/values.yaml"


def described(text: str) -> dict[str, str]:
    """Each value that has a comment right above it, by its dotted name, in the file's order."""
    found: dict[str, str] = {}
    comment: list[str] = []
    parents: list[str] = []
    for line in text.splitlines():
        if match := re.match(r" *# (.*)", line):
            comment.append(match[1])
            continue
        if match := re.match(r"( *)([A-Za-z]+):", line):
            depth = len(match[1]) // 2
            parents = [*parents[:depth], match[2]]
            if comment:
                found[".".join(parents)] = " ".join(comment)
        comment = []
    return found


def leaves(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Every value that is not a group of values, by its dotted name."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, dict) and value:
            found |= leaves(value, f"{prefix}{name}.")
        else:
            found[prefix + name] = value
    return found


def table() -> str:
    """A row for each value: name, meaning, default. Raises ValueError for one without a comment."""
    text = VALUES.read_text()
    values = yaml.safe_load(text)
    descriptions = described(text)
    for name in leaves(values):
        if not any(name == known or name.startswith(known + ".") for known in descriptions):
            raise ValueError(f"{VALUES}: {name} has no comment")
    lines = ["| value | meaning | default |", "|---|---|---|"]
    for name, description in descriptions.items():
        value = values
        for part in name.split("."):
            value = value[part]
        default = "" if value in (None, "") else f"`{value if isinstance(value, str) else json.dumps(value)}`"
        lines.append(f"| `{name}` | {description} | {default} |")
    return "\n".join(lines)
