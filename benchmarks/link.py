"""Connections to a server that count the bytes, or that are as slow as one over a long distance.

`Relay` forwards TCP connections and counts. `slow_link` is a network interface in a namespace of its own, whose packets
this process delays, like `tc netem`, which many kernels lack. It needs root.
"""

import contextlib
import fcntl
import os
import select
import socket
import struct
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator

DELAY = 0.030
"""Seconds, round trip."""
RATE = 200e6 / 8
"""Bytes a second, each way."""
MAX_WAITING = 2_000_000
"""Bytes that may wait for the link; further packets are dropped, as in any router."""
MTU = 9000
SERVER, CLIENT = "10.254.77.1", "10.254.77.2"

_TUNSETIFF = 0x400454CA
_IFF_TUN_WITHOUT_HEADER = 0x1001


class Relay:
    """Forwards connections to a port; `received` counts the bytes that come back."""

    def __init__(self, address: str, port: int):
        self.port = port
        self.received = 0
        self._lock = threading.Lock()
        self._listening = socket.create_server((address, 0), backlog=128)
        self.endpoint = f"http://{address}:{self._listening.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listening.accept()
                server = socket.create_connection(("127.0.0.1", self.port))
                for one, other, counted in ((client, server, False), (server, client, True)):
                    one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    threading.Thread(target=self._forward, args=(one, other, counted), daemon=True).start()

    def _forward(self, source: socket.socket, target: socket.socket, counted: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 18):
                if counted:
                    with self._lock:
                        self.received += len(data)
                target.sendall(data)
        with contextlib.suppress(OSError):
            target.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        self._listening.close()


def may_make_links() -> bool:
    return os.geteuid() == 0 and os.path.exists("/dev/net/tun")


@contextlib.contextmanager
def slow_link() -> Iterator[list[str]]:
    """Yield the prefix for a command that reaches SERVER, this machine, through the slow link, and nothing else."""
    name = f"bench-{os.getpid()}"
    ends = [_interface(f"{side}-{os.getpid()}") for side in ("bnear", "bfar")]
    near, far = (f"{side}-{os.getpid()}" for side in ("bnear", "bfar"))
    _ip("netns", "add", name)
    bridge = None
    try:
        _ip("link", "set", far, "netns", name)
        _ip("addr", "add", SERVER, "peer", CLIENT, "dev", near)
        _ip("link", "set", near, "mtu", str(MTU), "up")
        _ip("-n", name, "addr", "add", CLIENT, "peer", SERVER, "dev", far)
        _ip("-n", name, "link", "set", far, "mtu", str(MTU), "up")
        bridge = subprocess.Popen([sys.executable, "-m", "benchmarks.link", *map(str, ends)], pass_fds=ends)
        yield ["ip", "netns", "exec", name]
    finally:
        if bridge is not None:
            bridge.kill()
            bridge.wait()
        for end in ends:
            os.close(end)
        _ip("netns", "del", name)


def _interface(name: str) -> int:
    """Return a file descriptor for the packets of a new network interface, which is gone when it is closed."""
    handle = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(handle, _TUNSETIFF, struct.pack("16sH22x", name.encode(), _IFF_TUN_WITHOUT_HEADER))
    return handle


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True)  # noqa: S607


def carry(one: int, other: int) -> None:
    """Forward packets between two interfaces, for ever; each waits for those before it, and half of DELAY."""
    queues: dict[int, deque[tuple[float, bytes]]] = {one: deque(), other: deque()}
    free_at = {one: 0.0, other: 0.0}
    targets = {one: other, other: one}
    while True:
        now = time.monotonic()
        for target, queue in queues.items():
            while queue and queue[0][0] <= now:
                with contextlib.suppress(OSError):
                    os.write(target, queue.popleft()[1])
        due = min((queue[0][0] for queue in queues.values() if queue), default=now + 1)
        for source in select.select(list(targets), [], [], max(0, due - time.monotonic()))[0]:
            target = targets[source]
            with contextlib.suppress(BlockingIOError):
                while True:
                    packet = os.read(source, 1 << 16)
                    now = time.monotonic()
                    if (free_at[target] - now) * RATE < MAX_WAITING:
                        free_at[target] = max(now, free_at[target]) + len(packet) / RATE
                        queues[target].append((free_at[target] + DELAY / 2, packet))


if __name__ == "__main__":
    carry(*map(int, sys.argv[1:]))
