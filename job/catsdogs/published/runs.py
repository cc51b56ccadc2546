"""Lists the runs of an output: the published ones with their metrics, the others with what their log says."""

import contextlib
import io
import re
import textwrap
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any, Literal, TypedDict

from catsdogs.results import documents, manifest, names
from catsdogs.results.job_log import Start, lines_of, newest_start
from catsdogs.results.manifest import Manifest
from catsdogs.results.metrics import wilson_interval
from catsdogs.runtime.errors import BadData, Changed, ConfigError, JobError, PermissionDenied, VolumeError, printable
from catsdogs.runtime.formatting import percent
from catsdogs.storage import document
from catsdogs.storage.address import open_store
from catsdogs.storage.folder import Folder
from catsdogs.storage.store import StorageOptions, Store

WORKERS = 8
SILENCE = 300.0
"""Seconds after the newest event of its log from which a start counts as stopped. A running job logs an event every few
seconds, and uploads its log every 30; loading TensorFlow, compiling and exporting can take minutes without one."""
MAX_LOG = 8 << 20
"""Bytes from the end of a log that are read: a day of training."""
WIDTH = 80
"""Columns of the table."""
STATES = ("published", "unpublished", "damaged")
Status = Literal["published", "running", "interrupted", "failed", "stopped", "unknown", "damaged", "newer"]
"""What became of an unpublished run's newest start. `stopped`: it logged no failure, because it was killed, or was one
of the commands prepare and train. `unknown`: there is no log. `newer`: a newer version's run, published or not."""
SETTINGS = ("recipe_name", "epochs", "seed", "image_size", "batch_size", "learning_rate", "train_per_class")
METRICS = ("test_accuracy", "interval", "test_correct", "test_images", "validation_accuracy", "best_epoch")
COLUMNS = ("run", "test", "95 % interval", "recipe", "epochs", "seed", "status")
_NAMES = "|".join(map(re.escape, (*names.ARTIFACTS, *names.EXPORTS, names.MANIFEST, names.LEASE)))
_RUN_ID = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]*")
_OF_A_RUN = re.compile(rf"([^/]+)/({_NAMES}|{names.CHECKPOINTS}.*)", re.DOTALL)


class LastStart(TypedDict):
    """The newest start of an unpublished run, from its log."""

    started: str | None
    """ISO 8601, UTC."""
    host: str | None
    """Of the process; in Kubernetes the pod."""
    logged: str
    """When the newest event was logged; ISO 8601, UTC."""
    text: str
    """Of that event; of a failure the error."""
    exit_code: int | None
    """Of a start that failed or was interrupted."""


def runs(output: str, storage_options: StorageOptions) -> list[dict[str, Any]]:
    """Return every run in `output`: the published ones by test accuracy, best first, then the others by name.

    Each has run_id, uri, state (one of STATES), status, problem (what is wrong with a damaged one), published (when),
    last_start, SETTINGS and METRICS; what is not known is None. A published run has every artifact of its manifest in
    the size given there, and what is read here has the manifest's SHA-256. Raises what the store raises when it cannot
    be listed or read.
    """
    store = open_store(output, storage_options)
    sizes: dict[str, dict[str, int]] = {}
    unreadable: dict[str, JobError] = {}

    def note(key: str, error: JobError) -> None:
        run_id = key.partition("/")[0]
        if _RUN_ID.fullmatch(run_id):
            unreadable.setdefault(run_id, error)

    for key, stat in store.list(on_unreadable=note):
        if of_a_run := _OF_A_RUN.fullmatch(key):
            sizes.setdefault(of_a_run[1], {})[of_a_run[2]] = stat.size

    def look(run_id: str) -> dict[str, Any]:
        return _look(store.within(run_id), run_id, sizes.get(run_id, {}), unreadable.get(run_id))

    with ThreadPoolExecutor(WORKERS, "runs") as pool:
        rows = list(pool.map(look, sizes | unreadable))
    return sorted(rows, key=lambda run: (STATES.index(run["state"]), -(run["test_accuracy"] or 0), run["run_id"]))


def _look(run: Store, run_id: str, sizes: Mapping[str, int], unreadable: JobError | None) -> dict[str, Any]:
    row: dict[str, Any] = {"run_id": run_id, "uri": run.uri(""), "state": "unpublished", "status": "unknown"}
    row |= dict.fromkeys(("problem", "published", "last_start", *SETTINGS, *METRICS))
    try:
        if unreadable is not None:
            raise unreadable
        if names.MANIFEST in sizes:
            return row | _published(run, manifest.load(run), sizes)
        if names.RUN in sizes:
            row |= _settings(run, _read(run, names.RUN))
        return row | (_unpublished(run) if names.LOG in sizes else {})
    except ConfigError as error:
        state = "published" if names.MANIFEST in sizes else "unpublished"
        return row | {"state": state, "status": "newer", "problem": str(error)}
    except (BadData, VolumeError, PermissionDenied) as error:
        # Storage that refuses the credentials would refuse every run.
        if isinstance(error, PermissionDenied) and not isinstance(run, Folder):
            raise
        return row | {"state": "damaged", "status": "damaged", "problem": str(error)}


def _published(run: Store, found: Manifest, sizes: Mapping[str, int]) -> dict[str, Any]:
    """Raises BadData if the run is not what its manifest says, ConfigError if a newer version wrote it."""
    for name in found.missing:
        raise BadData(f"{run.uri(name)}: not in the manifest")
    for entry in found.entries.values():
        # `sizes` lacks the names that this version does not know.
        size = sizes[entry.name] if entry.name in sizes else run.stat(entry.name).size
        if size != entry.size:
            raise BadData(f"{run.uri(entry.name)}: not what the manifest says")
    return {
        "state": "published",
        "status": "published",
        "published": found.published,
        **_settings(run, manifest.contents(run, found.entries[names.RUN], documents.MAX_SIZE)),
        **_metrics(run, manifest.contents(run, found.entries[names.METRICS], documents.MAX_SIZE)),
    }


def _read(run: Store, name: str) -> bytes:
    """Raises BadData if the object is too large for a document."""
    try:
        return document.read_object(run, name)
    except ValueError as reason:
        raise BadData(f"{run.uri(name)}: {reason}") from None


def _settings(run: Store, run_json: bytes) -> dict[str, Any]:
    where = run.uri(names.RUN)
    try:
        settings = documents.load_run(run_json, where)["settings"]
    except ValueError as reason:
        raise BadData(f"{where}: not that of a run ({reason})") from None
    return {name: settings[name] for name in SETTINGS}


def _metrics(run: Store, metrics_json: bytes) -> dict[str, Any]:
    where = run.uri(names.METRICS)
    try:
        metrics = documents.load_metrics(metrics_json, where)
        if not documents.agrees(metrics["test"]):
            raise ValueError("test: its accuracy is not that of its counts")
    except ValueError as reason:
        raise BadData(f"{where}: not that of a run ({reason})") from None
    correct, images = metrics["test"]["correct"], metrics["test"]["images"]
    values = (
        float(metrics["test"]["accuracy"]), wilson_interval(correct, images), correct, images,
        float(metrics["validation"]["accuracy"]), metrics["best_epoch"],
    )  # fmt: skip
    return dict(zip(METRICS, values, strict=True))


def _unpublished(run: Store) -> dict[str, Any]:
    start = newest_start(lines_of(io.BytesIO(_log_tail(run))))
    if start is None:
        return {}
    last_start: LastStart = {
        "started": start.began.isoformat() if start.began else None,
        "host": start.host,
        "logged": start.last.isoformat(),
        "text": start.text,
        "exit_code": start.exit_code,
    }
    return {"status": _status_of(start, datetime.now(UTC)), "last_start": last_start}


def _status_of(start: Start, now: datetime) -> Status:
    if start.exit_code is not None:
        return "interrupted" if start.interrupted else "failed"
    return "running" if (now - start.last).total_seconds() < SILENCE else "stopped"


def _log_tail(run: Store) -> bytes:
    # A running job replaces its log now and then; to be replaced in both reads it would have to do so within a moment.
    for _ in range(3):
        stat = run.stat(names.LOG)
        with contextlib.suppress(Changed):
            return b"".join(run.stream(names.LOG, max(0, stat.size - MAX_LOG), stat.size, stat.etag))
    raise Changed(run.uri(names.LOG))


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return a line per run under a line of heads, in at most WIDTH columns, then a note on each unpublished run.

    A run id that is too long for its column has a line of its own.
    """
    lines = [[head.upper() for head in COLUMNS], *map(_cells, rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    widths[0] = max(len(COLUMNS[0]), min(widths[0], WIDTH - sum(width + 2 for width in widths[1:])))
    text = []
    for run_id, *cells in lines:
        if len(run_id) > widths[0]:
            text.append(run_id)
            run_id = ""
        text.append("  ".join(map(str.ljust, [run_id, *cells], widths)).rstrip())
    notes = [note for row in rows if (note := _note(row))]
    return "\n".join([*text, *([""] if notes else []), *notes])


def _cells(row: Mapping[str, Any]) -> list[str]:
    known = row["test_accuracy"] is not None
    texts = (
        row["run_id"],
        percent(row["test_accuracy"]) if known else None,
        "{} to {}".format(*map(percent, row["interval"])).replace(" % to", " to") if known else None,
        row["recipe_name"],
        row["epochs"],
        row["seed"],
        str(row["published"])[:10] if row["state"] == "published" else row["status"],
    )
    return ["–" if text is None else printable(str(text)) for text in texts]


def _note(row: Mapping[str, Any]) -> str | None:
    """Return what the log says about an unpublished run, in lines of at most WIDTH columns where its words allow it."""
    start: LastStart | None = row["last_start"]
    if start is None:
        return None
    text = textwrap.shorten(start["text"], 500, placeholder=" …")
    by = f" on {start['host']}" if start["host"] else ""
    match row["status"]:
        case "running":
            what = f"running{by} since {_minute(start['started'])}; {_minute(start['logged'])}: {text}"
        case "failed":
            what = f"failed{by} at {_minute(start['logged'])} with exit code {start['exit_code']}: {text}"
        case "interrupted":
            what = f"interrupted{by} at {_minute(start['logged'])}; the same command resumes it"
        case _:
            what = f"stopped{by}, silent since {_minute(start['logged'])}: {text}"
    note = f"{printable(row['run_id'])}: {what}"
    return textwrap.fill(note, WIDTH, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)


def _minute(time: str | None) -> str:
    return "an unknown time" if time is None else f"{time[:10]} {time[11:16]} UTC"
