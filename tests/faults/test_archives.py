"""Archives that lie: each ends in one clear line or in excluded images, within bounds, and nothing escapes."""

import hashlib
import secrets
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from catsdogs.config.settings import Settings
from catsdogs.pipeline.workflow import prepare
from catsdogs.runtime.errors import JobError
from catsdogs.runtime.log import Log
from catsdogs.runtime.signals import Interruption
from tests.faults import zips
from tests.faults.photos import names, noise
from tests.faults.running import SPLIT, Job
from tests.faults.zips import DEFLATED, DESCRIPTOR, ENCRYPTED, STORED, Entry

MEMORY = 400_000_000
"""Bytes. Python with numpy and Pillow has 45 MB, and 16 ranges of 1 MB are read at once."""
DISK = 20_000_000
BROKEN = "train/cat.0.jpg"
PHOTOS = {name: noise(seed, 32) for seed, name in enumerate(names())}


def photos(**more: bool | int) -> list[Entry]:
    return [Entry(name, data, **more) for name, data in PHOTOS.items()]  # type: ignore[arg-type]


def with_broken(entry: Entry) -> list[Entry]:
    """A whole archive, one of whose photos is this instead."""
    return [entry if other.name == entry.name else other for other in photos()]


class Prepared:
    """`catsdogs prepare` on a local archive: what it said, and what it left in `directory`."""

    def __init__(self, archive: Path, directory: Path):
        self.directory, self.archive, self.volume = directory, archive, directory / "volume"
        arguments = (f"--archive={archive}", "--output=output", "--volume=volume", "--log-format=json", *SPLIT)
        # No file may become larger, not even one that is removed again.
        limited = ("prlimit", f"--fsize={DISK}")
        with Job("prepare", *arguments, env={}, directory=directory, through=limited) as self.job:
            self.code = self.job.wait(60)
        assert self.job.peak_memory < MEMORY
        assert sum(path.stat().st_size for path in self.volume.rglob("*") if path.is_file()) < DISK

    def refused(self) -> str:
        """The one line; nothing is left that could be trained on."""
        assert self.code == 65, (self.code, self.job.stderr)
        line = self.job.said()
        assert str(self.archive) in line
        assert not list(self.volume.rglob("split.json"))
        return line

    def left_out(self) -> dict[str, str]:
        """Member → reason; all else is on the volume as it is in the archive."""
        assert (self.code, self.job.stderr) == (0, "")
        split = {path.name: path.read_bytes() for path in self.volume.rglob("*.jpg")}
        assert len(split) == 46
        assert all(PHOTOS[f"train/{name}"] == data for name, data in split.items())
        said = [event for event in self.job.events if event["event"] == "quarantined"]
        return {event["member"]: event["reason"] for event in said}

    @property
    def passed_over(self) -> int:
        return sum(event["count"] for event in self.job.events if event["event"] == "passed-over")


@pytest.fixture
def prepared(tmp_path: Path) -> Iterator[type[Prepared]]:
    """Nothing but the job's own folders is there afterwards, and no link."""
    outside = {path.name for path in tmp_path.parent.iterdir()}
    yield Prepared
    assert {path.name for path in tmp_path.parent.iterdir()} == outside
    assert {path.name for path in tmp_path.iterdir() if not path.name.startswith("stderr.")} <= {
        "hostile.zip", "volume", "output", "data",
    }  # fmt: skip
    assert not any(path.is_symlink() for path in tmp_path.rglob("*"))


def on(entries: list[Entry], directory: Path) -> Path:
    path = directory / "hostile.zip"
    zips.write(path, entries)
    return path


def test_names_that_lead_elsewhere(prepared: type[Prepared], tmp_path: Path) -> None:
    evil = [
        "../cat.100.jpg", "../../../../tmp/cat.101.jpg", "/tmp/catsdogs-evil/cat.102.jpg", "train/../../cat.103.jpg",
        "..\\..\\cat.104.jpg", "C:\\evil\\cat.105.jpg", "train/..\\cat.106.jpg", "\\\\host\\share\\cat.107.jpg",
        "//host/share/cat.108.jpg", "..", "/", "", "../", "train/../../../root/.ssh/cat.109.jpg",
    ]  # fmt: skip
    entries = [Entry(name, noise(99, 32)) for name in evil]
    result = prepared(on([*entries, *photos()], tmp_path), tmp_path)
    assert result.left_out() == {}
    # The others are photos like any: 46 are wanted, of the lowest numbers.
    # But for "..", the nameless one, and the one in a hidden folder.
    assert result.passed_over == 3
    assert not Path("/tmp/catsdogs-evil").exists()


def test_duplicate_names_of_different_photos(prepared: type[Prepared], tmp_path: Path) -> None:
    entries = [*photos(), Entry("other/cat.0.jpg", noise(99, 32))]
    line = prepared(on(entries, tmp_path), tmp_path).refused()
    assert "train/cat.0.jpg and other/cat.0.jpg claim the same image" in line


def test_duplicate_names_of_one_photo(prepared: type[Prepared], tmp_path: Path) -> None:
    entries = [*photos(), Entry(BROKEN, PHOTOS[BROKEN])]
    result = prepared(on(entries, tmp_path), tmp_path)
    assert (result.left_out(), result.passed_over) == ({}, 1)


def test_symbolic_links(prepared: type[Prepared], tmp_path: Path) -> None:
    """Their target is their content, and that is no photo."""
    link = Entry(BROKEN, b"/etc/passwd", attributes=0o120777)
    assert set(prepared(on(with_broken(link), tmp_path), tmp_path).left_out()) == {BROKEN}


@pytest.mark.parametrize("inner", [False, True], ids=["photos", "inner zip"])
def test_encrypted_members(inner: bool, prepared: type[Prepared], tmp_path: Path) -> None:
    entries = photos(flags=ENCRYPTED)
    if inner:
        entries = [Entry("train.zip", zips.zip_of(photos()), flags=ENCRYPTED)]
    assert "is encrypted; recreate the zip without a password" in prepared(on(entries, tmp_path), tmp_path).refused()


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        pytest.param(
            lambda: Entry(BROKEN, zips.deflated_zeros(300_000_000)[0], DEFLATED, size=9_000),
            "its size is not the claimed 9,000 bytes", id="holds more than it declares",
        ),
        pytest.param(
            lambda: Entry(BROKEN, zips.deflated(b"few"), DEFLATED, size=9_000), "its size is not", id="holds less",
        ),
        pytest.param(
            lambda: Entry(BROKEN, zips.deflated(b"few"), DEFLATED, size=4_000_000_000), "claims 4,000,000,000 bytes",
            id="declares 4 GB",
        ),
        pytest.param(
            lambda: Entry(BROKEN, zips.deflated(b"few"), DEFLATED, size=2**60, zip64=True), "claims 1,152,921,504,606",
            id="declares 1 EB",
        ),
        pytest.param(lambda: Entry(BROKEN, b"photo", method=93), "is compressed with Zstandard", id="Zstandard"),
        pytest.param(lambda: Entry(BROKEN, PHOTOS[BROKEN], crc=7), "its CRC-32 is wrong", id="wrong CRC-32"),
        pytest.param(lambda: Entry(BROKEN, b""), "empty file", id="empty"),
        pytest.param(lambda: Entry(BROKEN, PHOTOS[BROKEN], offset=2**31), "not where", id="lies behind the end"),
        pytest.param(
            lambda: Entry(BROKEN, zips.png_of_zeros(20_000, 20_000)), "20000x20000 pixels", id="20,000x20,000 pixels",
        ),
    ],
)  # fmt: skip
def test_member_that_lies(entry: object, reason: str, prepared: type[Prepared], tmp_path: Path) -> None:
    """It is left out, and another has its place."""
    assert callable(entry)
    left_out = prepared(on(with_broken(entry()), tmp_path), tmp_path).left_out()
    assert set(left_out) == {BROKEN}
    assert reason in left_out[BROKEN]


def bomb(count: int, name: str) -> Entry:
    data, crc = zips.deflated_zeros(count)
    return Entry(name, data, DEFLATED, size=count, crc=crc)


def test_members_that_inflate_a_thousandfold(prepared: type[Prepared], tmp_path: Path) -> None:
    """60 MB of zeros in 58 kB each: as they declare it, so that only the ratio tells them from photos.

    Seventeen are as much as is inflated at all. What lies between them makes a range of each, so that as many are read
    at once as there are workers.
    """
    kernel = bomb(60_000_000, "kernel")
    between = Entry("between", secrets.token_bytes(5_000))
    bombs = [Entry(name, kernel.data, DEFLATED, size=kernel.size, crc=kernel.crc) for name in names()]
    entries = [entry for bomb in bombs for entry in (bomb, between)]
    few, rest = entries[: 2 * 17], [photo for photo in photos() if photo.name not in names()[:17]]
    assert "too few images" in prepared(on([*few, *rest], tmp_path), tmp_path).refused()
    assert "its images claim 2,880,000,000 bytes" in prepared(on(entries, tmp_path), tmp_path).refused()


def test_inner_zip_that_inflates_a_thousandfold(prepared: type[Prepared], tmp_path: Path) -> None:
    """500 MB of zeros in 490 kB, declared honestly."""
    line = prepared(on([bomb(500_000_000, "train.zip")], tmp_path), tmp_path).refused()
    assert "train.zip: claims 500,000,000 bytes in" in line


WRONG = "its size or CRC-32 is wrong"


def test_inner_zip_that_inflates_hundredfold(prepared: type[Prepared], tmp_path: Path) -> None:
    """As much as is believed at all: it is written piece by piece, and is no zip."""
    zeros, noise_ = bytes(9_000_000), secrets.token_bytes(100_000)
    data = zips.deflated(zeros + noise_)
    assert 80 < (len(zeros) + len(noise_)) / len(data) < 100
    entry = Entry("train.zip", data, DEFLATED, size=len(zeros + noise_), crc=zlib.crc32(zeros + noise_))
    assert "train.zip: begins with nothing but zeros" in prepared(on([entry], tmp_path), tmp_path).refused()


@pytest.mark.parametrize(
    ("declared", "packed", "reason"),
    [
        pytest.param(100_000, lambda: zips.deflated_zeros(500_000_000)[0], WRONG, id="declares less"),
        pytest.param(40_000, lambda: zips.deflated(secrets.token_bytes(39_000)), WRONG, id="declares more"),
        pytest.param(2**40, lambda: zips.deflated(b"few"), "claims 1,099,511,627,776 bytes", id="declares 1 TB"),
    ],
)
def test_inner_zip_that_lies_about_its_size(
    declared: int, packed: Callable[[], bytes], reason: str, prepared: type[Prepared], tmp_path: Path
) -> None:
    entry = Entry("train.zip", packed(), DEFLATED, size=declared, zip64=declared >= 2**32)
    line = prepared(on([entry], tmp_path), tmp_path).refused()
    assert f"train.zip: {reason}" in line


@pytest.mark.parametrize("members", [1_000_000, 300_000])
def test_a_crowd_of_members(members: int, prepared: type[Prepared], tmp_path: Path) -> None:
    """A directory of 53 MB, and one that is just within what is read at all."""
    path = tmp_path / "hostile.zip"
    zips.write_crowd(path, members)
    result = prepared(path, tmp_path)
    path.unlink()
    result.refused()


def test_crowd_that_is_only_claimed(prepared: type[Prepared], tmp_path: Path) -> None:
    """The end of the directory says 65,534 members, there are 48."""
    path = on(photos(), tmp_path)
    data = bytearray(path.read_bytes())
    data[-14:-10] = b"\xfe\xff\xfe\xff"
    path.write_bytes(data)
    assert prepared(path, tmp_path).code in (0, 65)


def test_zip64(prepared: type[Prepared], tmp_path: Path) -> None:
    """With every size and offset in the extra field, and the directory's end in its long form."""
    assert prepared(on(photos(zip64=True), tmp_path), tmp_path).left_out() == {}


def test_data_descriptors(prepared: type[Prepared], tmp_path: Path) -> None:
    """Sizes and CRC-32 behind the data, and none before: as whoever writes a zip into a pipe must do it."""
    assert prepared(on(photos(flags=DESCRIPTOR), tmp_path), tmp_path).left_out() == {}


@pytest.mark.parametrize("outer", [STORED, DEFLATED], ids=["stored", "deflated"])
@pytest.mark.parametrize("middle", [STORED, DEFLATED], ids=["stored", "deflated"])
def test_nested_zip_in_a_nested_zip(outer: int, middle: int, prepared: type[Prepared], tmp_path: Path) -> None:
    data = zips.zip_of(photos())
    for method in (middle, outer):
        entry = Entry("train.zip", data) if method == STORED else zips.packed("train.zip", data)
        data = zips.zip_of([entry])
    path = tmp_path / "hostile.zip"
    path.write_bytes(data)
    assert prepared(path, tmp_path).left_out() == {}


def test_two_inner_zips(prepared: type[Prepared], tmp_path: Path) -> None:
    inner = zips.zip_of(photos())
    entries = [Entry("a/train.zip", inner), Entry("b/train.zip", inner)]
    assert (
        "2 inner zips may have the images: a/train.zip, b/train.zip; give one of them"
        in prepared(on(entries, tmp_path), tmp_path).refused()
    )


def test_line_breaks_in_names(prepared: type[Prepared], tmp_path: Path) -> None:
    """A name cannot write a line of its own, such as a false error."""
    entries = [Entry("a\ncatsdogs: all is well\r\n\x1b[2J", b"")]
    assert "all is well" in prepared(on(entries, tmp_path), tmp_path).refused()


# What follows runs in this process, since it is tried a thousand times.

FEW = {f"train/{label}.{number}.jpg": noise(number, 16) for label in ("cat", "dog") for number in range(5)}
KNOWN = {hashlib.sha256(data).hexdigest() for data in FEW.values()}


def outcome(archive: Path, directory: Path) -> tuple[int, str]:
    """Exit code and line of `catsdogs prepare`. Raises whatever is a bug."""
    options = Settings.of(
        archive=str(archive), output=str(directory / "output"), volume=directory / "volume", run_id="hostile",
        recipe_name="baseline", epochs=1, batch_size=2, learning_rate=0.001, image_size=64, seed=0, train_per_class=2,
        validation_per_class=1, test_per_class=1, require_gpu=False, checkpoint_every=60.0, checkpoint_to="volume",
        addressing_style="auto", storage_timeout=0.0,
    )  # fmt: skip
    try:
        prepare(options, Log([]), Interruption())
    except JobError as error:
        return error.exit_code, str(error)
    return 0, ""


def check_hostile(data: bytes, scratch: Path) -> None:
    """However it ends, it ends in an orderly way, and every photo on the volume is one of the archive's."""
    digest = hashlib.sha256(data).hexdigest()[:24]
    directory = scratch / digest
    directory.mkdir(exist_ok=True)
    archive = directory / "hostile.zip"
    archive.write_bytes(data)
    code, line = outcome(archive, directory)
    assert code in (0, 65), line
    assert "\n" not in line
    assert (code == 0) == (line == "")
    for path in directory.rglob("*.jpg"):
        assert hashlib.sha256(path.read_bytes()).hexdigest() in KNOWN
    assert {path.name for path in directory.iterdir()} <= {"hostile.zip", "volume", "output"}


few = [Entry(name, data) for name, data in FEW.items()]
PLAIN = zips.zip_of(few)
KAGGLE = zips.zip_of([zips.packed("train.zip", PLAIN), Entry("sampleSubmission.csv", b"id,label\n")])
STORED_INSIDE = zips.zip_of([Entry("train.zip", PLAIN), Entry("sampleSubmission.csv", b"id,label\n")])
ZIP64 = zips.zip_of([Entry(name, data, zip64=True) for name, data in FEW.items()])
SOUND = {"plain": PLAIN, "Kaggle's": KAGGLE, "stored inside": STORED_INSIDE, "zip64": ZIP64}

TRIES = settings(deadline=None, derandomize=True, max_examples=120)


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("hostile")


@pytest.mark.parametrize("kind", SOUND)
@TRIES
@given(data=st.data())
def test_damaged_directory(kind: str, data: st.DataObject, scratch: Path) -> None:
    """Bits, bytes and whole stretches of it are changed."""
    damaged = bytearray(SOUND[kind])
    start = damaged.index(b"PK\1\2") if kind in ("plain", "zip64") else len(damaged) - 200
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(start, len(damaged) - 1))
        with_bytes = data.draw(st.one_of(st.binary(min_size=1, max_size=8), st.just(b"\0" * 8), st.just(b"\xff" * 8)))
        damaged[at : at + len(with_bytes)] = with_bytes
    check_hostile(bytes(damaged), scratch)


@pytest.mark.parametrize("kind", SOUND)
@TRIES
@given(data=st.data())
def test_flipped_bits_anywhere(kind: str, data: st.DataObject, scratch: Path) -> None:
    damaged = bytearray(SOUND[kind])
    for at in data.draw(st.lists(st.integers(0, 8 * len(damaged) - 1), min_size=1, max_size=6)):
        damaged[at // 8] ^= 1 << at % 8
    check_hostile(bytes(damaged), scratch)


@pytest.mark.parametrize("kind", SOUND)
@TRIES
@given(data=st.data())
def test_cut_and_spliced(kind: str, data: st.DataObject, scratch: Path) -> None:
    """Ends missing, beginnings missing, something before or behind, a piece of another archive within."""
    whole = SOUND[kind]
    start, stop = sorted(data.draw(st.tuples(*[st.integers(0, len(whole))] * 2)))
    piece = SOUND[data.draw(st.sampled_from(list(SOUND)))][start:stop]
    damaged = data.draw(
        st.sampled_from(
            [whole[:stop], whole[start:], piece + whole, whole + piece, whole[:start] + piece + whole[stop:]]
        )
    )
    check_hostile(damaged, scratch)


CONTENTS = {
    "nothing": b"", "text": b"no photo", "photo": FEW["train/cat.0.jpg"], "another": FEW["train/dog.1.jpg"],
    "zip": PLAIN, "huge": zips.png_of_zeros(20_000, 20_000),
}  # fmt: skip
NAMES = st.text(st.sampled_from("./\\:cat dog0123jpgzip\0\u202e\udcff"), max_size=24)
ANY_NAME = st.one_of(NAMES, st.sampled_from(["train.zip", "cat.0.jpg", "Dog/1.JPG", "/cat.1.jpg", "a/../dog.2.jpeg"]))


@st.composite
def hostile_entries(draw: st.DrawFn) -> Entry:
    data = CONTENTS[draw(st.sampled_from(list(CONTENTS)))]
    method = draw(st.sampled_from([STORED, DEFLATED, 12, 99]))
    number = st.one_of(st.none(), st.integers(0, 2**32 - 1))
    body = zips.deflated(data) if method == DEFLATED else data
    honest = draw(st.booleans())
    return Entry(
        draw(ANY_NAME), body, method, flags=draw(st.sampled_from([0, zips.UTF8, zips.UTF8 | ENCRYPTED, DESCRIPTOR])),
        size=len(data) if honest else draw(number), crc=zlib.crc32(data) if honest else draw(number),
        attributes=draw(st.sampled_from([0, 0o120777, 0o040755])), zip64=draw(st.booleans()),
        offset=None if honest else draw(number),
    )  # fmt: skip


@settings(TRIES, max_examples=400)
@given(entries=st.lists(hostile_entries(), max_size=12), with_photos=st.booleans(), inside=st.booleans())
def test_drawn_archives(entries: list[Entry], with_photos: bool, inside: bool, scratch: Path) -> None:
    data = zips.zip_of([*entries, *few] if with_photos else entries)
    if inside:
        data = zips.zip_of([zips.packed("train.zip", data)])
    check_hostile(data, scratch)
