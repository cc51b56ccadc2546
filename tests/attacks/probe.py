"""`python probe.py VOLUME ARCHIVE OUTPUT PATH...`: reads files as the training process of two workers could.

Prints a JSON object: what `peer.py` prints of TensorFlow's port, without TensorFlow, and the environment.
"""

import contextlib
import glob
import json
import os
import sys
from pathlib import Path

from catsdogs.config.settings import Settings
from catsdogs.pipeline import isolation
from catsdogs.pipeline.session import peers_of
from catsdogs.runtime.errors import JobError
from catsdogs.runtime.log import JsonLines, Log
from catsdogs.runtime.signals import Interruption


def main(volume: str, archive: str, output: str, paths: list[str]) -> int:
    interruption = Interruption()
    interruption.install()
    key = os.environ.get("CATSDOGS_WORKER_KEY_FILE")
    settings = Settings.of(
        archive=archive,
        output=output,
        volume=Path(volume),
        workers=2,
        worker_address="127.0.0.1:9,127.0.0.1:11",
        worker_key_file=Path(key) if key else None,
    )
    try:
        isolation.enter(settings, Log([JsonLines(sys.stderr)]), interruption)
    except JobError as error:
        print(error, file=sys.stderr)  # noqa: T201
        return error.exit_code
    if key:
        # The transport gets it all the same.
        assert "secret" in peers_of(settings).key.decode()
    found: dict[str, str | None] = {}
    for path in paths:
        if path.startswith(">"):
            with contextlib.suppress(OSError):
                Path(path[1:]).write_text("written by a stranger")
                found[path] = "written"
            continue
        for one in glob.glob(path) if "*" in path else [path]:
            found[one] = None
            with contextlib.suppress(OSError):
                # A pipe among them must not be waited for.
                handle = os.open(one, os.O_RDONLY | os.O_NONBLOCK)
                found[one] = os.read(handle, 1 << 20).decode("latin-1")
    print(json.dumps(found))  # noqa: T201
    return 0


if __name__ == "__main__":
    code = main(sys.argv[1], sys.argv[2], sys.argv[3], sys.argv[4:])
    sys.stdout.flush()
    os._exit(code)
