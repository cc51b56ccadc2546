"""What the benchmarks make of their measurements; nothing here takes a time."""

import contextlib
import http.server
import sys
import threading
import urllib.request

import pytest

from benchmarks.link import Relay
from benchmarks.measure import Failed, Row, Sample, command, cpu, interleaved, line, ratio, wall


def test_each_way_is_measured_once_in_each_round_and_another_begins_each_time() -> None:
    order: list[str] = []

    def way(name: str) -> Sample:
        order.append(name)
        return Sample(float(len(order)), 0.0)

    samples = interleaved({name: lambda name=name: way(name) for name in "abc"}, 3)  # type: ignore[misc]
    assert "".join(order) == "abcbcacab"
    assert [sample.wall for sample in samples["a"]] == [1, 6, 8]


def test_a_ratio_is_the_median_of_those_of_one_round() -> None:
    samples = {
        "ours": [Sample(1, 3), Sample(100, 3), Sample(2, 3)],
        "theirs": [Sample(2, 1), Sample(200, 1), Sample(1, 1)],
    }
    assert (wall(samples["ours"]), wall(samples["theirs"])) == (2, 2)
    assert ratio(samples, "ours", "theirs") == 0.5
    assert ratio(samples, "ours", "theirs", cpu) == 3


def test_a_command_costs_what_it_and_its_children_use() -> None:
    burn = "import time\nwhile time.process_time() < 0.3: pass"
    child = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {burn!r}], check=True); b'x' * 50_000_000"
    sample = command([sys.executable, "-c", child])
    assert sample.cpu >= 0.3
    assert sample.peak >= 50_000_000


def test_a_command_is_not_charged_for_the_memory_of_who_starts_it() -> None:
    ballast = b"x" * 100_000_000
    assert command([sys.executable, "-c", ""]).peak < len(ballast) / 2


def test_a_command_that_fails_says_why() -> None:
    with pytest.raises(Failed, match="exit code 3\nbecause"):
        command([sys.executable, "-c", "import sys; sys.stderr.write('because'); sys.exit(3)"])


def test_a_row_says_whether_its_target_is_met() -> None:
    assert line(Row("speed", "2", "≥ 1", True)) == "| speed | 2 | ≥ 1 | yes |"
    assert line(Row("speed", "2", "≥ 3", False)) == "| speed | 2 | ≥ 3 | **no** |"
    assert line(Row("speed", "2")) == "| speed | 2 |  |  |"


def test_a_relay_passes_on_what_the_server_sends_and_counts_it() -> None:
    class Answer(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", "1000000")
            self.end_headers()
            self.wfile.write(bytes(1_000_000))

        def log_message(self, format: str, *values: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answer) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with contextlib.closing(Relay("127.0.0.1", server.server_port)) as relay:
            opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
            with opener.open(relay.endpoint) as answer:
                assert answer.read() == bytes(1_000_000)
            assert 1_000_000 < relay.received < 1_001_000
        server.shutdown()
