"""A run's history as TensorBoard's event files, with the tags that Keras' own callback uses."""

import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Literal

from catsdogs.config.history import HistoryRow
from catsdogs.results.names import TENSORBOARD
from catsdogs.storage import volume
from catsdogs.storage.volume import AnyPath

Key = Literal["loss", "accuracy", "val_loss", "val_accuracy", "learning_rate", "rate"]
# The same tag in two folders is two lines in one chart.
SCALARS: dict[str, dict[str, Key]] = {
    "train": {
        "epoch_loss": "loss",
        "epoch_accuracy": "accuracy",
        "epoch_learning_rate": "learning_rate",
        "epoch_images_per_second": "rate",
    },
    "validation": {"epoch_loss": "val_loss", "epoch_accuracy": "val_accuracy"},
}
"""Folder → tag → its key in a row of the history."""


class EventFiles:
    """The event files of one run in `directory`, kept up to date with its history by one process."""

    def __init__(self, directory: AnyPath):
        self.directory = directory
        self._rows = 0
        """Of the history, which the files have for certain."""

    def write(self, history: Sequence[HistoryRow]) -> None:
        """Add the new rows, and at the first call those that an earlier process may not have written.

        The step is the epoch, from 1. Raises VolumeError.
        """
        for folder, name in TENSORBOARD.items():
            path = self.directory / name
            events = _events(history[self._rows :], SCALARS[folder], begins=self._rows == 0)
            existing = b"" if self._rows else volume.read(path)
            if existing is None or not events.startswith(existing):
                volume.write(path, events)
            else:
                # Appended, not replaced: a TensorBoard that follows the file continues where it is.
                with volume.failures(path), volume.append(path) as file:
                    file.write(events[len(existing) :])
        self._rows = len(history)


def _events(rows: Iterable[HistoryRow], scalars: Mapping[str, Key], begins: bool) -> bytes:
    """Return the rows' events as bytes, with a file's header if they begin one.

    Times come from the rows, so that the same rows always give the same bytes.
    """
    import tensorflow as tf

    # TensorFlow's summary writer would use the current time.
    events = [tf.compat.v1.Event(file_version="brain.Event:2")] if begins else []
    for row in rows:
        values = [
            tf.compat.v1.Summary.Value(tag=tag, simple_value=row[key]) for tag, key in scalars.items() if key in row
        ]
        summary = tf.compat.v1.Summary(value=values)
        events.append(tf.compat.v1.Event(wall_time=row.get("ended", 0.0), step=int(row["epoch"]), summary=summary))
    with tempfile.NamedTemporaryFile(prefix="catsdogs-") as file:
        with tf.io.TFRecordWriter(file.name) as writer:
            for event in events:
                writer.write(event.SerializeToString(deterministic=True))
        return Path(file.name).read_bytes()
