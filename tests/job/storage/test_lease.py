"""The right to publish: one holder at a time, taken over only from one that is gone."""

import json
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from catsdogs.results import manifest, publish
from catsdogs.results.completion import Artifact
from catsdogs.runtime.errors import ConfigError, Interrupted
from catsdogs.runtime.log import Log
from catsdogs.runtime.signals import Interruption
from catsdogs.storage import lease
from catsdogs.storage.address import open_store
from catsdogs.storage.folder import Folder
from catsdogs.storage.lease import Lease
from catsdogs.storage.store import Store, read
from tests.interruptions import InterruptedAfter
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
    etag, _ = first._current()
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


@pytest.mark.parametrize("content", [b"", b"nonsense", b"[]", b"{}", b"[" * 100_000, b'{"format": "?"}'])
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


def test_a_lease_says_its_format(tmp_path: Path) -> None:
    Lease(Folder(tmp_path), "me").acquire(Interruption())
    assert json.loads((tmp_path / lease.KEY).read_bytes()) == {"format": 1, "owner": "me", "renewals": 1}
