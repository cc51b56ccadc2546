"""The right to publish: one holder at a time, taken over only from one that is gone."""

import io
import json
import os
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pytest

from catsdogs.results import manifest, publish
from catsdogs.results.completion import Artifact
from catsdogs.runtime.errors import ConfigError, Interrupted
from catsdogs.runtime.log import Log, TextLines
from catsdogs.runtime.signals import Interruption
from catsdogs.storage import lease
from catsdogs.storage.address import open_store
from catsdogs.storage.folder import Folder
from catsdogs.storage.lease import Lease
from catsdogs.storage.store import Stat, Store, read
from tests.interruptions import InterruptedAfter
from tests.recorder import Recorder
from tests.servers import S3Server


@pytest.fixture(params=["folder", "seaweedfs"])
def output(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.setattr(lease, "POLL_SECONDS", 0.02)
    if request.param == "folder":
        return Folder(tmp_path / "output")
    server: S3Server = request.getfixturevalue("seaweedfs")
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    return open_store(f"s3://{request.getfixturevalue('bucket')}/run")


def test_who_comes_second_waits_until_it_is_released(output: Store) -> None:
    first, second = Lease(output, "first"), Lease(output, "second")
    first.acquire(Interruption())
    with pytest.raises(Interrupted, match="enough"):
        second.acquire(InterruptedAfter(5))
    first.release()
    second.acquire(Interruption())


def test_who_starts_again_need_not_wait_for_itself(output: Store) -> None:
    Lease(output, "first").acquire(Interruption())
    again = Lease(output, "first")
    again.acquire(InterruptedAfter(0))
    again.renew(at_once=True)


def test_a_holder_that_is_gone_is_replaced_and_learns_it(output: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "SECONDS", 0.3)
    gone, heir = Lease(output, "gone"), Lease(output, "heir")
    gone.acquire(Interruption())
    heir.acquire(InterruptedAfter(1000))
    with pytest.raises(Interrupted, match="another process is publishing"):
        gone.renew(at_once=True)
    heir.renew(at_once=True)


def test_a_holder_that_renews_is_not_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "SECONDS", 3.0)
    monkeypatch.setattr(lease, "POLL_SECONDS", 0.05)
    output = Folder(tmp_path)
    holder, other = Lease(output, "holder"), Lease(output, "other")
    holder.acquire(Interruption())
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(other.acquire, InterruptedAfter(100))
        while not waiting.done():
            holder.renew()
            time.sleep(0.05)
    with pytest.raises(Interrupted, match="enough"):
        waiting.result()
    holder.renew(at_once=True)


def test_of_two_who_find_it_expired_one_gets_it(output: Store) -> None:
    gone, first, second = (Lease(output, name) for name in ("gone", "first", "second"))
    gone.acquire(Interruption())
    etag = first._current().etag
    assert first._put(etag)
    assert not second._put(etag)
    first.renew(at_once=True)


def test_a_publisher_thought_dead_changes_nothing_any_more(output: Store, tmp_path: Path) -> None:
    """It knows the etags of before the other came; its late write is refused."""
    (tmp_path / "model.keras").write_bytes(b"first")
    (tmp_path / "other.keras").write_bytes(b"other")
    artifacts = {"model.keras": Artifact.of(tmp_path / "other.keras")}
    publish.publish(output, artifacts, "run", "other", Log([]), Interruption())
    with pytest.raises(Interrupted, match="another process is publishing"):
        publish._upload(output, "model.keras", Artifact.of(tmp_path / "model.keras"), None)
    assert read(output, "model.keras") == b"other"
    assert manifest.verify(output) == ["model.keras"]


def waited_for_by(output: Store, owner: str) -> Lease:
    """Acquire the lease as `owner`, though not in the first moment."""
    lease_of = Lease(output, owner)
    with pytest.raises(Interrupted, match="enough"):
        lease_of.acquire(InterruptedAfter(2))
    lease_of.acquire(InterruptedAfter(1000))
    return lease_of


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"nonsense",
        b"[]",
        b"{}",
        b"[" * 100_000,
        b'{"format": "?"}',
        b"\xff\xfe",
        b"\xff\xfe[\x00]\x00",
        b"null",
        b'{"owner": ["me"], "host": 1, "since": {}}',
        b'{"owner": "\\ud800"}',
        b" " * (lease.MAX_SIZE + 1),
    ],
)
def test_an_unreadable_lease_is_replaced_once_nobody_renews_it(
    content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "POLL_SECONDS", 0.02)
    monkeypatch.setattr(lease, "SECONDS", 0.3)
    (tmp_path / lease.KEY).write_bytes(content)
    waited_for_by(Folder(tmp_path), "other").renew(at_once=True)


def test_a_lease_without_a_format_is_one_of_an_older_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "POLL_SECONDS", 0.02)
    monkeypatch.setattr(lease, "SECONDS", 0.3)
    (tmp_path / lease.KEY).write_text('{"owner": "older", "renewals": 3}')
    Lease(Folder(tmp_path), "older").acquire(InterruptedAfter(0))
    (tmp_path / lease.KEY).write_text('{"owner": "older", "renewals": 4}')
    waited_for_by(Folder(tmp_path), "other")


def test_a_lease_of_a_newer_format_is_neither_taken_nor_waited_for(tmp_path: Path) -> None:
    content = json.dumps({"format": lease.FORMAT + 1, "owner": "me"})
    (tmp_path / lease.KEY).write_text(content)
    with pytest.raises(ConfigError, match=r"lease\.json: written by a newer version") as caught:
        Lease(Folder(tmp_path), "me").acquire(InterruptedAfter(0))
    assert caught.value.exit_code == 78
    assert (tmp_path / lease.KEY).read_text() == content


class RenewedBetween(Folder):
    """A folder in which the holder renews its lease after each look at it, before it is read."""

    holder: Lease

    def stat(self, key: str) -> Stat:
        found = super().stat(key)
        self.holder.renew(at_once=True)
        return found


def test_a_holder_that_renews_between_two_looks_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "POLL_SECONDS", 0.02)
    output = RenewedBetween(tmp_path)
    output.holder = Lease(Folder(tmp_path), "holder")
    output.holder.acquire(Interruption())
    other = Lease(output, "other")
    with pytest.raises(Interrupted, match="enough"):
        other.acquire(InterruptedAfter(5))
    output.holder.release()
    Lease(Folder(tmp_path), "other").acquire(InterruptedAfter(0))


class ReleasedBetween(Folder):
    """A folder in which the holder releases its lease after the first look at it, before it is read."""

    def stat(self, key: str) -> Stat:
        found = super().stat(key)
        self.delete(key)
        return found


def test_a_lease_that_is_released_between_two_looks_is_free(tmp_path: Path) -> None:
    Lease(Folder(tmp_path), "holder").acquire(Interruption())
    Lease(ReleasedBetween(tmp_path), "other").acquire(InterruptedAfter(0))


def test_the_wait_is_reported_at_once_and_then_now_and_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "POLL_SECONDS", 0.02)
    monkeypatch.setattr(lease, "REPORT_SECONDS", 0.2)
    Lease(Folder(tmp_path), "first").acquire(Interruption())
    since = json.loads((tmp_path / lease.KEY).read_bytes())["since"]
    recorder = Recorder()
    with pytest.raises(Interrupted, match="enough"):
        Lease(Folder(tmp_path), "second").acquire(InterruptedAfter(0), Log([recorder]))
    [event] = recorder.of("lease-waiting")
    assert event.pop("waited") < 1
    assert event == {"host": os.uname().nodename, "since": since, "lease": str(tmp_path / lease.KEY)}
    with pytest.raises(Interrupted, match="enough"):
        Lease(Folder(tmp_path), "second").acquire(InterruptedAfter(25), Log([recorder]))
    assert 3 <= len(recorder.of("lease-waiting")) < 10
    waited = [event["waited"] for event in recorder.of("lease-waiting")[1:]]
    assert waited == sorted(waited)


@pytest.mark.parametrize("content", [b"[]", b'{"owner": "older", "renewals": 3}', b'{"host": "a\\u001b[2Kb"}'])
def test_the_wait_for_a_lease_that_tells_nothing_is_reported_too(content: bytes, tmp_path: Path) -> None:
    (tmp_path / lease.KEY).write_bytes(content)
    lines = io.StringIO()
    with pytest.raises(Interrupted, match="enough"):
        Lease(Folder(tmp_path), "other").acquire(InterruptedAfter(0), Log([TextLines(lines)]))
    host = r"a\x1b[2Kb" if b"host" in content else "an unknown host"
    assert f"waiting: another process publishes this run, on {host} since an unknown time" in lines.getvalue()
    assert "older" not in lines.getvalue(), "the owner is not shown: nobody knows what it is"


def test_no_wait_is_reported_if_there_is_none(tmp_path: Path) -> None:
    recorder = Recorder()
    for _ in range(2):
        Lease(Folder(tmp_path), "me").acquire(InterruptedAfter(0), Log([recorder]))
    assert recorder.events == []


def test_a_lease_says_its_format_and_who_holds_it_since_when(tmp_path: Path) -> None:
    Lease(Folder(tmp_path), "me").acquire(Interruption())
    content = json.loads((tmp_path / lease.KEY).read_bytes())
    since = datetime.fromisoformat(content.pop("since"))
    assert abs((datetime.now(UTC) - since).total_seconds()) < 60
    assert content == {"format": 1, "owner": "me", "renewals": 1, "host": os.uname().nodename}
