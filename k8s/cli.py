"""The `kubectl catsdogs` command: parses, calls one function, turns failures into exit codes."""

import functools
import os
import shlex
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, NoReturn

import click

from k8s import __version__
from k8s.errors import Failure

if TYPE_CHECKING:
    from k8s.cluster import Cluster
    from k8s.view import View

PROGRAM = "kubectl-catsdogs"
VARIABLE = "_KUBECTL_CATSDOGS_COMPLETE"
"""By which click's own shell completion is asked for."""
INTERRUPTED = 130
"""As a shell reports it for those that SIGINT ends."""


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
        from k8s.cluster import Cluster

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
    from k8s.follow import follow

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


def make_view() -> "View":
    from k8s.view import LiveView, View

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
