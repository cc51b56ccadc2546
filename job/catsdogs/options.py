"""The command line's options and the types of their values, one definition for all commands."""

import functools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from catsdogs.config.extras import FORMATS
from catsdogs.config.recipes import RECIPES
from catsdogs.runtime.errors import masked
from catsdogs.training.devices import PRECISIONS


class Address(click.ParamType[str]):
    """`s3://bucket/key` or a local path. `needs_key` refuses an s3:// address that is a whole bucket."""

    name = "address"

    def __init__(self, needs_key: bool):
        self.needs_key = needs_key

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        scheme, separator, rest = value.partition("://")
        bucket, _, key = rest.partition("/")
        if separator and (scheme != "s3" or not bucket or (self.needs_key and key in ("", "/"))):
            self.fail(f"{masked(value)!r} is neither s3://bucket/key nor a local path", param, ctx)
        if not value or (self.needs_key and value.endswith("/")):
            self.fail(f"{value!r} names no file", param, ctx)
        return value


class RunId(click.ParamType[str]):
    """A name that is safe as a folder and as a key."""

    name = "name"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        allowed = set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.")
        if not value or len(value) > 100 or set(value) - allowed or value.startswith("."):
            self.fail(f"{value!r}: use up to 100 letters, digits, '-', '_' and '.', not '.' first", param, ctx)
        return value


class Duration(click.ParamType[float]):
    """Seconds, or a number with s, m or h."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, float):
            return value
        unit = {"s": 1, "m": 60, "h": 3600}.get(value[-1:])
        try:
            seconds = float(value[:-1] if unit else value) * (unit or 1)
        except ValueError:
            self.fail(f"{value!r} is no duration; write 90, 90s, 5m or 1h", param, ctx)
        if not 0 < seconds < float("inf"):
            self.fail(f"{value!r}: must be more than nothing", param, ctx)
        return seconds


class Formats(click.ParamType[tuple[str, ...]]):
    """Names of FORMATS with commas between them; in the order of FORMATS, each once."""

    name = "formats"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, ...]:
        if isinstance(value, tuple):
            return value
        names = value.split(",") if value else []
        if unknown := [name for name in names if name not in FORMATS]:
            self.fail(f"{unknown[0]!r} is not one of {', '.join(FORMATS)}", param, ctx)
        return tuple(name for name in FORMATS if name in names)


def option(name: str, *parameter: str, **attributes: Any) -> Callable[[Any], Any]:
    """A click option that is an environment variable as well: --run-id is CATSDOGS_RUN_ID."""
    variable = "CATSDOGS_" + name.lstrip("-").partition("/")[0].upper().replace("-", "_")
    attributes.setdefault("show_default", "default" in attributes)
    return click.option(name, *parameter, envvar=variable, show_envvar=True, **attributes)


def of_recipe(name: str, type: click.ParamType[Any], help: str) -> Callable[[Any], Any]:
    """An option whose default is the recipe's."""
    attribute = name.lstrip("-").replace("-", "_")
    values = ", ".join(f"{recipe.name} {getattr(recipe, attribute):g}" for recipe in RECIPES.values())
    return option(name, type=type, show_default=f"the recipe's: {values}", help=help)


COUNT = click.IntRange(min=1)

ADDRESSES = [
    option("--archive", type=Address(needs_key=True), required=True, help="The zip: s3://bucket/key or a local file."),
    option(
        "--output",
        type=Address(needs_key=False),
        required=True,
        help="Where runs are published, each in a folder of its own: s3://bucket/prefix or a local folder.",
    ),
    option(
        "--volume",
        type=click.Path(path_type=Path, file_okay=False, readable=False),
        default="data",
        help="Local folder for images, checkpoints and artifacts; a run goes on from what it finds there.",
    ),
]
STORAGE = [
    option(
        "--addressing-style",
        type=click.Choice(["auto", "path", "virtual"]),
        default="auto",
        help="Whether the bucket stands in the path or in the host name of S3 requests.",
    ),
    option(
        "--storage-timeout",
        type=Duration(),
        default="2m",
        help="How long a storage that is away or fails is waited for.",
    ),
]
LOG_FORMAT = option(
    "--log-format",
    type=click.Choice(["text", "json", "mixed"]),
    default="text",
    help="What standard output has: lines of text, of JSON, or both.",
)
OPTIONS = [
    option("--run-id", type=RunId(), show_default="the recipe and a hash of the options", help="The run's name."),
    option("--recipe", "recipe_name", type=click.Choice(list(RECIPES)), default="baseline", help="The model."),
    of_recipe("--epochs", COUNT, "Times that every training image is shown."),
    of_recipe("--batch-size", COUNT, "Images a step, over all GPUs together."),
    of_recipe("--learning-rate", click.FloatRange(min=0, min_open=True, max=10), "The optimizer's."),
    of_recipe("--image-size", click.IntRange(min=1, max=1024), "Width and height of the model's input."),
    option(
        "--seed",
        type=click.IntRange(min=0, max=2**32 - 1),
        default=0,
        help="Of weights, order and augmentation. On a CPU the same seed gives the same model, bit for bit.",
    ),
    option("--train-per-class", type=COUNT, default=1000, help="Training images of each class."),
    option("--validation-per-class", type=COUNT, default=500, help="Validation images of each class."),
    option("--test-per-class", type=COUNT, default=500, help="Test images of each class."),
    option("--require-gpu", is_flag=True, help="Fail with 69 where TensorFlow can use no GPU."),
    option(
        "--precision",
        type=click.Choice(PRECISIONS),
        default=PRECISIONS[0],
        help="What layers compute in; weights and answers are float32 in any case.",
    ),
    option(
        "--xla", is_flag=True, help="Compile the steps with XLA, on one device; runs are then not equal bit for bit."
    ),
    option(
        "--checkpoint-every",
        type=Duration(),
        default="60s",
        help="Time between two checkpoints within an epoch; there is always one after it.",
    ),
    option(
        "--checkpoint-to",
        type=click.Choice(["volume", "bucket"]),
        default="volume",
        help="Where checkpoints are kept: on the volume alone, or in the output too, for a volume that may be lost.",
    ),
    option(
        "--export",
        type=Formats(),
        default=(),
        show_default="none",
        help="Formats to publish the model in as well, compared with it: savedmodel,onnx,tflite.",
    ),
    *STORAGE,
    LOG_FORMAT,
]
"""What every part of a run is told, beside ADDRESSES, in the order of the help text."""
WORKERS = [
    option("--workers", type=COUNT, default=1, help="Processes that train together, each with its GPUs or its CPU."),
    option(
        "--worker-index",
        type=click.IntRange(min=0),
        show_default="JOB_COMPLETION_INDEX, or 0",
        help="Which of them this one is, from 0. Worker 0 alone publishes.",
    ),
    option(
        "--worker-address",
        metavar="HOST:PORT",
        help="Where the workers reach each other: with {index} in it, or one after the other with commas between."
        " They use that port and the one after it.",
    ),
    option(
        "--worker-timeout",
        type=Duration(),
        default="5m",
        help="How long a worker waits for the others before it begins.",
    ),
    option(
        "--heartbeat-timeout",
        type=Duration(),
        default="60s",
        help="How long another worker may be silent before it is taken for lost, and all stop.",
    ),
]
"""What the parts of a run are told beside that."""


def own_index(workers: int, index: int | None) -> int:
    """Which worker this is: as told, or as Kubernetes numbers the pods of an Indexed Job. Raises UsageError."""
    if index is None and workers > 1:
        found = os.environ.get("JOB_COMPLETION_INDEX", "0")
        if not found.isdecimal():
            raise click.UsageError(f"JOB_COMPLETION_INDEX {found!r} is no number; give --worker-index")
        index = int(found)
    if (index or 0) >= workers:
        raise click.UsageError(f"--worker-index {index}: must be below --workers, which is {workers}")
    return index or 0


def with_options(options: list[Callable[[Any], Any]]) -> Callable[[Any], Any]:
    return lambda function: functools.reduce(lambda so_far, decorator: decorator(so_far), reversed(options), function)
