"""The chart as the real helm renders it."""

import functools
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from tests.conftest import REPOSITORY

CHART = REPOSITORY / "helm/catsdogs-train"
FILES = {path.name.removesuffix("-values.yaml"): path for path in sorted((CHART / "ci").glob("*-values.yaml"))}
"""The matrix: each stands for one way to use the chart."""

Manifest = dict[str, Any]
HELM_3_SLOW = pytest.mark.parametrize(
    "helm", [pytest.param(3, id="helm3", marks=pytest.mark.slow), pytest.param(4, id="helm4")], indirect=True
)
"""For many values: two processes each would take half a minute."""


@dataclass(frozen=True)
class Helm:
    program: Path

    def __call__(self, *arguments: str | Path, kubeconfig: Path | None = None) -> subprocess.CompletedProcess[str]:
        """Runs helm, whatever it exits with, on the cluster of that kubeconfig or on none."""
        return subprocess.run(
            [self.program, *arguments],
            env={
                "PATH": os.environ["PATH"],
                # A folder without anybody's settings and plugins.
                "HOME": str(self.program.parent),
                "KUBECONFIG": str(kubeconfig or os.devnull),
                "NO_PROXY": "127.0.0.1",
            },
            capture_output=True,
            text=True,
            timeout=60,
        )

    @functools.cache  # noqa: B019
    def template(self, *arguments: str | Path, chart: Path = CHART, release: str = "pets") -> "Rendered":
        """What these values make, which callers leave as it is."""
        process = self("template", release, chart, "--namespace=vision", *arguments)
        assert process.returncode == 0, process.stderr
        return Rendered.of(process.stdout)

    def of(self, *settings: str, chart: Path = CHART, release: str = "pets") -> "Rendered":
        """What bucket=pets makes together with settings as for --set-json."""
        return self.template(
            "--set=bucket=pets", *(f"--set-json={setting}" for setting in settings), chart=chart, release=release
        )


@dataclass(frozen=True)
class Rendered:
    text: str
    manifests: list[Manifest]

    @classmethod
    def of(cls, text: str) -> "Rendered":
        return cls(text, [manifest for manifest in yaml.load_all(text, Loader=yaml.CSafeLoader) if manifest])

    def all(self, kind: str) -> list[Manifest]:
        return [manifest for manifest in self.manifests if manifest["kind"] == kind]

    def one(self, kind: str) -> Manifest:
        [found] = self.all(kind)
        return found

    @property
    def job(self) -> Manifest:
        return self.one("Job")

    @property
    def job_name(self) -> str:
        return str(self.job["metadata"]["name"])


class PodOf(NamedTuple):
    owner: Manifest
    metadata: dict[str, Any]
    spec: dict[str, Any]


def pods(manifests: list[Manifest]) -> Iterator[PodOf]:
    """Every pod that the manifests are or make."""
    for manifest in manifests:
        match manifest["kind"]:
            case "Pod":
                yield PodOf(manifest, manifest["metadata"], manifest["spec"])
            case "Job":
                template = manifest["spec"]["template"]
                yield PodOf(manifest, template["metadata"], template["spec"])
            case "CronJob":
                template = manifest["spec"]["jobTemplate"]["spec"]["template"]
                yield PodOf(manifest, template["metadata"], template["spec"])


def containers(spec: dict[str, Any]) -> list[dict[str, Any]]:
    return [*spec.get("initContainers", []), *spec["containers"]]


def environment(spec: dict[str, Any]) -> dict[str, Any]:
    """The main container's variables: name → value, or where it comes from."""
    return {entry["name"]: entry.get("value", entry.get("valueFrom")) for entry in spec["containers"][0]["env"]}
