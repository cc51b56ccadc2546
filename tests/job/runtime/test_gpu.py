"""--require-gpu on a machine without a usable GPU: refused before anything is fetched, and again by TensorFlow."""

import ctypes
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import pytest

from catsdogs.runtime import gpu
from catsdogs.runtime.errors import Unavailable
from tests.conftest import Catsdogs

# A machine of the tests may have GPUs.
WITHOUT_GPUS = {"CUDA_VISIBLE_DEVICES": ""}


@pytest.fixture
def store() -> Iterator[SimpleNamespace]:
    """A server that answers every request with 404: its address, and the requests."""
    requests: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            requests.append(self.path)
            self.send_error(404)

        do_HEAD = do_PUT = do_GET

        def log_message(self, *_: object) -> None:
            """Not on the tests' own standard error."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield SimpleNamespace(address=f"http://127.0.0.1:{server.server_address[1]}", requests=requests)
        server.shutdown()


@pytest.mark.parametrize("command", ["run", "train"])
def test_nothing_is_fetched_without_a_gpu(
    command: str, store: SimpleNamespace, catsdogs: Catsdogs, tmp_path: Path
) -> None:
    options = ("--archive=s3://pets/dogs-vs-cats.zip", "--output=s3://pets/runs")
    environment = {
        "AWS_ENDPOINT_URL_S3": store.address, "AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b",
        "AWS_REGION": "us-east-1", **WITHOUT_GPUS,
    }  # fmt: skip
    process = catsdogs(command, *options, "--require-gpu", env=environment)
    assert process.returncode == 69
    [line] = process.stderr.splitlines()
    assert line.startswith("catsdogs: no usable GPU: the NVIDIA driver")
    assert line.endswith("; give the container a GPU, or remove --require-gpu")
    assert store.requests == []
    assert list(tmp_path.iterdir()) == []

    assert catsdogs(command, *options, env=environment).returncode != 69
    assert store.requests, "without the option, it asks"


class Driver:
    """libcuda.so.1, as far as it is asked."""

    def __init__(self, init: int, count: int, devices: int):
        self._init, self._count, self._devices = init, count, devices

    def cuInit(self, flags: int) -> int:
        assert flags == 0
        return self._init

    def cuDeviceGetCount(self, count: object) -> int:
        assert self._init == 0, "asked before it was started"
        ctypes.cast(count, ctypes.POINTER(ctypes.c_int))[0] = self._devices  # type: ignore[arg-type]
        return self._count


@pytest.mark.parametrize(
    ("driver", "reason"),
    [
        (Driver(100, 0, 0), "the NVIDIA driver does not start: cuInit ends with 100 (no device)"),
        (Driver(4242, 0, 0), "the NVIDIA driver does not start: cuInit ends with 4242"),
        (Driver(0, 3, 0), "the NVIDIA driver does not count its GPUs: cuDeviceGetCount ends with 3 (not initialized)"),
        (Driver(0, 0, 0), "the NVIDIA driver sees no GPU"),
        (Driver(0, 0, 1), None),
    ],
)
def test_driver_that_answers(driver: Driver, reason: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda name: {"libcuda.so.1": driver}[name])
    assert gpu.why_none() == reason


def test_machine_without_a_driver(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(gpu, "DRIVER", str(tmp_path / "libcuda.so.1"))
    assert (gpu.why_none() or "").startswith("the NVIDIA driver's library cannot be loaded (")
    monkeypatch.setattr(gpu, "_AMD", tmp_path / "kfd")
    with pytest.raises(Unavailable, match="no usable GPU: the NVIDIA driver's library cannot be loaded"):
        gpu.require()
    # An AMD GPU has no such library: TensorFlow decides.
    (tmp_path / "kfd").touch()
    gpu.require()


@pytest.mark.slow
def test_tensorflow_has_the_last_word() -> None:
    script = "from catsdogs.training import devices; devices.start(require_gpu=True)"
    process = subprocess.run(
        [sys.executable, "-c", script], env=WITHOUT_GPUS, capture_output=True, text=True, timeout=120
    )
    assert process.returncode == 1
    assert "Unavailable: no usable GPU: TensorFlow says: " in process.stderr.splitlines()[-1]
