"""The `kubectl catsdogs` command: parses, calls one function, and turns failures into exit codes."""

import functools
import os
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
from kubectl_catsdogs.base.text import clean, shell_command

if TYPE_CHECKING:
    from kubectl_catsdogs.api.client import Cluster
    from kubectl_catsdogs.follow.view import View

PROGRAM = "kubectl-catsdogs"
VARIABLE = "_KUBECTL_CATSDOGS_COMPLETE"
"""Asks for click's own shell completion."""
WIDTH = 110
INTERRUPTED = 130
"""What a shell reports for a command that SIGINT ended."""
PIPE_CLOSED = 141
"""The same for SIGPIPE: nobody reads the output any more, as after `| head`."""


class Commands(click.Group):
    """Lists the commands in the order of work, in which they are defined."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)


@dataclass(frozen=True)
class Target:
    """The cluster and namespace, as kubectl's flags name them."""

    kubeconfig: str | None = None
    context: str | None = None
    namespace: str | None = None
    retry_for: float | None = None

    def connect(self) -> "Cluster":
        """Raises ConfigError for an unusable kubeconfig."""
        # Here, so that --help does not wait for it.
        from kubectl_catsdogs.api.client import Cluster
        from kubectl_catsdogs.api.retry import RetryPolicy

        policy = RetryPolicy(budget=self.retry_for) if self.retry_for else RetryPolicy()
        cluster = Cluster.connect(self.kubeconfig, self.context, self.namespace, policy)
        cluster.on_wait = lambda reason: click.echo(f"kubectl catsdogs: retrying: {reason}", err=True)
        return cluster


def with_flags(function: Callable[..., Any]) -> Callable[..., Any]:
    flags = [
        click.option("--kubeconfig", metavar="FILE", help="The kubeconfig file, instead of KUBECONFIG."),
        click.option("--context", metavar="NAME", help="The kubeconfig's context, instead of the current one."),
        click.option("-n", "--namespace", metavar="NAME", help="The release's namespace, instead of the context's."),
        click.option(
            "--retry-for",
            type=Duration(),
            show_default="2m",
            help="How long to retry while the API server is unavailable.",
        ),
    ]
    return functools.reduce(lambda so_far, flag: flag(so_far), reversed(flags), function)


def with_target(function: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command kubectl's flags, after its name as well as before it, as a Target: its first argument.

    The command returns its exit code; None is 0.
    """

    @functools.wraps(function)
    def command(**options: Any) -> Any:
        given = {field.name: options.pop(field.name) for field in fields(Target)}
        target: Target = click.get_current_context().obj
        return function(replace(target, **{name: value for name, value in given.items() if value}), **options)

    return with_flags(command)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": WIDTH})
@with_flags
@click.version_option(__version__, prog_name="kubectl catsdogs")
@click.pass_context
def plugin(context: click.Context, /, **options: Any) -> None:
    """Check, submit, follow, diagnose, list and stop training runs of the Helm chart catsdogs-train.

    RELEASE is the name of a Helm release. It may be omitted if the namespace has only one.
    """
    context.obj = Target(**options)


@plugin.command(short_help="Check that the cluster has what a release requires.")
@click.option("--gpu-resource", metavar="NAME", help="The resource name of GPUs.  [default: nvidia.com/gpu]")
@click.option("--gpus", type=click.IntRange(min=0), help="GPUs of each worker.  [default: 1]")
@click.option("--workers", type=click.IntRange(min=1), help="Pods that train together.  [default: 1]")
@click.option("--secret", metavar="NAME", help="The Secret with the credentials, if one is used.")
@click.option("--storage-class", metavar="NAME", help="The volume's class.  [default: the cluster's default]")
@click.option(
    "-f", "--values", type=click.Path(dir_okay=False, path_type=Path), help="The values file for `helm install`."
)
@with_target
def check(target: Target, values: Path | None, **flags: Any) -> int:
    """Check, before `helm install`, that the cluster has what a release requires.

    Checks permissions, Pod Security, quotas, the Secret, the volume and GPUs, and shows how to correct each problem.
    The exit code is 0 if there is no problem, and 78 if there is one.
    """
    from kubectl_catsdogs.preflight.checklist import check
    from kubectl_catsdogs.preflight.requirements import requirements_of

    return check(target.connect(), requirements_of(values, **flags))


@plugin.command(short_help="Submit further runs of an installed release, with other options.")
@click.option("--from", "release", required=True, metavar="RELEASE", help="The release, or the run, to start from.")
@click.option(
    "--set", "settings", multiple=True, metavar="NAME=VALUE", help="An option of the job: epochs=50. Repeatable."
)
@click.option(
    "--sweep",
    "sweeps",
    multiple=True,
    metavar="NAME=VALUE,…",
    help="One run for each value. Repeatable: one run for each combination.",
)
@click.option("--parallel", type=click.IntRange(min=1), help="Active runs of a sweep at a time.  [default: all]")
@click.option("--wait", is_flag=True, help="Wait for the end; the exit code is the job's, of a sweep the highest.")
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
    """Submit further runs of an installed release, with other options.

    The same options are the same run, which is not created twice. With --parallel the command creates a Job whenever
    another ends; after an interruption, the same command continues.
    """
    from kubectl_catsdogs.submit import submission

    if not dry_run:
        return submission.submit(target.connect(), release, settings, sweeps, parallel, wait, write, note)
    import yaml

    jobs = submission.manifests(target.connect(), release, settings, sweeps)
    click.echo(yaml.safe_dump_all(jobs, sort_keys=False), nl=False)
    return 0


@plugin.command(short_help="Follow a run to its end: log, cluster events and outcome.")
@click.argument("release", required=False)
@click.option("--timeout", type=Duration(), default="10m", show_default=True, help="How long to wait for the run.")
@with_target
def follow(target: Target, release: str | None, timeout: float) -> int:
    """Follow a run from before its pod exists to its end. RELEASE may also be a run.

    Writes its log to standard output, and events of the cluster to standard error. The exit code is the job's own.
    Ctrl-C stops following, but not the job.
    """
    from kubectl_catsdogs.follow.follower import follow

    view = make_view()
    try:
        return follow(target.connect(), release, view, timeout)
    except KeyboardInterrupt:
        view.close()
        command = shell_command("kubectl", "catsdogs", *sys.argv[1:])
        view.report(f"stopped following; the run continues; follow it again with: {command}")
        return INTERRUPTED
    except Failure:
        view.close()
        raise


@plugin.command(short_help="Show why a run is pending, failing or waiting, and what to do about it.")
@click.argument("release", required=False)
@with_target
def why(target: Target, release: str | None) -> int:
    """Show why a run is as it is: the cause, the evidence and the next step. RELEASE may also be a run.

    The exit code is 0 whatever the cause, and 65 if there is no such release or run.
    """
    from kubectl_catsdogs.diagnose.why import why

    return why(target.connect(), release)


@plugin.command(short_help="List the runs of a release, or of the namespace, newest first.")
@click.argument("release", required=False)
@click.option("-o", "--output", type=click.Choice(["table", "json"]), default="table", show_default=True)
@with_target
def runs(target: Target, release: str | None, output: str) -> None:
    """List the runs of a release, or of the namespace, newest first.

    Epochs and accuracies come from the logs of the runs' pods, as far as these still exist.
    """
    from kubectl_catsdogs import runs as listing

    cluster = target.connect()
    rows, denied = listing.runs_of(cluster, release)
    if denied is not None:
        note(f"{denied}; without it, epochs and accuracies are unknown")
    if output == "json":
        click.echo(listing.as_json(rows))
    elif rows:
        click.echo(listing.as_table(rows))
    else:
        note(f"no runs{f' of release {release}' if release else ''} in namespace {cluster.namespace}")


@plugin.command(short_help="Stop a run after it has saved its progress.")
@click.argument("run")
@click.option("--timeout", type=Duration(), show_default="the grace period and 1m", help="How long to wait.")
@with_target
def stop(target: Target, run: str, timeout: float | None) -> int:
    """Stop a run after it has saved its progress. RUN may be a release with one active run.

    Suspends its Job, which stays: the last line of output is the command that resumes it.
    """
    from kubectl_catsdogs.submit.stopping import stop

    return stop(target.connect(), run, timeout, write, note)


def write(text: str) -> None:
    """Write a line of the result."""
    click.echo(clean(text))


def note(text: str) -> None:
    """Write a line that is not of the result."""
    click.echo(f"-- {clean(text)}", err=True)


def make_view() -> "View":
    from kubectl_catsdogs.follow.view import LiveView, View

    live = sys.stdout.isatty() and os.environ.get("TERM", "dumb") != "dumb"
    return LiveView() if live else View()


def start() -> NoReturn:
    """Run the command, and end the process with its exit code."""
    code = _exit_code()
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except OSError:
        code = PIPE_CLOSED
    # Not sys.exit, which waits for threads: some may wait for a server that does not answer.
    os._exit(code)


def _exit_code() -> int:
    try:
        # Shells complete a program, while people call it through kubectl.
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
        # click ends so after a completion, and with 1 if the pipe is closed.
        return PIPE_CLOSED if end.code == 1 else int(end.code or 0)
    except Failure as failure:
        click.echo(f"kubectl catsdogs: {failure}", err=True)
        return failure.exit_code
    except Exception:
        traceback.print_exc()
        click.echo("kubectl catsdogs: this is a bug; please report it with the lines above", err=True)
        return 1
    return code if isinstance(code, int) else 0
