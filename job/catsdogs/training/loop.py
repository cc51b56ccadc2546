"""The training loop: epochs of steps and validation, checkpoints, resuming, interruption.

It reads the clock and the interruption once per step; with several workers, all act on what any of them has read.
"""

import math
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import NoReturn

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from catsdogs.config.history import HistoryRow
from catsdogs.config.recipes import Recipe
from catsdogs.data.loader import Batch, DataLoader
from catsdogs.runtime.errors import ConfigError
from catsdogs.runtime.events import EpochEnded, Resumed, Trained, TrainingProgress, Validating
from catsdogs.runtime.log import Log
from catsdogs.runtime.signals import Interruption
from catsdogs.storage.volume import VolumePath
from catsdogs.training.checkpoints import Arrays, Checkpoint, Checkpoints, Progress, current_versions
from catsdogs.training.step import Learner, check_shapes
from catsdogs.workers.group import SINGLE, WorkerGroup


@dataclass
class Training:
    """One training, from its newest checkpoint, if there is one, to its last epoch."""

    learner: Learner
    recipe: Recipe
    training: DataLoader
    validation: DataLoader
    checkpoints: Checkpoints
    log: Log
    interruption: Interruption
    epochs: int
    checkpoint_every: float
    """Seconds of training between two checkpoints within an epoch. Every epoch ends with one."""
    group: WorkerGroup = SINGLE
    observers: Sequence[Callable[[Sequence[HistoryRow]], None]] = ()
    """Called with the history so far after each epoch, once its checkpoint is saved. If the job is killed in between,
    they are not called for that epoch."""

    def run(self) -> Progress:
        """Train to the end, and leave the best epoch's weights in the learner.

        Raises Interrupted after the step in which a signal arrives, once a checkpoint is saved; ConfigError if the loss
        is no longer a number, or the newest checkpoint is of another version whose variables differ; VolumeError.
        """
        self.progress = Progress()
        self.best_weights: Arrays = []
        self._resume()
        with closing(self.training.batches(self.progress.epoch, self.progress.step)) as batches:
            while self.progress.epoch < self.epochs:
                self._train_epoch(batches)
                self._end_epoch(*self._validate())
        self.learner.set_weights(self.best_weights)
        best, history = self.progress.best, self.progress.history
        assert best is not None, "the first epoch is always the best so far"
        self.log.emit(
            Trained(
                epochs=self.epochs,
                seconds=sum(row["seconds"] for row in history),
                best_epoch=best["epoch"],
                val_loss=best["val_loss"],
                val_accuracy=best["val_accuracy"],
            )
        )
        return self.progress

    def _resume(self) -> None:
        found = self.checkpoints.newest()
        if found is None:
            return
        path, checkpoint = found
        self._restore(checkpoint, path)
        self.log.emit(
            Resumed(
                epoch=min(self.progress.epoch + 1, self.epochs),
                epochs=self.epochs,
                step=self.progress.step,
                steps=len(self.training),
                checkpoint=str(path),
            )
        )

    def _restore(self, checkpoint: Checkpoint, path: VolumePath) -> None:
        """Raises ConfigError if the model or the optimizer of this version has other variables.

        That another version of the code or of Keras wrote them does no harm by itself, so only the variables count.
        """
        try:
            self.learner.restore(checkpoint.variables, checkpoint.kinds)
            if checkpoint.best_weights:
                check_shapes(self.learner.model.weights, checkpoint.best_weights)
        except ValueError as error:
            raise ConfigError(
                f"{path}: has {error}; written with {_versions_text(checkpoint.versions)}, and this is"
                f" {_versions_text(current_versions())}; use those versions, or choose another --run-id"
            ) from None
        self.progress, self.best_weights = checkpoint.progress, checkpoint.best_weights

    def _save(self) -> None:
        learner = self.learner
        self.checkpoints.save(Checkpoint(self.progress, learner.state(), self.best_weights, learner.kinds()))

    def _stop(self) -> NoReturn:
        """Raise Interrupted, in every worker after the same step, once worker 0 has saved a checkpoint."""
        self.group.leave()
        self._save()
        self.interruption.end()

    def _train_epoch(self, batches: Iterator[Batch]) -> None:
        progress, steps = self.progress, len(self.training)
        totals = tf.constant(progress.totals, tf.float64)
        began = saved = time.monotonic() - progress.seconds
        while progress.step < steps:
            totals = self.learner.train_step(next(batches), totals)
            progress.step += 1
            now = time.monotonic()
            due, stop = self._any_worker(
                now - saved >= self.checkpoint_every, self.interruption.signal_name is not None
            )
            if stop or due or progress.step == steps:
                progress.totals, progress.seconds = totals.numpy().tolist(), now - began
            if stop:
                self._stop()
            if due and progress.step < steps:
                self._save()
                saved = time.monotonic()
            if self.log.due():
                self._report_progress(totals.numpy(), now - began)

    def _report_progress(self, totals: NDArray[np.float64], seconds: float) -> None:
        loss, accuracy = _means(totals)
        self.log.emit(
            TrainingProgress(
                epoch=self.progress.epoch + 1,
                epochs=self.epochs,
                done=self.progress.step,
                total=len(self.training),
                loss=loss,
                accuracy=accuracy,
                rate=float(totals[2]) / seconds,
            )
        )

    def _any_worker(self, *flags: bool) -> list[bool]:
        """Return for each flag whether any worker has set it, once all have completed this step."""
        results = self.learner.any_worker(*flags)
        self.group.advanced()
        return results

    def _validate(self) -> tuple[float, float, float]:
        """Return loss, accuracy, and the seconds it took."""
        began = time.monotonic()
        totals = tf.zeros(3, tf.float64)
        for done, batch in enumerate(self.validation.batches(), 1):
            totals = self.learner.test_step(batch, totals)
            [stop] = self._any_worker(self.interruption.signal_name is not None)
            if stop:
                self._stop()
            if self.log.due():
                self.log.emit(
                    Validating(
                        epoch=self.progress.epoch + 1,
                        epochs=self.epochs,
                        done=done,
                        total=len(self.validation),
                    )
                )
        return *_means(totals.numpy()), time.monotonic() - began

    def _end_epoch(self, val_loss: float, val_accuracy: float, validation_seconds: float) -> None:
        progress = self.progress
        loss, accuracy = _means(progress.totals)
        if not (math.isfinite(loss) and math.isfinite(val_loss)):
            raise ConfigError(
                f"epoch {progress.epoch + 1}: the loss is no longer a number; lower --learning-rate"
                f" ({self.learner.learning_rate:g} now)"
            )
        row: HistoryRow = {
            "epoch": progress.epoch + 1, "loss": loss, "accuracy": accuracy,
            "val_loss": val_loss, "val_accuracy": val_accuracy, "seconds": progress.seconds + validation_seconds,
            "rate": progress.totals[2] / progress.seconds, "ended": time.time(),
            "learning_rate": self.learner.learning_rate,
        }  # fmt: skip
        if self.recipe.improves(row, progress.best):
            progress.best_epoch = progress.epoch
            self.best_weights = self.learner.weights()
        progress.history.append(row)
        progress.epoch += 1
        progress.step, progress.totals, progress.seconds = 0, [0.0, 0.0, 0.0], 0.0
        self._save()
        usual = statistics.median(earlier["seconds"] for earlier in progress.history[-5:])
        remaining = usual * (self.epochs - progress.epoch)
        self.log.emit(EpochEnded(**row, epochs=self.epochs, remaining=remaining))
        for observer in self.observers:
            observer(progress.history)


def _means(totals: Sequence[float] | NDArray[np.float64]) -> tuple[float, float]:
    """Return loss and accuracy per image from (sum of losses, correct predictions, images)."""
    return float(totals[0] / totals[2]), float(totals[1] / totals[2])


def _versions_text(versions: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {version}" for name, version in versions.items()) or "an earlier version"
