"""The names of what a run writes: its artifacts, and the other files in its folder of the store.

To add an artifact, add its name here and its writer to `artifacts.WRITERS`.
"""

from collections.abc import Iterable

from catsdogs.config.extras import FORMATS
from catsdogs.data.split import MARKER
from catsdogs.storage import lease

MODEL = "model.keras"
HISTORY_PNG = "history.png"
HISTORY_CSV = "history.csv"
METRICS = "metrics.json"
PREDICTIONS = "predictions.csv"
REPORT = "report.html"
SPLIT = MARKER
RUN = "run.json"
TENSORBOARD = {folder: f"tensorboard/{folder}/events.out.tfevents.catsdogs" for folder in ("train", "validation")}
"""Folder of TensorBoard → its event file. TensorBoard searches for `tfevents` in names."""
LOG = "log.jsonl"

TRAINED = (
    MODEL, HISTORY_PNG, HISTORY_CSV, METRICS, PREDICTIONS, REPORT, SPLIT, RUN, *TENSORBOARD.values(),
)  # fmt: skip
"""The artifacts that training leaves on the volume."""
ARTIFACTS = (*TRAINED, LOG)
"""The artifacts that this version publishes for every run. Runs of other versions have those of their manifest."""
EXPORTS = tuple(FORMATS.values())
"""The artifacts of `--export`."""
REQUIRED = (MODEL, METRICS, RUN)
"""The least that a manifest lists: every version has published these, and a run is of no use without them."""

MANIFEST = "manifest.json"
LEASE = lease.KEY
CHECKPOINTS = "checkpoint/"


def unknown(keys: Iterable[str]) -> list[str]:
    """Return the keys, sorted, that this version writes to no run's folder."""
    known = {*ARTIFACTS, *EXPORTS, MANIFEST, LEASE}
    return sorted(key for key in keys if key not in known and not key.startswith(CHECKPOINTS))
