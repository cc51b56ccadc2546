"""The settings of a run: the table of the job's options, and their values in one frozen object."""

import functools
import hashlib
import json
import math
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Annotated, Any

import click

from catsdogs.config import extras
from catsdogs.config.kinds import COUNT, Address, Duration, Formats, RunId
from catsdogs.config.option import Group, Option
from catsdogs.config.recipes import RECIPES, Recipe
from catsdogs.data.assignment import Counts
from catsdogs.runtime.errors import ConfigError
from catsdogs.storage.volume import VolumePath, root
from catsdogs.workers.address import is_local

PRECISIONS = ("float32", "mixed_bfloat16")
"""Keras' names. On CPUs without bfloat16 arithmetic the first is by far the faster."""


@dataclass(frozen=True)
class Settings:
    """The options of a run, every value final. Each field's annotation is its entry in the table of options."""

    archive: Annotated[
        str,
        Option(
            group=Group.INPUT_OUTPUT,
            type=Address(needs_key=True),
            help="Kaggle's zip file: s3://bucket/key or a local path; or a local folder with its images.",
            required=True,
            decides_model=True,
            chart_value="archive.key",
        ),
    ]
    output: Annotated[
        str,
        Option(
            group=Group.INPUT_OUTPUT,
            type=Address(needs_key=False),
            help="Where runs are published, one folder each: s3://bucket/prefix or a local folder.",
            required=True,
            chart_value="output.prefix",
        ),
    ]
    volume: Annotated[
        Path,
        Option(
            group=Group.INPUT_OUTPUT,
            type=click.Path(path_type=Path, file_okay=False, readable=False),
            help="Local folder for images, checkpoints and artifacts; an interrupted run resumes from it.",
            default="data",
            chart_value="volume.type",
        ),
    ]
    run_id: Annotated[
        str,
        Option(
            group=Group.INPUT_OUTPUT,
            type=RunId(),
            help="Name of the run.",
            default_text="the recipe and a hash of the options",
        ),
    ]
    export: Annotated[
        tuple[str, ...],
        Option(
            group=Group.INPUT_OUTPUT,
            type=Formats(),
            help=f"Formats to publish the model in as well, separated by commas: {', '.join(extras.FORMATS)}.",
            default="",
            default_text="none",
            chart_value="export",
        ),
    ]
    recipe_name: Annotated[
        str,
        Option(
            group=Group.RECIPE,
            type=click.Choice(list(RECIPES)),
            help="Model, optimizer, augmentation and schedule.",
            name="recipe",
            default="baseline",
            decides_model=True,
        ),
    ]
    epochs: Annotated[
        int,
        Option(
            group=Group.RECIPE,
            type=COUNT,
            help="Passes over the training set.",
            from_recipe=True,
            decides_model=True,
        ),
    ]
    batch_size: Annotated[
        int,
        Option(
            group=Group.RECIPE,
            type=COUNT,
            help="Images per training step, over all GPUs and workers together.",
            from_recipe=True,
            decides_model=True,
        ),
    ]
    learning_rate: Annotated[
        float,
        Option(
            group=Group.RECIPE,
            type=click.FloatRange(min=0, min_open=True, max=10),
            help="Learning rate; the highest one, where the recipe has a schedule.",
            from_recipe=True,
            decides_model=True,
        ),
    ]
    image_size: Annotated[
        int,
        Option(
            group=Group.RECIPE,
            type=click.IntRange(min=1, max=1024),
            help="Width and height of the model's input, in pixels.",
            from_recipe=True,
            decides_model=True,
        ),
    ]
    seed: Annotated[
        int,
        Option(
            group=Group.RECIPE,
            type=click.IntRange(min=0, max=2**32 - 1),
            help="Seed of weights, image order and augmentation. On a CPU, the same seed, versions and number of"
            " threads give the same model, bit for bit.",
            default=0,
            decides_model=True,
        ),
    ]
    train_per_class: Annotated[
        int,
        Option(group=Group.SPLIT, type=COUNT, help="Training images per class.", default=1000, decides_model=True),
    ]
    validation_per_class: Annotated[
        int,
        Option(group=Group.SPLIT, type=COUNT, help="Validation images per class.", default=500, decides_model=True),
    ]
    test_per_class: Annotated[
        int,
        Option(group=Group.SPLIT, type=COUNT, help="Test images per class.", default=500, decides_model=True),
    ]
    require_gpu: Annotated[
        bool,
        Option(
            group=Group.TRAINING,
            type=click.BOOL,
            help="Fail at once, with exit code 69, if there is no usable GPU.",
            default=False,
            chart_value="gpu.count",
        ),
    ]
    precision: Annotated[
        str,
        Option(
            group=Group.TRAINING,
            type=click.Choice(PRECISIONS),
            help="Precision that layers compute in; weights and predictions are always float32.",
            default=PRECISIONS[0],
        ),
    ]
    xla: Annotated[
        bool,
        Option(
            group=Group.TRAINING,
            type=click.BOOL,
            help="Compile training steps with XLA, for one device only; the same seed then no longer gives exactly the"
            " same model.",
            default=False,
            chart_value="training.xla",
        ),
    ]
    checkpoint_every: Annotated[
        float,
        Option(
            group=Group.TRAINING,
            type=Duration(),
            help="Time between checkpoints within an epoch; every epoch ends with one.",
            default="60s",
        ),
    ]
    checkpoint_to: Annotated[
        str,
        Option(
            group=Group.TRAINING,
            type=click.Choice(["volume", "bucket"]),
            help="Where checkpoints go: to the volume only, or to the output as well, in case the volume is lost.",
            default="volume",
            chart_value="checkpoint.to",
        ),
    ]
    addressing_style: Annotated[
        str,
        Option(
            group=Group.STORAGE,
            type=click.Choice(["auto", "path", "virtual"]),
            help="Whether S3 requests name the bucket in the path or in the host name (virtual).",
            default="auto",
            chart_value="storage.addressingStyle",
        ),
    ]
    storage_timeout: Annotated[
        float,
        Option(
            group=Group.STORAGE,
            type=Duration(),
            help="How long to retry while storage is unavailable.",
            default="2m",
            chart_value="storage.timeout",
        ),
    ]
    workers: Annotated[
        int,
        Option(
            group=Group.WORKERS,
            type=COUNT,
            help="Processes that train the run together, each on its own GPUs or CPU.",
            default=1,
            chart_value="workers",
        ),
    ]
    worker_index: Annotated[
        int,
        Option(
            group=Group.WORKERS,
            type=click.IntRange(min=0),
            help="Index of this worker, from 0. Worker 0 publishes.",
            default=0,
            default_text="JOB_COMPLETION_INDEX, or 0",
            chart_value="workers",
        ),
    ]
    worker_address: Annotated[
        str | None,
        Option(
            group=Group.WORKERS,
            type=click.STRING,
            help="Address of each worker, separated by commas, or one that contains {index}. Each worker uses that port"
            " and the next.",
            metavar="HOST:PORT",
            chart_value="workers",
        ),
    ]
    worker_key_file: Annotated[
        Path | None,
        Option(
            group=Group.WORKERS,
            type=click.Path(path_type=Path),
            help="File with a random key, the same for all workers, by which they know each other. Required unless all"
            " are on one machine.",
            metavar="FILE",
            chart_value="workerKey.existingSecret",
        ),
    ]
    worker_timeout: Annotated[
        float,
        Option(
            group=Group.WORKERS,
            type=Duration(),
            help="How long to wait for the other workers to start.",
            default="5m",
            chart_value="workerTimeout",
        ),
    ]
    heartbeat_timeout: Annotated[
        float,
        Option(
            group=Group.WORKERS,
            type=Duration(),
            help="How long a worker may be silent before it counts as lost and all workers stop.",
            default="60s",
            chart_value="heartbeatTimeout",
        ),
    ]

    @classmethod
    def of(cls, **options: object) -> "Settings":
        """Return the settings with these values, by field name; what is missing or None gets its default.

        The default run id follows from the options that decide the model: the same command is the same run. Of
        several workers, each but worker 0 gets a volume of its own. Raises ConfigError for values that contradict each
        other, TypeError for a name that is no field.
        """
        given = {name: value for name, value in options.items() if value is not None}
        recipe = RECIPES[str(given.get("recipe_name", OPTIONS["recipe_name"].default))]
        defaults: dict[str, Any] = {
            name: getattr(recipe, name) if option.from_recipe else option.default_value()
            for name, option in OPTIONS.items()
            if name not in given
        }
        settings = cls(**{**defaults, **given})
        settings._check()
        if settings.worker_index:
            # So that workers may share a volume, and never wait for each other's locks.
            settings = replace(settings, volume=settings.volume / f"worker-{settings.worker_index}")
        if settings.run_id:
            return settings
        digest = hashlib.sha256(json.dumps(settings.model_settings(), sort_keys=True).encode()).hexdigest()
        return replace(settings, run_id=f"{recipe.name}-{digest[:8]}")

    @property
    def recipe(self) -> Recipe:
        return RECIPES[self.recipe_name]

    @property
    def counts(self) -> Counts:
        return Counts(self.train_per_class, self.validation_per_class, self.test_per_class)

    @property
    def steps(self) -> int:
        """Training steps of the whole run."""
        return self.epochs * -(-2 * self.train_per_class // self.batch_size)

    @property
    def addresses(self) -> list[str]:
        """The address, host:port, at which each worker's TensorFlow listens; empty for a single worker."""
        if self.workers == 1:
            return []
        given = self.worker_address or ""
        if "{index}" in given:
            return [given.replace("{index}", str(worker)) for worker in range(self.workers)]
        return given.split(",")

    @functools.cached_property
    def on_volume(self) -> VolumePath:
        """The volume, which is opened once."""
        return root(self.volume)

    @property
    def run_directory(self) -> VolumePath:
        """The run's folder on the volume. Not in `runs`, as users call the output, which may be next to it."""
        return self.on_volume / "work" / self.run_id

    @property
    def artifacts(self) -> VolumePath:
        """The folder of the artifacts on the volume."""
        return self.run_directory / "artifacts"

    @property
    def result(self) -> str:
        """The address under which the run's artifacts are published."""
        return f"{self.output.rstrip('/')}/{self.run_id}"

    def model_settings(self) -> dict[str, Any]:
        """Return the settings that decide the model; two runs with one run id must agree in them."""
        return {name: value for name, value in asdict(self).items() if OPTIONS[name].decides_model}

    def _check(self) -> None:
        if self.xla and self.workers > 1:
            raise ConfigError("--xla works with one worker and one device only; remove it")
        if math.isnan(self.learning_rate):
            raise ConfigError("--learning-rate nan: not a number; use one greater than 0")
        smallest = self.recipe.smallest_image_size
        if self.image_size < smallest:
            raise ConfigError(f"--image-size {self.image_size}: recipe {self.recipe_name} needs at least {smallest}")
        images = 2 * self.train_per_class
        if self.batch_size > images:
            raise ConfigError(
                f"--batch-size {self.batch_size} is more than the {images} training images;"
                " lower it, or raise --train-per-class"
            )
        extras.check_installed(self.export)
        if self.workers > 1:
            self._check_addresses()

    def _check_addresses(self) -> None:
        if not self.worker_address:
            raise ConfigError(f"--workers {self.workers} needs --worker-address: where the workers reach each other")
        count = len(self.addresses)
        if count != self.workers:
            given = "1 address" if count == 1 else f"{count} addresses"
            raise ConfigError(
                f"--worker-address {self.worker_address}: {given} for {self.workers} workers;"
                " give one for each, or one that contains {index}"
            )
        for address in self.addresses:
            host, _, port = address.rpartition(":")
            if not host or not port.isdecimal() or len(port) > 5 or not 0 < int(port) < 65535:
                raise ConfigError(f"--worker-address {address}: not host:port, with a port below 65535")
        if self.worker_key_file is None and not all(map(is_local, self.addresses)):
            raise ConfigError(
                f"--workers {self.workers} on several machines needs --worker-key-file: a file with a random key, the"
                " same for all workers"
            )


OPTIONS: dict[str, Option] = {field.name: field.type.__metadata__[0] for field in fields(Settings)}  # type: ignore[union-attr]
"""The table of options: field of Settings → its option."""
