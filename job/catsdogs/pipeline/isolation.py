"""The training process of several workers holds no secrets: whoever reaches TensorFlow's port reads what it can read.

Before anything else it splits in two. A child keeps the environment, and with it the credentials: the storage broker.
This process executes the program again, with an environment that has only what training needs, and then confines itself
to the folders of programs, of devices and of its run. A single worker opens no port, and stays one process.
"""

import contextlib
import os
import shutil
import signal
import socket
import sys
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NoReturn

import catsdogs
from catsdogs.config.option import variable
from catsdogs.config.settings import OPTIONS, Settings
from catsdogs.runtime import confinement
from catsdogs.runtime.errors import ConfigError
from catsdogs.runtime.events import Unconfined
from catsdogs.runtime.log import Log
from catsdogs.runtime.signals import SIGNALS, Interruption
from catsdogs.storage import broker
from catsdogs.workers import key

BROKER = "CATSDOGS_STORAGE_BROKER"
"""The training process' variable with the file descriptor that leads to its broker."""

_NAMES = frozenset(
    {
        "PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LANGUAGE", "TZ", "TMPDIR", "TERM", "COLORTERM", "COLUMNS",
        "LINES", "NO_COLOR", "FORCE_COLOR", "HOSTNAME", "JOB_COMPLETION_INDEX", "VIRTUAL_ENV", "GLIBC_TUNABLES",
        "MPLCONFIGDIR", "MPLBACKEND",
    }
)  # fmt: skip
_PREFIXES = (
    "LC_", "PYTHON", "LD_", "TF_", "XLA_", "KERAS_", "CUDA_", "CUDNN_", "CUBLAS_", "NVIDIA_", "NCCL_", "OMP_", "GOMP_",
    "KMP_", "MKL_", "OPENBLAS_", "GRPC_", "UCX_", "MALLOC_", "CONDA_",
)  # fmt: skip
"""What a training process may need of the environment, besides the job's own options. Nothing else is passed on."""

_SECRETS = (
    "~/.aws", "~/.mlflow", "~/.config/gcloud", "~/.netrc", "~/.databrickscfg", "~/.kube", "~/.docker", "~/.ssh",
    "~/.git-credentials", "/run/secrets", "/var/run/secrets",
)  # fmt: skip
_SECRET_VARIABLES = (
    "AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE", "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", "MLFLOW_TRACKING_CLIENT_CERT_PATH", "GOOGLE_APPLICATION_CREDENTIALS",
    "NETRC", "KUBECONFIG",
)  # fmt: skip
"""Where files with secrets lie by their programs' defaults, and the variables that name others."""

_PROGRAMS = ("/usr", "/lib", "/lib32", "/lib64", "/bin", "/sbin", "/opt", "/nix", "/etc", "/sys", "/proc")
_MPS = "/tmp/nvidia-mps"  # noqa: S108
_DEVICES = (
    "null", "zero", "full", "random", "urandom", "tty", "pts", "shm", "dri", "kfd", "infiniband", "nvidia*",
)  # fmt: skip


def enter(settings: Settings, log: Log, interruption: Interruption) -> None:
    """Return in a process that may open TensorFlow's port, which several workers need: one without secrets.

    Raises ConfigError if this system cannot hide files with secrets that there are, and Interrupted.
    """
    inherited = os.environ.pop(BROKER, None)
    if inherited is None:
        _split(settings, interruption)
    control = socket.socket(fileno=int(inherited))
    control.set_inheritable(False)
    connection = broker.connect(control)
    _confine(settings, log, [Path(path) for path in connection.call("secrets", "paths")])
    connection.watch(lambda: interruption.lose("the storage process has ended"))


def _split(settings: Settings, interruption: Interruption) -> NoReturn:
    """Go on as two processes: the broker, and this one, which executes the program again. Raises Interrupted."""
    paths = [str(path) for path in secret_paths(os.environ, settings.worker_key_file)]
    # Held back until the program handles them again.
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    interruption.check()
    scratch = _scratch()
    ours, theirs = socket.socketpair()
    confinement.hide()
    if os.fork() == 0:
        ours.close()
        _serve(settings, theirs, paths, scratch)
    theirs.close()
    ours.set_inheritable(True)
    environment = trainer_environment(os.environ) | {BROKER: str(ours.fileno())}
    if scratch is not None:
        environment["TMPDIR"] = scratch
        environment.setdefault("MPLCONFIGDIR", scratch)
    sys.stdout.flush()
    os.execve(sys.executable, sys.orig_argv, environment)  # noqa: S606


def _serve(settings: Settings, control: socket.socket, paths: list[str], scratch: str | None) -> NoReturn:
    """Serve the training process until it is gone. A signal is for that one, which may need storage to end well."""
    try:
        for number in SIGNALS:
            signal.signal(number, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
        # Standard output is the training process'.
        os.dup2(2, 1)
        # Imported here, as only the broker uses it.
        from catsdogs.results.tracking import TrackerService

        services: dict[str, broker.Service] = {
            "store": broker.StoreService(settings.archive, settings.result, settings.addressing_style),
            "tracker": TrackerService(settings),
            "secrets": lambda _call, _reply: paths,
            broker.WORKER_KEY: lambda _call, _reply: _worker_key(settings),
        }
        broker.serve(control, services, lambda: shutil.rmtree(scratch, ignore_errors=True) if scratch else None)
    finally:
        os._exit(1)


def _worker_key(settings: Settings) -> str:
    """Return the workers' key in hexadecimal digits. Raises ConfigError."""
    assert settings.worker_key_file is not None
    return key.read(settings.worker_key_file).hex()


def _scratch() -> str | None:
    """Return a new folder for the training process' temporary files; None if there is no room for one."""
    with contextlib.suppress(OSError):
        return tempfile.mkdtemp(prefix="catsdogs-")
    return None


def trainer_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that a training process gets: those known to be no secrets."""
    options = {variable(name) for name in ("log_format", *(option.name or name for name, option in OPTIONS.items()))}
    passed = {
        name: value
        for name, value in environment.items()
        if name in _NAMES or name in options or name.startswith(_PREFIXES)
    }
    # TensorFlow would ask Google's metadata server for a token, on behalf of whoever asks it to read gs://.
    return passed | {"NO_GCE_CHECK": "true"}


def secret_paths(environment: Mapping[str, str], worker_key_file: Path | None) -> list[Path]:
    """Return the files and folders with secrets that this process can read, as far as they are known."""
    named = [environment[name] for name in _SECRET_VARIABLES if environment.get(name)]
    paths = [Path(os.path.expanduser(name)) for name in (*_SECRETS, *named)]
    if worker_key_file is not None:
        paths.append(worker_key_file)
    return sorted({Path(os.path.realpath(path)) for path in paths if os.access(path, os.R_OK)})


def _confine(settings: Settings, log: Log, secrets: list[Path]) -> None:
    confinement.hide()
    confinement.drop_tracing()
    if not confinement.is_available():
        if secrets:
            raise ConfigError(
                f"{secrets[0]}: whoever reaches the workers' ports could read it, as this system lacks Landlock; use"
                " Linux 5.13 or newer with Landlock, or give credentials as environment variables"
            )
        log.emit(Unconfined())
        return
    writable = [path.resolve() for path in _writable(settings)]
    for folder in writable:
        for secret in secrets:
            if secret == folder or folder in secret.parents:
                raise ConfigError(
                    f"{secret}: whoever reaches the workers' ports could read it, as it lies in {folder}, which the run"
                    " writes to; move one of them"
                )
    confinement.confine(_readable(settings), writable, secrets)


def _writable(settings: Settings) -> list[Path]:
    folders = [settings.volume]
    if "://" not in settings.output:
        folders.append(Path(settings.output))
    for folder in folders:
        # Only what exists can be named. What cannot be made is reported by who needs it.
        with contextlib.suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True)
    folders += [Path(os.environ[name]) for name in ("TMPDIR", "MPLCONFIGDIR") if os.environ.get(name)]
    # CUDA's caches, and the pipes of its multi-process service.
    folders += [Path(os.path.expanduser("~/.nv")), Path(os.environ.get("CUDA_MPS_PIPE_DIRECTORY", _MPS))]
    devices = [device for name in _DEVICES for device in Path("/dev").glob(name)]
    return [*folders, *devices]


def _readable(settings: Settings) -> list[Path]:
    """Return what programs and libraries are read from, and the archive if it is a file."""
    package = Path(catsdogs.__file__).parent
    imports = [Path(entry) for entry in sys.path if entry and Path(entry) != Path.cwd()]
    variables = [os.environ.get(name, "") for name in ("LD_LIBRARY_PATH", "PATH", "CUDA_HOME", "CONDA_PREFIX")]
    paths = [
        *map(Path, _PROGRAMS),
        Path(sys.prefix),
        Path(sys.base_prefix),
        package,
        *imports,
        *(Path(entry) for value in variables for entry in value.split(os.pathsep) if entry),
        Path(os.environ.get("KERAS_HOME") or os.path.expanduser("~/.keras")),
        Path("/etc/resolv.conf"),
    ]
    if "://" not in settings.archive:
        paths.append(Path(settings.archive))
    return _without_parents_of_home(path.resolve() for path in paths)


def _without_parents_of_home(paths: Iterable[Path]) -> list[Path]:
    home = Path(os.path.expanduser("~")).resolve()
    return [path for path in dict.fromkeys(paths) if path != home and path not in home.parents]
