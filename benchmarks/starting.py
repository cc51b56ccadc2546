"""The first ten seconds: help, plan, and from the start of `train` to the first training step.

python -m benchmarks.starting step OPTIONS OF catsdogs run   # ends after the first step
python -m benchmarks.starting graph                          # only imports, builds the graph, and steps once
"""

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.fetching import options
from benchmarks.fixtures import BOOK, Fixtures
from benchmarks.measure import Row, Sample, command, interleaved, wall

PYTHON, HELP, TENSORFLOW, PLAN = "Python alone", "--help", "import tensorflow", "plan"
GRAPH, CACHED, UNCACHED = "TensorFlow and the graph", "images on the volume", "images in the bucket"


def rows(fixtures: Fixtures, repeats: int) -> Iterator[Row]:
    uri, log = fixtures.uri(fixtures.plain), fixtures.directory / "plan.log"
    catsdogs = Path(sys.executable).with_name("catsdogs")
    kept = fixtures.directory / "kept"
    command([catsdogs, "prepare", *options(uri, kept, BOOK)])

    def planned() -> Sample:
        plan = ["-m", "catsdogs", "plan", *options(uri, fixtures.scratch(), BOOK)]
        return command([sys.executable, "-X", "importtime", *plan], output=log)

    def first_step(volume: Path) -> Sample:
        return command([sys.executable, "-m", "benchmarks.starting", "step", *options(uri, volume, BOOK)])

    samples = interleaved(
        {
            PYTHON: lambda: command([sys.executable, "-c", ""]),
            HELP: lambda: command([catsdogs, "--help"]),
            TENSORFLOW: lambda: command([sys.executable, "-c", "import tensorflow"]),
            PLAN: planned,
            GRAPH: lambda: command([sys.executable, "-m", "benchmarks.starting", "graph"]),
            CACHED: lambda: first_step(kept),
            UNCACHED: lambda: first_step(fixtures.scratch()),
        },
        repeats,
    )
    took = {name: wall(measured) for name, measured in samples.items()}
    above = took[HELP] - took[PYTHON]
    yield Row(
        "`catsdogs --help`",
        f"{took[HELP]:.2f} s, {above:.2f} s above Python's own start",
        "≤ 0.15 s above",
        above <= 0.15,
    )
    imported = "tensorflow" in log.read_text()
    yield Row(
        f"`plan` on {2 * fixtures.per_class:,} images in a bucket",
        f"{took[PLAN]:.2f} s; TensorFlow {'' if imported else 'not '}imported, which takes {took[TENSORFLOW]:.2f} s",
        "no TensorFlow imported", not imported,
    )  # fmt: skip
    beyond = took[CACHED] - took[GRAPH]
    yield Row(
        "From the start of `run` to the end of the first training step, images on the volume",
        f"{took[CACHED]:.2f} s, {beyond:.2f} s beyond import and graph building", "≤ 1.5 s beyond", beyond <= 1.5,
    )  # fmt: skip
    yield Row(
        "The same, with 4,000 images to get from the bucket first",
        f"{took[UNCACHED]:.2f} s, {took[UNCACHED] - took[GRAPH]:.2f} s beyond",
    )


def step(arguments: list[str]) -> None:
    """Run `catsdogs run` until the end of its first training step."""
    from catsdogs.cli import main
    from catsdogs.runtime.signals import Interruption

    _stop_after_first_step()
    sys.argv = ["catsdogs", "run", *arguments]
    main(Interruption())


def _stop_after_first_step() -> None:
    """Patch catsdogs.training.step when it is imported, so that TensorFlow is imported no earlier than otherwise."""
    from catsdogs.training import devices

    start = devices.start

    def starting(*arguments: Any) -> Any:
        started = start(*arguments)
        from catsdogs.training.step import Learner

        train_step = Learner.train_step

        def first(self: Learner, *arguments: Any) -> None:
            train_step(self, *arguments).numpy()
            os._exit(0)

        learner: Any = Learner
        learner.train_step = first
        return started

    patched: Any = devices
    patched.start = starting


def graph() -> None:
    import numpy as np

    from catsdogs.config.recipes import RECIPES
    from catsdogs.data.loader import Batch
    from catsdogs.training import devices

    machine = devices.start(require_gpu=False)
    import tensorflow as tf

    from catsdogs.training.step import Learner

    recipe = RECIPES["baseline"]
    learner = Learner(recipe, recipe.image_size, recipe.learning_rate, 0, machine, 1000)
    images = np.zeros((recipe.batch_size, recipe.image_size, recipe.image_size, 3), np.float32)
    batch = Batch(images, np.zeros(recipe.batch_size, np.float32))
    learner.train_step(batch, tf.zeros(3, tf.float64)).numpy()
    os._exit(0)


if __name__ == "__main__":
    if sys.argv[1] == "step":
        step(sys.argv[2:])
    else:
        graph()
