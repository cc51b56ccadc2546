"""Label and field selectors, as the API server understands them."""

import re
from typing import Any

Object = dict[str, Any]


def fits(item: Object, query: dict[str, str]) -> bool:
    labels = item["metadata"].get("labels") or {}
    return _labels_fit(labels, query.get("labelSelector", "")) and _fields_fit(item, query.get("fieldSelector", ""))


def _labels_fit(labels: dict[str, str], selector: str) -> bool:
    for term in re.findall(r"[^,(]+(?:\([^)]*\))?", selector):
        if among := re.fullmatch(r"(\S+) (in|notin) \(([^)]*)\)", term.strip()):
            name, how, values = among.groups()
            inside = labels.get(name) in [value.strip() for value in values.split(",")]
            if inside != (how == "in"):
                return False
        elif "!=" in term:
            name, _, value = term.partition("!=")
            if labels.get(name) == value:
                return False
        elif "=" in term:
            name, value = re.split("==?", term, maxsplit=1)
            if labels.get(name) != value:
                return False
        elif (term.lstrip("!") in labels) == term.startswith("!"):
            return False
    return True


def _fields_fit(item: Object, selector: str) -> bool:
    for term in filter(None, selector.split(",")):
        path, operator, value = re.split("(!=|==?)", term, maxsplit=1)
        found: Any = item
        for part in path.split("."):
            found = found.get(part) if isinstance(found, dict) else None
        if (str(found or "") == value) == (operator == "!="):
            return False
    return True
