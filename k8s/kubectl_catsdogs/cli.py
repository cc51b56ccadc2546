"""The `kubectl catsdogs` command: parses, calls one function, turns failures into exit codes."""

import functools
import os
import shlex
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from kubectl_catsdogs import __version__
from kubectl_catsdogs.base.duration import Duration
from kubectl_catsdogs.base.errors import Failure
from kubectl_catsdogs.base.text import clean

if TYPE_CHECKING:
    from kubectl_catsdogs.api.client import Cluster
    from kubectl_catsdogs.follow.view import View

PROGRAM = "kubectl-catsdogs"
VARIABLE = "_KUBECTL_CATSDOGS_COMPLETE"
"""By which click's own shell completion is asked for."""
INTERRUPTED = 130
"""As a shell reports it for those that SIGINT ends."""


@dataclass(frozen=True)
class Target:
    """Which cluster and namespace, as kubectl's flags say it."""

    kubeconfig: str | None = None
    context: str | None = None
    namespace: str | None = None
    retry_for: float | None = None

    def connect(self) -> "Cluster":
        """Raises Contradiction for a kubeconfig that leads nowhere."""
        # Here, so that --help need not wait for it.
        from kubectl_catsdogs.api.client import Cluster

        cluster = Cluster.connect(self.kubeconfig, self.context, self.namespace)
        cluster.patience = self.retry_for or cluster.patience
        cluster.on_wait = lambda reason: click.echo(f"kubectl catsdogs: waiting: {reason}", err=True)
        return cluster


def with_flags(function: Callable[..., Any]) -> Callable[..., Any]:
    flags = [
        click.option("--kubeconfig", metavar="FILE", help="The kubeconfig file, instead of KUBECONFIG's."),
        click.option("--context", metavar="NAME", help="The kubeconfig's context, instead of the current one."),
        click.option("-n", "--namespace", metavar="NAME", help="The release's namespace, instead of the context's."),
        click.option(
            "--retry-for",
            type=Duration(),
            show_default="2m",
            help="How long an API server that is away is waited for.",
        ),
    ]
    return functools.reduce(lambda so_far, flag: flag(so_far), reversed(flags), function)


def with_target(function: Callable[..., Any]) -> Callable[..., Any]:
    """Gives a command kubectl's flags, after its name as well as before it, as a Target: its first argument.

    What the command returns is the exit code; None is 0.
    """

    @functools.wraps(function)
    def command(**options: Any) -> Any:
        given = {field.name: options.pop(field.name) for field in fields(Target)}
        target: Target = click.get_current_context().obj
        return function(replace(target, **{name: value for name, value in given.items() if value}), **options)

    return with_flags(command)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@with_flags
@click.version_option(__version__, prog_name="kubectl catsdogs")
@click.pass_context
def plugin(context: click.Context, /, **options: Any) -> None:
    """What kubectl alone does not tell about the runs of the chart catsdogs-train.

    RELEASE is the name that helm was given; where there is only one it need not be said.
    """
    context.obj = Target(**options)


@plugin.command()
@click.argument("release", required=False)
@click.option("--timeout", type=Duration(), default="10m", show_default=True, help="How long to wait for the run.")
@with_target
def follow(target: Target, release: str | None, timeout: float) -> int:
    """Follow a run, from the moment of install to its end. RELEASE may be a run, too.

    Its log goes to standard output, what the cluster reports to standard error. The exit code is the job's own.
    Ctrl-C stops following, and not the job.
    """
    from kubectl_catsdogs.follow.follower import follow

    view = make_view()
    try:
        return follow(target.connect(), release, view, timeout)
    except KeyboardInterrupt:
        view.close()
        again = shlex.join(["kubectl", "catsdogs", *sys.argv[1:]])
        view.report(f"no longer following; the run goes on, and so does this: {again}")
        return INTERRUPTED
    except Failure:
        view.close()
        raise


@plugin.command()
@click.argument("release", required=False)
@with_target
def why(target: Target, release: str | None) -> int:
    """Say why a run is as it is: the cause, what shows it, and the next step. RELEASE may be a run, too.

    The exit code is 0 if there is something to tell, whatever it is, and 65 if there is no such release.
    """
    from kubectl_catsdogs.diagnose.why import why

    return why(target.connect(), release)


@plugin.command()
@click.option("--gpu-resource", metavar="NAME", help="The resource that stands for a GPU.  [default: nvidia.com/gpu]")
@click.option("--gpus", type=click.IntRange(min=0), help="GPUs of each worker.  [default: 1]")
@click.option("--workers", type=click.IntRange(min=1), help="Pods that train together.  [default: 1]")
@click.option("--secret", metavar="NAME", help="The Secret with the credentials, if one is to be used.")
@click.option("--storage-class", metavar="NAME", help="The volume's class.  [default: the cluster's default]")
@click.option(
    "-f", "--values", type=click.Path(dir_okay=False, path_type=Path), help="The values that helm is to be given."
)
@with_target
def check(target: Target, values: Path | None, **flags: Any) -> int:
    """Check a namespace before `helm install`: GPUs, Secret, volume, permissions, Pod Security, each with the fix.

    The exit code is 0 if all is well, and 78 if something is missing.
    """
    from kubectl_catsdogs.preflight.checklist import check, wanted_of

    return check(target.connect(), wanted_of(values, **flags))


@plugin.command()
@click.option("--from", "release", required=True, metavar="RELEASE", help="The release, or a run, whose Job it is of.")
@click.option(
    "--set", "settings", multiple=True, metavar="NAME=VALUE", help="An option of the job: epochs=50. Repeatable."
)
@click.option(
    "--sweep",
    "sweeps",
    multiple=True,
    metavar="NAME=VALUE,…",
    help="A run for each value; of several, for each combination.",
)
@click.option("--parallel", type=click.IntRange(min=1), help="Runs of a sweep that are at work at once; else all are.")
@click.option("--wait", is_flag=True, help="Wait for the end; the exit code is the job's, the highest of a sweep.")
@click.option("--dry-run", is_flag=True, help="Print the manifests, and create nothing.")
@with_target
def submit(
    target: Target,
    release: str,
    settings: tuple[str, ...],
    sweeps: tuple[str, ...],
    parallel: int | None,
    wait: bool,
    dry_run: bool,
) -> int:
    """Submit further runs of an installed release, with other settings.

    The same settings are the same run: what is there already is not made again. With --parallel the command makes a
    Job whenever another ends; if it is interrupted, the same command goes on.
    """
    from kubectl_catsdogs.submit import submission as submitting

    if not dry_run:
        return submitting.submit(target.connect(), release, settings, sweeps, parallel, wait, say, note)
    import yaml

    jobs = submitting.manifests(target.connect(), release, settings, sweeps)
    click.echo(yaml.safe_dump_all(jobs, sort_keys=False), nl=False)
    return 0


def say(text: str) -> None:
    click.echo(clean(text))


def note(text: str) -> None:
    """What is no result."""
    click.echo(f"-- {clean(text)}", err=True)


@plugin.command()
@click.argument("release", required=False)
@click.option("-o", "--output", type=click.Choice(["table", "json"]), default="table", show_default=True)
@with_target
def runs(target: Target, release: str | None, output: str) -> None:
    """List the runs of a release, or of all in the namespace, the newest first.

    Epochs and accuracies are read from the logs of the runs' pods, as far as they are there.
    """
    from kubectl_catsdogs import runs as listing

    cluster = target.connect()
    found, refused = listing.runs_of(cluster, release)
    if refused is not None:
        note(f"{refused}; without it, epochs and accuracies are unknown")
    if output == "json":
        click.echo(listing.as_json(found))
    elif found:
        click.echo(listing.as_table(found))
    else:
        note(f"no runs{f' of release {release}' if release else ''} in namespace {cluster.namespace}")


@plugin.command()
@click.argument("run")
@click.option("--timeout", type=Duration(), show_default="the grace period and a minute", help="How long to wait.")
@with_target
def stop(target: Target, run: str, timeout: float | None) -> int:
    """Stop a run, so that it saves its progress. RUN may be a release with one run.

    Its Job is suspended, and stays: the command's last line says how it goes on.
    """
    from kubectl_catsdogs.submit.stopping import stop

    return stop(target.connect(), run, timeout, say, note)


def make_view() -> "View":
    from kubectl_catsdogs.follow.view import LiveView, View

    live = sys.stdout.isatty() and os.environ.get("TERM", "dumb") != "dumb"
    return LiveView() if live else View()


def start() -> NoReturn:
    """The process' exit code is the command's."""
    code = _exit_code()
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except OSError:
        code = 141
    # Not sys.exit, which waits for threads: some may wait for a server that is silent.
    os._exit(code)


def _exit_code() -> int:
    try:
        # A shell completes a program; people call it as kubectl does.
        name = PROGRAM if VARIABLE in os.environ else "kubectl catsdogs"
        code = plugin.main(prog_name=name, complete_var=VARIABLE, standalone_mode=False)
    except click.exceptions.Exit as end:
        return end.exit_code
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        return INTERRUPTED
    except SystemExit as end:
        # So click ends after a completion, and with 1 where nobody reads on, as after `| head`.
        return 141 if end.code == 1 else int(end.code or 0)
    except Failure as failure:
        click.echo(f"kubectl catsdogs: {failure}", err=True)
        return failure.exit_code
    except Exception:
        traceback.print_exc()
        click.echo("kubectl catsdogs: this is a bug; please report it with the lines above", err=True)
        return 1
    return code if isinstance(code, int) else 0
