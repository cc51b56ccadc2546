"""What an epoch costs beyond its steps, and what a checkpoint costs."""

import contextlib
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.fixtures import BOOK, BUCKET, Fixtures
from benchmarks.measure import Row, Sample, Samples, cpu, here, in_child, interleaved, ratio, wall
from catsdogs.config.recipes import RECIPES
from catsdogs.data.loader import DataLoader
from catsdogs.runtime import cores, memory
from catsdogs.runtime.log import Log
from catsdogs.runtime.signals import Interruption
from catsdogs.storage import volume
from catsdogs.storage.address import open_store
from catsdogs.training.checkpoints import Checkpoints, Mirror, Progress

ALL_IN, SINGLE = "the epoch, all in", "the steps alone, on batches in memory"


class Costs(NamedTuple):
    epochs: Samples
    blocked: list[float]
    """Seconds for which a checkpoint stops training."""
    uploading: list[float]
    """CPU seconds of the upload to the bucket, during training."""


def rows(fixtures: Fixtures, repeats: int) -> Iterator[Row]:
    directory = fixtures.images(fixtures.plain, "small", BOOK)
    epoch_costs: Costs = in_child(costs, directory, repeats + 1, repeats)
    what = f"Epoch of `baseline`, {2 * BOOK.train:,} and {2 * BOOK.validation:,} images, after the first"
    samples = epoch_costs.epochs
    yield Row(
        f"{what}: seconds",
        "; ".join(f"{name} {wall(epochs):.2f} ({cpu(epochs):.2f} CPU)" for name, epochs in samples.items()),
    )
    measured, in_cpu = ratio(samples, ALL_IN, SINGLE), ratio(samples, ALL_IN, SINGLE, cpu)
    yield Row(what, f"{measured:.3f} × the steps alone ({in_cpu:.3f} in CPU)", "≤ 1.03", measured <= 1.03)
    blocked, uploading = statistics.median(epoch_costs.blocked), statistics.median(epoch_costs.uploading)
    share = (blocked + uploading / cores.usable()) / wall(samples[ALL_IN])
    yield Row(
        "A checkpoint every epoch, mirrored to the bucket",
        f"{100 * share:.2f} % of the epoch: training stands still for {blocked:.3f} s,"
        f" then {uploading:.3f} s of CPU to upload it",
        "≤ 1 %", share <= 0.01,
    )  # fmt: skip


def costs(directory: Path, epochs: int, saves: int) -> Costs:
    from catsdogs.training import devices

    machine = devices.start(require_gpu=False)
    from catsdogs.training.loop import Training
    from catsdogs.training.step import Learner

    recipe, log = RECIPES["baseline"], Log([])
    learner = Learner(recipe, recipe.image_size, recipe.learning_rate, 0, machine, 1000)
    with tempfile.TemporaryDirectory() as scratch:
        training, validation = (
            DataLoader.of(
                sorted((directory / split).glob("*/*.jpg")), batch_size=recipe.batch_size,
                image_size=recipe.image_size, seed=0, shuffled=split == "train", scratch=Path(scratch),
                max_bytes=int(memory.SHARE_FOR_IMAGES * memory.limit() / 2),
            )
            for split in ("train", "validation")
        )  # fmt: skip
        checkpoints = Checkpoints(volume.Ledger(volume.root(Path(scratch))), log)
        fit = Training(
            learner, recipe, training, validation, checkpoints, log, Interruption(), epochs=1000, checkpoint_every=60
        )
        fit.progress, fit.best_weights = Progress(), []
        samples = _epochs(fit, learner, training, validation, epochs)
        mirror = Mirror(open_store(f"s3://{BUCKET}/checkpoints"))
        checkpoints.mirror = mirror
        with contextlib.closing(mirror):
            blocked, uploading = zip(*(_saved(fit, mirror) for _ in range(saves)), strict=True)
    return Costs(samples, list(blocked), list(uploading))


def _epochs(fit: Any, learner: Any, training: DataLoader, validation: DataLoader, repeats: int) -> Samples:
    import tensorflow as tf

    batches = training.batches()

    def all_in() -> Sample:
        samples: list[Sample] = []
        with here(samples):
            # What Training.run does for each epoch.
            fit._train_epoch(batches)
            fit._end_epoch(*fit._validate())
        return samples[0]

    def alone() -> Sample:
        samples: list[Sample] = []
        with here(samples):
            for step, given in ((learner.train_step, shown), (learner.test_step, unseen)):
                totals = tf.zeros(3, tf.float64)
                for batch in given:
                    totals = step(batch, totals)
                totals.numpy()
        return samples[0]

    with contextlib.closing(batches):
        all_in()
        shown = [training.batch(0, step) for step in range(len(training))]
        unseen = list(validation.batches())
        return interleaved({ALL_IN: all_in, SINGLE: alone}, repeats)


def _saved(fit: Any, mirror: Mirror) -> tuple[float, float]:
    began = time.monotonic()
    fit._save()
    blocked, used = time.monotonic() - began, time.process_time()
    sending = mirror._sending
    assert sending is not None
    sending.result()
    return blocked, time.process_time() - used
