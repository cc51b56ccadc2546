"""Devices: TensorFlow, started quietly, and the GPUs or the CPU that it finds.

Importing this module does not import TensorFlow; `start` does.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from catsdogs.runtime import cores
from catsdogs.runtime.errors import ConfigError, Unavailable

if TYPE_CHECKING:
    import tensorflow as tf

_LIST_GPUS = "import tensorflow; tensorflow.config.list_physical_devices('GPU')"


@dataclass(frozen=True)
class Devices:
    """Where the model trains."""

    strategy: tf.distribute.Strategy
    """Mirrored over several devices, TensorFlow's default for one."""
    name: str
    """As in run.json, such as "CPU" or "2 GPU(s): NVIDIA L4"."""
    on_cpu: bool
    dtype: str = "float32"
    """Keras' dtype policy: what layers compute in. Weights and probabilities are float32 in any case."""
    xla: bool = False
    workers: int = 1
    threads: int = 0
    """That compute one operation. How a sum is divided among them decides how it is rounded."""

    @property
    def replicas(self) -> int:
        return int(self.strategy.num_replicas_in_sync)


def load() -> None:
    """Import TensorFlow, which takes seconds, and start nothing of it."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ["KERAS_BACKEND"] = "tensorflow"
    with without_stderr():
        import tensorflow  # noqa: F401


def start(
    require_gpu: bool,
    worker: int = 0,
    addresses: Sequence[str] = (),
    dtype: str = "float32",
    xla: bool = False,
    threads: int | None = None,
) -> Devices:
    """Import TensorFlow and take every GPU, or the CPU if there is none.

    `threads` compute each operation, by default `cores.threads()`, whatever the number of cores. Given the addresses of
    several workers, wait for the others. Raises Unavailable if a GPU is required and TensorFlow can use none, and
    ConfigError if XLA is to compile steps over several devices, which it cannot.
    """
    gpus = _usable_gpus()
    if require_gpu and not gpus:
        raise Unavailable(
            f"no usable GPU: {_why_no_gpu()}; install the gpu extra (pip install '.[gpu]' in a clone of"
            " catsdogs-train) and give the container a GPU, or leave out --require-gpu"
        )
    import keras
    import tensorflow as tf

    threads = threads or cores.threads()
    tf.config.threading.set_intra_op_parallelism_threads(threads)
    if not gpus and not xla:
        # On a CPU this costs no time, and the same seed gives the same weights, bit for bit. With it, XLA refuses to
        # compile the gradient of max pooling.
        tf.config.experimental.enable_op_determinism()
    keras.config.set_dtype_policy(dtype)
    name = _name(gpus)
    if len(addresses) > 1:
        strategy, name = _multi_worker(worker, addresses), f"{len(addresses)} workers, each on {name}"
        return Devices(strategy, name, on_cpu=not gpus, dtype=dtype, workers=len(addresses), threads=threads)
    strategy = _single_worker("GPU" if gpus else "CPU")
    if strategy.num_replicas_in_sync > 1 and xla:
        raise ConfigError(f"--xla supports one device, and there are {strategy.num_replicas_in_sync}; leave it out")
    return Devices(strategy, name, on_cpu=not gpus, dtype=dtype, xla=xla, threads=threads)


def _usable_gpus() -> list[tf.config.PhysicalDevice]:
    """Import TensorFlow, and return the GPUs that it can use."""
    load()
    with without_stderr():
        import tensorflow as tf

        gpus: list[tf.config.PhysicalDevice] = tf.config.list_physical_devices("GPU")
    for gpu in gpus:
        # Otherwise TensorFlow takes all of the GPU's memory, and no other process can use any.
        tf.config.experimental.set_memory_growth(gpu, True)
    return gpus


def _name(gpus: Sequence[tf.config.PhysicalDevice]) -> str:
    if not gpus:
        return "CPU"
    import tensorflow as tf

    kinds = {tf.config.experimental.get_device_details(gpu).get("device_name", "GPU") for gpu in gpus}
    return f"{len(gpus)} GPU(s): {', '.join(sorted(kinds))}"


def _single_worker(kind: str) -> tf.distribute.Strategy:
    """Return the strategy for all of this machine's devices of the kind, "GPU" or "CPU"."""
    import tensorflow as tf

    logical = tf.config.list_logical_devices(kind)
    if len(logical) == 1:
        return tf.distribute.get_strategy()
    return tf.distribute.MirroredStrategy([device.name for device in logical])


def _multi_worker(worker: int, addresses: Sequence[str]) -> tf.distribute.Strategy:
    """Return the strategy for several workers, once all have connected.

    Must come before TensorFlow does anything else, because it opens its port now. Its collectives use NCCL between
    GPUs, and otherwise a ring over gRPC.
    """
    import tensorflow as tf

    cluster = tf.train.ClusterSpec({"worker": list(addresses)})
    resolver = tf.distribute.cluster_resolver.SimpleClusterResolver(
        cluster, task_type="worker", task_id=worker, rpc_layer="grpc"
    )
    handler = signal.getsignal(signal.SIGTERM)
    with without_stderr():
        strategy = tf.distribute.MultiWorkerMirroredStrategy(cluster_resolver=resolver)
    # TensorFlow has replaced it with its own.
    signal.signal(signal.SIGTERM, handler)
    return strategy


@contextlib.contextmanager
def without_stderr() -> Iterator[None]:
    """Hide what C++ code writes to file descriptor 2, unless an exception leaves the block.

    TensorFlow writes its first lines before it reads its own log level.
    """
    sys.stderr.flush()
    kept = os.dup(2)
    with tempfile.TemporaryFile() as hidden:
        os.dup2(hidden.fileno(), 2)
        try:
            yield
        except BaseException:
            hidden.seek(0)
            os.write(kept, hidden.read())
            raise
        finally:
            os.dup2(kept, 2)
            os.close(kept)


def _why_no_gpu() -> str:
    """Return the reason that TensorFlow logs when it looks for GPUs with its log turned on."""
    log = subprocess.run(
        [sys.executable, "-c", _LIST_GPUS],
        capture_output=True,
        text=True,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "0"},
    ).stderr
    lines = [line.partition("] ")[2] for line in log.splitlines() if "cuda" in line.lower() or "dlopen" in line]
    reasons = list(dict.fromkeys(line.strip().rstrip(".") for line in lines if line))
    return "TensorFlow says: " + " / ".join(reasons[:3]) if reasons else "TensorFlow finds none and gives no reason"
