"""The runs that lie in an output, side by side."""

import json
import re
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from catsdogs.results import publish
from catsdogs.results.metrics import wilson_interval
from catsdogs.runtime.errors import BadData, printable
from catsdogs.runtime.formatting import percent
from catsdogs.storage.lease import KEY as LEASE
from catsdogs.storage.store import StorageOptions, Store, open_store, read

WORKERS = 8
STATES = ("published", "unpublished", "damaged")
SETTINGS = ("recipe_name", "epochs", "seed", "image_size", "batch_size", "learning_rate", "train_per_class")
FIGURES = ("test_accuracy", "interval", "test_correct", "test_images", "validation_accuracy", "best_epoch")
COLUMNS = ("run", "test accuracy", "95 % interval", "images", "validation", "recipe", "epochs", "seed", "published")
_NAMES = "|".join(map(re.escape, (*publish.ARTIFACTS, *publish.EXPORTS, publish.MANIFEST, LEASE)))
_OF_A_RUN = re.compile(rf"([^/]+)/({_NAMES}|{publish.CHECKPOINTS}.*)", re.DOTALL)


def runs(output: str, storage_options: StorageOptions) -> list[dict[str, Any]]:
    """Every run in `output`: the published ones by test accuracy, best first, then the others by name.

    Each has run_id, uri, state (one of STATES), problem (what is wrong with a damaged one), published (when), SETTINGS
    and FIGURES; what is not known is None. A published one has every artifact in the size that its manifest says, and
    what is read here has the manifest's SHA-256. Raises what the store raises when it cannot be listed or read.
    """
    store = open_store(output, storage_options)
    sizes: dict[str, dict[str, int]] = {}
    for key, stat in store.list():
        if of_a_run := _OF_A_RUN.fullmatch(key):
            sizes.setdefault(of_a_run[1], {})[of_a_run[2]] = stat.size
    with ThreadPoolExecutor(WORKERS, "runs") as pool:
        found = list(pool.map(lambda run_id: _look(store.within(run_id), run_id, sizes[run_id]), sizes))
    return sorted(found, key=lambda run: (STATES.index(run["state"]), -(run["test_accuracy"] or 0), run["run_id"]))


def _look(run: Store, run_id: str, sizes: Mapping[str, int]) -> dict[str, Any]:
    row: dict[str, Any] = {"run_id": run_id, "uri": run.uri(""), "state": "unpublished", "problem": None}
    row |= dict.fromkeys(("published", *SETTINGS, *FIGURES))
    try:
        if publish.MANIFEST not in sizes:
            return row | (_settings(read(run, publish.RUN)) if publish.RUN in sizes else {})
        document, listed = publish.manifest(run)
        entries = {entry.name: entry for entry in listed}
        for name in sorted({*publish.ARTIFACTS, *entries}):
            if name not in entries or sizes.get(name, -1) != entries[name].size:
                raise BadData(f"{run.uri(name)}: not what the manifest says")
        row |= _settings(publish.contents(run, entries[publish.RUN]))
        row |= _figures(publish.contents(run, entries[publish.METRICS]))
        return row | {"state": "published", "published": document["published"]}
    except BadData as error:
        problem = str(error)
    except (ValueError, KeyError, TypeError):
        problem = f"{run.uri('')}: its files are not those of a run"
    return row | {"state": "damaged", "problem": problem}


def _settings(run_json: bytes) -> dict[str, Any]:
    settings = json.loads(run_json)["settings"]
    return {name: settings[name] for name in SETTINGS}


def _figures(metrics_json: bytes) -> dict[str, Any]:
    metrics = json.loads(metrics_json)
    correct, images = int(metrics["test"]["correct"]), int(metrics["test"]["images"])
    figures = (
        float(metrics["test"]["accuracy"]), wilson_interval(correct, images), correct, images,
        float(metrics["validation"]["accuracy"]), metrics["best_epoch"],
    )  # fmt: skip
    return dict(zip(FIGURES, figures, strict=True))


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """A line a run under a line of heads, in columns."""
    lines = [[head.upper() for head in COLUMNS], *map(_cells, rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join("  ".join(map(str.ljust, line, widths)).rstrip() for line in lines)


def _cells(row: Mapping[str, Any]) -> list[str]:
    known = row["test_accuracy"] is not None
    texts = (
        row["run_id"],
        percent(row["test_accuracy"]) if known else None,
        "{} to {}".format(*map(percent, row["interval"])) if known else None,
        f"{row['test_images']:,}" if known else None,
        percent(row["validation_accuracy"]) if known else None,
        row["recipe_name"],
        row["epochs"],
        row["seed"],
        row["published"] if row["state"] == "published" else row["state"],
    )
    return ["–" if text is None else printable(str(text)) for text in texts]
