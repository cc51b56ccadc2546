"""Images and archives made to crash a decoder, to fill the memory, or to give work for hours."""

import io
import json
import os
import random
import struct
import subprocess
import sys
import time
import zlib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from catsdogs.data import budget, headers, images
from catsdogs.data.images import MAX_PIXELS, NotAnImage, check, decode
from tests.attacks import jpegs
from tests.attacks.jpegs import jpeg, photo
from tests.conftest import REPOSITORY
from tests.faults import zips
from tests.faults.running import Job
from tests.faults.zips import DEFLATED, STORED, Entry

pytestmark = pytest.mark.filterwarnings("ignore:::PIL")

MEMORY = 400_000_000
"""Bytes, of the whole process."""
SIZES = (None, (9, 9), (64, 64), (150, 150))
SLOW = pytest.mark.slow
LOSSLESS = "a lossless or hierarchical JPEG (SOF3); save it as a baseline JPEG"


class Prepared:
    """`catsdogs prepare` on an archive of these images, of which it may use a few."""

    def __init__(self, directory: Path, entries: Iterable[Entry], counts: tuple[int, int, int] = (2, 1, 1)):
        zips.write(directory / "archive.zip", entries)
        names = ("train", "validation", "test")
        wanted = [f"--{name}-per-class={count}" for name, count in zip(names, counts, strict=True)]
        arguments = ("--archive=archive.zip", "--output=output", "--volume=volume", "--log-format=json", *wanted)
        began = time.monotonic()
        with Job("prepare", *arguments, "--batch-size=2", env={}, directory=directory) as self.job:
            self.code = self.job.wait(120)
        self.seconds = time.monotonic() - began
        self.stderr = self.job.stderr
        self.excluded = {
            event["member"]: event["reason"] for event in self.job.events if event["event"] == "quarantined"
        }


def members(files: Mapping[str, bytes]) -> list[Entry]:
    return [Entry(name, data) for name, data in files.items()]


def copy(name: str, data: bytes) -> Entry:
    """A stored member with these bytes, and its name behind them: equal images in two splits are excluded."""
    return Entry(name, data + name.encode(), STORED)


def names(per_class: int) -> list[str]:
    return [f"train/{label}.{number}.jpg" for label in ("cat", "dog") for number in range(per_class)]


def in_a_process(code: str, directory: Path, timeout: float = 60) -> subprocess.CompletedProcess[str]:
    """Python, in which a crash is one of its own."""
    return subprocess.run(
        [sys.executable, "-c", code], cwd=directory, capture_output=True, text=True, timeout=timeout,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": f"{REPOSITORY / 'job'}:{REPOSITORY}"},
    )  # fmt: skip


OUTCOMES = """if True:
    import json, pathlib, sys
    from catsdogs.data.images import NotAnImage, decode
    SIZES = [None, (9, 9), (64, 64), (150, 150)]
    for path in sorted(pathlib.Path().glob("*.jpg")):
        data = path.read_bytes()
        for size in SIZES:
            print(path.name, end=" ", flush=True)  # a crash names it
            try:
                print(json.dumps(list(decode(data, size).shape)))
            except NotAnImage as reason:
                print(json.dumps(str(reason)))
"""


@pytest.mark.parametrize("colour", ["one colour", *(pytest.param(colour, marks=SLOW) for colour in ("photo", "gray"))])
def test_a_lossless_jpeg_crashes_nothing(colour: str, tmp_path: Path) -> None:
    """libjpeg-turbo 3.1.2 writes it in its full size into the buffer for an eighth."""
    pixels = np.full((320, 400, 3), 90, np.uint8) if colour == "one colour" else np.asarray(photo(400, 320))
    data = jpegs.lossless(np.asarray(photo(300, 300).convert("L")) if colour == "gray" else pixels)
    assert Image.open(io.BytesIO(data)).convert("RGB").getextrema() is not None, "it is a sound one"
    (tmp_path / "lossless.jpg").write_bytes(data)
    process = in_a_process(OUTCOMES, tmp_path)
    assert (process.returncode, process.stderr) == (0, "")
    assert process.stdout.splitlines() == [f"lossless.jpg {json.dumps(LOSSLESS)}"] * len(SIZES)


def test_prepare_excludes_a_lossless_jpeg_by_name(tmp_path: Path) -> None:
    files = {name: jpeg(photo(64, 48, seed)) for seed, name in enumerate(names(5))}
    files["train/cat.0.jpg"] = jpegs.lossless(np.full((320, 400, 3), 90, np.uint8))
    files["train/dog.1.jpg"] = jpegs.lossless(np.asarray(photo(300, 300).convert("L")))
    prepared = Prepared(tmp_path, members(files))
    assert (prepared.code, prepared.stderr) == (0, "")
    assert prepared.excluded == {"train/cat.0.jpg": LOSSLESS, "train/dog.1.jpg": LOSSLESS}


@pytest.mark.parametrize("precision", [8, 12, 16])
@pytest.mark.parametrize("kind", jpegs.KINDS)
def test_every_kind_of_frame_ends_alike_in_every_size(kind: int, precision: int, tmp_path: Path) -> None:
    data = jpegs.of_kind(kind, jpeg(photo(400, 320), progressive=kind in (2, 10)), precision)
    (tmp_path / "kind.jpg").write_bytes(data)
    outcomes = [_outcome(data, size) for size in SIZES]
    if kind in (0, 1, 2) and precision == 8:
        assert outcomes == [(320, 400, 3), *((*size, 3) for size in SIZES if size)]
    elif kind in (9, 10) and precision == 8:
        # Arithmetic coding: Pillow decides. These bytes are of the other coding.
        assert len({isinstance(outcome, str) for outcome in outcomes}) == 1
    else:
        reason = f"SOF{kind}" if kind not in (0, 1, 2, 9, 10) else f"{precision} bits"
        assert all(isinstance(outcome, str) and reason in outcome for outcome in outcomes), outcomes


def _outcome(data: bytes, size: tuple[int, int] | None) -> tuple[int, ...] | str:
    try:
        return decode(data, size).shape
    except NotAnImage as reason:
        return str(reason)


@given(
    st.sampled_from([0, 1, 2]), st.booleans(), st.booleans(), st.integers(1, 300), st.integers(1, 300),
    st.sampled_from(SIZES), st.none() | st.integers(2, 8),
)  # fmt: skip
@settings(max_examples=150, deadline=None)
def test_nothing_is_written_past_the_buffer(
    subsampling: int, progressive: bool, gray: bool, width: int, height: int, size: tuple[int, int] | None,
    turn: int | None,
) -> None:  # fmt: skip
    picture = photo(width, height).convert("L" if gray else "RGB")
    data = jpeg(picture, turn, subsampling=subsampling, progressive=progressive)
    guarded = []

    def with_guard(count: int) -> NDArray[np.uint8]:
        whole = np.full(count + (1 << 20), 0xA5, np.uint8)
        guarded.append(whole[count:])
        return whole[:count]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(images, "_buffer", with_guard)
        decode(data, size)
    [guard] = guarded
    assert (guard == 0xA5).all()


def test_a_header_that_changes_behind_our_back_gets_no_buffer_that_is_too_small() -> None:
    """Whatever the frame says that is found here: the decoder compares the buffer with what it finds itself."""
    data = jpeg(photo(400, 320))
    frame = headers.jpeg_frame(data)
    assert frame is not None
    smaller = images._Jpeg(data, frame._replace(width=100, height=80))
    with pytest.raises(NotAnImage, match="contradict"), images._reasons():
        smaller.decoded((50, 50))


@pytest.mark.parametrize(
    "hidden",
    [
        pytest.param(lambda data, real: data[:2] + b"junk\0\xff\0" + data[2:], id="junk before it"),
        pytest.param(lambda data, real: data[:2] + b"\xff\xff\xff" + data[2:], id="fill bytes before it"),
        pytest.param(lambda data, real: data[:2] + b"\xff\x01\xff\xd0" + data[2:], id="markers without a length"),
        pytest.param(lambda data, real: data[:2] + jpegs.segment(0xEC, real) + data[2:], id="a frame in a segment"),
        pytest.param(lambda data, real: data[:2] + b"\xff\xec\0\0" + data[2:], id="a length below two"),
        pytest.param(lambda data, real: data[:2] + real + data[2:], id="another frame first"),
    ],
)
def test_a_lossless_frame_cannot_be_hidden(hidden: Callable[[bytes, bytes], bytes]) -> None:
    """libjpeg skips what is no marker; here it must be skipped in the same way."""
    plain = jpeg(photo(400, 320))
    start = jpegs.frame_at(plain)
    frame = plain[start : start + 2 + int.from_bytes(plain[start + 2 : start + 4])]
    data = hidden(jpegs.lossless(np.full((320, 400, 3), 90, np.uint8)), frame)
    for size in SIZES:
        with pytest.raises(NotAnImage, match=r"SOF3|damaged headers|no JPEG"):
            decode(data, size)


def test_a_photo_of_fifty_megapixels_is_accepted_and_turned() -> None:
    picture = Image.new("RGB", (8160, 6144), (20, 90, 200))
    picture.paste((250, 250, 250), (0, 0, 4080, 6144))
    data = jpeg(picture, 6)
    check(data)
    pixels = decode(data, (90, 60))
    # Its left half is the upper one.
    assert (pixels[:40] > 240).all()
    assert (pixels[-40:, :, 0] < 40).all()


TURNS, KINDS = (None, *range(2, 9)), ("JPEG", "PNG", "WEBP")
TARGETS: tuple[tuple[int, int] | None, ...] = (None, (50, 31), (7, 120))


@pytest.mark.parametrize(
    ("size", "kind", "turn"),
    [
        # Each kind and each turn in one of the sizes, in turn; the rest is slow.
        pytest.param(size, kind, turn, marks=() if (row + column + place) % len(TARGETS) == 0 else SLOW)
        for row, turn in enumerate(TURNS)
        for column, kind in enumerate(KINDS)
        for place, size in enumerate(TARGETS)
    ],
)
def test_pieces_give_the_pixels_of_the_whole(
    size: tuple[int, int] | None, kind: str, turn: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Turned at full size first, then reduced, as Pillow would do it, whatever the remainders at the edges."""
    exif = Image.Exif()
    if turn is not None:
        exif[0x0112] = turn
    buffer = io.BytesIO()
    photo(431, 277).save(buffer, kind, exif=exif, lossless=True)
    data = buffer.getvalue()
    with Image.open(io.BytesIO(data)) as opened:
        if size is not None:
            opened.draft("RGB", size[::-1])
        whole = opened.convert("RGB")
    if turn is not None:
        whole = whole.transpose(images._TURNS[turn])
    if size is not None:
        whole = whole.reduce((max(1, whole.width // size[1]), max(1, whole.height // size[0])))
        expected = images.opencv().resize(np.asarray(whole), size[::-1], interpolation=images.opencv().INTER_LINEAR)
    else:
        expected = np.asarray(whole)
    monkeypatch.setattr(images, "_BAND", 1000)
    monkeypatch.setattr(images, "_SMALL_WEBP", 0)
    assert np.array_equal(decode(data, size), expected)


@given(st.integers(0, 10**6), st.sampled_from(["baseline", "progressive", "exif", "cmyk", "gray"]), st.data())
@settings(max_examples=150, deadline=None)
def test_what_passes_the_check_at_an_eighth_decodes_at_any_size(seed: int, kind: str, data: st.DataObject) -> None:
    """And what does not pass it, does not."""
    picture = photo(120, 90, seed).convert({"cmyk": "CMYK", "gray": "L"}.get(kind, "RGB"))
    damaged = bytearray(jpeg(picture, 6 if kind == "exif" else None, progressive=kind == "progressive"))
    start = damaged.index(b"\xff\xda")
    for place, value in data.draw(st.lists(st.tuples(st.integers(start, len(damaged) - 1), st.integers(0, 255)))):
        damaged[place] = value
    passed = True
    try:
        check(bytes(damaged))
    except NotAnImage:
        passed = False
    for size in SIZES:
        assert (not isinstance(_outcome(bytes(damaged), size), str)) == passed


# Memory: of the whole process, over all threads.


@SLOW
def test_turned_photos_of_fifty_megapixels(tmp_path: Path) -> None:
    """Sixteen at once took 5.9 GB."""
    turned = jpeg(Image.new("L", (7071, 7071), 90), 6)
    prepared = Prepared(tmp_path, [copy(name, turned) for name in names(8)], (5, 2, 1))
    assert (prepared.code, prepared.stderr, prepared.excluded) == (0, "", {})
    assert prepared.job.peak_memory < MEMORY / 2


@pytest.mark.parametrize("per_class", [8, pytest.param(40, marks=SLOW)])
def test_turned_photos_of_a_phone(per_class: int, tmp_path: Path) -> None:
    """Eighty took 2.0 GB, when sixteen threads kept what they had had."""
    turned = jpeg(photo(4000, 3000), 6)
    counts = (per_class - 2, 1, 1)
    prepared = Prepared(tmp_path, [copy(name, turned) for name in names(per_class)], counts)
    assert (prepared.code, prepared.stderr, prepared.excluded) == (0, "", {})
    assert prepared.job.peak_memory < MEMORY / 2


def saved(picture: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


LARGE: dict[str, tuple[Callable[[], bytes], str | None]] = {
    "png": (lambda: saved(photo(8000, 8000), "PNG", compress_level=6), None),
    "png, rgba": (lambda: saved(photo(7071, 7071).convert("RGBA"), "PNG", compress_level=1), None),
    "png, 16 bits": (
        lambda: saved(Image.fromarray(np.asarray(photo(7071, 7071).convert("L")).astype(np.uint16) << 8), "PNG"), None,
    ),
    "gif": (lambda: saved(photo(8000, 8000).quantize(16), "GIF"), None),
    "cmyk": (lambda: jpeg(photo(8000, 8000).convert("CMYK")), None),
    "progressive": (lambda: jpeg(photo(8000, 8000), progressive=True), None),
    "progressive, not subsampled": (
        lambda: jpeg(photo(7071, 7071), progressive=True, subsampling=0), "bytes to decode, more than 268,435,456",
    ),
    "webp": (lambda: saved(photo(5000, 5000), "WEBP", method=0), None),
    "webp, lossless": (lambda: saved(Image.new("RGB", (5000, 5000)), "WEBP", lossless=True, method=0), None),
    "webp of fifty megapixels": (
        lambda: saved(Image.new("RGB", (7071, 7071)), "WEBP", lossless=True, method=0),
        "7071x7071 pixels that take 399,", ),
    "turned": (lambda: jpeg(photo(8000, 8000), 5), None),
}  # fmt: skip
"""Images of up to 64 million pixels, and the reason for which one is excluded."""


@SLOW
@pytest.mark.parametrize("kind", [*LARGE, "all"])
def test_large_images_of_every_kind(kind: str, tmp_path: Path) -> None:
    kinds = list(LARGE) if kind == "all" else [kind]
    made = {kind: LARGE[kind][0]() for kind in kinds}
    files = {name: kinds[place % len(kinds)] for place, name in enumerate(names(6))}
    small = {name: jpeg(photo(64, 48, seed)) for seed, name in enumerate(names(20)) if name not in files}
    entries = [*(copy(name, made[kind]) for name, kind in files.items()), *members(small)]
    prepared = Prepared(tmp_path, entries, (8, 2, 2))
    assert (prepared.code, prepared.stderr) == (0, "")
    expected = {name: reason for name, kind in files.items() if (reason := LARGE[kind][1])}
    assert prepared.excluded.keys() == expected.keys()
    assert all(expected[name] in reason for name, reason in prepared.excluded.items())
    assert prepared.job.peak_memory < MEMORY


@SLOW
def test_the_loader_stays_within_the_memory(tmp_path: Path) -> None:
    """As many threads as a large machine has, which all decode large images at once."""
    kinds = [kind for kind, (_, reason) in LARGE.items() if reason is None]
    for number, kind in enumerate(kinds):
        data = LARGE[kind][0]()
        for copy in (0, 1):
            (tmp_path / f"{copy}{number}.jpg").write_bytes(data)
    process = in_a_process(
        """if True:
        import pathlib
        from concurrent.futures import ThreadPoolExecutor
        import numpy as np
        from catsdogs.data.loader import Pixels
        paths = sorted(pathlib.Path().glob("*.jpg"))
        pixels = Pixels(paths, 150, pathlib.Path(), 1 << 30)
        with ThreadPoolExecutor(16) as pool:
            list(pool.map(lambda index: pixels.having(np.array([index])).shape, range(len(paths))))
        [line] = [line for line in open("/proc/self/status") if line.startswith("VmHWM")]
        print(int(line.split()[1]) << 10)
        """,
        tmp_path,
        300,
    )
    assert (process.returncode, process.stderr) == (0, "")
    assert int(process.stdout) < MEMORY


def test_predict_gives_the_reason_and_the_next_image(tmp_path: Path) -> None:
    (tmp_path / "lossless.jpg").write_bytes(jpegs.lossless(np.full((320, 400, 3), 90, np.uint8)))
    (tmp_path / "sound.jpg").write_bytes(jpeg(photo(400, 320)))
    with (tmp_path / "large.jpg").open("wb") as file:
        file.truncate(10**11)
    process = in_a_process(
        """if True:
        from catsdogs.published.predict import _pixels
        for name in ("lossless.jpg", "large.jpg", "/dev/zero", "sound.jpg"):
            result = _pixels(name, None, 150)
            print(result if isinstance(result, str) else result.shape)
        """,
        tmp_path,
    )
    assert (process.returncode, process.stderr) == (0, "")
    large = "100,000,000,000 bytes, more than 67,108,864"
    endless = "67,108,865 bytes, more than 67,108,864"
    assert process.stdout.splitlines() == [LOSSLESS, large, endless, "(150, 150, 3)"]


# Small files that Python's part of the decoders would hold in millions of objects, or copy again and again.


def png_chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png_with(chunks: bytes) -> bytes:
    plain = saved(photo(40, 30), "PNG")
    return plain[:33] + chunks + plain[33:]


def riff(chunks: bytes) -> bytes:
    return b"RIFF" + struct.pack("<I", 4 + len(chunks)) + b"WEBP" + chunks


def gif_with_comment(size: int) -> bytes:
    plain = saved(photo(40, 30).quantize(4), "GIF")
    end = 13 + (3 << (plain[10] & 7) + 1)
    comment = b"!\xfe" + (b"\xff" + bytes(255)) * (size // 256) + b"\0"
    return plain[:end] + comment + plain[end:]


CROWDS: dict[str, tuple[Callable[[], bytes], str]] = {
    "jpeg of segments": (
        lambda: jpeg(photo(40, 30))[:2] + b"\xff\xe4\0\2" * 2_000_000 + jpeg(photo(40, 30))[2:],
        "more than 10,000 segments",
    ),
    "png of chunks": (lambda: png_with(png_chunk(b"abCd", b"") * 1_000_000), "more than 10,000 chunks"),
    "png of texts": (
        lambda: png_with(b"".join(png_chunk(b"tEXt", b"%07d\0" % number) for number in range(400_000))),
        "more than 10,000 chunks",
    ),
    "png of inflated texts": (
        lambda: png_with(png_chunk(b"zTXt", b"key\0\0" + zlib.compress(bytes(1 << 20))) * 60),
        "text",
    ),
    "png, one text bomb": (
        lambda: png_with(png_chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(100 << 20), 1))), "too large",
    ),
    "gif of comments": (lambda: gif_with_comment(20 << 20), "more than 1,048,576 bytes of comments"),
    "webp of chunks": (
        lambda: riff(b"VP8X" + struct.pack("<I", 10) + bytes(10) + (b"junk" + bytes(4)) * 4_000_000),
        "more than 10,000 chunks",
    ),
    "jpeg of scans": (
        lambda: (
            (data := jpeg(photo(2000, 2000), progressive=True))[:-2]
            + data[data.rindex(b"\xff\xda") : -2] * 200
            + b"\xff\xd9"
        ),
        "more than 100 scans",
    ),
}  # fmt: skip
"""Each takes seconds to hours, or hundreds of MB, where it is decoded."""
ALIKE = ("png of texts", "png of inflated texts", "webp of chunks")
"""Stopped by the same lines as another one."""


@pytest.mark.parametrize("kind", [pytest.param(kind, marks=SLOW if kind in ALIKE else ()) for kind in CROWDS])
def test_crowds_are_counted_before_a_decoder_sees_them(kind: str, tmp_path: Path) -> None:
    make, reason = CROWDS[kind]
    data = make()
    assert len(data) < budget.MAX_FILE
    (tmp_path / "crowd").write_bytes(data)
    process = in_a_process(
        """if True:
        import pathlib, time
        from catsdogs.data.images import NotAnImage, check
        def peak():
            [line] = [line for line in open("/proc/self/status") if line.startswith("VmHWM")]
            return int(line.split()[1]) << 10
        data = pathlib.Path("crowd").read_bytes()
        before, began = peak(), time.process_time()
        try:
            check(data)
        except NotAnImage as error:
            print(peak() - before, time.process_time() - began, error)
        """,
        tmp_path,
    )
    assert (process.returncode, process.stderr) == (0, "")
    memory, seconds, why = process.stdout.strip().split(maxsplit=2)
    assert reason in why
    assert int(memory) < 30 << 20
    assert float(seconds) < 2


def test_frames_of_an_animation_after_the_first_are_not_decoded() -> None:
    frames = [photo(40, 30, seed) for seed in range(60)]
    for kind in ("GIF", "PNG", "WEBP"):
        data = saved(frames[0], kind, save_all=True, append_images=frames[1:])
        check(data)
        difference = decode(data).astype(int) - np.asarray(frames[0])
        assert np.abs(difference).mean() < 12, kind


# Archives that give work for hours.


def test_many_names_for_one_member(tmp_path: Path) -> None:
    """400 names of one member of 60 MB took minutes: it is read once."""
    data, crc = zips.deflated_zeros(60_000_000)
    entries = [Entry(name, data, DEFLATED, size=60_000_000, crc=crc, offset=0) for name in names(200)]
    prepared = Prepared(tmp_path, entries, (2, 1, 1))
    assert prepared.code == 65
    assert "too few images" in prepared.stderr
    assert len(prepared.excluded) <= 1
    assert prepared.job.peak_memory < MEMORY


def test_members_that_are_far_larger_than_the_archive(tmp_path: Path) -> None:
    data, crc = zips.deflated_zeros(60_000_000)
    entries = [Entry(name, data, DEFLATED, size=60_000_000, crc=crc) for name in names(20)]
    prepared = Prepared(tmp_path, entries)
    assert prepared.code == 65
    assert "its images claim 2,400,000,000 bytes in" in prepared.job.said()
    assert "as no photos do; check the archive" in prepared.job.said()
    assert not prepared.excluded, "nothing was inflated"


def test_large_members_are_not_read_all_at_once(tmp_path: Path) -> None:
    """Sixteen readers had one each, with all its bytes twice."""
    body = bytes(30_000_000)
    entries = [copy(name, body) for name in names(4)]
    prepared = Prepared(tmp_path, entries, (2, 1, 1))
    assert prepared.code == 65
    assert len(prepared.excluded) == 8
    assert prepared.job.peak_memory < MEMORY / 2


# Long: mutations of JPEGs of every kind, in processes of their own, since a decoder that crashes takes Python with it.

MINUTES = float(os.environ.get("CATSDOGS_TEST_FUZZ_MINUTES", "0.5"))


@SLOW
@pytest.mark.timeout(60 * MINUTES + 600)
def test_mutated_jpegs_of_every_kind_crash_nothing(tmp_path: Path) -> None:
    deadline, rng, batch = time.monotonic() + 60 * MINUTES, random.Random(), 0
    while time.monotonic() < deadline:
        batch += 1
        folder = tmp_path / f"{batch}"
        folder.mkdir()
        for number in range(60):
            (folder / f"{number}.jpg").write_bytes(mutated(rng))
        # Not in full size: a changed header makes many of them large.
        process = in_a_process(OUTCOMES.replace("None, ", ""), folder, 1200)
        last = process.stdout.splitlines()[-1:]
        assert process.returncode == 0, f"{folder}: {last}: {process.stderr[-2000:]}"
        kinds = [set[bool]() for _ in range(60)]
        for line in process.stdout.splitlines():
            name, _, outcome = line.partition(" ")
            kinds[int(name.partition(".")[0])].add(outcome.startswith('"'))
        assert all(len(kind) == 1 for kind in kinds), f"{folder}: sizes differ: {[*map(len, kinds)]}"
        for path in folder.iterdir():
            path.unlink()


def mutated(rng: random.Random) -> bytes:
    picture = photo(rng.choice([33, 160, 400]), rng.choice([17, 320, 700]), rng.randrange(1000))
    picture = picture.convert(rng.choice(["RGB", "RGB", "L", "CMYK"]))
    kind = rng.choice(jpegs.KINDS)
    if kind == 3 and rng.random() < 0.7 and picture.mode != "CMYK":
        data = jpegs.lossless(np.asarray(picture.resize((100, 70))))
    else:
        options = {"progressive": kind in (2, 10), "subsampling": rng.choice([0, 1, 2])}
        data = jpeg(picture, rng.choice([None, None, 3, 6]), quality=rng.choice([30, 90]), **options)
        data = jpegs.of_kind(kind, data, rng.choice([8, 8, 8, 8, 12, 2]))
    changed = bytearray(data)
    head = max(changed.find(b"\xff\xda"), 0) + 20
    for _ in range(rng.choice([0, 1, 1, 2, 5])):
        # Half of them in the headers.
        place = rng.randrange(min(head, len(changed)) if rng.random() < 0.5 else len(changed))
        changed[place] = rng.choice([rng.randrange(256), 0, 0xFF, changed[place] ^ 1 << rng.randrange(8)])
    if rng.random() < 0.1:
        del changed[rng.randrange(len(changed)) :]
    return bytes(changed)


def test_pixels_allowed() -> None:
    assert MAX_PIXELS >= 8160 * 6144
