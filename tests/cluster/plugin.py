"""The kubectl plugin, as kubectl runs it."""

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from tests.cluster.releases import Namespace
from tests.conftest import REPOSITORY


class Plugin:
    """`kubectl catsdogs` in a namespace, which finds a program called kubectl-catsdogs on PATH."""

    def __init__(self, namespace: Namespace, folder: Path):
        self._namespace = namespace
        self._folder = folder
        (folder / "kubectl").symlink_to(namespace.cluster.kubectl)
        program = folder / "kubectl-catsdogs"
        program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m kubectl_catsdogs "$@"\n')
        program.chmod(0o755)
        self._environment = {
            "PATH": f"{folder}:{os.environ['PATH']}",
            "PYTHONPATH": str(REPOSITORY / "k8s"),
            "HOME": str(folder),
            "KUBECONFIG": str(namespace.cluster.kubeconfig),
        }

    def _command(self, *arguments: str) -> list[str]:
        return ["kubectl", "catsdogs", *arguments, f"--namespace={self._namespace.name}"]

    def __call__(self, *arguments: str, timeout: float = 180) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self._command(*arguments), env=self._environment, capture_output=True, text=True, timeout=timeout
        )

    @contextlib.contextmanager
    def beginning(self, *arguments: str) -> Iterator[subprocess.Popen[str]]:
        """At work in the background, its output in the file `told` of the folder."""
        with (
            (self._folder / "told").open("w") as told,
            subprocess.Popen(self._command(*arguments), env=self._environment, stdout=told, text=True) as process,
        ):
            try:
                yield process
            finally:
                process.kill()

    @property
    def told(self) -> list[str]:
        return (self._folder / "told").read_text().splitlines()
