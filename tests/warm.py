"""Both commands in processes that are forked from one which has imported their libraries.

That import takes six seconds with TensorFlow, and one with the Kubernetes client. A process gets arguments,
environment and directory, and gives exit code, output and files, like one that a shell starts. It imports the command
itself anew, in the order of any start. What depends on how a process starts (libraries that are missing, variables
that Python reads, memory, signals, several workers) is tested with one that is started.
"""

import multiprocessing
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

_PROCESSES = multiprocessing.get_context("forkserver")
_preloaded: list[str] = []


def preload(module: str) -> None:
    """Have a module imported before the first process is forked. For `conftest.py` of the tests that need it."""
    _preloaded.append(module)
    _PROCESSES.set_forkserver_preload(_preloaded)


def catsdogs(
    *arguments: str | Path, env: Mapping[str, str], directory: Path, timeout: float = 120
) -> subprocess.CompletedProcess[str]:
    """`catsdogs ARGUMENTS`, with no other environment than `env`. Returns whatever the exit code.

    Raises subprocess.TimeoutExpired after `timeout` seconds.
    """
    return _ended(_command, "catsdogs", tuple(map(str, arguments)), env, directory, timeout)


def plugin(
    *arguments: str | Path, env: Mapping[str, str], directory: Path, timeout: float = 120
) -> subprocess.CompletedProcess[str]:
    """`kubectl-catsdogs ARGUMENTS`, in the same way."""
    return _ended(_plugin, "kubectl_catsdogs", tuple(map(str, arguments)), env, directory, timeout)


def python(
    code: str, *arguments: str | Path, env: Mapping[str, str], directory: Path, timeout: float = 120
) -> subprocess.CompletedProcess[str]:
    """`python -c CODE ARGUMENTS`, in the same way."""
    return _ended(_code, code, tuple(map(str, arguments)), env, directory, timeout)


def _command(_: str) -> None:
    from catsdogs import __main__

    __main__.start()


def _plugin(_: str) -> None:
    from kubectl_catsdogs.cli import start

    start()


def _code(code: str) -> None:
    exec(compile(code, "<string>", "exec"), {"__name__": "__main__"})


def _ended(
    does: Callable[[str], None],
    what: str,
    arguments: tuple[str, ...],
    env: Mapping[str, str],
    directory: Path,
    timeout: float,
) -> subprocess.CompletedProcess[str]:
    with tempfile.TemporaryDirectory() as scratch:
        outputs = (Path(scratch, "stdout"), Path(scratch, "stderr"))
        process = _PROCESSES.Process(target=_become, args=(does, what, arguments, dict(env), directory, outputs))
        process.start()
        process.join(timeout)
        code = process.exitcode
        if code is None:
            process.kill()
            process.join()
            raise subprocess.TimeoutExpired(what, timeout)
        stdout, stderr = (path.read_text() for path in outputs)
    return subprocess.CompletedProcess([what, *arguments], code, stdout, stderr)


def _become(
    does: Callable[[str], None],
    what: str,
    arguments: tuple[str, ...],
    env: dict[str, str],
    directory: Path,
    outputs: tuple[Path, Path],
) -> None:
    """Take the place of a process that is started so, with the streams that Python gives one without a locale."""
    os.chdir(directory)
    os.environ.clear()
    os.environ.update(env)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for number, path in enumerate(outputs, 1):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), number)
    sys.stdout = open(1, "w", encoding="utf-8", errors="surrogateescape", closefd=False)
    sys.stderr = open(2, "w", 1, encoding="utf-8", errors="backslashreplace", closefd=False)
    sys.dont_write_bytecode = False
    sys.argv = ["-c" if does is _code else what, *arguments]
    # What a process executes that goes on as another program.
    sys.orig_argv = [sys.executable, *(("-c", what) if does is _code else ("-m", what)), *arguments]
    does(what)
