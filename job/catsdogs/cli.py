"""The `catsdogs` command: parses, calls one function, turns errors into exit codes."""

import contextlib
import gc
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from catsdogs import help
from catsdogs.config.kinds import Address
from catsdogs.config.option import Group
from catsdogs.options import OPTIONS, STORAGE, WORKERS, option, options_of, own_index
from catsdogs.runtime import memory
from catsdogs.runtime.errors import BadData, JobError, printable
from catsdogs.runtime.formatting import count_text
from catsdogs.runtime.signals import Interruption, erase_live_line

# What is slow to import, events among it, is imported by the functions that need it: --help answers at once.
if TYPE_CHECKING:
    from catsdogs.config.settings import Settings
    from catsdogs.runtime.log import Log, Sink
    from catsdogs.storage.store import StorageOptions

INPUT_OUTPUT = Group.INPUT_OUTPUT.value


def part_of_run(function: "Callable[[Settings, Log, Interruption], None]") -> click.Command:
    """Make a function of (settings, log, interruption) a subcommand that takes all OPTIONS.

    With several workers the function runs without secrets: see `pipeline.isolation`.
    """

    def command(log_format: str, **options: Any) -> None:
        worker = options["worker_index"] = own_index(options["workers"], options["worker_index"])
        interruption = click.get_current_context().obj
        try:
            settings, log = make_settings(options), make_log(log_format, worker)
            if settings.workers > 1:
                from catsdogs.pipeline import isolation

                isolation.enter(settings, log, interruption)
            function(settings, log, interruption)
        except JobError as error:
            if worker:
                error.args = (f"worker {worker}: {error}",)
            raise

    command.__doc__ = function.__doc__
    return catsdogs.command(function.__name__)(options_of(OPTIONS)(command))


def make_settings(options: dict[str, Any]) -> "Settings":
    from catsdogs.config.settings import Settings

    return Settings.of(**options)


def make_log(log_format: str, worker: int = 0) -> "Log":
    """Return a log on standard output: lines of JSON, of text, of both, or on a terminal text above a live line."""
    from catsdogs.runtime.console import Terminal
    from catsdogs.runtime.log import JsonLines, Log, MixedLines, TextLines

    sinks: dict[str, list[Sink]] = {
        "json": [JsonLines(sys.stdout)],
        "mixed": [MixedLines(sys.stdout)],
        "text": [Terminal(sys.stdout) if Terminal.fits(sys.stdout) else TextLines(sys.stdout)],
    }
    return Log(sinks[log_format], worker)


def make_storage_options(addressing_style: str, storage_timeout: float) -> "StorageOptions":
    """Return the storage options of a command for people: what they report goes to standard error."""
    from catsdogs.runtime.events import CredentialsRenewed, StorageWaiting
    from catsdogs.storage.store import StorageOptions

    def waiting(reason: str, left: float) -> None:
        complain(StorageWaiting(reason=reason, left=left).sentence())

    def renewed(uri: str) -> None:
        complain(CredentialsRenewed(uri=uri).sentence())

    return StorageOptions(addressing_style, storage_timeout, waiting, renewed)


def complain(text: str) -> None:
    click.echo(f"{click.style('catsdogs:', fg='red')} {text}", err=True, color=help.COLOR)


def print_version(context: click.Context, _: click.Parameter, wanted: bool) -> None:
    if wanted:
        from catsdogs import __version__

        click.echo(f"catsdogs, version {__version__}")
        context.exit()


@click.group(cls=help.Group, context_settings=help.CONTEXT)
@click.option(
    "--version", is_flag=True, expose_value=False, is_eager=True, callback=print_version,
    help="Show the version and exit.",
)  # fmt: skip
def catsdogs() -> None:
    """Train a convnet to tell cats from dogs: from Kaggle's archive to a published, verified model.

    Archive and output are s3:// addresses or local paths. Credentials, region and endpoint come from the standard AWS
    settings (AWS_ACCESS_KEY_ID, AWS_ENDPOINT_URL_S3, profiles, service accounts).
    """


@part_of_run
def run(settings: "Settings", log: "Log", interruption: Interruption) -> None:
    """Prepare, train and publish; resume an interrupted run.

    The same command is the same run: started again, it resumes where it stopped, and once published, it does nothing.
    """
    from catsdogs.pipeline import workflow as job

    job.run(settings, log, interruption)


@part_of_run
def prepare(settings: "Settings", log: "Log", interruption: Interruption) -> None:
    """Step 1 of run: build the split directories from the archive."""
    from catsdogs.pipeline import workflow as job

    job.prepare(settings, log, interruption)


@part_of_run
def train(settings: "Settings", log: "Log", interruption: Interruption) -> None:
    """Step 2 of run: train and evaluate the model."""
    from catsdogs.pipeline import workflow as job

    job.train(settings, log, interruption)


@part_of_run
def publish(settings: "Settings", log: "Log", interruption: Interruption) -> None:
    """Step 3 of run: upload and verify the artifacts."""
    from catsdogs.pipeline import workflow as job

    job.publish_trained(settings, log, interruption)


@catsdogs.command()
@options_of(OPTIONS.keys() - WORKERS)
def plan(log_format: str, **options: Any) -> None:
    """Dry run: show what run would fetch, build, train and write."""
    from catsdogs.pipeline import plan as planning

    found = planning.plan(make_settings(options))
    click.echo(json.dumps(found, indent=2, default=str) if log_format == "json" else planning.text_of(found))


@catsdogs.command()
@option(
    "--archive", type=click.Path(path_type=Path, exists=True, dir_okay=False), group=INPUT_OUTPUT,
    help="A local archive. Without it, a small sample is drawn.",
)  # fmt: skip
@option(
    "--directory", type=click.Path(path_type=Path, file_okay=False), default="demo", group=INPUT_OUTPUT,
    help="Folder for everything that the demo makes; the results go to its folder runs.",
)  # fmt: skip
@options_of(OPTIONS.keys() - {"archive", "output", "volume", *WORKERS})
@click.pass_context
def demo(context: click.Context, /, archive: Path | None, directory: Path, log_format: str, **options: Any) -> None:
    """Try the whole job with a local S3 server and drawn images.

    With --archive it uses that archive instead. For the drawn sample, the numbers of images and epochs and the
    learning rate are smaller than the defaults below.
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
    help="Print a line of text or a line of JSON for each image.",
)  # fmt: skip
@options_of(STORAGE)
@click.pass_obj
def predict(
    interruption: Interruption, /, images: tuple[str, ...], model: str, form: str,
    addressing_style: str, storage_timeout: float,
) -> None:  # fmt: skip
    """Classify images with a published model: cat or dog?

    Folders are searched for images, whatever their names; hidden files and folders are left out. The model is compared
    with its run's manifest before it is used. Images that cannot be read, and files given by name that are not images,
    are reported and skipped; the exit code is then 65, after all others are done.
    """
    from catsdogs.published import predict as prediction

    interruption.advice = "the images above are done; the same command starts with the first image again"
    storage_options = make_storage_options(addressing_style, storage_timeout)
    unreadable = total = 0
    left_out = prediction.LeftOut()
    for total, one in enumerate(prediction.predict(images, model, storage_options, interruption, left_out), 1):
        if isinstance(one, prediction.Unreadable):
            unreadable += 1
            complain(printable(f"{one.image}: {one.reason}; passed over"))
        if form == "json":
            click.echo(prediction.json_of(one))
        elif isinstance(one, prediction.Prediction):
            if total - unreadable == 1:
                click.echo(prediction.HEAD)
            click.echo(prediction.line_of(one))
    for sentence in left_out.sentences():
        complain(sentence)
    if unreadable:
        raise BadData(
            f"{unreadable:,} of {count_text(total, 'image')} could not be read; they are named above,"
            " the others are done"
        )


@catsdogs.command()
@option(
    "--output", type=Address(needs_key=False), required=True,
    help="Where the runs are: s3://bucket/prefix or a local folder.",
)  # fmt: skip
@option("--json", "as_json", is_flag=True, help="Print everything known about each run, as a JSON array.")
@options_of(STORAGE)
def runs(output: str, as_json: bool, addressing_style: str, storage_timeout: float) -> None:
    """List the runs of an output, best test accuracy first.

    Unpublished and damaged runs come last. Damaged ones are also reported on standard error.
    """
    from catsdogs.published import runs as listing

    found = listing.runs(output, make_storage_options(addressing_style, storage_timeout))
    if as_json:
        click.echo(json.dumps(found, indent=2))
    elif found:
        click.echo(listing.table(found))
    else:
        complain(f"{printable(output)}: no runs there")
    for run in found:
        if run["problem"]:
            complain(run["problem"])


@catsdogs.command()
@click.argument("run", type=Address(needs_key=False))
@option("--accuracy", is_flag=True, help="Also evaluate the model again, on the training and test images of --archive.")
@option(
    "--archive", type=Address(needs_key=True),
    help="With --accuracy: the run's archive, s3://bucket/key or a local file.",
)  # fmt: skip
@option(
    "--further-per-class", type=click.IntRange(min=0), default=0,
    help="With --accuracy: also evaluate on this many held-out images per class, which the run has not used.",
)  # fmt: skip
@option(
    "--volume", type=click.Path(path_type=Path, file_okay=False, readable=False), default="data",
    help="With --accuracy: a local folder for the images, which are removed afterwards.",
)  # fmt: skip
@options_of([*STORAGE, "log_format"])
@click.pass_obj
def verify(
    interruption: Interruption, /, run: str, accuracy: bool, archive: str | None, further_per_class: int, volume: Path,
    addressing_style: str, storage_timeout: float, log_format: str,
) -> None:  # fmt: skip
    """Compare every artifact of a published run with its manifest.

    RUN is s3://bucket/prefix/RUN_ID or a local folder. Each difference is reported; the exit code is then 65.
    """
    from catsdogs.published import verify as verification

    if accuracy and archive is None:
        raise click.UsageError("--accuracy needs --archive: the zip that the run was made from")
    if further_per_class and not accuracy:
        raise click.UsageError("--further-per-class needs --accuracy")
    interruption.advice = "nothing was changed; the same command starts over"
    storage_options, log = make_storage_options(addressing_style, storage_timeout), make_log(log_format)
    verification.verify(run, storage_options, log, interruption)
    if archive is not None and accuracy:
        verification.verify_accuracy(run, archive, further_per_class, volume, storage_options, log, interruption)


def main(interruption: Interruption) -> NoReturn:
    """Run the command and end the process with one of `errors.EXIT_CODES`. `interruption` is installed already."""
    # The number of new objects after which Python looks for cycles to free. With its default, 700, it looked a thousand
    # times, in vain, during imports and while the zip's directory was read: 0.1 s of `prepare`, 0.5 s of a training's
    # start.
    gc.set_threshold(50_000)
    code = _exit_code(interruption)
    with contextlib.suppress(OSError):
        sys.stdout.flush()
        sys.stderr.flush()
    # Not sys.exit, which waits for threads that may be waiting for a stalled network. Also, Python handles no signals
    # while it shuts down, so that a signal in that moment would turn a published run into a failure.
    os._exit(code)


def _exit_code(interruption: Interruption) -> int:
    try:
        memory.require_for(memory.COMMAND_FLOORS, "catsdogs")
        catsdogs.main(obj=interruption, standalone_mode=False)
    except click.exceptions.Exit as end:
        return end.exit_code
    except click.ClickException as error:
        # Click's own form: usage, then the error.
        error.show()
        return error.exit_code
    except JobError as error:
        erase_live_line()
        complain(str(error))
        return error.exit_code
    except Exception as error:
        import traceback

        erase_live_line()
        known = _known(error)
        if known is not None:
            complain(str(known))
            return known.exit_code
        traceback.print_exc()
        complain("this is a bug; please report it with the lines above")
        return 1
    return 0


def _known(error: Exception) -> JobError | None:
    """Return the error for an exception that the volume or lack of memory has caused, from whatever code; else None."""
    from catsdogs.storage import volume

    try:
        with volume.failures("a file", only_known=True):
            raise error
    except JobError as failure:
        return failure
    except Exception:
        return memory.shortage(error)
