"""Kubernetes' programs, built from the module that go.mod pins, once for each pin."""

import contextlib
import hashlib
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

from tests.image.engine import CACHE

HERE = Path(__file__).parent
BUILD_SECONDS = 3000
VERSION_PACKAGE = "k8s.io/component-base/version"


class Missing(Exception):
    """What this machine lacks, in one line."""


def kubernetes() -> Path:
    """The folder with kube-apiserver, kube-controller-manager, kube-scheduler, kubelet and kubectl.

    The first call takes minutes. Raises Missing, and CalledProcessError if the build fails.
    """
    pins = [HERE / "go.mod", HERE / "go.sum"]
    version = _version(pins[0].read_text())
    digest = hashlib.sha256(b"".join(pin.read_bytes() for pin in pins)).hexdigest()[:12]
    place = CACHE / f"kubernetes-{version}-{digest}"
    if place.exists():
        return place
    if shutil.which("go") is None:
        raise Missing("there is no go command, which builds Kubernetes; Go 1.24 or newer is needed")
    CACHE.mkdir(parents=True, exist_ok=True)
    directory = Path(tempfile.mkdtemp(prefix=".kubernetes-", dir=CACHE))
    try:
        major, minor, _ = version.split(".")
        # Without them the API server takes itself for 0.0, and the chart's kubeVersion refuses it.
        told = {"gitVersion": f"v{version}", "gitMajor": major, "gitMinor": minor}
        flags = " ".join(f"-X {VERSION_PACKAGE}.{name}={value}" for name, value in told.items())
        subprocess.run(
            ["nice", "go", "build", "-mod=readonly", "-o", f"{directory}/", "-ldflags", f"-s -w {flags}", "tool"],
            cwd=HERE,
            check=True,
            timeout=BUILD_SECONDS,
        )
        # Fails if somebody else was faster, and theirs is as good.
        with contextlib.suppress(OSError):
            directory.rename(place)
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    return place


def installed(program: str, package: str) -> Path:
    """Where a program of a Debian package lies. Raises Missing."""
    found = shutil.which(program, path="/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
    if found is None:
        raise Missing(f"there is no {program}; on Debian: apt-get install {package}")
    return Path(found)


def _version(module: str) -> str:
    found = re.search(r"k8s\.io/kubernetes v(\d+\.\d+\.\d+)", module)
    assert found, "go.mod names no release of k8s.io/kubernetes"
    return found[1]
