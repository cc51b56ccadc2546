"""A run's history as TensorBoard's event files, by the names that Keras' own callback gives the figures."""

import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from catsdogs.storage import volume

# Two folders with the same tags in them are two lines in one chart.
SCALARS = {
    "train": {
        "epoch_loss": "loss",
        "epoch_accuracy": "accuracy",
        "epoch_learning_rate": "learning_rate",
        "epoch_images_per_second": "rate",
    },
    "validation": {"epoch_loss": "val_loss", "epoch_accuracy": "val_accuracy"},
}
"""Folder → tag → its key in a row of the history."""
FILES = {folder: f"tensorboard/{folder}/events.out.tfevents.catsdogs" for folder in SCALARS}
"""Folder → its artifact. TensorBoard looks for `tfevents` in a name."""


class EventFiles:
    """The files of one run in `directory`, kept up to its history by one process."""

    def __init__(self, directory: Path):
        self.directory = directory
        self._rows = 0
        """Of the history, which are in the files for certain."""

    def write(self, history: Sequence[Mapping[str, float]]) -> None:
        """Adds the rows that are new, and the first time those that an earlier process may have left out.

        The step is the epoch, from 1. Raises VolumeError.
        """
        for folder, name in FILES.items():
            path = self.directory / name
            events = _events(history[self._rows :], SCALARS[folder], begins=self._rows == 0)
            found = b"" if self._rows else volume.read(path)
            if found is None or not events.startswith(found):
                volume.write(path, events)
            else:
                # Added to, not replaced: a TensorBoard that reads the file goes on from where it came to.
                with volume.failures(path), path.open("ab") as file:
                    file.write(events[len(found) :])
        self._rows = len(history)


def _events(rows: Iterable[Mapping[str, float]], scalars: Mapping[str, str], begins: bool) -> bytes:
    """Their bytes; as rows say when they were made, the same ones always give the same. `begins` a file, or not."""
    import tensorflow as tf

    # A writer of summaries would put in the time of now.
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
