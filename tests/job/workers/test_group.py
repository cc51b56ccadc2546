"""A worker group whose peer is the test: what it sends is not trusted."""

import json
import threading
from collections.abc import Iterator

import pytest

from catsdogs.runtime.errors import Interrupted
from catsdogs.runtime.signals import Interruption
from catsdogs.workers.group import WorkerGroup
from catsdogs.workers.transport import Connection, Kind, pack
from tests.workers import connected

ANY = dict.fromkeys(Kind, 1 << 20)


class Pair:
    """A group of two, seen from `worker`, and the other worker's connection."""

    def __init__(self, worker: int):
        near, self.peer = connected(worker)
        self.group = WorkerGroup(worker, 2, {1 - worker: near}, 60.0, Interruption())

    def close(self) -> None:
        self.group.detach()
        self.peer.close()


@pytest.fixture(params=[0, 1])
def pair(request: pytest.FixtureRequest) -> Iterator[Pair]:
    pair = Pair(request.param)
    yield pair
    pair.close()


def answer(pair: Pair, theirs: bytes) -> None:
    """Send it as the other worker's part."""
    other = 1 - pair.group.worker
    pair.peer.send(Kind.DATA, theirs if other else pack([theirs, b'"ours"']))


def test_values_of_both_by_worker(pair: Pair) -> None:
    answer(pair, b'"theirs"')
    expected = ["ours", "theirs"] if pair.group.worker == 0 else ["theirs", "ours"]
    assert pair.group.gather_json("ours", str) == expected


@pytest.mark.parametrize("theirs", [b"", b"3", b"null", b"{", b'["theirs"]', b"\xff", b"[" * 100_000])
def test_value_of_another_type_is_one_clear_line(theirs: bytes, pair: Pair) -> None:
    answer(pair, theirs)
    with pytest.raises(Interrupted, match=rf"worker {1 - pair.group.worker} sent something unexpected: ") as caught:
        pair.group.gather_json("ours", str)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("sent", [b"x", b"\xff" * 100, pack([b"1"]), pack([b"1"] * 3), b""])
def test_parts_of_another_number_are_one_clear_line(sent: bytes) -> None:
    pair = Pair(worker=1)
    pair.peer.send(Kind.DATA, sent)
    with pytest.raises(Interrupted, match="worker 0 sent something unexpected: "):
        pair.group.gather(b"1")
    pair.close()


def test_interruption_ends_the_wait(pair: Pair) -> None:
    pair.group._interruption.signal_name = "SIGTERM"
    with pytest.raises(Interrupted, match="SIGTERM received"):
        pair.group.gather(b"")


def test_worker_0_is_done_before_the_others_close() -> None:
    """That they close then is no loss: this test's process would end."""
    pair = Pair(worker=0)
    pair.peer.send(Kind.BEAT)
    with pair.group:
        closer = _closes_when_done(pair.peer)
        pair.group.finish()
    closer.join(10)
    assert not closer.is_alive()


def _closes_when_done(peer: Connection) -> threading.Thread:
    def close() -> None:
        while peer.receive(ANY)[0] is not Kind.DONE:
            pass
        peer.close()

    thread = threading.Thread(target=close)
    thread.start()
    return thread


def test_error_of_one_worker_is_the_others_reason() -> None:
    pair = Pair(worker=1)
    with pytest.raises(RuntimeError), pair.group:
        raise RuntimeError("a bug")
    received = [(Kind.BEAT, b"")]
    while received[-1][0] is Kind.BEAT:
        received.append(pair.peer.receive(ANY))
    assert received[-1] == (Kind.ENDED, b"worker 1 ended with exit code 1: a bug")
    pair.close()


def test_agreement_is_json(pair: Pair) -> None:
    answer(pair, json.dumps("ours").encode())
    pair.group.agree("contents", "ours")
