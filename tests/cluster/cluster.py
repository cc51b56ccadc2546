"""A single-node Kubernetes: the project's image in it, and this machine beside it on the same network.

`python -m tests.cluster.cluster` starts one and holds it until Ctrl-C.
"""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import urllib3

from catsdogs import __version__
from tests.cluster import binaries, parts
from tests.cluster.api import Api, PermissionDenied
from tests.cluster.binaries import Missing, installed
from tests.cluster.parts import CNI, NODE, PAUSE, SOCKET
from tests.cluster.sandbox import INSIDE, OUTSIDE, Process, Sandbox, alone, sandbox
from tests.cluster.volumes import provisioning
from tests.image.engine import CACHE, Engine, base_image, engine

GPU = "nvidia.com/gpu"
GPUS = 1
IMAGE = "catsdogs-train"
BUILT = f"{IMAGE}:test"
READY_SECONDS = 120


class Own:
    """A cluster that we have started, and whose parts we may restart."""

    def __init__(self, room: Sandbox, programs: Path, folder: Path):
        self._room = room
        self._programs = programs
        self._folder = folder
        self._running: dict[str, Process] = {}
        self.kubeconfig = folder / "admin"
        self.api: Api

    def start(self) -> None:
        """All of it, up to a node that is ready. Raises RuntimeError with the end of the log that says why not."""
        parts.write_identities(self._folder)
        parts.write_settings(self._folder)
        for name in ("etcd", "containerd", "kube-apiserver"):
            self._start(name)
        # Its certificate is its own authority. It makes it when it starts, and the key last.
        self._until("kube-apiserver", (self._folder / "certificates/apiserver.key").exists)
        for name in parts.USERS:
            parts.write_kubeconfig(self._folder, name)
        self.api = Api(self.kubeconfig)
        self._until("kube-apiserver", self._answers)
        for name in ("kube-controller-manager", "kube-scheduler", "kubelet"):
            self._start(name)
        self._until("kubelet", self._is_ready)
        self._offer_gpus()
        self._until("kube-controller-manager", self._has_default_account)
        self._start("coredns")
        self._until("coredns", self._names_are_known)

    def load(self, found: Engine, *images: str) -> None:
        """Copies images from a container engine to the node, ours also under the name that the chart gives it."""
        control = ["ctr", "--address", SOCKET, "--namespace", "k8s.io", "images"]
        self._room.feed([found.docker, "save", *images], found.environment, *control, "import", "-")
        for name in self._room.run(*control, "list", "--quiet").stdout.split():
            if name.endswith(f"/{BUILT}"):
                self._room.run(*control, "tag", name, name.replace(BUILT, f"{IMAGE}:{__version__}"))

    def enforce_policies(self) -> None:
        """From now on, NetworkPolicies count. Raises Missing."""
        if "kube-router" not in self._running:
            for program in ("iptables-save", "ipset"):
                installed(program, program.removesuffix("-save"))
            binaries.kube_router()
            self._start("kube-router")
            self._until("kube-router", self._policies_are_enforced)

    def restart_kubelet(self) -> None:
        self._restart("kubelet", signal.SIGTERM)
        # It takes extended resources that no plugin of its own offers for leftovers.
        self._until("kubelet", self._is_ready)
        self._offer_gpus()

    def restart_api_server(self, away: float = 0) -> None:
        """As after a crash, since it takes a minute over an orderly end. `away` seconds nobody answers in between."""
        self._restart("kube-apiserver", signal.SIGKILL, away)
        self._until("kube-apiserver", self._answers)

    def logs(self) -> str:
        """The end of what each part has said."""
        return "\n".join(f"== {name}\n{process.tail()}" for name, process in self._running.items())

    def _start(self, name: str) -> None:
        self._running[name] = self._room.start(name, *parts.command(name, self._programs, self._folder))

    def _restart(self, name: str, number: signal.Signals, away: float = 0) -> None:
        self._running[name].kill(number)
        time.sleep(away)
        self._start(name)

    def _until(self, name: str, met: Callable[[], bool]) -> None:
        """Waits until the part called `name` has come to it."""
        deadline = time.monotonic() + READY_SECONDS
        while not met():
            process = self._running[name]
            if process.outside.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{name} does not come to {met.__name__}; its log ends with\n{process.tail()}")
            time.sleep(0.1)

    def _answers(self) -> bool:
        with contextlib.suppress(urllib3.exceptions.HTTPError, PermissionDenied):
            self.api.get("/apis/batch/v1")
            # RBAC's own rules are written after the server answers.
            return self.api.find("/apis/rbac.authorization.k8s.io/v1/clusterroles/system:node") is not None
        return False

    def _is_ready(self) -> bool:
        node = self.api.find(f"/api/v1/nodes/{NODE}")
        conditions = node["status"].get("conditions", []) if node else []
        return any(item["type"] == "Ready" and item["status"] == "True" for item in conditions)

    def _has_default_account(self) -> bool:
        return self.api.find("/api/v1/namespaces/default/serviceaccounts/default") is not None

    def _names_are_known(self) -> bool:
        """CoreDNS listens once it has the cluster's Services."""
        with contextlib.suppress(OSError), socket.create_connection((INSIDE, 53), 1):
            return True
        return False

    def _policies_are_enforced(self) -> bool:
        return "KUBE-ROUTER-FORWARD" in self._room.run("iptables-save").stdout

    def _offer_gpus(self) -> None:
        self.api.merge(f"/api/v1/nodes/{NODE}/status", {"status": {"capacity": {GPU: str(GPUS)}}})

        def offered() -> bool:
            return GPU in self.api.get(f"/api/v1/nodes/{NODE}")["status"]["allocatable"]

        self._until("kubelet", offered)


@dataclass(frozen=True)
class Cluster:
    """What the tests run on."""

    kubeconfig: Path
    api: Api
    kubectl: Path
    address: str
    """This machine's, as pods reach it."""
    image: str
    """As `repository:tag`."""
    own: Own | None
    """None for somebody else's, whose parts are not to be restarted."""


@contextlib.contextmanager
def cluster() -> Iterator[Cluster]:
    """The one that KUBECONFIG names, else one of our own. Raises Missing, NoEngine and RuntimeError."""
    given = os.environ.get("KUBECONFIG")
    with _given(Path(given)) if given else _own() as found:
        yield found


@contextlib.contextmanager
def _given(kubeconfig: Path) -> Iterator[Cluster]:
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        raise Missing("there is no kubectl for the cluster of KUBECONFIG")
    told = {name: os.environ.get(name) for name in ("CATSDOGS_TEST_ADDRESS", "CATSDOGS_TEST_IMAGE")}
    for name, value in told.items():
        if value is None:
            raise Missing(
                f"{name} is not set; with KUBECONFIG, CATSDOGS_TEST_ADDRESS is this machine's address as pods reach it,"
                " and CATSDOGS_TEST_IMAGE the image, as repository:tag, that the cluster can pull"
            )
    address, image = told.values()
    assert address
    assert image
    yield Cluster(kubeconfig, Api(kubeconfig), Path(kubectl), address, image, None)


@contextlib.contextmanager
def _own() -> Iterator[Cluster]:
    if os.geteuid() != 0:
        raise Missing("only root can start a cluster; or name one with KUBECONFIG")
    _check_machine()
    programs = binaries.kubernetes()
    binaries.coredns()
    folder = CACHE / "cluster"
    with alone(folder) as hold, sandbox(folder, hold) as room:
        own = Own(room, programs, folder)
        own.start()
        with engine() as found:
            found.build(BUILT, base_image(found))
            _build_pause(found, folder)
            own.load(found, BUILT, PAUSE)
        with provisioning(own.api, NODE, folder / "lib/volumes", Path("/var/lib/volumes")):
            kubectl = programs / "kubectl"
            yield Cluster(own.kubeconfig, own.api, kubectl, OUTSIDE, f"{IMAGE}:{__version__}", own)


def _check_machine() -> None:
    """Raises Missing."""
    for program, package in {
        "etcd": "etcd-server",
        "containerd": "containerd",
        "runc": "runc",
        "ip": "iproute2",
        "nsenter": "util-linux",
        "openssl": "openssl",
        "mount": "mount",
    }.items():
        installed(program, package)
    if not (CNI / "bridge").exists():
        raise Missing(f"there is no {CNI}/bridge; on Debian: apt-get install containernetworking-plugins")


def _build_pause(found: Engine, folder: Path) -> None:
    context = folder / "pause"
    context.mkdir()
    subprocess.run(
        ["go", "build", "-o", context / "pause", "./pause"],
        cwd=binaries.HERE,
        env={**os.environ, "CGO_ENABLED": "0"},
        check=True,
    )
    subprocess.run(
        [found.docker, "import", "--change", 'ENTRYPOINT ["/pause"]', "-", PAUSE],
        input=subprocess.run(["tar", "-C", context, "-c", "pause"], check=True, capture_output=True).stdout,
        env=found.environment,
        check=True,
        capture_output=True,
    )


def main() -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    with cluster() as found:
        print(f"export KUBECONFIG={found.kubeconfig}")  # noqa: T201
        print(f"export CATSDOGS_TEST_ADDRESS={found.address} CATSDOGS_TEST_IMAGE={found.image}")  # noqa: T201
        print(f"PATH={found.kubectl.parent}:$PATH")  # noqa: T201
        sys.stdout.flush()
        with contextlib.suppress(KeyboardInterrupt):
            signal.pause()


if __name__ == "__main__":
    main()
