"""Namespaces of their own for processes, mounts and the network: what is in them is gone when they end.

They end with their first process, which waits for the end of its standard input, and so for that of whoever
made them, however it comes. Outside of them there is one end of a network cable, and the cgroups.
"""

import contextlib
import fcntl
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

CGROUP = "catsdogs-test"
CABLE = "catsdogs-test"
"""The network interface on this machine's side; the kernel allows 15 characters."""
LOCK = Path("/tmp/catsdogs-test.lock")
"""The same for all users' caches, as the names are."""
SUBNET = "198.18.77.0/24"
"""Of the range that RFC 2544 reserves for tests on closed networks."""
INSIDE, OUTSIDE = "198.18.77.1", "198.18.77.2"
"""The sandbox's address, and this machine's, as they see each other."""
BRIDGE = "cni0"

TUNABLES = {
    "vm/overcommit_memory": 1,
    "vm/panic_on_oom": 0,
    "kernel/panic": 10,
    "kernel/panic_on_oops": 1,
    "kernel/keys/root_maxkeys": 1_000_000,
    "kernel/keys/root_maxbytes": 25_000_000,
}
"""What a kubelet sets for the whole machine. Here it reads from files that it has been done, and leaves it."""

FIRST_PROCESS = r"""
set -e
mount --make-rshared /
mount --bind "$1/lib" /var/lib
mount --bind "$1/log" /var/log
mount -t tmpfs tmpfs /run
for file in "$1"/tunables/*; do mount --bind "$file" "/proc/sys/$(basename "$file" | tr + /)"; done
ip link set lo up
echo ready
read -r || true
"""


@dataclass(frozen=True)
class Process:
    """One that was started in the sandbox."""

    name: str
    outside: subprocess.Popen[bytes]
    """What entered the sandbox for it, and ends when it does."""
    log: Path

    def kill(self, number: signal.Signals, timeout: float = 30) -> None:
        """Sends the signal and waits for the end."""
        for child in _children(self.outside.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, number)
        self.outside.wait(timeout)

    def tail(self) -> str:
        return self.log.read_text(errors="replace")[-3000:]


class Sandbox:
    """`folder` gets `lib` and `log`, which are /var/lib and /var/log inside."""

    def __init__(self, folder: Path, pid: int):
        self.folder = folder
        self.started: list[Process] = []
        self._enter = ["nsenter", f"--target={pid}", "--mount", "--net", "--pid", "--"]

    def run(self, *command: str | Path, timeout: float = 60) -> subprocess.CompletedProcess[str]:
        """Raises CalledProcessError."""
        return subprocess.run(
            [*self._enter, *map(str, command)], check=True, capture_output=True, text=True, timeout=timeout
        )

    def feed(self, source: list[str], environment: dict[str, str], *command: str | Path) -> None:
        """What `source`, run outside, writes becomes the command's standard input. Raises CalledProcessError."""
        with subprocess.Popen(source, env=environment, stdout=subprocess.PIPE) as giving:
            subprocess.run([*self._enter, *map(str, command)], check=True, stdin=giving.stdout, capture_output=True)
        if giving.returncode:
            raise subprocess.CalledProcessError(giving.returncode, source)

    def start(self, name: str, *command: str | Path) -> Process:
        """Its output is added to NAME.log in the folder."""
        log = self.folder / f"{name}.log"
        with log.open("ab") as file:
            outside = subprocess.Popen(
                [*self._enter, *map(str, command)],
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                # Ctrl-C is for whoever waits for the cluster, not for the cluster.
                start_new_session=True,
            )
        process = Process(name, outside, log)
        self.started.append(process)
        return process


@contextlib.contextmanager
def alone(folder: Path, wait: bool = True) -> Iterator[int]:
    """The right to the names above, and an empty folder that goes at the end. Somebody else's end is waited for.

    The file descriptor is to be handed on to all that needs the right. Raises BlockingIOError instead of waiting.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with LOCK.open("wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(mode=0o700)
        try:
            yield file.fileno()
        finally:
            shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def sandbox(folder: Path, hold: int) -> Iterator[Sandbox]:
    """`folder` and `hold` are what `alone` gives: the first process keeps the right as long as it lives."""
    for name in ("lib", "log", "tunables"):
        (folder / name).mkdir()
    for name, value in TUNABLES.items():
        (folder / "tunables" / name.replace("/", "+")).write_text(f"{value}\n")
    subprocess.run(["ip", "link", "delete", CABLE], capture_output=True)
    unshare = ["unshare", "--mount", "--net", "--pid", "--fork", "--mount-proc", "--"]
    with subprocess.Popen(
        [*unshare, "bash", "-c", FIRST_PROCESS, "first", folder],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        pass_fds=[hold],
        start_new_session=True,
    ) as first:
        assert first.stdin is not None
        assert first.stdout is not None
        try:
            if first.stdout.readline() != b"ready\n":
                raise RuntimeError("the namespaces could not be made; see above")
            [pid] = _children(first.pid)
            _connect(pid)
            _make_cgroups()
            room = Sandbox(folder, pid)
            try:
                yield room
            finally:
                first.stdin.close()
                for process in room.started:
                    process.outside.wait()
        finally:
            first.stdin.close()
            first.wait()
            subprocess.run(["ip", "link", "delete", CABLE], capture_output=True)
            _remove_cgroups()


def remains() -> list[str]:
    """What there still is outside."""
    cable = Path("/sys/class/net") / CABLE
    return [str(path) for path in (cable, *_cgroups()) if path.exists()]


def _connect(pid: int) -> None:
    """A cable from this machine into a bridge that the pods join too, so that nothing need be routed."""
    length = SUBNET.partition("/")[2]
    inside = ["nsenter", f"--target={pid}", "--net", "--", "ip"]
    for command in (
        ["ip", "link", "add", CABLE, "type", "veth", "peer", "name", "uplink", "netns", str(pid)],
        ["ip", "address", "add", f"{OUTSIDE}/{length}", "dev", CABLE],
        ["ip", "link", "set", CABLE, "up"],
        # Without an address of its own it would take another one with each pod, and be unknown for a while.
        [*inside, "link", "add", BRIDGE, "address", "02:00:00:00:00:01", "type", "bridge"],
        [*inside, "address", "add", f"{INSIDE}/{length}", "dev", BRIDGE],
        [*inside, "link", "set", "uplink", "master", BRIDGE, "up"],
        [*inside, "link", "set", BRIDGE, "up"],
    ):
        subprocess.run(command, check=True)


def _children(pid: int) -> list[int]:
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except FileNotFoundError:
        return []


def _cgroups() -> list[Path]:
    """Ours in every hierarchy: one in version 2, one for each controller in version 1."""
    mounts = [line.split() for line in Path("/proc/self/mounts").read_text().splitlines()]
    return [Path(place) / CGROUP for _, place, kind, *_ in mounts if kind in ("cgroup", "cgroup2")]


def _make_cgroups() -> None:
    for group in _cgroups():
        group.mkdir(exist_ok=True)


def _remove_cgroups(seconds: float = 10) -> None:
    """The kernel takes a moment to see that a group is empty."""
    deadline = time.monotonic() + seconds
    for top in _cgroups():
        while top.exists():
            try:
                for group, _, _ in os.walk(top, topdown=False):
                    os.rmdir(group)
            except OSError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.1)
