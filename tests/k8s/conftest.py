"""An API server for each test, and the real command in a process of its own."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import pytest

from tests import warm
from tests.conftest import REPOSITORY
from tests.k8s.fakes import rbac
from tests.k8s.fakes.api import Api

warm.preload("tests.preloaded.plugin")


class Plugin(Protocol):
    """`kubectl-catsdogs`, with an environment of nothing but PATH, HOME, PYTHONPATH, KUBECONFIG and `env`."""

    def __call__(
        self, *args: str | Path, env: dict[str, str] | None = None, timeout: float = 60
    ) -> subprocess.CompletedProcess[str]:
        """Returns whatever the exit code. Raises subprocess.TimeoutExpired after `timeout` seconds."""


class Starter(Protocol):
    def __call__(self, *args: str | Path, env: dict[str, str] | None = None) -> subprocess.Popen[bytes]:
        """The same, still running; ended with the test at the latest."""


@pytest.fixture
def api() -> Iterator[Api]:
    server = Api()
    server.start()
    yield server
    server.stop()
    beyond = {request[:4] for request in server.requests if not rbac.allows(request)}
    assert not beyond, f"not allowed by docs/kubectl.md: {beyond}"


@pytest.fixture
def kubeconfig(api: Api, tmp_path: Path) -> Path:
    path = tmp_path / "kubeconfig"
    path.write_text(json.dumps(api.kubeconfig()))
    return path


def _environment(kubeconfig: Path, env: dict[str, str] | None) -> dict[str, str]:
    clean = {"PATH": os.environ["PATH"], "HOME": str(kubeconfig.parent), "PYTHONPATH": str(REPOSITORY / "k8s")}
    return clean | {"KUBECONFIG": str(kubeconfig)} | (env or {})


@pytest.fixture
def plugin(kubeconfig: Path) -> Plugin:
    """Runs the command as a user would, in the folder of `kubeconfig`, without the second of the client's import."""

    def run(
        *args: str | Path, env: dict[str, str] | None = None, timeout: float = 60
    ) -> subprocess.CompletedProcess[str]:
        return warm.plugin(*args, env=_environment(kubeconfig, env), directory=kubeconfig.parent, timeout=timeout)

    return run


@pytest.fixture
def start_plugin(kubeconfig: Path) -> Iterator[Starter]:
    """Starts the command, with pipes for its output."""
    started: list[subprocess.Popen[bytes]] = []

    def run(*args: str | Path, env: dict[str, str] | None = None) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [sys.executable, "-m", "kubectl_catsdogs", *map(str, args)],
            env=_environment(kubeconfig, env),
            cwd=kubeconfig.parent,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            # Whoever is started in the background of a script ignores Ctrl-C, and so would the command.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        started.append(process)
        return process

    yield run
    for process in started:
        process.kill()
        process.communicate()
