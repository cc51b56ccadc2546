"""Everything one run is told, frozen, built once from flags and environment."""

import hashlib
import json
import math
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from catsdogs.config import extras
from catsdogs.config.recipes import RECIPES, Recipe
from catsdogs.data.assignment import Counts
from catsdogs.runtime.errors import ConfigError


@dataclass(frozen=True)
class Settings:
    """What `of` makes of the options; every value is final."""

    archive: str
    output: str
    volume: Path
    run_id: str
    recipe_name: str
    epochs: int
    batch_size: int
    learning_rate: float
    image_size: int
    seed: int
    train_per_class: int
    validation_per_class: int
    test_per_class: int
    require_gpu: bool
    checkpoint_every: float
    checkpoint_to: str
    addressing_style: str
    storage_timeout: float
    precision: str = "float32"
    xla: bool = False
    export: tuple[str, ...] = ()
    workers: int = 1
    worker_index: int = 0
    worker_address: str | None = None
    worker_timeout: float = 300.0
    heartbeat_timeout: float = 60.0

    @classmethod
    def of(cls, **options: Any) -> "Settings":
        """Takes the fields by name; an option that is None gets the recipe's value, and `run_id` one that
        follows from what decides the model, so that the same command always means the same run.

        Raises ConfigError for values that do not fit together.
        """
        recipe = RECIPES[options["recipe_name"]]
        for name in ("epochs", "batch_size", "learning_rate", "image_size"):
            if options[name] is None:
                options[name] = getattr(recipe, name)
        settings = cls(**{**options, "run_id": options["run_id"] or ""})
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
        """Of the whole training."""
        return self.epochs * -(-2 * self.train_per_class // self.batch_size)

    @property
    def addresses(self) -> list[str]:
        """Where each worker's TensorFlow listens, host:port; none for one worker."""
        if self.workers == 1:
            return []
        given = self.worker_address or ""
        if "{index}" in given:
            return [given.replace("{index}", str(worker)) for worker in range(self.workers)]
        return given.split(",")

    @property
    def run_directory(self) -> Path:
        """The run's own folder on the volume. Not `runs`, as users call the output, which may lie beside it."""
        return self.volume / "work" / self.run_id

    @property
    def artifacts(self) -> Path:
        """The folder of what training makes."""
        return self.run_directory / "artifacts"

    @property
    def result(self) -> str:
        """The address under which the run's artifacts are published."""
        return f"{self.output.rstrip('/')}/{self.run_id}"

    def model_settings(self) -> dict[str, Any]:
        """Those that decide which model comes out; two runs with one run id must agree in them."""
        elsewhere = (
            "output",
            "volume",
            "run_id",
            "require_gpu",
            "precision",
            "xla",
            "checkpoint_every",
            "checkpoint_to",
            "export",
            "addressing_style",
            "storage_timeout",
            "workers",
            "worker_index",
            "worker_address",
            "worker_timeout",
            "heartbeat_timeout",
        )
        return {name: value for name, value in asdict(self).items() if name not in elsewhere}

    def _check(self) -> None:
        if self.xla and self.workers > 1:
            raise ConfigError("--xla is for one worker with one device; leave it out")
        if math.isnan(self.learning_rate):
            raise ConfigError("--learning-rate nan: not a number; give one above 0")
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
            raise ConfigError(f"--workers {self.workers} needs --worker-address: where they reach each other")
        if len(self.addresses) != self.workers:
            raise ConfigError(
                f"--worker-address {self.worker_address}: {len(self.addresses)} addresses for {self.workers} workers;"
                " give one for each, or one with {index} in it"
            )
        for address in self.addresses:
            host, _, port = address.rpartition(":")
            if not host or not port.isdecimal() or not 0 < int(port) < 65535:
                raise ConfigError(f"--worker-address {address}: not host:port, with a port below 65535")
