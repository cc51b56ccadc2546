"""The `catsdogs` command: parses, calls one function, turns errors into exit codes."""

import contextlib
import gc
import json
import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from catsdogs import __version__
from catsdogs.options import ADDRESSES, LOG_FORMAT, OPTIONS, STORAGE, WORKERS, Address, option, own_index, with_options
from catsdogs.runtime.console import Terminal
from catsdogs.runtime.errors import BadData, JobError, printable
from catsdogs.runtime.events import StorageWaiting
from catsdogs.runtime.log import JsonLines, JsonLinesWithoutText, Log, Sink, TextLines
from catsdogs.runtime.signals import Interruption

if TYPE_CHECKING:
    from catsdogs.config.settings import Settings
    from catsdogs.storage.store import StorageOptions


def part_of_run(function: "Callable[[Settings, Log, Interruption], None]") -> click.Command:
    """Makes a function of (settings, log, interruption) a subcommand that takes ADDRESSES and OPTIONS."""

    def command(log_format: str, **options: Any) -> None:
        worker = options["worker_index"] = own_index(options["workers"], options["worker_index"])
        try:
            function(make_settings(options), make_log(log_format, worker), click.get_current_context().obj)
        except JobError as error:
            if worker:
                error.args = (f"worker {worker}: {error}",)
            raise

    command.__doc__ = function.__doc__
    return catsdogs.command(function.__name__)(with_options(ADDRESSES + OPTIONS + WORKERS)(command))


def make_settings(options: dict[str, Any]) -> "Settings":
    # Here and in the commands, so that --help need not wait for numpy, Pillow and their like.
    from catsdogs.config.settings import Settings

    return Settings.of(**options)


def make_log(log_format: str, worker: int = 0) -> Log:
    """Return a log on standard output: lines of JSON, of text, of both, or on a terminal a progress bar below text."""
    sinks: dict[str, list[Sink]] = {
        "json": [JsonLines(sys.stdout)],
        "mixed": [TextLines(sys.stdout), JsonLinesWithoutText(sys.stdout)],
        "text": [Terminal(sys.stdout) if sys.stdout.isatty() else TextLines(sys.stdout)],
    }
    return Log(sinks[log_format], worker)


def make_access(addressing_style: str, storage_timeout: float) -> "StorageOptions":
    """Storage as a command for people reaches it: what is waited for is said on standard error."""
    from catsdogs.storage.store import StorageOptions

    def waiting(reason: str, left: float) -> None:
        click.echo(f"catsdogs: {StorageWaiting(reason=reason, left=left).sentence()}", err=True)

    return StorageOptions(addressing_style, storage_timeout, waiting)


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
    from catsdogs.pipeline import workflow as job

    job.run(settings, log, interruption)


@part_of_run
def prepare(settings: "Settings", log: Log, interruption: Interruption) -> None:
    """The first part of run: from the archive to train, validation and test folders on the volume."""
    from catsdogs.pipeline import workflow as job

    job.prepare(settings, log, interruption)


@part_of_run
def train(settings: "Settings", log: Log, interruption: Interruption) -> None:
    """The second part of run: from the folders to the trained model and its figures on the volume."""
    from catsdogs.pipeline import workflow as job

    job.train(settings, log, interruption)


@part_of_run
def publish(settings: "Settings", log: Log, interruption: Interruption) -> None:
    """The last part of run: from the volume to the output, each file verified, the manifest last."""
    from catsdogs.pipeline import workflow as job

    job.publish_trained(settings, log, interruption)


@catsdogs.command()
@with_options(ADDRESSES + OPTIONS)
def plan(log_format: str, **options: Any) -> None:
    """Say what run would fetch, build, train and write, and do none of it."""
    from catsdogs.pipeline import plan as planning

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
    from catsdogs import demo as demonstration

    if archive is None:
        for name, value in demonstration.SAMPLE_SETTINGS.items():
            if context.get_parameter_source(name) is click.core.ParameterSource.DEFAULT:
                options[name] = value
    demonstration.demo(archive, directory, options, make_log(log_format), context.obj)


@catsdogs.command()
@click.argument("images", metavar="IMAGE...", nargs=-1, required=True)
@option(
    "--model", type=Address(needs_key=False), required=True,
    help="A published run, s3://bucket/prefix/RUN_ID or a local folder, or a .keras file.",
)  # fmt: skip
@option(
    "--format", "form", type=click.Choice(["table", "json"]), default="table",
    help="A line of text, or a line of JSON, for each image.",
)  # fmt: skip
@with_options(STORAGE)
@click.pass_obj
def predict(
    interruption: Interruption, /, images: tuple[str, ...], model: str, form: str,
    addressing_style: str, storage_timeout: float,
) -> None:  # fmt: skip
    """Say cat or dog, and how sure the model is, for each image; folders are searched for images.

    The model is compared with its run's manifest before it is used. Files that are no images are named and passed
    over, and end in exit code 65 when all others are done.
    """
    from catsdogs.published import predict as prediction

    interruption.advice = "the images above are done; the same command begins with the first again"
    storage_options = make_access(addressing_style, storage_timeout)
    unreadable = total = 0
    for total, one in enumerate(prediction.predict(images, model, storage_options, interruption), 1):
        if isinstance(one, prediction.Unreadable):
            unreadable += 1
            click.echo(printable(f"catsdogs: {one.image}: {one.reason}; passed over"), err=True)
        if form == "json":
            click.echo(prediction.json_of(one))
        elif isinstance(one, prediction.Prediction):
            if total - unreadable == 1:
                click.echo(prediction.HEAD)
            click.echo(prediction.line_of(one))
    if unreadable:
        raise BadData(
            f"{unreadable:,} of {total:,} images could not be read; they are named above, the others are done"
        )


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
    from catsdogs.published import runs as listing

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
    "--further-per-class", type=click.IntRange(min=0), default=0,
    help="With --accuracy: evaluate on so many images of each class as well that the run has not used.",
)  # fmt: skip
@option(
    "--volume", type=click.Path(path_type=Path, file_okay=False, readable=False), default="data",
    help="With --accuracy: a local folder for the test images, which do not stay there.",
)  # fmt: skip
@with_options([*STORAGE, LOG_FORMAT])
@click.pass_obj
def verify(
    interruption: Interruption, /, run: str, accuracy: bool, archive: str | None, further_per_class: int, volume: Path,
    addressing_style: str, storage_timeout: float, log_format: str,
) -> None:  # fmt: skip
    """Compare every artifact of a published run with its manifest.

    RUN is s3://bucket/prefix/RUN_ID or a local folder. Whatever differs is named, and ends in exit code 65.
    """
    from catsdogs.published import verify as verification

    if accuracy and archive is None:
        raise click.UsageError("--accuracy needs --archive: the zip that the run was made from")
    if further_per_class and not accuracy:
        raise click.UsageError("--further-per-class needs --accuracy")
    interruption.advice = "nothing was changed; the same command begins anew"
    storage_options, log = make_access(addressing_style, storage_timeout), make_log(log_format)
    verification.verify(run, storage_options, log, interruption)
    if archive is not None and accuracy:
        verification.verify_accuracy(run, archive, further_per_class, volume, storage_options, log, interruption)


def main(interruption: Interruption) -> NoReturn:
    """The process' exit code is one of `catsdogs.runtime.errors.EXIT_CODES`. `interruption` is installed already."""
    # New objects, after which Python looks for cycles to free. With its 700 it looked a thousand times, in vain, while
    # modules were imported and the zip's directory was read: 0.1 s of `prepare`, 0.5 s of a training's start.
    gc.set_threshold(50_000)
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
