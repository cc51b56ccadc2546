"""Access to Kubernetes objects as the API sends them: plain JSON, in which any part may be missing."""

from typing import Any

Object = dict[str, Any]
"""A Kubernetes object, with the API's own field names."""


def dig(value: Any, *keys: str | int, default: Any = None) -> Any:
    """Return value[key][key]…, or the default where a key is missing or its value is null."""
    for key in keys:
        try:
            value = value[key]
        except (KeyError, IndexError, TypeError):
            return default
    return default if value is None else value


def name_of(item: Object) -> str:
    return str(dig(item, "metadata", "name", default=""))


def uid_of(item: Object | None) -> str:
    return str(dig(item, "metadata", "uid", default=""))


def condition(item: Object, kind: str) -> Object | None:
    """Return the condition of that type if its status is True."""
    conditions: list[Object] = dig(item, "status", "conditions", default=[])
    return next((entry for entry in conditions if entry.get("type") == kind and entry.get("status") == "True"), None)


def oldest_first(items: list[Object]) -> list[Object]:
    return sorted(items, key=lambda item: (dig(item, "metadata", "creationTimestamp", default=""), name_of(item)))
