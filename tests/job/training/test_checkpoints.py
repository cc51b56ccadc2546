import errno
import io
import json
import os
import tracemalloc
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import TypeVar

import numpy as np
import pytest

from catsdogs.config.history import History
from catsdogs.runtime.errors import ConfigError, Interrupted, JobError, Unavailable, VolumeError
from catsdogs.runtime.log import Log
from catsdogs.runtime.signals import Interruption
from catsdogs.storage import volume
from catsdogs.storage.folder import Folder
from catsdogs.storage.schema import parse
from catsdogs.storage.store import Source, Stat
from catsdogs.storage.volume import VolumePath
from catsdogs.training.checkpoints import Arrays, Checkpoint, Checkpoints, Mirror, Progress
from catsdogs.workers.group import WorkerGroup
from tests.recorder import Recorder

T = TypeVar("T")
RANDOM = np.random.default_rng(7)
KERNEL = RANDOM.normal(size=(40, 30)).astype(np.float32)


HISTORY: History = [
    {
        "epoch": number + 1, "loss": 0.7 / (number + 1), "accuracy": 0.5,
        "val_loss": 0.1 * number, "val_accuracy": 0.6, "seconds": 1.5,
    }
    for number in range(12)
]  # fmt: skip


def checkpoint(epoch: int, step: int) -> Checkpoint:
    progress = Progress(epoch, step, [12.5, 3.0, 4.0], 1.25, HISTORY[:epoch], best_epoch=0 if epoch else None)
    variables: Arrays = [
        KERNEL,
        np.array([np.nan, np.inf, -0.0, 1e-45], np.float32),
        np.array(epoch * 1000 + step, np.int64),
        np.zeros((0, 3), np.float32),
        np.array([7, 2**32 - 1], np.uint32),
    ]
    kinds = ["kernel", "bias", "iteration", "velocity", "state"]
    return Checkpoint(progress, variables, [KERNEL + 1] if epoch else [], kinds)


class Reports(Recorder):
    @property
    def damaged(self) -> list[str]:
        """The names of the checkpoints that were passed over."""
        return [Path(data["checkpoint"]).name for data in self.of("checkpoint-damaged")]


@pytest.fixture
def reports() -> Reports:
    return Reports()


@pytest.fixture
def checkpoints(tmp_path: Path, reports: Reports) -> Checkpoints:
    return Checkpoints(volume.Ledger(volume.root(tmp_path)), Log([reports]))


def names(directory: Path | VolumePath) -> list[str]:
    return sorted(path.name for path in opened(directory).iterdir())


def opened(path: Path | VolumePath) -> Path:
    return Path(str(path))


def assert_newest(checkpoints: Checkpoints, epoch: int, step: int) -> None:
    found = checkpoints.newest()
    assert found is not None
    path, actual = found
    expected = checkpoint(epoch, step)
    assert path.name == f"{epoch:06d}-{step:06d}.npz"
    assert actual.progress == expected.progress
    assert (actual.kinds, actual.versions) == (expected.kinds, expected.versions)
    for ours, theirs in ((actual.variables, expected.variables), (actual.best_weights, expected.best_weights)):
        assert [(array.dtype, array.shape) for array in ours] == [(array.dtype, array.shape) for array in theirs]
        assert [array.tobytes() for array in ours] == [array.tobytes() for array in theirs]


@pytest.mark.parametrize(("epoch", "step"), [(0, 1), (1, 0), (3, 17), (12, 99_999)])
def test_what_was_saved_is_found_again_to_the_bit(checkpoints: Checkpoints, epoch: int, step: int) -> None:
    path = checkpoints.save(checkpoint(epoch, step))
    assert_newest(checkpoints, epoch, step)
    assert names(path.parent) == [path.name]


def test_there_may_be_none(checkpoints: Checkpoints, reports: Reports) -> None:
    assert checkpoints.newest() is None
    assert reports.events == []


def test_the_newest_and_the_one_before_are_kept(checkpoints: Checkpoints) -> None:
    for epoch, step in ((0, 9), (0, 100), (1, 0), (1, 0), (10, 0)):
        checkpoints.save(checkpoint(epoch, step))
        assert_newest(checkpoints, epoch, step)
    assert names(checkpoints.directory) == ["000001-000000.npz", "000010-000000.npz"]


def without(member: str) -> Callable[[bytes], bytes]:
    def remove(data: bytes) -> bytes:
        result = io.BytesIO()
        with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(result, "w") as new:
            for name in old.namelist():
                if name != member:
                    new.writestr(name, old.read(name))
        return result.getvalue()

    return remove


def with_progress(document: object) -> Callable[[bytes], bytes]:
    def replace(data: bytes) -> bytes:
        arrays = dict(np.load(io.BytesIO(data)))
        arrays["progress"] = np.frombuffer(json.dumps(document).encode(), np.uint8)
        result = io.BytesIO()
        np.savez(result, allow_pickle=False, **arrays)
        return result.getvalue()

    return replace


def with_format(value: object) -> Callable[[bytes], bytes]:
    def replace(data: bytes) -> bytes:
        result = io.BytesIO()
        np.savez(result, allow_pickle=False, **{**np.load(io.BytesIO(data)), "format": np.array(value)})
        return result.getvalue()

    return replace


def flipped(data: bytes, bit: int) -> bytes:
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def with_member(name: str, content: bytes, compression: int = zipfile.ZIP_STORED) -> Callable[[bytes], bytes]:
    """The file with another member of this name, or one more."""

    def replace(data: bytes) -> bytes:
        result = io.BytesIO(without(name)(data))
        with zipfile.ZipFile(result, "a", compression) as file:
            file.writestr(name, content)
        return result.getvalue()

    return replace


def array_file(shape: tuple[int, ...], descr: str = "<f4", data: bytes = b"") -> bytes:
    """A `.npy` file whose head claims any shape."""
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"shape": shape, "fortran_order": False, "descr": descr})
    return file.getvalue() + data


def with_many_members(data: bytes) -> bytes:
    result = io.BytesIO(data)
    with zipfile.ZipFile(result, "a") as file:
        for number in range(16_000):
            file.writestr(f"variables/{number + 5}.npy", b"")
    return result.getvalue()


HUGE = 1 << 40
BOMBS: dict[str, Callable[[bytes], bytes]] = {
    "4 TiB in a head": with_member("variables/0.npy", array_file((HUGE,))),
    "4 TiB in dimensions": with_member("variables/0.npy", array_file((1 << 20, 1 << 20))),
    "more than 64 bits": with_member("variables/0.npy", array_file((HUGE, HUGE))),
    "items without a size": with_member("variables/0.npy", array_file((HUGE,), "|V0")),
    "a negative dimension": with_member("variables/0.npy", array_file((-1,), data=bytes(4))),
    "one item that is huge": with_member("variables/0.npy", array_file((1,), "|V2000000000")),
    "objects": with_member("variables/0.npy", array_file((1,), "|O", bytes(8))),
    "text": with_member("variables/0.npy", array_file((1,), "<U4", bytes(16))),
    "zeros that are compressed": lambda data: with_member(
        "variables/0.npy", array_file((4 << 20,), data=bytes(16 << 20)), zipfile.ZIP_DEFLATED
    )(data),
    "a directory that is too large": with_many_members,
}
DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    **BOMBS,
    "empty": lambda data: b"",
    "zeros": lambda data: bytes(len(data)),
    "cut": lambda data: data[: len(data) // 2],
    "last byte cut": lambda data: data[:-1],
    "bit of a value": lambda data: flipped(data, 8 * (data.index(KERNEL.tobytes()) + 2000)),
    # It would be read as a smaller array, whose CRC-32 nobody checks.
    "shape": lambda data: data.replace(b"(40, 30)", b"( 4, 30)", 1),
    "variable missing": without("variables/4.npy"),
    "best weights missing": without("best/0.npy"),
    "progress missing": without("progress.npy"),
    "versions missing": without("versions.npy"),
    "kinds missing": without("kinds.npy"),
    "format is no number": with_format("one"),
    "format below 0": with_format(-1),
    "two formats": with_format([1, 1]),
    "all variables missing": without("variables.npy"),
    "progress of another version": with_progress({"epoch": 2, "steps": 0}),
    "no progress": with_progress([]),
    "a count that is text": with_progress(asdict(Progress()) | {"step": "1"}),
    "a history of text": with_progress(asdict(Progress(epoch=1)) | {"history": ["loss"]}),
    "a row without losses": with_progress(asdict(Progress(epoch=1)) | {"history": [{"epoch": 1}]}),
    "a row of text": with_progress(asdict(Progress(epoch=1)) | {"history": [{**HISTORY[0], "loss": "low"}]}),
    "fewer rows than epochs": with_progress(asdict(Progress(epoch=2, history=HISTORY[:1]))),
    "a best epoch to come": with_progress(asdict(Progress(epoch=1, history=HISTORY[:1], best_epoch=1))),
}


def test_one_of_a_newer_format_is_not_guessed_at(checkpoints: Checkpoints) -> None:
    checkpoints.save(checkpoint(1, 5))
    newest = opened(checkpoints.save(checkpoint(2, 0)))
    newest.write_bytes(with_format(2)(newest.read_bytes()))
    with pytest.raises(ConfigError, match=rf"{newest}: written by a newer version of catsdogs-train \(format 2;"):
        checkpoints.newest()
    assert names(checkpoints.directory) == ["000001-000005.npz", "000002-000000.npz"]


def test_one_without_a_format_is_read(checkpoints: Checkpoints, reports: Reports) -> None:
    """As older versions wrote them."""
    newest = opened(checkpoints.save(checkpoint(2, 0)))
    newest.write_bytes(without("format.npy")(without("versions.npy")(without("kinds.npy")(newest.read_bytes()))))
    found = checkpoints.newest()
    assert found is not None
    assert found[1].progress == checkpoint(2, 0).progress
    assert (found[1].kinds, found[1].versions) == ([], {})
    assert reports.events == []


def test_it_names_the_versions_that_wrote_it(checkpoints: Checkpoints) -> None:
    path = opened(checkpoints.save(checkpoint(0, 1)))
    with np.load(path) as file:
        versions = json.loads(file["versions"].tobytes())
    assert versions == {"catsdogs-train": version("catsdogs-train"), "keras": version("keras")}


@pytest.mark.parametrize("damage", [pytest.param(damage, id=name) for name, damage in DAMAGES.items()])
def test_a_damaged_one_is_passed_over(
    checkpoints: Checkpoints, reports: Reports, damage: Callable[[bytes], bytes]
) -> None:
    checkpoints.save(checkpoint(1, 5))
    newest = opened(checkpoints.save(checkpoint(2, 0)))
    newest.write_bytes(damage(newest.read_bytes()))
    assert_newest(checkpoints, 1, 5)
    assert reports.damaged == ["000002-000000.npz"]
    assert reports.events[0][1]["reason"]


@pytest.mark.parametrize("bomb", [pytest.param(bomb, id=name) for name, bomb in BOMBS.items()])
def test_nothing_is_allocated_that_is_only_claimed(
    checkpoints: Checkpoints, reports: Reports, bomb: Callable[[bytes], bytes]
) -> None:
    newest = opened(checkpoints.save(checkpoint(2, 0)))
    newest.write_bytes(bomb(newest.read_bytes()))
    tracemalloc.start()
    try:
        assert checkpoints.newest() is None
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 8 << 20
    assert len(reports.damaged) == 1


@pytest.mark.parametrize("name", ["EIO", "EREMOTEIO", "ESTALE", "ENOTCONN", "EACCES"])
def test_a_volume_that_fails_damages_no_checkpoint(
    name: str, checkpoints: Checkpoints, reports: Reports, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An older checkpoint would repeat what is done, and the first save would remove the newer one."""
    checkpoints.save(checkpoint(1, 5))
    newest = opened(checkpoints.save(checkpoint(2, 0)))

    def fail(path: VolumePath, *_: object) -> None:
        number = getattr(errno, name)
        raise OSError(number, os.strerror(number), str(path))

    monkeypatch.setattr(volume, "_open", fail)
    with pytest.raises(VolumeError, match=f"^{newest}: "):
        checkpoints.newest()
    assert reports.damaged == []


class FromWorker0(WorkerGroup):
    """A group as another worker has it, with what worker 0 sends."""

    def __init__(self, name: str, data: bytes):
        super().__init__(1, 2, {}, 0.0, Interruption())
        self._sent = name, data

    def gather_json(self, value: T, expected: type[T]) -> list[T]:
        return [parse(json.dumps(self._sent[0]), expected), value]

    def gather(self, data: bytes) -> list[bytes]:
        return [self._sent[1], data]


@pytest.mark.parametrize("damage", [pytest.param(damage, id=name) for name, damage in DAMAGES.items()])
def test_worker_0_that_sends_no_checkpoint_ends_the_others_with_one_line(
    damage: Callable[[bytes], bytes], checkpoints: Checkpoints, tmp_path: Path
) -> None:
    path = opened(checkpoints.save(checkpoint(2, 0)))
    group = FromWorker0(path.name, damage(path.read_bytes()))
    with pytest.raises(Interrupted, match=r"^worker 0 sent a damaged checkpoint \(.*run the same command again$"):
        Checkpoints(volume.Ledger(volume.root(tmp_path)), Log([]), group=group).newest()


@pytest.mark.parametrize("name", ["../../x.npz", "/etc/passwd", "x\0.npz", "1-1.npz", "000001-000000.npz\n"])
def test_a_name_from_worker_0_that_is_none(name: str, checkpoints: Checkpoints, tmp_path: Path) -> None:
    group = FromWorker0(name, opened(checkpoints.save(checkpoint(2, 0))).read_bytes())
    with pytest.raises(Interrupted, match=r"^worker 0 sent something else than a checkpoint's name"):
        Checkpoints(volume.Ledger(volume.root(tmp_path)), Log([]), group=group).newest()


@pytest.mark.parametrize("every", [5, pytest.param(1, marks=pytest.mark.slow)])
def test_any_flipped_bit_is_noticed_or_of_no_matter(every: int, checkpoints: Checkpoints, reports: Reports) -> None:
    checkpoints.save(checkpoint(1, 5))
    newest = opened(checkpoints.save(checkpoint(2, 0)))
    data = newest.read_bytes()
    # An odd stride, for other bits of other bytes; most of the file is values, most of the traps are at its end.
    bits = [*range(0, 8 * len(data), 1009), *range(8 * (len(data) - 1000), 8 * len(data), 23)][::every]
    for bit in bits:
        newest.write_bytes(flipped(data, bit))
        noticed = len(reports.damaged)
        found = checkpoints.newest()
        if len(reports.damaged) == noticed:
            assert_newest(checkpoints, 2, 0)
        else:
            assert found is not None
            assert found[1].progress == checkpoint(1, 5).progress
    assert len(reports.damaged) > len(bits) / 2


def test_damaged_ones_stand_in_the_way_of_none(checkpoints: Checkpoints, reports: Reports) -> None:
    for step in (5, 6):
        opened(checkpoints.save(checkpoint(3, step))).write_bytes(b"damaged")
    assert checkpoints.newest() is None
    assert reports.damaged == ["000003-000006.npz", "000003-000005.npz"]
    for step in (1, 2):
        checkpoints.save(checkpoint(0, step))
        assert_newest(checkpoints, 0, step)
    assert names(checkpoints.directory) == ["000000-000001.npz", "000000-000002.npz"]


def test_the_files_of_others_stay(checkpoints: Checkpoints, reports: Reports) -> None:
    """Also one that has a checkpoint's name: it is not recorded as the run's own."""
    checkpoints.save(checkpoint(0, 1))
    strangers = ["000000-000000.npz", "weights.npz", "000009-000000.npz.bak", "notes.txt"]
    for name in strangers:
        (opened(checkpoints.directory) / name).write_bytes(b"somebody else's")
    for step in (2, 3, 4):
        checkpoints.save(checkpoint(0, step))
    assert names(checkpoints.directory) == sorted([*strangers, "000000-000003.npz", "000000-000004.npz"])
    assert_newest(checkpoints, 0, 4)
    assert reports.damaged == []


class Failing(Folder):
    """A folder that is out of order while `failing`."""

    failing = True

    def put(self, key: str, source: Source) -> None:
        if self.failing:
            raise Unavailable("out of order")
        super().put(key, source)

    def list(
        self, prefix: str = "", on_unreadable: Callable[[str, JobError], None] | None = None
    ) -> Iterator[tuple[str, Stat]]:
        if self.failing:
            raise Unavailable("out of order")
        return super().list(prefix, on_unreadable)


class TestMirror:
    @pytest.fixture
    def store(self, tmp_path: Path) -> Failing:
        store = Failing(tmp_path / "store")
        store.failing = False
        return store

    def with_mirror(self, store: Folder, directory: Path, *saved: tuple[int, int]) -> Checkpoints:
        """Return the checkpoints once the uploads of all that were saved have ended."""
        checkpoints = Checkpoints(volume.Ledger(volume.root(directory)), Log([]), Mirror(store))
        for epoch, step in saved:
            checkpoints.save(checkpoint(epoch, step))
        assert checkpoints.mirror is not None
        checkpoints.mirror.close()
        return checkpoints

    def test_a_lost_volumes_checkpoints_are_fetched(self, store: Folder, tmp_path: Path) -> None:
        self.with_mirror(store, tmp_path / "lost", (0, 5), (1, 0), (1, 5))
        assert names(store.root) == ["000001-000000.npz", "000001-000005.npz"]
        assert_newest(self.with_mirror(store, tmp_path / "new"), 1, 5)
        assert names(tmp_path / "new/checkpoint") == names(store.root)

    def test_a_damaged_volumes_checkpoints_are_fetched(self, store: Folder, tmp_path: Path) -> None:
        checkpoints = self.with_mirror(store, tmp_path / "volume", (1, 0), (1, 5))
        for path in opened(checkpoints.directory).iterdir():
            path.write_bytes(b"damaged")
        assert_newest(checkpoints, 1, 5)

    def test_a_volume_with_checkpoints_asks_no_store(self, store: Failing, tmp_path: Path) -> None:
        checkpoints = self.with_mirror(store, tmp_path / "volume", (1, 0))
        store.failing = True
        assert_newest(checkpoints, 1, 0)

    def test_a_store_out_of_order_stops_no_training_but_a_resume(self, store: Failing, tmp_path: Path) -> None:
        store.failing = True
        checkpoints = self.with_mirror(store, tmp_path / "volume", (1, 0), (1, 5))
        assert_newest(checkpoints, 1, 5)
        with pytest.raises(Unavailable):
            self.with_mirror(store, tmp_path / "new").newest()
        store.failing = False
        self.with_mirror(store, tmp_path / "volume", (2, 0))
        assert names(store.root) == ["000002-000000.npz"]

    def test_damaged_ones_in_the_store_are_replaced(self, store: Folder, tmp_path: Path) -> None:
        store.root.mkdir()
        for name in ("000003-000005.npz", "000003-000006.npz"):
            (store.root / name).write_bytes(b"damaged")
        assert self.with_mirror(store, tmp_path / "volume").newest() is None
        self.with_mirror(store, tmp_path / "volume", (0, 1))
        assert names(store.root) == ["000000-000001.npz"]

    def test_a_store_has_nothing_else_to_give(self, store: Folder, tmp_path: Path) -> None:
        (store.root / "deeper").mkdir(parents=True)
        for name in ("deeper/000009-000000.npz", "notes.txt"):
            (store.root / name).write_bytes(b"")
        assert self.with_mirror(store, tmp_path / "volume").newest() is None
        assert not (tmp_path / "volume/checkpoint").exists()
