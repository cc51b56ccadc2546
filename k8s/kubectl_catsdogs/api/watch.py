"""The objects of one kind and their changes, as messages in a queue; survives cut streams and 410 Gone."""

import queue
import threading
import time
from typing import Any, NamedTuple

from kubectl_catsdogs.api.client import Cluster
from kubectl_catsdogs.base.errors import Failure, Gone
from kubectl_catsdogs.base.objects import Object

PAUSE = 0.2
"""Seconds between two streams, so that a server that drops each at once is not flooded."""


class Message(NamedTuple):
    """From a reading thread to the one that follows. `kind` is the plural of what is watched, or log_stream's."""

    kind: str
    content: Any


class Listed(NamedTuple):
    """All objects: at the beginning, and when the stream of changes could not continue."""

    items: list[Object]


class Changed(NamedTuple):
    """One object as it is now, or as it last was if it is `gone`."""

    item: Object
    gone: bool


def watch(cluster: Cluster, plural: str, out: "queue.Queue[Message]", labels: str = "", fields: str = "") -> None:
    """Start a thread that puts Message(plural, Listed | Changed) into `out`; it ends with Message(plural, Failure)."""

    def run() -> None:
        try:
            while True:
                items, version = cluster.list_at(plural, labels, fields)
                out.put(Message(plural, Listed(items)))
                _stream(version)
        except Failure as failure:
            out.put(Message(plural, failure))

    def _stream(version: str) -> None:
        """Return when the server no longer knows where to continue."""
        while True:
            try:
                for change in cluster.stream(plural, labels, fields, version):
                    version = change["object"]["metadata"]["resourceVersion"]
                    if change["type"] != "BOOKMARK":
                        out.put(Message(plural, Changed(change["object"], change["type"] == "DELETED")))
            except Gone:
                return
            time.sleep(PAUSE)

    threading.Thread(target=run, daemon=True, name=f"watch {plural}").start()
