"""How a cluster ends, whoever ends it."""

import os
import secrets
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cluster.releases import until
from tests.cluster.sandbox import CABLE, alone, remains
from tests.conftest import REPOSITORY
from tests.image.engine import CACHE

SCRIPT = """
import signal, sys
from pathlib import Path
from tests.cluster.sandbox import alone, sandbox
# Whoever is started in the background of a script ignores it.
signal.signal(signal.SIGINT, signal.default_int_handler)
folder = Path(sys.argv[1])
with alone(folder) as hold, sandbox(folder, hold) as room:
    room.start("sleep", "bash", "-c", 'sleep 1000 & exec sleep 1001', sys.argv[2])
    print("ready", flush=True)
    signal.pause()
"""


def running(word: str) -> list[str]:
    """Processes in whose command line the word is, and what they have started."""
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            if word.encode() in path.read_bytes():
                found.append((path.parent / "cmdline").read_text().replace("\0", " "))
        except OSError:
            continue
    return found


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL], ids=lambda number: number.name)
def test_nothing_runs_on(number: signal.Signals) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can make the namespaces that a cluster runs in")
    folder, word = CACHE / "cluster", secrets.token_hex(8)
    try:
        with alone(folder, wait=False):
            pass
    except BlockingIOError:
        pytest.skip("a cluster is running")
    with subprocess.Popen(
        [sys.executable, "-c", SCRIPT, folder, word],
        cwd=REPOSITORY,
        env={**os.environ, "CATSDOGS_TEST_WORD": word},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    ) as maker:
        assert maker.stdout is not None
        assert maker.stdout.readline() == b"ready\n"
        until(lambda: {"sleep 1000 ", "sleep 1001 "} <= set(running(word)), "it is at work", 10)
        maker.send_signal(number)
        maker.wait(60)
    until(lambda: running(word) == [], "all has ended", 10, lambda: str(running(word)))
    until(lambda: not (Path("/sys/class/net") / CABLE).exists(), "the cable is gone", 10)
    if number == signal.SIGINT:
        assert remains() == []
        assert not folder.exists()
    # The next one is not kept waiting by what is left, and cleans it up.
    with alone(folder, wait=False):
        assert list(folder.iterdir()) == []
