"""The job's options as `submit` takes them: NAME=VALUE, checked before a pod has to find out. Pure.

The types are the job's own, which the tests compare. What values mean together is left to the job, which ends at once,
with 78, where they contradict each other.
"""

import difflib
import itertools
import math
from collections.abc import Sequence
from typing import Any

import click

from kubectl_catsdogs.base.duration import Duration
from kubectl_catsdogs.base.errors import Usage

Settings = dict[str, str]
"""Option name with `_` → its value, written in one way only."""


class RunId(click.ParamType[str]):
    """A name that is safe as a folder and as a key."""

    name = "name"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        allowed = set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.")
        if not value or len(value) > 100 or set(value) - allowed or value.startswith("."):
            self.fail(f"{value!r}: use up to 100 letters, digits, '-', '_' and '.', not '.' first", param, ctx)
        return value


PRECISIONS = ("float32", "mixed_bfloat16")
RECIPES = ("baseline", "augmented", "xception", "compact")
COUNT = click.IntRange(min=1)
SETTABLE: dict[str, click.ParamType[Any]] = {
    "run_id": RunId(),
    "recipe": click.Choice(RECIPES),
    "epochs": COUNT,
    "batch_size": COUNT,
    "learning_rate": click.FloatRange(min=0, min_open=True, max=10),
    "image_size": click.IntRange(min=1, max=1024),
    "seed": click.IntRange(min=0, max=2**32 - 1),
    "train_per_class": COUNT,
    "validation_per_class": COUNT,
    "test_per_class": COUNT,
    "precision": click.Choice(PRECISIONS),
    "checkpoint_every": Duration(),
}
OWNED = {
    "archive": "archive.key",
    "output": "output.prefix",
    "volume": "volume.type",
    "require_gpu": "gpu.count",
    "xla": "training.xla",
    "checkpoint_to": "checkpoint.to",
    "export": "export",
    "addressing_style": "storage.addressingStyle",
    "storage_timeout": "storage.timeout",
    "log_format": "logFormat",
    "workers": "workers",
    "worker_index": "workers",
    "worker_address": "workers",
    "worker_timeout": "workerTimeout",
    "heartbeat_timeout": "heartbeatTimeout",
}
"""Options that belong together with other parts of the template, as its mounts and credentials → the chart's value."""


def value(name: str, text: str) -> Any:
    """Raises Usage for what the job would not take. `name` is one of SETTABLE."""
    try:
        found = SETTABLE[name].convert(text, None, None)
    except click.BadParameter as error:
        raise Usage(f"{name}={text}: {error.message}") from None
    if isinstance(found, float) and math.isnan(found):
        raise Usage(f"{name}={text}: not a number")
    return found


def same(name: str, one: str | None, other: str) -> bool:
    """Whether two texts are one value, as 1e-3 and 0.001 are. What is not given (None) is no value."""
    try:
        return one is not None and bool(value(name, one) == value(name, other))
    except Usage:
        return False


def combinations(settings: Sequence[str], sweeps: Sequence[str]) -> list[Settings]:
    """What each run is told, of NAME=VALUE and of NAME=VALUE,VALUE…; the last sweep changes fastest. Raises Usage."""
    fixed = _named(settings)
    swept = _named(sweeps)
    if twice := fixed.keys() & swept.keys():
        raise Usage(f"{min(twice)}: give it to --set or to --sweep, not to both")
    if sweeps and "run_id" in fixed | swept:
        raise Usage("run_id: the runs of a sweep need ids of their own, which they get")
    told = {name: _text(name, text) for name, text in fixed.items()}
    # Without repetitions, in the order given.
    lists = [
        [(name, text) for text in dict.fromkeys(_text(name, part) for part in texts.split(","))]
        for name, texts in swept.items()
    ]
    return [told | dict(chosen) for chosen in itertools.product(*lists)]


def _named(texts: Sequence[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for text in texts:
        given, equals, rest = text.partition("=")
        name = given.strip().replace("-", "_")
        if not equals:
            raise Usage(f"{text}: write NAME=VALUE")
        if name in OWNED:
            raise Usage(f"{given}: is the release's, and the same for all its runs; change it with helm: {OWNED[name]}")
        if name not in SETTABLE:
            near = difflib.get_close_matches(name, SETTABLE, 1)
            hint = f"do you mean {near[0]}?" if near else f"there are {', '.join(SETTABLE)}"
            raise Usage(f"{given}: the job has no such option; {hint}")
        if name in found:
            raise Usage(f"{given}: is given twice")
        found[name] = rest.strip()
    return found


def _text(name: str, text: str) -> str:
    found = value(name, text.strip())
    if isinstance(found, float):
        return str(int(found)) if found.is_integer() else repr(found)
    return str(found)
