"""A worker of a group in a process of its own, without TensorFlow: it joins, and exchanges data until it is stopped.

`python -m tests.attacks.worker JSON`, with the fields of `Peers`. Writes each event, and "gathered" after an exchange.
"""

import json
import os
import sys
import time

from catsdogs.runtime.errors import JobError
from catsdogs.runtime.log import Log, TextLines
from catsdogs.runtime.signals import Interruption
from catsdogs.workers.rendezvous import Peers, join


def main() -> None:
    fields = json.loads(sys.argv[1])
    peers = Peers(**{**fields, "key": fields["key"].encode()})
    interruption = Interruption()
    interruption.install()
    try:
        group = join(peers, Log([TextLines(sys.stdout)], peers.worker), interruption, lambda: False)
        assert group is not None
        with group:
            while True:
                group.gather_json({"from": peers.worker}, dict[str, int])
                os.write(1, b"gathered\n")
                time.sleep(0.05)
    except JobError as error:
        os.write(2, f"catsdogs: {error}\n".encode())
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
