"""Everything one run is told, frozen, built once from flags and environment."""

import hashlib
import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from job import exports
from job.errors import Contradiction
from job.recipes import RECIPES, Recipe
from job.split import Counts


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
    export: tuple[str, ...]
    addressing_style: str
    storage_timeout: float

    @classmethod
    def of(cls, **options: Any) -> "Settings":
        """Takes the fields by name; an option that is None gets the recipe's value, and `run_id` one that
        follows from what decides the model, so that the same command always means the same run.

        Raises Contradiction for values that do not fit together.
        """
        recipe = RECIPES[options["recipe_name"]]
        for name in ("epochs", "batch_size", "learning_rate", "image_size"):
            if options[name] is None:
                options[name] = getattr(recipe, name)
        settings = cls(**{**options, "run_id": options["run_id"] or ""})
        settings._check()
        if settings.run_id:
            return settings
        digest = hashlib.sha256(json.dumps(settings.model_settings(), sort_keys=True).encode()).hexdigest()
        return cls(**{**options, "run_id": f"{recipe.name}-{digest[:8]}"})

    @property
    def recipe(self) -> Recipe:
        return RECIPES[self.recipe_name]

    @property
    def counts(self) -> Counts:
        return Counts(self.train_per_class, self.validation_per_class, self.test_per_class)

    @property
    def run_directory(self) -> Path:
        """The run's own folder on the volume. Not `runs`, as users call the output, which may lie beside it."""
        return self.volume / "work" / self.run_id

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
            "checkpoint_every",
            "checkpoint_to",
            "export",
            "addressing_style",
            "storage_timeout",
        )
        return {name: value for name, value in asdict(self).items() if name not in elsewhere}

    def _check(self) -> None:
        if math.isnan(self.learning_rate):
            raise Contradiction("--learning-rate nan: not a number; give one above 0")
        smallest = self.recipe.smallest_image_size
        if self.image_size < smallest:
            raise Contradiction(f"--image-size {self.image_size}: recipe {self.recipe_name} needs at least {smallest}")
        images = 2 * self.train_per_class
        if self.batch_size > images:
            raise Contradiction(
                f"--batch-size {self.batch_size} is more than the {images} training images;"
                " lower it, or raise --train-per-class"
            )
        exports.check_installed(self.export)
