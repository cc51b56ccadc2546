import contextlib
import io
import itertools
import os
import random
import threading
import time
import tracemalloc
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from catsdogs.data import archive as archives
from catsdogs.data import directory, zip_reader
from catsdogs.data.archive import Archive, open_archive, unpack
from catsdogs.data.zip_reader import MAX_AT_ONCE, MAX_GAP, MAX_READERS, Broken, Member, fetch, ranges
from catsdogs.runtime import cores
from catsdogs.runtime.errors import BadData, Interrupted, NotFound, VolumeError
from catsdogs.runtime.log import Log
from catsdogs.runtime.signals import Interruption
from catsdogs.storage.folder import Folder
from catsdogs.storage.volume import PROCESS
from tests.interruptions import InterruptedAfter
from tests.servers import S3Server

Image = tuple[str, int]
STORED, DEFLATED = zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED
SILENT = Log([])
IMAGES: dict[Image, bytes] = {
    (label, number): random.Random(f"{label}{number}").randbytes(1500 + 100 * number)
    for label in ("cat", "dog")
    for number in (0, 1, 2, 10)
}
CAT_2 = IMAGES["cat", 2]
KAGGLE = {f"train/{label}.{number}.jpg": data for (label, number), data in IMAGES.items()}
FLAT = {f"{label}.{number}.jpg": data for (label, number), data in IMAGES.items()}
PETIMAGES = {f"PetImages/{label.capitalize()}/{number}.jpg": data for (label, number), data in IMAGES.items()} | {
    "PetImages/Cat/Thumbs.db": b"thumbs",
    "PetImages/Dog/Thumbs.db": b"thumbs",
    "readme[1].txt": b"Hello",
}


class Unseekable(io.BytesIO):
    """Makes zipfile write each member's sizes and CRC behind its data, in a data descriptor."""

    def seekable(self) -> bool:
        return False

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        raise io.UnsupportedOperation

    def tell(self) -> int:
        raise io.UnsupportedOperation


def zipped(
    files: Mapping[str, bytes],
    method: int = STORED,
    *,
    buffer: io.BytesIO | None = None,
    comment: bytes = b"",
    about: str = "train/cat.2.jpg",
    **lies: Any,
) -> bytes:
    """A zip; `lies` are fields of a ZipInfo that its directory claims about one member."""
    buffer = buffer or io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as file:
        file.comment = comment
        for name, data in files.items():
            file.writestr(name, data)
        for field, value in lies.items():
            setattr(file.getinfo(about), field, value)
    return buffer.getvalue()


def zipped_as_zip64(files: Mapping[str, bytes]) -> bytes:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(zipfile, "ZIP64_LIMIT", 1)
        patch.setattr(zipfile, "ZIP_FILECOUNT_LIMIT", 1)
        return zipped(files)


TRAIN_ZIP = zipped({"train/": b""} | KAGGLE, DEFLATED)


def nested(inner: int, train: bytes = TRAIN_ZIP, **lies: Any) -> bytes:
    """Kaggle's dogs-vs-cats.zip; `inner` is how the zips in it are packed, `lies` are about its train.zip."""
    test = zipped({"test1/1.jpg": b"not labelled", "test1/2.jpg": b"nor this"}, DEFLATED)
    files = {"sampleSubmission.csv": b"id,label\n", "test1.zip": test, "train.zip": train}
    return zipped(files, inner, about="train.zip", **lies)


def flipped(data: bytes, place: int) -> bytes:
    return data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]


def written(path: Path, data: bytes) -> str:
    path.write_bytes(data)
    return str(path)


def opened(uri: str, volume: Path) -> Archive:
    return unpack(open_archive(uri), volume, SILENT, Interruption())


def bytes_of(_: Member, data: bytes) -> bytes:
    return data


def fetched(archive: Archive, members: Iterable[Member] | None = None) -> dict[Image, bytes | Broken]:
    wanted = list(archive.images.values() if members is None else members)
    results = [*fetch(archive.zip, wanted, bytes_of, Interruption())]
    assert sorted(member for member, _ in results) == sorted(wanted), "each member comes exactly once"
    return {(member.label, member.number): result for member, result in results}


class Watched(Folder):
    """A folder that notes what is read, and may damage what it hands out."""

    def __init__(self, root: Path, damage_once_at: int | None = None):
        super().__init__(root)
        self.reads: list[tuple[int, int]] = []
        self.damage_once_at = damage_once_at

    @property
    def moved(self) -> int:
        return sum(stop - start for start, stop in self.reads)

    def stream(self, key: str, start: int, stop: int, etag: str) -> Iterator[bytes]:
        data = b"".join(super().stream(key, start, stop, etag))
        self.reads.append((start, start + len(data)))
        if self.damage_once_at is not None and start <= self.damage_once_at < start + len(data):
            data = flipped(data, self.damage_once_at - start)
            self.damage_once_at = None
        yield data


@pytest.fixture
def watched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Watched:
    """The store through which every local archive is read."""
    store = Watched(tmp_path)
    monkeypatch.setattr(archives, "open_object", lambda uri, *_: (store, uri.rpartition("/")[2]))
    return store


OTHERS = ["sampleSubmission.csv", "test1.zip"]
PETIMAGES_OTHERS = ["PetImages/Cat/Thumbs.db", "PetImages/Dog/Thumbs.db", "readme[1].txt"]
LAYOUTS: dict[str, tuple[Callable[[], bytes], list[str]]] = {
    "kaggle, deflated": (lambda: nested(DEFLATED), OTHERS),
    "kaggle, stored": (lambda: nested(STORED), OTHERS),
    "kaggle, stored, another train.zip": (
        lambda: nested(STORED, zipped(PETIMAGES)),
        OTHERS + [f"train.zip/{name}" for name in PETIMAGES_OTHERS],
    ),
    "kaggle, deflated, claims more of the zip than there is": (
        lambda: nested(DEFLATED, compress_size=1 << 62),
        OTHERS,
    ),
    "an only zip of another name": (lambda: zipped({"a/Images.ZIP": zipped(KAGGLE), "b": b""}), ["b"]),
    "train.zip": (lambda: zipped({"train/": b""} | KAGGLE), []),
    "train.zip, deflated members": (lambda: zipped(KAGGLE, DEFLATED), []),
    "flat": (lambda: zipped(FLAT), []),
    "petimages": (lambda: zipped(PETIMAGES, DEFLATED), PETIMAGES_OTHERS),
    "data descriptors": (lambda: zipped(KAGGLE, DEFLATED, buffer=Unseekable()), []),
    "data descriptors, stored": (lambda: zipped(KAGGLE, STORED, buffer=Unseekable()), []),
    "zip64": (lambda: zipped_as_zip64(KAGGLE), []),
    "zip64 in a zip": (lambda: nested(STORED, zipped_as_zip64(KAGGLE)), OTHERS),
    "behind a program": (lambda: b"MZ" + bytes(5000) + zipped(KAGGLE), []),
    "train.zip, members by bzip2": (lambda: zipped(KAGGLE, zipfile.ZIP_BZIP2), []),
    "train.zip, members by LZMA": (lambda: zipped(KAGGLE, zipfile.ZIP_LZMA), []),
    "kaggle, bzip2": (lambda: nested(zipfile.ZIP_BZIP2), OTHERS),
    "kaggle, LZMA": (lambda: nested(zipfile.ZIP_LZMA), OTHERS),
    "with a comment": (lambda: zipped(KAGGLE, comment=b"from Kaggle" * 1000), []),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_gives_the_same_images_and_says_what_else_there_is(layout: str, tmp_path: Path) -> None:
    data, others = LAYOUTS[layout]
    archive = opened(written(tmp_path / "a.zip", data()), tmp_path / "volume")
    assert fetched(archive) == IMAGES
    assert sorted(archive.passed_over) == sorted(others)
    assert archive.numbers("dog") == [0, 1, 2, 10]


@pytest.mark.parametrize("layout", ["kaggle, deflated", "kaggle, stored"])
def test_so_does_an_archive_in_a_bucket(
    layout: str, bucket: str, seaweedfs: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in seaweedfs.environment.items():
        monkeypatch.setenv(name, value)
    seaweedfs.client().put_object(Bucket=bucket, Key="data/a.zip", Body=LAYOUTS[layout][0]())
    archive = opened(f"s3://{bucket}/data/a.zip", tmp_path)
    assert fetched(archive) == IMAGES
    assert archive.identity["uri"] == f"s3://{bucket}/data/a.zip"

    if layout == "kaggle, stored":
        seaweedfs.client().put_object(Bucket=bucket, Key="data/a.zip", Body=LAYOUTS["flat"][0]())
        with pytest.raises(BadData, match=f"s3://{bucket}/data/a.zip: changed"):
            fetched(archive)


def test_the_identity_follows_the_contents_and_not_the_address(tmp_path: Path) -> None:
    def identity(name: str, data: bytes) -> str:
        return str(open_archive(written(tmp_path / name, data)).identity["directory_sha256"])

    first = identity("a.zip", zipped(KAGGLE))
    assert identity("b.zip", zipped(KAGGLE)) == first
    assert identity("c.zip", zipped(KAGGLE | {"train/cat.0.jpg": b"other"})) != first


@pytest.mark.parametrize(
    ("name", "image"),
    {
        "cat.7.jpg": ("cat", 7),
        "deep/er/Dog.12.JPG": ("dog", 12),
        "PetImages/Dog/7.jpg": ("dog", 7),
        "dogs/007.jpeg": ("dog", 7),
        "C:/cat.7.jpg": ("cat", 7),
        "/cat.7.jpg": ("cat", 7),
        "/etc/Cat/7.jpg": ("cat", 7),
        "../cat.7.jpg": ("cat", 7),
        "train/../../cat.7.jpg": ("cat", 7),
        "train\\cat.7.jpg": ("cat", 7),
        "..\\..\\a/cat.7.jpg": ("cat", 7),
        "C:\\data\\Dogs\\7.JPG": ("dog", 7),
        "\\\\host\\share\\cat.7.jpg": ("cat", 7),
        "//host/share/cat.7.jpg": ("cat", 7),
        "\\Cat\\7.jpg": ("cat", 7),
        "train\\bobcat.7.jpg": None,
        "train\\cat.7.jpg\\x": None,
        "cat.7.jpg.exe": None,
        "bobcat.7.jpg": None,
        "bobcat/7.jpg": None,
        "cat.7.png": None,
        "cat.jpg": None,
        "cat.-7.jpg": None,
        "cat.7 (copy).jpg": None,
        "cat.12345678901.jpg": None,
        "__MACOSX/train/._cat.7.jpg": None,
        "test1/7.jpg": None,
        "cow.7.jpg": None,
    }.items(),
)
def test_any_name_that_says_class_and_number_is_taken(name: str, image: Image | None, tmp_path: Path) -> None:
    archive = open_archive(written(tmp_path / "a.zip", zipped({"cat.0.jpg": b"0", name: b"1"})))
    assert set(archive.images) == {("cat", 0)} | ({image} if image else set())
    assert archive.passed_over == ([] if image else [name])


def test_a_member_without_a_name_is_passed_over(tmp_path: Path) -> None:
    archive = open_archive(written(tmp_path / "a.zip", zipped(KAGGLE | {"x": b""}, about="x", filename="")))
    assert fetched(archive) == IMAGES
    assert archive.passed_over == [""]


def test_a_second_copy_of_an_image_is_passed_over(tmp_path: Path) -> None:
    twice = zipped(KAGGLE | {"PetImages/Cat/10.jpg": IMAGES["cat", 10]})
    archive = open_archive(written(tmp_path / "a.zip", twice))
    assert fetched(archive) == IMAGES
    assert archive.passed_over == ["PetImages/Cat/10.jpg"]


REFUSED: dict[str, tuple[Callable[[], bytes], str]] = {
    "an empty file": (lambda: b"", "is empty"),
    "no zip": (lambda: b"<html>403</html>" * 100, "is an HTML page"),
    "nothing known": (lambda: b"nonsense" * 100, "is not a zip, or a truncated one"),
    "a zip of nothing": (lambda: zipped({}), "a zip without members"),
    "a zip of something else": (
        lambda: zipped({"holiday.png": b"", "a.txt": b"", "b": b"", "c": b""}),
        "no image is named like .* found holiday.png, a.txt, b, …",
    ),
    "two zips, neither train.zip": (
        lambda: zipped({"a.zip": zipped(KAGGLE), "b.zip": zipped(KAGGLE)}),
        "2 inner zips may have the images: a.zip, b.zip;",
    ),
    "two train.zips": (
        lambda: zipped({"a/train.zip": b"", "b/train.zip": b""}),
        "2 inner zips may have the images: a/train.zip, b/train.zip; give one of them",
    ),
    "test1.zip alone": (lambda: zipped({"test1/1.jpg": b""}), "no image is named like"),
    "a train.zip without images": (lambda: nested(STORED, zipped({"1.jpg": b""})), "train.zip: no image is"),
    "a train.zip that is none": (lambda: nested(STORED, b"nonsense" * 100), "train.zip: is not a zip"),
    "a deflated train.zip that is none": (
        lambda: nested(DEFLATED, b"nonsense" * 9),
        "train.zip: is not a zip",
    ),
    "an empty train.zip": (lambda: zipped({"train.zip": b""}), "train.zip: is empty"),
    "a train.zip packed by another method": (
        lambda: nested(DEFLATED, compress_type=9),
        "train.zip is compressed with Deflate64 .method 9., which is not read",
    ),
    "two images for one name": (
        lambda: zipped(KAGGLE | {"PetImages/Cat/1.jpg": b"another"}),
        "train/cat.1.jpg and PetImages/Cat/1.jpg claim the same image",
    ),
    "encrypted images": (
        lambda: zipped(KAGGLE, flag_bits=1),
        "train/cat.2.jpg is encrypted",
    ),
    "an encrypted train.zip": (
        lambda: nested(STORED, flag_bits=1),
        "train.zip is encrypted",
    ),
    "a beginning cut off": (lambda: zipped(KAGGLE)[10:], "its beginning is missing"),
    "a train.zip that lies elsewhere": (
        lambda: nested(STORED, header_offset=5),
        "train.zip is not where the zip's directory says",
    ),
    "a train.zip behind the end": (
        lambda: nested(DEFLATED, header_offset=1 << 30),
        "train.zip is not where the zip's directory says",
    ),
    "a stored train.zip that claims too much": (
        lambda: nested(STORED, file_size=1 << 30),
        "train.zip: ",
    ),
    "a deflated train.zip with a wrong crc": (
        lambda: nested(DEFLATED, CRC=0),
        "train.zip: its size or CRC-32 is wrong",
    ),
    "a deflated train.zip that is longer than it says": (
        lambda: nested(DEFLATED, file_size=1000),
        "train.zip: its size or CRC-32 is wrong",
    ),
    "a deflated train.zip that does not inflate": (
        lambda: nested(DEFLATED).replace(zlib.compress(TRAIN_ZIP)[2:40], b"\xff" * 38),
        "train.zip: does not inflate",
    ),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_is_no_archive_is_refused_in_one_line_and_leaves_nothing(kind: str, tmp_path: Path) -> None:
    data, reason = REFUSED[kind]
    path = tmp_path / "a.zip"
    with pytest.raises(BadData, match=f"{path}: .*{reason}") as caught:
        opened(written(path, data()), tmp_path / "volume")
    assert len(str(caught.value).splitlines()) == 1
    if "deflated" in kind and "none" not in kind:
        assert {path.name for path in tmp_path.glob("volume/*")} <= {".lock", ".made"}


@pytest.mark.parametrize("layout", ["train.zip", "kaggle, deflated", "zip64", "data descriptors"])
@pytest.mark.parametrize("share", [0.001, 0.01, 0.5, 0.9, 0.99, 0.999, 1])
def test_a_truncated_archive_is_refused(layout: str, share: float, tmp_path: Path) -> None:
    whole = LAYOUTS[layout][0]()
    with pytest.raises(BadData, match=r"is a truncated zip, or has other data|is not a zip, or a truncated one"):
        open_archive(written(tmp_path / "a.zip", whole[: int(share * (len(whole) - 1))]))


@pytest.mark.parametrize("uri", ["missing.zip", "missing/a.zip", "a.zip/b.zip"])
def test_an_archive_that_is_not_there_is_not_found(uri: str, tmp_path: Path) -> None:
    written(tmp_path / "a.zip", zipped(KAGGLE))
    with pytest.raises(NotFound, match=str(tmp_path / uri)):
        open_archive(str(tmp_path / uri))


BROKEN: dict[str, tuple[Callable[[], bytes], str]] = {
    "a flipped bit": (lambda: zipped(KAGGLE).replace(CAT_2[:9], b"X" * 9), "its CRC-32 is wrong"),
    "a wrong crc": (
        lambda: zipped(KAGGLE, CRC=0),
        "its CRC-32 is wrong",
    ),
    "more than it says": (
        lambda: zipped(KAGGLE, file_size=7),
        "its size is not the claimed 7 bytes",
    ),
    "less than it says": (
        lambda: zipped(KAGGLE, DEFLATED, file_size=5000),
        "its size is not the claimed 5,000 bytes",
    ),
    "a claim of 5 GB of the zip": (
        lambda: zipped(KAGGLE, compress_size=5 << 30),
        "claims 5,368,709,120 bytes, more than 67,108,864",
    ),
    "more of the zip than there is": (
        lambda: zipped(KAGGLE, compress_size=1 << 20),
        "cut off",
    ),
    "another method": (
        lambda: zipped(KAGGLE, compress_type=zipfile.ZIP_LZMA),
        "does not decompress: no LZMA properties",
    ),
    "a wrong offset": (
        lambda: zipped(KAGGLE, header_offset=zipped(KAGGLE).index(b"PK\1\2")),
        "not where the zip's directory says",
    ),
    "an offset behind the end": (
        lambda: zipped(KAGGLE, header_offset=1 << 30),
        "not where the zip's directory says",
    ),
    "an offset that no file can have": (
        lambda: zipped(KAGGLE, header_offset=(1 << 63) + 1),
        "not where the zip's directory says",
    ),
    "no deflate stream": (
        lambda: zipped(KAGGLE, DEFLATED).replace(zlib.compress(CAT_2)[2:40], b"\xff" * 38),
        "does not inflate",
    ),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_member_says_why_and_the_others_are_whole(kind: str, tmp_path: Path) -> None:
    data, reason = BROKEN[kind]
    images = fetched(open_archive(written(tmp_path / "a.zip", data())))
    broken = images.pop(("cat", 2))
    assert isinstance(broken, Broken)
    assert str(broken).startswith(reason)
    assert images == {image: data for image, data in IMAGES.items() if image != ("cat", 2)}


def bomb(path: Path) -> None:
    """One image of 50 MB that claims to be small."""
    path.write_bytes(zipped({"cat.0.jpg": bytes(50 << 20)}, DEFLATED, about="cat.0.jpg", file_size=1000))


def hollow(path: Path) -> None:
    """One small image that claims the 50 MB behind it, a hole that takes no room on the disk."""
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("cat.0.jpg", b"small")
        file.getinfo("cat.0.jpg").compress_size = 50 << 20
        file.start_dir += 50 << 20


@pytest.mark.parametrize("write", [bomb, hollow])
def test_what_a_zip_claims_does_not_fill_the_memory(
    write: Callable[[Path], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (zip_reader, directory):
        monkeypatch.setattr(module, "MAX_FILE", 1 << 20)
    write(tmp_path / "a.zip")
    archive = open_archive(str(tmp_path / "a.zip"))
    tracemalloc.start()
    try:
        images = fetched(archive)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert isinstance(images["cat", 0], Broken)
    assert peak < 6 << 20


def test_a_bit_flipped_on_the_way_is_cured_by_reading_again(watched: Watched) -> None:
    whole = zipped(KAGGLE)
    archive = open_archive(written(watched.root / "a.zip", whole))
    watched.damage_once_at = whole.index(IMAGES["dog", 1]) + 99
    assert fetched(archive) == IMAGES
    assert watched.damage_once_at is None, "the damage was done"


def test_an_archive_that_changes_while_it_is_read_is_refused(tmp_path: Path) -> None:
    archive = open_archive(written(tmp_path / "a.zip", zipped(KAGGLE)))
    os.utime(tmp_path / "a.zip", ns=(1, 1))
    with pytest.raises(BadData, match=r"a\.zip: changed while it was read"):
        fetched(archive)


MANY = {
    f"train/{label}.{number}.jpg": random.Random(f"{label}{number}").randbytes(9000 + 10 * number)
    for label in ("cat", "dog")
    for number in range(125)
}
TAKEN = {
    "the first": [(label, number) for label in ("cat", "dog") for number in range(20)],
    "the last": [(label, number) for label in ("cat", "dog") for number in range(105, 125)],
    "here and there": random.Random(1).sample([(label, n) for label in ("cat", "dog") for n in range(125)], 40),
}


@pytest.mark.parametrize("order", ["sorted", "mixed"])
@pytest.mark.parametrize("which", TAKEN)
def test_taking_40_of_250_images_moves_hardly_more_than_these(which: str, order: str, watched: Watched) -> None:
    names = list(MANY)
    if order == "mixed":
        random.Random(2).shuffle(names)
    whole = zipped({name: MANY[name] for name in names})
    archive = open_archive(written(watched.root / "a.zip", whole))
    size = len(whole) - whole.index(b"PK\1\2")
    assert watched.moved < size + 200
    wanted = [archive.images[image] for image in TAKEN[which]]
    images = fetched(archive, wanted)
    assert not any(isinstance(result, Broken) for result in images.values())
    assert watched.moved < 1.1 * sum(member.packed for member in wanted) + 2 * size + 200


def test_the_inner_zip_is_streamed_once(watched: Watched, tmp_path: Path) -> None:
    whole = nested(DEFLATED)
    archive = open_archive(written(watched.root / "a.zip", whole))
    for _ in range(2):
        assert unpack(archive, tmp_path / "volume", SILENT, Interruption()).numbers("cat") == [0, 1, 2, 10]
        assert watched.moved < len(whole) + 1000


def test_an_interrupted_unpacking_leaves_nothing_and_is_made_good(tmp_path: Path) -> None:
    large = nested(DEFLATED, zipped(KAGGLE | {"padding": random.Random(0).randbytes(3 << 20)}))
    archive = open_archive(written(tmp_path / "a.zip", large))
    volume = tmp_path / "volume"
    with pytest.raises(Interrupted):
        unpack(archive, volume, SILENT, InterruptedAfter(2))
    assert {path.name for path in volume.iterdir()} == {".lock", ".made"}

    killed = volume / f".0123456789abcdef.zip.{PROCESS}00c0ffee.part"
    killed.write_bytes(b"what a SIGKILL leaves")
    assert fetched(unpack(archive, volume, SILENT, Interruption())) == IMAGES
    assert not killed.exists()


def test_a_signal_ends_the_fetching(tmp_path: Path) -> None:
    archive = open_archive(written(tmp_path / "a.zip", zipped(KAGGLE)))
    with pytest.raises(Interrupted):
        list(fetch(archive.zip, archive.images.values(), bytes_of, InterruptedAfter(0)))


def test_what_the_handler_raises_ends_the_fetching(tmp_path: Path) -> None:
    def full(_: Member, __: bytes) -> None:
        raise VolumeError("the volume is full")

    archive = open_archive(written(tmp_path / "a.zip", zipped(KAGGLE)))
    with pytest.raises(VolumeError):
        list(fetch(archive.zip, archive.images.values(), full, Interruption()))


def test_no_handler_runs_once_the_fetching_has_ended(tmp_path: Path) -> None:
    """Or it would write into a folder that the caller removes."""
    apart = {f"train/{label}.{n}.jpg": os.urandom(2 * MAX_GAP) for label in ("cat", "dog") for n in range(MAX_READERS)}
    archive = open_archive(written(tmp_path / "a.zip", zipped(apart)))
    others = [member for member in archive.images.values() if member.number % 2]
    running = threading.Event()
    handled = []

    def handle(member: Member, _: bytes) -> None:
        if member == others[0]:
            running.wait(10)
            raise VolumeError("the volume is full")
        running.set()
        time.sleep(0.1)
        handled.append(member)

    with pytest.raises(VolumeError):
        list(fetch(archive.zip, others, handle, Interruption()))
    before = list(handled)
    assert before, "those that had begun were waited for"
    time.sleep(0.3)
    assert handled == before


def test_a_fetch_that_ends_leaves_the_rest_of_a_range_unhandled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cores, "usable", lambda: 2)
    files = {f"train/cat.{n}.jpg": bytes(100) for n in range(20)} | {"gap": bytes(2 * MAX_GAP), "dog.0.jpg": b"last"}
    archive = open_archive(written(tmp_path / "a.zip", zipped(files)))
    running = threading.Event()
    handled = []

    def handle(member: Member, _: bytes) -> None:
        if member.label == "dog":
            running.wait(10)
            raise VolumeError("the volume is full")
        running.set()
        time.sleep(0.1)
        handled.append(member)

    assert len(ranges(archive.images.values())) == 2
    with pytest.raises(VolumeError):
        list(fetch(archive.zip, archive.images.values(), handle, Interruption()))
    assert 0 < len(handled) < 20


LENGTHS = st.integers(1, MAX_AT_ONCE // 2) | st.integers(1, 2 * MAX_AT_ONCE)
GAPS = st.integers(0, 2 * MAX_GAP)


@given(st.lists(st.tuples(GAPS, LENGTHS), max_size=30), st.randoms())
def test_ranges_are_as_few_as_they_may_be_and_hold_each_member_once(
    extents: list[tuple[int, int]], rng: random.Random
) -> None:
    members, stop = [], 0
    for number, (gap, length) in enumerate(extents):
        start, stop = stop + gap, stop + gap + length
        members.append(Member("cat", number, "", start, stop, length, length, 0, STORED))
    groups = ranges(rng.sample(members, len(members)))
    assert [member for group in groups for member in group] == members
    for group in groups:
        assert len(group) == 1 or group[-1].stop - group[0].start <= MAX_AT_ONCE
        assert all(after.start - before.stop <= MAX_GAP for before, after in itertools.pairwise(group))
    for group, following in itertools.pairwise(groups):
        first = following[0]
        assert first.start - group[-1].stop > MAX_GAP or first.stop - group[0].start > MAX_AT_ONCE


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("damaged")


DAMAGED = [
    "flat", "kaggle, stored", "zip64", "data descriptors", "train.zip, members by bzip2", "train.zip, members by LZMA",
]  # fmt: skip


@given(layout=st.sampled_from(DAMAGED), data=st.data())
@settings(max_examples=150, deadline=None)
def test_no_damage_gives_a_wrong_byte_or_another_error(layout: str, data: st.DataObject, scratch: Path) -> None:
    damaged = bytearray(LAYOUTS[layout][0]())
    # Most of the bytes are image data, and most of what can go wrong is in the directory at the end.
    places = st.integers(0, len(damaged) - 1) | st.integers(len(damaged) - 700, len(damaged) - 1)
    for place, value in data.draw(st.lists(st.tuples(places, st.integers(0, 255)), max_size=4)):
        damaged[place] = value
    del damaged[data.draw(st.just(len(damaged)) | places) :]
    with contextlib.suppress(BadData):
        images = fetched(open_archive(written(scratch / "a.zip", bytes(damaged))))
        assert {result for result in images.values() if isinstance(result, bytes)} <= set(IMAGES.values())
