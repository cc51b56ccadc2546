"""A container engine and the project's image, for tests that run it for real.

An engine that runs is used as it is. Where none does and we are root, Debian's `dockerd` is started for
the tests alone; where no registry can be reached, the base is made from Debian's packages.
"""

import contextlib
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.conftest import REPOSITORY

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "catsdogs-train"
READY_SECONDS = 30
MAX_CACHED = "6gb"
"""Of layers, between two starts of an engine of our own."""
SUITE = "bookworm"
PACKAGES = "ca-certificates,python3,python3-venv"
CERTIFICATES = Path("/usr/local/share/ca-certificates")


class NoEngine(Exception):
    """Why no container can be run here."""


@dataclass(frozen=True)
class Engine:
    """The docker command and the environment that leads it to an engine."""

    docker: str
    environment: dict[str, str] = field(repr=False)

    def __call__(
        self, *arguments: str | Path, env: dict[str, str] | None = None, timeout: float = 300
    ) -> subprocess.CompletedProcess[str]:
        """Runs docker with these arguments, whatever it exits with."""
        return subprocess.run(
            [self.docker, *map(str, arguments)],
            env=self.environment | (env or {}),
            capture_output=True,
            text=True,
            timeout=timeout,
        )

    def build(self, tag: str, base: str) -> None:
        """`make image`, as the README says, with the CPU extra on this base. Raises CalledProcessError."""
        subprocess.run(
            [
                "make", "image", f"DOCKER={self.docker}", f"IMAGE={tag}", f"BASE={base}", "EXTRA=cpu",
                "BUILD_ARGS=--network=host",
            ],
            cwd=REPOSITORY,
            env=self.environment,
            check=True,
            timeout=1200,
        )  # fmt: skip


@contextlib.contextmanager
def engine() -> Iterator[Engine]:
    """Raises NoEngine."""
    # Debian's own client comes first: others lack the plugin that builds.
    docker = next(filter(None, (shutil.which("docker", path="/usr/bin"), shutil.which("docker"))), None)
    if docker is None:
        raise NoEngine("there is no docker command; on Debian: apt-get install docker.io mmdebstrap")
    found = Engine(docker, dict(os.environ))
    if found("version").returncode == 0:
        yield found
        return
    dockerd = shutil.which("dockerd", path=f"{os.environ['PATH']}:/usr/sbin")
    if dockerd is None or os.geteuid() != 0:
        raise NoEngine("no engine answers, and dockerd can only be started by root, from Debian's docker.io")
    with tempfile.TemporaryDirectory(prefix="catsdogs-dockerd-") as name:
        directory = Path(name)
        address = f"unix://{directory}/docker.sock"
        command: list[str | Path] = [
            dockerd, "--host", address, "--data-root", CACHE / "docker", "--exec-root", directory / "run",
            "--pidfile", directory / "pid", "--bridge=none", "--iptables=false", "--ip-forward=false",
        ]  # fmt: skip
        with (directory / "log").open("wb") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            found = Engine(docker, {**os.environ, "DOCKER_HOST": address})
            deadline = time.monotonic() + READY_SECONDS
            while found("version").returncode:
                if process.poll() is not None or time.monotonic() > deadline:
                    raise NoEngine(f"dockerd does not start: {(directory / 'log').read_text()[-500:]}")
                time.sleep(0.2)
            yield found
            # Other sources make other layers, and those before them would stay for ever.
            found("image", "prune", "--force")
            found("builder", "prune", "--force", "--keep-storage", MAX_CACHED)
        finally:
            process.terminate()
            process.wait()
            # dockerd leaves its network namespace mounted.
            subprocess.run(["umount", directory / "run/netns/default"], capture_output=True)


def base_image(found: Engine) -> str:
    """The tag of an image with apt and Python: BASE where it is set, else one from Debian's packages.

    Raises NoEngine where mmdebstrap is missing.
    """
    if given := os.environ.get("BASE"):
        return given
    tag = f"catsdogs-base:{SUITE}"
    if found("image", "inspect", tag).returncode == 0:
        return tag
    if shutil.which("mmdebstrap") is None:
        raise NoEngine("no base image: set BASE to one with apt and Python, or apt-get install mmdebstrap")
    with tempfile.TemporaryDirectory(prefix="catsdogs-base-") as directory:
        archive = Path(directory) / "base.tar"
        subprocess.run(
            [
                "mmdebstrap",
                "--quiet",
                "--variant=minbase",
                f"--include={PACKAGES}",
                *_with_certificates(),
                SUITE,
                archive,
            ],
            check=True,
            timeout=600,
        )
        trusted = "/etc/ssl/certs/ca-certificates.crt"
        subprocess.run(
            [found.docker, "import", "--change", f"ENV PIP_CERT={trusted} SSL_CERT_FILE={trusted}", archive, tag],
            env=found.environment,
            check=True,
        )
    return tag


def _with_certificates() -> list[str]:
    """Behind a proxy with a certificate of its own, the base has to trust whom this machine trusts."""
    certificates = sorted(CERTIFICATES.glob("*.crt"))
    if not certificates:
        return []
    return [
        f'--customize-hook=mkdir -p "$1{CERTIFICATES}"',
        f"--customize-hook=copy-in {' '.join(map(str, certificates))} {CERTIFICATES}",
        '--customize-hook=chroot "$1" update-ca-certificates',
    ]
