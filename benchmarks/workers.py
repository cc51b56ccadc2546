"""Several workers: what a second one on a core of its own adds, and what a thousand would need.

python -m benchmarks.workers WORKER ADDRESSES CORE BATCH_SIZE DIRECTORY
"""

import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.fixtures import BOOK, Fixtures
from benchmarks.measure import NOT_RUN, WITH_BYTECODE, Failed, Row, Sample, in_child, interleaved, wall
from catsdogs.config.recipes import RECIPES
from catsdogs.data.assignment import shards
from catsdogs.data.loader import DataLoader

BATCHES = (20, 128)
"""The recipe's own, and one that spreads the fixed costs of a step over more images."""
GPUS = 1000
GPU_IMAGES = 10_000
"""Images a second that one GPU is assumed to train on, more than an H100 reaches with `baseline` at 150x150."""
PARTS = ((2, 20), (2, 128), (8, 2048), (64, 16384), (GPUS, 256 * GPUS))
"""Workers and global batch."""


def rows(fixtures: Fixtures, repeats: int) -> Iterator[Row]:
    directory = fixtures.images(fixtures.plain, "small", BOOK)
    cores = sorted(os.sched_getaffinity(0))
    for size in BATCHES:
        what = f"Training `baseline`, batches of {size}: two workers on one core each against one on one core"
        if len(cores) < 2:
            yield Row(what, NOT_RUN.format("needs two cores"))
            continue
        variants = {f"{count} worker(s)": partial(epoch, directory, size, cores[:count]) for count in (1, 2)}
        one, two = (2 * BOOK.train / wall(samples) for samples in interleaved(variants, max(1, repeats // 4)).values())
        yield Row(what, f"{two / one:.2f} × the images/s: {two:.0f} against {one:.0f}")
    for workers, batch in PARTS:
        yield Row(
            f"Largest part of a batch of {batch:,} over {workers:,} workers, simulated",
            f"{largest_part(workers, batch):.2f} × the mean",
        )
    for name, images in in_child(input_of_one_core, directory).items():
        yield Row(
            f"Input, one core: {name}",
            f"{images:,.0f} images/s; {GPUS:,} GPUs with {GPU_IMAGES:,} images/s each would need"
            f" {GPUS * GPU_IMAGES / images:,.0f} cores, {GPU_IMAGES / images:.1f} a GPU",
        )


def epoch(directory: Path, batch_size: int, cores: list[int]) -> Sample:
    """Measure an epoch with one worker for each core; the images are decoded already."""
    listed = ",".join(f"127.0.0.1:{_free_port()}" for _ in cores)
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "benchmarks.workers", str(worker), listed, str(core), str(batch_size), directory],
            env={**os.environ, **WITH_BYTECODE}, stdout=subprocess.PIPE, text=True,
        )
        for worker, core in enumerate(cores)
    ]  # fmt: skip
    try:
        results = [json.loads(process.communicate()[0] or "null") for process in processes]
    finally:
        for process in processes:
            process.kill()
    if not all(results):
        raise Failed(f"worker(s) on {cores}: {[process.returncode for process in processes]}")
    return Sample(max(seconds for seconds, _ in results), sum(used for _, used in results))


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def work(worker: int, listed: list[str], core: int, batch_size: int, directory: Path) -> tuple[float, float]:
    """Return this worker's wall and CPU seconds of the training steps of an epoch."""
    os.sched_setaffinity(0, {core})
    from catsdogs.training import devices

    machine = devices.start(False, worker, listed)
    import tensorflow as tf

    from catsdogs.training.step import Learner

    recipe = RECIPES["baseline"]
    learner = Learner(recipe, recipe.image_size, recipe.learning_rate, 0, machine, 1)
    paths = sorted((directory / "train").glob("*/*.jpg"))
    own = [place % len(listed) == worker for place in range(len(paths))] if len(listed) > 1 else None
    with tempfile.TemporaryDirectory() as scratch:
        loader = DataLoader.of(
            paths, batch_size=batch_size, image_size=recipe.image_size, seed=0, shuffled=True, scratch=Path(scratch),
            max_bytes=1 << 30, own=own,
        )  # fmt: skip
        loader.pixels.having(np.arange(len(loader.pixels)))
        batches, totals = loader.batches(), tf.zeros(3, tf.float64)
        for step in range(1 + len(loader)):
            totals = learner.train_step(next(batches), totals)
            learner.any_worker(False, False)
            if step == 0:  # builds the graph, and waits until the other worker has built its own
                totals.numpy()
                began, used = time.monotonic(), time.process_time()
        totals.numpy()
        return time.monotonic() - began, time.process_time() - used


def largest_part(workers: int, batch: int, steps: int = 5) -> float:
    """Return the largest worker's part of a batch over the mean part, averaged over steps: all wait for it."""
    images = batch * steps
    owners = np.array(list(shards((f"train/{place}" for place in range(images)), workers).values()))
    order = np.random.default_rng([0, 0]).permutation(images)
    parts = [np.bincount(owners[order[step * batch :][:batch]], minlength=workers).max() for step in range(steps)]
    return float(np.mean(parts)) / (batch / workers)


def input_of_one_core(directory: Path) -> dict[str, float]:
    """Return the images a second that one core turns into batches, by what is done to them."""
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    paths = sorted((directory / "train").glob("*/*.jpg"))
    rates: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as scratch:
        for recipe in (RECIPES["baseline"], RECIPES["augmented"]):
            loader = DataLoader.of(
                paths, batch_size=20, image_size=150, seed=0, shuffled=True, scratch=Path(scratch),
                max_bytes=1 << 30, augmentation=recipe.augmentation,
            )  # fmt: skip

            def one_pass(number: int, made: Callable[..., object] = loader.batch) -> float:
                began = time.monotonic()
                for step in range(len(paths) // 20):
                    made(number, step)
                return len(paths) / (time.monotonic() - began)

            if recipe.augmentation is None:
                rates["decoded and resized"] = one_pass(0)
                rates["already decoded"] = one_pass(1)
            else:
                one_pass(0)
                rates["already decoded, distorted"] = one_pass(1)
    return rates


if __name__ == "__main__":
    index, where, own_core, size, images = sys.argv[1:]
    print(json.dumps(work(int(index), where.split(","), int(own_core), int(size), Path(images))), flush=True)  # noqa: T201
    # As the job ends: TensorFlow's threads wait for the other worker's.
    os._exit(0)
