"""TensorFlow, imported without its chatter, and the devices that it finds."""

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from catsdogs.runtime.errors import ConfigError, Unavailable

_LOADING_GPUS = "import tensorflow; tensorflow.config.list_physical_devices('GPU')"


@dataclass(frozen=True)
class Devices:
    """Where the model trains."""

    strategy: Any
    """A tf.distribute.Strategy: mirrored over several devices, TensorFlow's default for one."""
    name: str
    on_cpu: bool
    dtype: str = "float32"
    """Keras' dtype policy: what layers compute in. Weights and answers are float32 in any case."""
    xla: bool = False
    workers: int = 1

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
    require_gpu: bool, worker: int = 0, addresses: Sequence[str] = (), dtype: str = "float32", xla: bool = False
) -> Devices:
    """Imports TensorFlow and takes every GPU, or the CPU where there is none.

    With the addresses of several workers it waits for the other ones. Raises Unavailable if a GPU is required and
    TensorFlow can use none, ConfigError if XLA is to compile steps over several devices, which it cannot.
    """
    load()
    with without_stderr():
        import tensorflow as tf

        gpus = tf.config.list_physical_devices("GPU")
    if require_gpu and not gpus:
        raise Unavailable(
            f"no usable GPU: {_why_no_gpu()}; install catsdogs-train[gpu] and give the container a GPU,"
            " or leave out --require-gpu"
        )
    for gpu in gpus:
        # Otherwise TensorFlow takes all of the GPU's memory, and nothing else can share it.
        tf.config.experimental.set_memory_growth(gpu, True)
    if gpus:
        kinds = sorted({tf.config.experimental.get_device_details(gpu).get("device_name", "GPU") for gpu in gpus})
        name = f"{len(gpus)} GPU(s): {', '.join(kinds)}"
    else:
        # On a CPU this costs nothing, and the same seed then gives the same weights, bit for bit. XLA then
        # refuses to compile the gradient of max pooling.
        if not xla:
            tf.config.experimental.enable_op_determinism()
        name = "CPU"
    import keras

    keras.config.set_dtype_policy(dtype)
    if len(addresses) > 1:
        strategy, name = _multi_worker(tf, worker, addresses), f"{len(addresses)} workers, each on {name}"
        return Devices(strategy, name, on_cpu=not gpus, dtype=dtype, workers=len(addresses))
    logical = tf.config.list_logical_devices("GPU" if gpus else "CPU")
    mirrored = len(logical) > 1
    if mirrored and xla:
        raise ConfigError(f"--xla: {len(logical)} devices are here, and it is for one; leave it out")
    strategy = (
        tf.distribute.MirroredStrategy([device.name for device in logical])
        if mirrored
        else tf.distribute.get_strategy()
    )
    return Devices(strategy, name, on_cpu=not gpus, dtype=dtype, xla=xla)


def _multi_worker(tf: Any, worker: int, addresses: Sequence[str]) -> Any:
    """Before TensorFlow does anything else: its own port is opened then. Its collectives are NCCL's between GPUs, and
    a ring over gRPC elsewhere."""
    cluster = tf.train.ClusterSpec({"worker": list(addresses)})
    resolver = tf.distribute.cluster_resolver.SimpleClusterResolver(
        cluster, task_type="worker", task_id=worker, rpc_layer="grpc"
    )
    handler = signal.getsignal(signal.SIGTERM)
    with without_stderr():
        strategy = tf.distribute.MultiWorkerMirroredStrategy(cluster_resolver=resolver)
    # TensorFlow has put its own in its place.
    signal.signal(signal.SIGTERM, handler)
    return strategy


@contextlib.contextmanager
def without_stderr() -> Iterator[None]:
    """Hides what C++ code writes to file descriptor 2, unless an exception leaves the block.

    TensorFlow's first lines come before it reads its own log level.
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
    """What TensorFlow says when it looks for GPUs with its log turned on."""
    told = subprocess.run(
        [sys.executable, "-c", _LOADING_GPUS],
        capture_output=True,
        text=True,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "0"},
    ).stderr
    telling = [line.partition("] ")[2] for line in told.splitlines() if "cuda" in line.lower() or "dlopen" in line]
    reasons = list(dict.fromkeys(reason.strip().rstrip(".") for reason in telling if reason))
    return "TensorFlow says: " + " / ".join(reasons[:3]) if reasons else "TensorFlow finds none and gives no reason"
