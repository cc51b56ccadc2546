"""The `catsdogs` command: parses, calls one function, turns errors into exit codes."""

import contextlib
import functools
import json
import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from job import __version__
from job.errors import JobError, masked, printable
from job.events import JsonLines, Log, Terminal, TextLines, text_of
from job.interruption import Interruption
from job.recipes import RECIPES

if TYPE_CHECKING:
    from job.settings import Settings
    from job.stores import Access


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
    type=click.Choice(["text", "json"]),
    default="text",
    help="How events are written to standard output.",
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
    *STORAGE,
    LOG_FORMAT,
]
"""What every part of a run is told, beside ADDRESSES, in the order of the help text."""


def with_options(options: list[Callable[[Any], Any]]) -> Callable[[Any], Any]:
    return lambda function: functools.reduce(lambda so_far, decorator: decorator(so_far), reversed(options), function)


def part_of_run(function: "Callable[[Settings, Log, Interruption], None]") -> click.Command:
    """Makes a function of (settings, log, interruption) a subcommand that takes ADDRESSES and OPTIONS."""

    def command(log_format: str, **options: Any) -> None:
        function(make_settings(options), make_log(log_format), click.get_current_context().obj)

    command.__doc__ = function.__doc__
    return catsdogs.command(function.__name__)(with_options(ADDRESSES + OPTIONS)(command))


def make_settings(options: dict[str, Any]) -> "Settings":
    # Here and in the commands, so that --help need not wait for numpy, Pillow and their like.
    from job.settings import Settings

    return Settings.of(**options)


def make_log(log_format: str) -> Log:
    """Says events on standard output: as JSON, as lines of text, or on a terminal with a progress bar."""
    if log_format == "json":
        return Log([JsonLines(sys.stdout)])
    return Log([Terminal(sys.stdout) if sys.stdout.isatty() else TextLines(sys.stdout)])


def make_access(addressing_style: str, storage_timeout: float) -> "Access":
    """Storage as a command for people reaches it: what is waited for is said on standard error."""
    from job.stores import Access

    def waiting(reason: str, left: float) -> None:
        click.echo(f"catsdogs: {text_of('waiting', {'reason': reason, 'left': left})}", err=True)

    return Access(addressing_style, storage_timeout, waiting)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="catsdogs")
def catsdogs() -> None:
    """Trains a convnet to tell cats from dogs: from a Kaggle archive to a published, verified model.

    Archive and output are s3:// addresses or local paths. Credentials, region and endpoint come from the
    standard AWS settings (AWS_ACCESS_KEY_ID, AWS_ENDPOINT_URL_S3, profiles, service accounts).
    """


@part_of_run
def run(settings: "Settings", log: Log, interruption: Interruption) -> None:
    """The whole job: prepare, train, publish. Goes on from where an earlier one stopped."""
    from job import run as job

    job.run(settings, log, interruption)


@part_of_run
def prepare(settings: "Settings", log: Log, interruption: Interruption) -> None:
    """The first part of run: from the archive to train, validation and test folders on the volume."""
    from job import run as job

    job.prepare(settings, log, interruption)


@part_of_run
def train(settings: "Settings", log: Log, interruption: Interruption) -> None:
    """The second part of run: from the folders to the trained model and its figures on the volume."""
    from job import run as job

    job.train(settings, log, interruption)


@part_of_run
def publish(settings: "Settings", log: Log, interruption: Interruption) -> None:
    """The last part of run: from the volume to the output, each file verified, the manifest last."""
    from job import run as job

    job.publish_trained(settings, log, interruption)


@catsdogs.command()
@with_options(ADDRESSES + OPTIONS)
def plan(log_format: str, **options: Any) -> None:
    """Say what run would fetch, build, train and write, and do none of it."""
    from job import plan as planning

    found = planning.plan(make_settings(options))
    click.echo(json.dumps(found, indent=2, default=str) if log_format == "json" else planning.text_of(found))


@catsdogs.command()
@option(
    "--archive", type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="A local archive.  Without it a small sample is drawn.",
)  # fmt: skip
@option(
    "--directory", type=click.Path(path_type=Path, file_okay=False), default="demo",
    help="Where everything goes; the results into its folder runs.",
)  # fmt: skip
@with_options(OPTIONS)
@click.pass_context
def demo(context: click.Context, /, archive: Path | None, directory: Path, log_format: str, **options: Any) -> None:
    """Run the job against an S3 server that it starts itself, on a drawn sample or on --archive.

    On the sample the counts, epochs and learning rate are smaller than the defaults below.
    """
    from job import demo as demonstration

    if archive is None:
        for name, value in demonstration.SAMPLE_SETTINGS.items():
            if context.get_parameter_source(name) is click.core.ParameterSource.DEFAULT:
                options[name] = value
    demonstration.demo(archive, directory, options, make_log(log_format), context.obj)


@catsdogs.command()
@option(
    "--output", type=Address(needs_key=False), required=True, help="Where the runs are: s3://bucket/prefix or a folder."
)
@option("--json", "as_json", is_flag=True, help="All that is known of each run, as one JSON array.")
@with_options(STORAGE)
def runs(output: str, as_json: bool, addressing_style: str, storage_timeout: float) -> None:
    """Show all runs of an output side by side, the best test accuracy first.

    Runs that are not published, and damaged ones, come last. Damaged ones are also named on standard error.
    """
    from job import runs as listing

    found = listing.runs(output, make_access(addressing_style, storage_timeout))
    if as_json:
        click.echo(json.dumps(found, indent=2))
    elif found:
        click.echo(listing.table(found))
    else:
        click.echo(f"catsdogs: {printable(output)}: no runs there", err=True)
    for run in found:
        if run["problem"]:
            click.echo(f"catsdogs: {run['problem']}", err=True)


@catsdogs.command()
@click.argument("run", type=Address(needs_key=False))
@option("--accuracy", is_flag=True, help="Evaluate the model again as well, on the test images of --archive.")
@option(
    "--archive", type=Address(needs_key=True), help="With --accuracy: the run's zip, s3://bucket/key or a local file."
)
@option(
    "--volume", type=click.Path(path_type=Path, file_okay=False, readable=False), default="data",
    help="With --accuracy: a local folder for the test images, which do not stay there.",
)  # fmt: skip
@with_options([*STORAGE, LOG_FORMAT])
@click.pass_obj
def verify(
    interruption: Interruption, /, run: str, accuracy: bool, archive: str | None, volume: Path,
    addressing_style: str, storage_timeout: float, log_format: str,
) -> None:  # fmt: skip
    """Compare every artifact of a published run with its manifest.

    RUN is s3://bucket/prefix/RUN_ID or a local folder. Whatever differs is named, and ends in exit code 65.
    """
    from job import verify as verification

    if accuracy and archive is None:
        raise click.UsageError("--accuracy needs --archive: the zip that the run was made from")
    access, log = make_access(addressing_style, storage_timeout), make_log(log_format)
    verification.verify(run, access, log, interruption)
    if archive is not None and accuracy:
        verification.verify_accuracy(run, archive, volume, access, log, interruption)


def main(interruption: Interruption) -> NoReturn:
    """The process' exit code is one of `job.errors.EXIT_CODES`. `interruption` is installed already."""
    code = _exit_code(interruption)
    with contextlib.suppress(OSError):
        sys.stdout.flush()
        sys.stderr.flush()
    # Not sys.exit: it waits for threads, and some may wait for a network that stalls; and while Python takes itself
    # apart it minds no signal, so that one that comes then would make a failure of a run that is published.
    os._exit(code)


def _exit_code(interruption: Interruption) -> int:
    try:
        catsdogs.main(obj=interruption, standalone_mode=False)
    except click.exceptions.Exit as end:
        return end.exit_code
    except click.ClickException as error:
        # Click's own form: usage, then the error.
        error.show()
        return error.exit_code
    except JobError as error:
        if sys.stdout.isatty():
            click.echo(Terminal.ERASED, nl=False)
        click.echo(f"catsdogs: {error}", err=True)
        return error.exit_code
    except Exception:
        traceback.print_exc()
        click.echo("catsdogs: this is a bug; please report it with the lines above", err=True)
        return 1
    return 0
