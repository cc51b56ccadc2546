"""Fits a recipe's model to the generators: progress, checkpoints, resume, interruption."""

import math
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any, NoReturn

import tensorflow as tf

from catsdogs.config.history import HistoryRow
from catsdogs.config.recipes import Recipe
from catsdogs.data.loader import Batch, DataLoader
from catsdogs.runtime.errors import ConfigError
from catsdogs.runtime.events import EpochEnded, Resumed, Trained, TrainingProgress, Validating
from catsdogs.runtime.log import Log
from catsdogs.runtime.signals import Interruption
from catsdogs.training.checkpoints import Arrays, Checkpoint, Checkpoints, Progress
from catsdogs.training.step import Learner
from catsdogs.workers.group import SINGLE, WorkerGroup


@dataclass
class Training:
    """One training, from wherever it stands to its last epoch."""

    learner: Learner
    recipe: Recipe
    training: DataLoader
    validation: DataLoader
    checkpoints: Checkpoints
    log: Log
    interruption: Interruption
    epochs: int
    checkpoint_every: float
    """Seconds of training between two checkpoints within an epoch; after an epoch there is always one."""
    group: WorkerGroup = SINGLE
    observers: Sequence[Callable[[Sequence[HistoryRow]], None]] = ()
    """Are told the history so far after each epoch, once its checkpoint is saved; a kill may come before."""

    def run(self) -> Progress:
        """Trains to the end, from the newest checkpoint if there is one, and leaves the best epoch's weights in
        the learner.

        A signal ends it after the next batch with Interrupted, once a checkpoint is saved. Raises ConfigError
        when the loss is no longer a number, VolumeError.
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
                best_epoch=int(best["epoch"]),
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
        self.progress, self.best_weights = checkpoint.progress, checkpoint.best_weights
        self.learner.restore(checkpoint.variables)
        self.log.emit(
            Resumed(
                epoch=min(self.progress.epoch + 1, self.epochs),
                epochs=self.epochs,
                step=self.progress.step,
                steps=len(self.training),
                checkpoint=str(path),
            )
        )

    def _save(self) -> None:
        self.checkpoints.save(Checkpoint(self.progress, self.learner.state(), self.best_weights))

    def _stop(self) -> NoReturn:
        """Raises Interrupted, in every worker after the same step, once worker 0 has saved a checkpoint."""
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
            due, stop = self._agreed(now - saved >= self.checkpoint_every, self.interruption.signal_name is not None)
            if stop or due or progress.step == steps:
                progress.totals, progress.seconds = totals.numpy().tolist(), now - began
            if stop:
                self._stop()
            if due and progress.step < steps:
                self._save()
                saved = time.monotonic()
            if self.log.due():
                loss, accuracy = _means(totals.numpy())
                self.log.emit(
                    TrainingProgress(
                        epoch=progress.epoch + 1,
                        epochs=self.epochs,
                        done=progress.step,
                        total=steps,
                        loss=loss,
                        accuracy=accuracy,
                        rate=float(totals[2]) / (now - began),
                    )
                )

    def _agreed(self, *wishes: bool) -> list[bool]:
        """Which of the wishes any worker has after this step, once all have taken it."""
        answers = self.learner.agreed(*wishes)
        self.group.advanced()
        return answers

    def _validate(self) -> tuple[float, float, float]:
        """Loss, accuracy, and the seconds it took."""
        began = time.monotonic()
        totals = tf.zeros(3, tf.float64)
        for done, batch in enumerate(self.validation.batches(), 1):
            totals = self.learner.test_step(batch, totals)
            [stop] = self._agreed(self.interruption.signal_name is not None)
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


def _means(totals: Any) -> tuple[float, float]:
    """Loss and accuracy an image from (sum of losses, right answers, images)."""
    return float(totals[0] / totals[2]), float(totals[1] / totals[2])
