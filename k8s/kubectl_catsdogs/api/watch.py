"""What is there of one kind, and what becomes of it, as messages in a queue: across cut streams and 410 Gone."""

import queue
import threading
import time
from typing import Any, NamedTuple

from kubectl_catsdogs.api.client import Cluster
from kubectl_catsdogs.base.contract import Object
from kubectl_catsdogs.base.errors import Failure, Gone

PAUSE = 0.2
"""Seconds between two streams, lest a server that drops each at once is asked without end."""


class Message(NamedTuple):
    """From a thread to whoever follows: `kind` is a plural, or what logs.py says; `content` is what there is of it."""

    kind: str
    content: Any


class Listed(NamedTuple):
    """All there is, as at the beginning, and when the stream of changes could not go on."""

    items: list[Object]


class Changed(NamedTuple):
    """One object, as it is now or, `gone`, as it was last."""

    item: Object
    gone: bool


def watch(cluster: Cluster, plural: str, out: "queue.Queue[Message]", labels: str = "", fields: str = "") -> None:
    """Starts a thread that puts Message(plural, Listed | Changed), or at last Message(plural, Failure)."""

    def run() -> None:
        try:
            while True:
                items, version = cluster.list_at(plural, labels, fields)
                out.put(Message(plural, Listed(items)))
                _stream(version)
        except Failure as failure:
            out.put(Message(plural, failure))

    def _stream(version: str) -> None:
        """Until the server no longer knows from where to go on."""
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
