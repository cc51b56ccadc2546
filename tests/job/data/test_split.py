import errno
import hashlib
import io
import json
import os
import shutil
import threading
import time
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from PIL import Image as Picture

from catsdogs.data import sample, zip_reader
from catsdogs.data import split as splits
from catsdogs.data.archive import Archive, open_archive, unpack
from catsdogs.data.assignment import Counts, Image
from catsdogs.data.labels import CLASSES, SPLITS
from catsdogs.data.split import FORMAT, MARKER, Record, Split, build, load, split_id
from catsdogs.runtime.errors import BadData, Interrupted, VolumeError
from catsdogs.runtime.log import Log
from catsdogs.runtime.signals import Interruption
from catsdogs.storage import volume
from tests.conftest import Catsdogs
from tests.interruptions import InterruptedAfter
from tests.recorder import Recorder

COUNTS = Counts(4, 2, 2)
"""Of the 12 images per class; numbers 8 to 11 are spare."""


def jpeg(label: str, number: int) -> bytes:
    buffer = io.BytesIO()
    sample.draw(label, number, (40, 40)).save(buffer, "JPEG")
    return buffer.getvalue()


PICTURES: dict[Image, bytes] = {(label, number): jpeg(label, number) for label in CLASSES for number in range(12)}
TEXT = b"<html>not found</html>"
CUT = PICTURES["dog", 5][:-60]


def archive_of(path: Path, changes: Mapping[Image, bytes | None] | None = None) -> Archive:
    """A train.zip of the pictures; `changes` are other contents for some, or None to leave one out."""
    with zipfile.ZipFile(path, "w") as file:
        for (label, number), data in {**PICTURES, **(changes or {})}.items():
            if data is not None:
                file.writestr(f"train/{label}.{number}.jpg", data)
    return open_archive(str(path))


class Recorded(Recorder):
    @property
    def fetched(self) -> int:
        """How many images the last build fetched."""
        return int(self.of("split")[-1]["fetched"])


def built(
    archive: Archive, directory: Path, recorder: Recorded | None = None, interruption: Interruption | None = None
) -> Split:
    log = Log([recorder] if recorder else [])
    return build(archive, COUNTS, volume.root(directory), log, interruption or Interruption())


def folder(split: Split) -> Path:
    return Path(str(split.directory))


def loaded(directory: Path, counts: Counts, log: Log) -> Split | None:
    return load(volume.root(directory), counts, log)


def files(directory: Path) -> dict[str, bytes]:
    """Every file of the split but its marker and its lock."""
    found = (path for path in directory.rglob("*") if path.is_file())
    return {
        path.relative_to(directory).as_posix(): path.read_bytes()
        for path in found
        if path.name not in (MARKER, ".lock", volume.MADE)
    }


def numbers(split: Split, label: str) -> dict[str, list[int]]:
    """Split → the numbers of a class in it, ascending."""
    return {
        name: sorted(int(path.name.split(".")[1]) for path in split.paths(name) if path.name.startswith(f"{label}."))
        for name in SPLITS
    }


def check(split: Split) -> None:
    """The files are those that split.json lists, and no others."""
    found = files(folder(split))
    assert found.keys() == {record.path for record in split.images}
    for record in split.images:
        data = found[record.path]
        assert (len(data), hashlib.sha256(data).hexdigest()) == (record.size, record.sha256), record.path


# --- the directories ---


def test_a_build_lays_out_the_directories_and_lists_every_file(sample_archive: Path, tmp_path: Path) -> None:
    archive = unpack(open_archive(str(sample_archive)), tmp_path, Log([]), Interruption())
    counts = Counts(12, 8, 4)
    split = build(archive, counts, volume.root(tmp_path / "split"), Log([]), Interruption())
    ranges = {"train": range(12), "validation": range(12, 20), "test": range(20, 24)}
    assert files(folder(split)).keys() == {
        f"{name}/{label}s/{label}.{number}.jpg" for name in SPLITS for label in CLASSES for number in ranges[name]
    }
    check(split)
    with zipfile.ZipFile(sample_archive) as outer, zipfile.ZipFile(outer.open("train.zip")) as inner:
        for record in split.images:
            assert (folder(split) / record.path).read_bytes() == inner.read(record.member)

    document = json.loads((folder(split) / MARKER).read_bytes())
    assert [Record(**record) for record in document["images"]] == split.images
    assert document["counts"] == {"train": 12, "validation": 8, "test": 4}
    assert document["archive"] == archive.identity
    assert document["quarantined"] == []
    assert document["passed_over"] == {"count": 2, "examples": ["test1.zip", "sampleSubmission.csv"]}


def test_a_broken_image_is_excluded_with_its_reason_and_a_spare_takes_its_place(tmp_path: Path) -> None:
    changes = {("cat", 1): TEXT, ("dog", 5): CUT, ("dog", 8): b"", ("dog", 7): None}
    recorder = Recorded()
    split = built(archive_of(tmp_path / "a.zip", changes), tmp_path / "split", recorder)
    check(split)
    assert numbers(split, "cat") == {"train": [0, 2, 3, 8], "validation": [4, 5], "test": [6, 7]}
    assert numbers(split, "dog") == {"train": [0, 1, 2, 3], "validation": [4, 9], "test": [6, 10]}
    assert json.loads((folder(split) / MARKER).read_bytes())["quarantined"] == split.excluded
    reasons = {entry["member"]: entry["reason"] for entry in split.excluded}
    assert [{key: value for key, value in entry.items() if key != "reason"} for entry in split.excluded] == [
        {"member": "train/cat.1.jpg", "replaced_by": "train/cat.8.jpg"},
        {"member": "train/dog.5.jpg", "replaced_by": "train/dog.9.jpg"},
        {"member": "train/dog.8.jpg"},
    ]
    assert "no JPEG" in reasons["train/cat.1.jpg"]
    assert "truncated" in reasons["train/dog.5.jpg"]
    assert reasons["train/dog.8.jpg"] == "is an empty file"
    assert {event["member"]: event["reason"] for event in recorder.of("quarantined")} == reasons


def test_a_member_with_a_wrong_crc_is_excluded_too(tmp_path: Path) -> None:
    archive_of(tmp_path / "a.zip")
    whole, data = (tmp_path / "a.zip").read_bytes(), PICTURES["cat", 3]
    (tmp_path / "a.zip").write_bytes(whole.replace(data, data[:300] + bytes(60) + data[360:]))
    split = built(open_archive(str(tmp_path / "a.zip")), tmp_path / "split")
    check(split)
    assert split.excluded == [
        {"member": "train/cat.3.jpg", "reason": "its CRC-32 is wrong", "replaced_by": "train/cat.8.jpg"}
    ]


def test_a_spare_that_moves_to_another_split_is_written_there(tmp_path: Path) -> None:
    # Number 9 is at first to stand in for 6, a test image; when 8 is found broken it stands in for 1.
    archive = archive_of(tmp_path / "a.zip", {("cat", 1): TEXT, ("cat", 6): TEXT, ("cat", 8): TEXT})
    recorder = Recorded()
    split = built(archive, tmp_path / "split", recorder)
    assert numbers(split, "cat") == {"train": [0, 2, 3, 9], "validation": [4, 5], "test": [7, 10]}
    progress = [(event["done"], event["total"]) for event in recorder.of("fetching")]
    assert progress[-1] == (16, 16)
    assert max(done for done, _ in progress) == 16
    check(split)


def kinds_of_picture() -> dict[Image, bytes]:
    def saved(picture: Picture.Image, kind: str) -> bytes:
        buffer = io.BytesIO()
        picture.save(buffer, kind)
        return buffer.getvalue()

    cat = sample.draw("cat", 0, (40, 40))
    return {
        ("cat", 0): saved(cat, "PNG"),
        ("cat", 1): saved(cat.convert("CMYK"), "JPEG"),
        ("cat", 2): saved(cat.convert("L"), "JPEG"),
        ("cat", 3): saved(cat.convert("P"), "GIF"),
    }


def test_png_cmyk_and_grayscale_are_usable(tmp_path: Path) -> None:
    split = built(archive_of(tmp_path / "a.zip", kinds_of_picture()), tmp_path / "split")
    assert split.excluded == []
    check(split)


TOO_FEW: dict[str, tuple[dict[Image, bytes | None], str]] = {
    "absent": (
        {("dog", number): None for number in (1, 3, 5, 7, 11)},
        "8 dogs are wanted, the archive has 7; lower --train-per-class",
    ),
    "broken": (
        {("cat", number): TEXT for number in range(5)},
        "8 cats are wanted, the archive has 12 (5 unusable); the first is cat.0.jpg: ",
    ),
    "both": (
        {("cat", 11): None, ("cat", 10): None, ("cat", 9): None} | {("cat", 0): TEXT, ("cat", 7): CUT},
        "8 cats are wanted, the archive has 9 (2 unusable, 1 not read); the first is cat.0.jpg: ",
    ),
}


@pytest.mark.parametrize("kind", TOO_FEW)
def test_too_few_images_say_how_many_of_what_are_missing(kind: str, tmp_path: Path) -> None:
    changes, reason = TOO_FEW[kind]
    with pytest.raises(BadData) as caught:
        built(archive_of(tmp_path / "a.zip", changes), tmp_path / "split")
    assert reason in str(caught.value)
    assert caught.value.exit_code == 65
    assert not (tmp_path / "split" / MARKER).exists()


# --- an existing split ---


@pytest.fixture
def archive(tmp_path: Path) -> Archive:
    return archive_of(tmp_path / "a.zip", {("cat", 1): TEXT})


@pytest.fixture
def split(archive: Archive, tmp_path: Path) -> Split:
    return built(archive, tmp_path / "split")


def test_a_complete_split_is_reused_without_the_archive(archive: Archive, split: Split, tmp_path: Path) -> None:
    (tmp_path / "a.zip").unlink()
    recorder = Recorded()
    assert built(archive, folder(split), recorder) == split
    assert {name for name, _ in recorder.events} == {"split-reused"}


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:100])


def unmarked(split: Path) -> Path:
    (split / MARKER).unlink()
    return split


DAMAGES: dict[str, tuple[Callable[[Path], object], int]] = {
    "a flipped bit": (lambda split: flip(split / "test/dogs/dog.6.jpg"), 1),
    "a shorter file": (lambda split: truncate(split / "test/dogs/dog.6.jpg"), 1),
    "an empty file": (lambda split: (split / "train/cats/cat.8.jpg").write_bytes(b""), 1),
    "a missing file": (lambda split: (split / "validation/cats/cat.4.jpg").unlink(), 1),
    "a missing directory": (lambda split: shutil.rmtree(split / "validation"), 4),
    "no marker": (lambda split: (split / MARKER).unlink(), 0),
    "half a marker": (lambda split: truncate(split / MARKER), 0),
    "an empty marker": (lambda split: (split / MARKER).write_bytes(b""), 0),
    "a marker that is not an object": (lambda split: (split / MARKER).write_bytes(b"[1, 2]"), 0),
    "a marker with other fields": (lambda split: (split / MARKER).write_bytes(b'{"images": [{}]}'), 0),
    "no marker, and a flipped bit": (lambda split: flip(unmarked(split) / "test/dogs/dog.6.jpg"), 1),
    "no marker, and a shorter file": (lambda split: truncate(unmarked(split) / "test/dogs/dog.6.jpg"), 1),
}


@pytest.mark.parametrize("kind", DAMAGES)
def test_a_damaged_split_is_made_good_and_only_what_is_lost_is_fetched(
    kind: str, archive: Archive, split: Split
) -> None:
    marker = (folder(split) / MARKER).read_bytes()
    damage, lost = DAMAGES[kind]
    damage(folder(split))
    assert loaded(folder(split), COUNTS, Log([])) is None
    recorder = Recorded()
    assert built(archive, folder(split), recorder) == split
    check(split)
    assert (folder(split) / MARKER).read_bytes() == marker
    # The broken cat is fetched again too: nothing but the archive remembers it.
    assert recorder.fetched == lost + 1


@pytest.mark.parametrize("marked", [True, False])
@pytest.mark.parametrize("name", ["EIO", "EREMOTEIO", "ESTALE", "ENOTCONN", "EACCES"])
def test_an_image_that_cannot_be_read_is_not_taken_for_a_missing_one(
    name: str, marked: bool, archive: Archive, split: Split, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A volume that fails is named, whether the split is complete or half built; nothing is fetched again."""
    failing = folder(split) / "test/dogs/dog.6.jpg"
    if not marked:
        (folder(split) / MARKER).unlink()
    before = files(folder(split))
    real, number = volume._open, getattr(errno, name)

    def fail(path: volume.AnyPath, flags: int, max_bytes: int | None = None, create: bool = False) -> tuple[int, int]:
        if str(path) == str(failing):
            raise OSError(number, os.strerror(number), str(path))
        return real(path, flags, max_bytes, create)

    monkeypatch.setattr(volume, "_open", fail)
    recorder = Recorded()
    with pytest.raises(VolumeError, match=f"^{failing}: {os.strerror(number)}: "):
        built(archive, folder(split), recorder)
    assert recorder.of("fetching") == recorder.of("split-damaged") == []
    assert files(folder(split)) == before


def test_a_folder_that_cannot_be_read_is_not_taken_for_an_empty_one(
    archive: Archive, split: Split, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder(split) / MARKER).unlink()
    failing = folder(split) / "test/dogs"
    real = volume._readable_directory

    def fail(directory: volume.VolumePath, create: bool = False) -> int:
        if str(directory) == str(failing):
            raise OSError(errno.EIO, os.strerror(errno.EIO), str(directory))
        return real(directory, create)

    monkeypatch.setattr(volume, "_readable_directory", fail)
    with pytest.raises(VolumeError, match=f"^{failing}: Input/output error: check the volume"):
        built(archive, folder(split))


PRESENT_BUT_NO_FILE: dict[str, Callable[[Path], object]] = {
    "a link": lambda path: path.symlink_to("dog.7.jpg"),
    "a pipe": os.mkfifo,
    "a larger file": lambda path: path.write_bytes(bytes(1 << 20)),
}


@pytest.mark.parametrize("kind", PRESENT_BUT_NO_FILE)
def test_what_is_no_image_of_the_split_is_replaced(kind: str, archive: Archive, split: Split) -> None:
    path = folder(split) / "test/dogs/dog.6.jpg"
    path.unlink()
    PRESENT_BUT_NO_FILE[kind](path)
    assert built(archive, folder(split)) == split
    check(split)


def test_what_a_kill_left_is_removed_and_spoils_nothing(archive: Archive, split: Split) -> None:
    leftover = folder(split) / f"train/cats/.cat.0.jpg.{volume.PROCESS}00c0ffee.part"
    leftover.write_bytes(b"half")
    recorder = Recorded()
    assert built(archive, folder(split), recorder) == split
    assert recorder.of("split-reused")
    assert not leftover.exists()


STRANGERS = {
    "train/cats/cat.11.jpg": b"a picture of their own",
    "train/cats/.cat.0.jpg.0123456789abcdef00c0ffee.part": b"half",
    "train/birds/nested/bird.0.jpg": b"tweet",
    "train/README.txt": b"read me",
    "notes.txt": b"mine",
}


@pytest.mark.parametrize("rebuilt", [False, True])
def test_the_files_of_others_stay_and_spoil_nothing(rebuilt: bool, archive: Archive, split: Split) -> None:
    for name, data in STRANGERS.items():
        volume.write(folder(split) / name, data)
    if rebuilt:
        unmarked(folder(split))
    recorder = Recorded()
    assert built(archive, folder(split), recorder) == split
    assert bool(recorder.of("split-reused")) is not rebuilt
    assert {name: (folder(split) / name).read_bytes() for name in STRANGERS} == STRANGERS


def test_an_image_that_a_killed_build_put_elsewhere_is_removed(archive: Archive, split: Split) -> None:
    """Whoever lists the folders would find it in two splits."""
    misplaced = folder(split) / "test/cats/cat.0.jpg"
    misplaced.write_bytes(PICTURES["cat", 0])
    unmarked(folder(split))
    assert built(archive, folder(split)) == split
    assert not misplaced.exists()


def test_other_counts_are_another_split(archive: Archive, split: Split) -> None:
    other = Counts(3, 3, 2)
    assert split_id(archive, other) != split_id(archive, COUNTS)
    assert loaded(folder(split), other, Log([])) is None
    assert loaded(folder(split), COUNTS, Log([])) == split


def test_the_same_contents_at_another_address_are_the_same_split(archive: Archive, tmp_path: Path) -> None:
    copy = shutil.copy(tmp_path / "a.zip", tmp_path / "b.zip")
    assert split_id(open_archive(str(copy)), COUNTS) == split_id(archive, COUNTS)
    other = archive_of(tmp_path / "c.zip", {("cat", 1): TEXT + b" "})
    assert split_id(other, COUNTS) != split_id(archive, COUNTS)


# --- versions ---


def changed(split: Path, **fields: object) -> None:
    """Write split.json again with other fields; None removes one."""
    document = {**json.loads((split / MARKER).read_bytes()), **fields}
    kept = {name: value for name, value in document.items() if value is not None}
    (split / MARKER).write_text(json.dumps(kept))


def test_the_id_of_a_split_by_rule_1_is_that_of_older_versions(monkeypatch: pytest.MonkeyPatch) -> None:
    """tests/golden has the volume that an older version made: dogs-vs-cats.zip, and a split under this id."""
    golden = Path(__file__).parents[2] / "golden"
    archive, counts = open_archive(str(golden / "dogs-vs-cats.zip")), Counts(12, 4, 4)
    monkeypatch.setattr(splits, "RULE", 1)
    assert (golden / "volume/splits" / split_id(archive, counts) / MARKER).exists()


def test_a_split_by_another_rule_has_another_id_and_is_not_reused(
    archive: Archive, split: Split, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = {split_id(archive, COUNTS)}
    for rule in (2, 3):
        monkeypatch.setattr(splits, "RULE", rule)
        ids.add(split_id(archive, COUNTS))
        assert loaded(folder(split), COUNTS, Log([])) is None
    assert len(ids) == 3
    built(archive, folder(split))
    assert json.loads((folder(split) / MARKER).read_bytes())["rule"] == 3
    assert loaded(folder(split), COUNTS, Log([])) == split


def test_a_split_without_a_rule_is_of_rule_1(split: Split, monkeypatch: pytest.MonkeyPatch) -> None:
    changed(folder(split), rule=None)
    monkeypatch.setattr(splits, "RULE", 1)
    assert loaded(folder(split), COUNTS, Log([])) == split
    monkeypatch.setattr(splits, "RULE", 2)
    assert loaded(folder(split), COUNTS, Log([])) is None


def test_a_split_file_without_a_format_is_read(split: Split) -> None:
    changed(folder(split), format=None)
    assert loaded(folder(split), COUNTS, Log([])) == split


def test_a_split_file_of_a_newer_format_ends_with_78_and_is_left_alone(
    sample_archive: Path, catsdogs: Catsdogs, tmp_path: Path
) -> None:
    command = ["prepare", f"--archive={sample_archive}", "--output=runs", "--volume=volume", "--run-id=new",
               "--train-per-class=4", "--validation-per-class=2", "--test-per-class=2", "--batch-size=4"]  # fmt: skip
    assert catsdogs(*command).returncode == 0
    [marker] = tmp_path.glob(f"volume/splits/*/{MARKER}")
    changed(marker.parent, format=FORMAT + 1)
    before = {**files(marker.parent), MARKER: marker.read_bytes()}
    refused = catsdogs(*command)
    assert refused.returncode == 78
    assert f"{MARKER}: written by a newer version of catsdogs-train" in refused.stderr.splitlines()[-1]
    assert {**files(marker.parent), MARKER: marker.read_bytes()} == before


@pytest.mark.parametrize("checks", [0, 1, 3, 8])
def test_a_build_that_was_interrupted_ends_like_one_that_was_not(
    checks: int, archive: Archive, split: Split, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(zip_reader, "MAX_AT_ONCE", 1)
    monkeypatch.setattr(zip_reader, "MAX_READERS", 1)
    again = tmp_path / "again"
    with pytest.raises(Interrupted):
        built(archive, again, interruption=InterruptedAfter(checks))
    # In a process of its own these end with it.
    while any(thread.name.startswith("fetch") for thread in threading.enumerate()):
        time.sleep(0.01)
    assert not (again / MARKER).exists()
    kept = len(files(again))
    recorder = Recorded()
    built(archive, again, recorder)
    assert (again / MARKER).read_bytes() == (folder(split) / MARKER).read_bytes()
    assert files(again) == files(folder(split))
    assert recorder.fetched == len(split.images) + 1 - kept


def test_a_signal_also_ends_the_check_of_what_an_unfinished_build_left(tmp_path: Path) -> None:
    archive = archive_of(tmp_path / "a.zip")
    built(archive, tmp_path / "split")
    unmarked(tmp_path / "split")
    with pytest.raises(Interrupted):
        built(archive, tmp_path / "split", interruption=InterruptedAfter(3))


def test_a_split_that_another_process_builds_is_left_alone(archive: Archive, tmp_path: Path) -> None:
    with volume.lock(tmp_path / "split"), pytest.raises(Interrupted, match="another process"):
        built(archive, tmp_path / "split")


def test_a_volume_that_cannot_be_written_says_so(archive: Archive, tmp_path: Path) -> None:
    volume.write(tmp_path / "split" / "train", b"a file where a directory should be")
    with pytest.raises(VolumeError, match=str(tmp_path / "split" / "train")):
        built(archive, tmp_path / "split")


# --- labels and copies ---

COPY = {("cat", 6): PICTURES["cat", 1]}
"""Train and test have it."""
TWO_LABELS = {("dog", 4): PICTURES["cat", 1]}


@pytest.mark.parametrize(
    ("changes", "reasons"),
    [
        (COPY, {"train/cat.6.jpg": "has the same bytes as cat.1.jpg, which is in train"}),
        (
            TWO_LABELS,
            {
                "train/cat.1.jpg": "has the same bytes as train/dog.4.jpg, but another label",
                "train/dog.4.jpg": "has the same bytes as train/cat.1.jpg, but another label",
            },
        ),
    ],
    ids=["in two splits", "under two labels"],
)
def test_a_split_of_an_older_version_with_such_images_is_built_again(
    changes: dict[Image, bytes], reasons: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = archive_of(tmp_path / "a.zip", changes)
    with monkeypatch.context() as older:
        # An older version's: no two members have the same content.
        older.setattr(zip_reader.Member, "content", property(lambda member: member.start))
        old = built(archive_of(tmp_path / "a.zip", changes), tmp_path / "split")
        assert old.excluded == []
    archive = open_archive(str(tmp_path / "a.zip"))
    recorder = Recorded()
    split = built(archive, tmp_path / "split", recorder)
    check(split)
    assert {entry["member"]: entry["reason"] for entry in split.excluded} == reasons
    assert {event["member"]: event["reason"] for event in recorder.of("quarantined")} == reasons
    assert recorder.fetched == len(reasons), "the others are on the volume"
    again = Recorded()
    assert built(archive, tmp_path / "split", again) == split
    assert again.of("split") == [], "reused"


def test_a_copy_of_a_broken_image_takes_part(tmp_path: Path) -> None:
    """Only what is in a split can be in another, too."""
    changes = {("cat", 1): CUT, ("cat", 6): CUT, ("cat", 9): PICTURES["cat", 8]}
    split = built(archive_of(tmp_path / "a.zip", changes), tmp_path / "split")
    check(split)
    assert numbers(split, "cat") == {"train": [0, 2, 3, 8], "validation": [4, 5], "test": [7, 10]}
    assert {entry["member"] for entry in split.excluded} == {"train/cat.1.jpg", "train/cat.6.jpg", "train/cat.9.jpg"}
