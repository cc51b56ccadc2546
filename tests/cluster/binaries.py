"""Kubernetes' programs and CoreDNS, built from the modules that each go.mod pins, once for each pin."""

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
    version = _version(HERE, "k8s.io/kubernetes")
    major, minor, _ = version.split(".")
    # Without them the API server takes itself for 0.0, and the chart's kubeVersion refuses it.
    told = {"gitVersion": f"v{version}", "gitMajor": major, "gitMinor": minor}
    flags = " ".join(f"-X {VERSION_PACKAGE}.{name}={value}" for name, value in told.items())
    return _built(HERE, f"kubernetes-{version}", "tool", flags)


def coredns() -> Path:
    """CoreDNS. The first call takes a minute or two. Raises Missing, and CalledProcessError if the build fails."""
    module = HERE / "coredns"
    return _built(module, f"coredns-{_version(module, 'github.com/coredns/coredns')}", ".") / "coredns"


def kube_router() -> Path:
    """kube-router, which enforces NetworkPolicies. The first call takes minutes. Raises Missing, and
    CalledProcessError if the build fails."""
    module, path = HERE / "kube-router", "github.com/cloudnativelabs/kube-router/v2"
    return _built(module, f"kube-router-{_version(module, path)}", "tool") / "kube-router"


def _built(module: Path, name: str, package: str, flags: str = "") -> Path:
    """The folder with what `go build` makes of the package."""
    pins = [module / "go.mod", module / "go.sum", *module.glob("*.go")]
    digest = hashlib.sha256(b"".join(pin.read_bytes() for pin in pins)).hexdigest()[:12]
    place = CACHE / f"{name}-{digest}"
    if place.exists():
        return place
    if shutil.which("go") is None:
        raise Missing("there is no go command, which builds Kubernetes; Go 1.24 or newer is needed")
    CACHE.mkdir(parents=True, exist_ok=True)
    directory = Path(tempfile.mkdtemp(prefix=f".{name}-", dir=CACHE))
    try:
        subprocess.run(
            ["nice", "go", "build", "-mod=readonly", "-o", f"{directory}/", "-ldflags", f"-s -w {flags}", package],
            cwd=module,
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


def _version(module: Path, path: str) -> str:
    """Of what the module requires under that path."""
    found = re.search(rf"{re.escape(path)} v(\d+\.\d+\.\d+)\b", (module / "go.mod").read_text())
    assert found, f"{module}/go.mod names no release of {path}"
    return found[1]
