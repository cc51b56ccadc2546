"""The Kaggle archive wherever it lies: nested zips, members, safe names, checked bytes.

Only a zip's directory and the wanted members' byte ranges are ever read. A member's name is never
used as a path; it only says which class and number the image has.
"""

import contextlib
import hashlib
import io
import re
import struct
import time
import zipfile
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from job import volume
from job.errors import BadData
from job.events import Log
from job.interruption import Interruption
from job.stores import Folder, Store, open_store

Result = TypeVar("Result")

CLASSES = ("cat", "dog")
WORKERS = 16
"""Ranges read at once: enough to fill a 200 Mbit/s link with 30 ms of delay."""
MOST_AT_ONCE = 1 << 20
"""Bytes of one range; with WORKERS, what fetching holds in memory."""
MOST_GAP = 1 << 10
"""Unwanted bytes between two members that are cheaper to read than a request of its own."""
MAX_MEMBER = 64 << 20
"""Bytes; no photograph of the archive has a hundredth of it."""

_KAGGLE = re.compile(r"(?:^|/)(cat|dog)\.(\d{1,9})\.jpe?g$", re.IGNORECASE)
_PETIMAGES = re.compile(r"(?:^|/)(cat|dog)s?/(\d{1,9})\.jpe?g$", re.IGNORECASE)
_LOCAL_HEADER = struct.Struct("<4s22x2H")
"""Signature, …, length of the name, length of the extra field: what a zip repeats before each member."""


class Member(NamedTuple):
    """One labelled image of the archive."""

    label: str
    number: int
    name: str
    start: int
    stop: int
    """Its local header, data and what may follow lie within start ≤ i < stop of the zip."""
    packed: int
    size: int
    crc: int
    method: int

    @property
    def filename(self) -> str:
        return f"{self.label}.{self.number}.jpg"


class Broken(Exception):
    """A member's bytes are not what the zip's directory promises; the text is the reason."""


@dataclass(frozen=True)
class Zip:
    """A zip of `size` bytes that begins at byte `base` of an object."""

    store: Store
    key: str
    etag: str
    base: int
    size: int

    def stream(self, start: int, stop: int) -> Iterator[bytes]:
        # A directory may claim offsets that lie behind the end, or that no file can have.
        start, stop = min(start, self.size), min(stop, self.size)
        return self.store.stream(self.key, self.base + start, self.base + stop, self.etag)

    def read(self, start: int, stop: int) -> bytes:
        return b"".join(self.stream(start, stop))


class _Window(io.RawIOBase):
    """A Zip as the seekable file that zipfile wants."""

    def __init__(self, source: Zip):
        self.source = source
        self.position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self.position = max(0, offset + (0, self.position, self.source.size)[whence])
        return self.position

    def readinto(self, buffer: Any) -> int:
        data = self.source.read(self.position, self.position + len(buffer)) if len(buffer) else b""
        buffer[: len(data)] = data
        self.position += len(data)
        return len(data)


@dataclass(frozen=True)
class Archive:
    """What the archive holds. While `packed` is set its images are not known yet: see `unpack`."""

    uri: str
    identity: dict[str, Any]
    """uri, size, etag, and a SHA-256 over the names, sizes and CRCs of the zip's directory."""
    zip: Zip
    images: dict[tuple[str, int], Member]
    passed_over: list[str]
    packed: Member | None = None

    def numbers(self, label: str) -> list[int]:
        """The numbers of a class's images, ascending."""
        return sorted(number for found, number in self.images if found == label)


def open_archive(uri: str, addressing_style: str = "auto") -> Archive:
    """Reads the directory of the zip at `uri`, and of the zip inside it if that lies there uncompressed.

    Accepts Kaggle's dogs-vs-cats.zip, its train.zip, the same images in any folder, and Microsoft's
    PetImages. Raises NotFound, BadData if it is none of them, and what the store raises.
    """
    folder, _, name = uri.rpartition("/")
    store = open_store(folder or ("/" if uri.startswith("/") else "."), addressing_style)
    stat = store.stat(name)
    outer = Zip(store, name, stat.etag, 0, stat.size)
    entries = _directory(outer, uri)
    digest = hashlib.sha256()
    for entry in entries:
        digest.update(f"{entry.filename}\0{entry.CRC:08x}\0{entry.file_size}\n".encode("utf-8", "surrogateescape"))
    identity = {"uri": uri, "size": stat.size, "etag": stat.etag, "directory_sha256": digest.hexdigest()}
    images, passed_over = _images(outer, entries, uri)
    archive = Archive(uri, identity, outer, images, passed_over)
    if images:
        return archive
    entry = _inner_zip(entries, uri)
    passed_over.remove(entry.filename)
    extent = _extents(outer, entries)[entry.header_offset]
    packed = Member(
        "", 0, entry.filename, *extent, entry.compress_size, entry.file_size, entry.CRC, entry.compress_type
    )
    if entry.compress_type != zipfile.ZIP_STORED:
        return replace(archive, packed=packed)
    header = outer.read(packed.start, packed.start + _LOCAL_HEADER.size)
    base = packed.start + _data_offset(packed, header, uri)
    inner = replace(outer, base=base, size=min(packed.size, outer.size - base))
    return _with_images_of(archive, inner, packed.name)


def unpack(archive: Archive, directory: Path, log: Log, interruption: Interruption) -> Archive:
    """Streams the compressed inner zip once to `directory`, unless it is there; its images are then read from it.

    Raises BadData if its CRC-32 is wrong, Interrupted also while another process unpacks there, VolumeFailed.
    """
    packed = archive.packed
    if packed is None:
        return archive
    path = directory / f"{archive.identity['directory_sha256'][:16]}.zip"
    if not path.exists():
        began = time.monotonic()
        where = f"{archive.uri}: {packed.name}"
        with volume.lock(directory), volume.failures(path):
            # Of unpackings that were killed; each would keep the room of a whole archive.
            for leftover in directory.glob(".*.zip.*.part"):
                leftover.unlink()
            with volume.new_file(path) as file:
                for written in _inflate(archive.zip, packed, file.write, where):
                    log.say("unpacking", member=packed.name, done=written, total=packed.size)
                    interruption.check()
        log.say("unpacked", member=packed.name, size=packed.size, seconds=time.monotonic() - began)
    store = Folder(directory)
    stat = store.stat(path.name)
    return _with_images_of(archive, Zip(store, path.name, stat.etag, 0, stat.size), packed.name)


def fetch(
    archive: Archive,
    members: Iterable[Member],
    handle: Callable[[Member, bytes], Result],
    interruption: Interruption,
) -> Iterator[tuple[Member, Result | Broken]]:
    """Reads the members' bytes, each checked by its CRC-32, and yields what `handle` made of them.

    Neighbours are read in one range, ranges in parallel. `handle` runs in a worker thread; what it
    raises ends the fetching. The order is that of arrival.
    """
    waiting = deque(ranges(members))
    pool = ThreadPoolExecutor(WORKERS, "fetch")
    try:
        running: set[Future[list[tuple[Member, Result | Broken]]]] = set()
        while waiting or running:
            while waiting and len(running) < 2 * WORKERS:
                running.add(pool.submit(_fetch_range, archive.zip, waiting.popleft(), handle))
            done, running = wait(running, timeout=0.2, return_when=FIRST_COMPLETED)
            interruption.check()
            for future in done:
                yield from future.result()
    finally:
        pool.shutdown(cancel_futures=True)


def ranges(members: Iterable[Member]) -> list[list[Member]]:
    """Groups members that lie close together, each group at most MOST_AT_ONCE long unless it is one member."""
    groups: list[list[Member]] = []
    for member in sorted(members, key=lambda member: member.start):
        if (
            groups
            and member.start - groups[-1][-1].stop <= MOST_GAP
            and member.stop - groups[-1][0].start <= MOST_AT_ONCE
        ):
            groups[-1].append(member)
        else:
            groups.append([member])
    return groups


def _fetch_range(
    source: Zip, group: list[Member], handle: Callable[[Member, bytes], Result]
) -> list[tuple[Member, Result | Broken]]:
    start = group[0].start
    block = memoryview(source.read(start, group[-1].stop))
    results: list[tuple[Member, Result | Broken]] = []
    for member in group:
        try:
            try:
                data = extract(member, block[member.start - start : member.stop - start])
            except Broken:
                # The damage may have happened on the way: ranged reads carry no checksum.
                data = extract(member, memoryview(source.read(member.start, member.stop)))
        except Broken as broken:
            results.append((member, broken))
        else:
            results.append((member, handle(member, data)))
    return results


def extract(member: Member, raw: memoryview) -> bytes:
    """The member's file from its extent in the zip. Raises Broken unless size and CRC-32 are as promised."""
    claimed = max(member.size, member.packed)
    if claimed > MAX_MEMBER:
        raise Broken(f"claims {claimed:,} bytes, more than {MAX_MEMBER:,}")
    offset = _data_offset(member, raw, "")
    packed = raw[offset : offset + member.packed]
    if len(packed) < member.packed:
        raise Broken("cut off")
    if member.method == zipfile.ZIP_STORED:
        data = bytes(packed)
    elif member.method == zipfile.ZIP_DEFLATED:
        inflater = zlib.decompressobj(-zlib.MAX_WBITS)
        try:
            # One byte more than promised is enough to see that the promise is broken.
            data = inflater.decompress(packed, member.size + 1)
        except zlib.error as error:
            raise Broken(f"does not inflate: {error}") from None
    else:
        raise Broken(f"compression method {member.method}, neither stored nor deflated")
    if len(data) != member.size:
        raise Broken(f"its size is not the promised {member.size:,} bytes")
    if zlib.crc32(data) != member.crc:
        raise Broken("its CRC-32 is wrong")
    return data


def _data_offset(member: Member, raw: bytes | memoryview, where: str) -> int:
    header = bytes(raw[: _LOCAL_HEADER.size]).ljust(_LOCAL_HEADER.size)
    signature, name_length, extra_length = _LOCAL_HEADER.unpack(header)
    if signature != b"PK\3\4":
        if where:
            raise BadData(f"{where}: {member.name} is not where the zip's directory says; get the archive anew")
        raise Broken("not where the zip's directory says")
    return int(_LOCAL_HEADER.size + name_length + extra_length)


def _directory(source: Zip, where: str) -> list[zipfile.ZipInfo]:
    try:
        with zipfile.ZipFile(io.BufferedReader(_Window(source), 1 << 16)) as opened:
            entries = opened.infolist()
    except (
        zipfile.BadZipFile,
        ValueError,
        struct.error,
        NotImplementedError,
        UnicodeDecodeError,
        OverflowError,
    ):
        what = "is empty" if source.size == 0 else "is not a zip, or a truncated one"
        raise BadData(f"{where}: {what}; get the archive anew") from None
    if any(entry.header_offset < 0 for entry in entries):
        raise BadData(f"{where}: its beginning is missing; get the archive anew")
    if not entries:
        raise BadData(f"{where}: a zip without members; get the archive anew")
    return entries


def _extents(source: Zip, entries: list[zipfile.ZipInfo]) -> dict[int, tuple[int, int]]:
    """Header offset → (start, stop): a member ends where the next one begins."""
    starts = sorted({entry.header_offset for entry in entries})
    return dict(zip(starts, zip(starts, [*starts[1:], source.size], strict=True), strict=True))


def _labelled(name: str) -> tuple[str, int] | None:
    """Class and number, where the name says them and is a plain relative one."""
    if name.startswith("/") or "\\" in name or ".." in name.split("/"):
        return None
    match = _KAGGLE.search(name) or _PETIMAGES.search(name)
    return (match[1].lower(), int(match[2])) if match else None


def _images(source: Zip, entries: list[zipfile.ZipInfo], where: str) -> tuple[dict[tuple[str, int], Member], list[str]]:
    """The labelled images, and the names of the other files. Raises BadData for encrypted or ambiguous ones."""
    extents = _extents(source, entries)
    images: dict[tuple[str, int], Member] = {}
    passed_over: list[str] = []
    for entry in entries:
        label = _labelled(entry.filename)
        if label is None:
            # Not is_dir(), which fails on an empty name.
            if not entry.filename.endswith("/"):
                passed_over.append(entry.filename)
            continue
        if entry.flag_bits & 1:
            raise BadData(f"{where}: {entry.filename} is encrypted; make the zip anew without a password")
        start, stop = extents[entry.header_offset]
        member = Member(
            *label, entry.filename, start, min(stop, start + _most_bytes(entry)), entry.compress_size,
            entry.file_size, entry.CRC, entry.compress_type,
        )  # fmt: skip
        twin = images.setdefault(label, member)
        if twin is not member:
            if (twin.size, twin.crc) != (member.size, member.crc):
                raise BadData(f"{where}: {twin.name} and {member.name} claim the same image; remove one of them")
            passed_over.append(entry.filename)
    return images, passed_over


def _most_bytes(entry: zipfile.ZipInfo) -> int:
    """A bound on header, name, extra field, data and data descriptor, should the next member lie far off."""
    return _LOCAL_HEADER.size + 2 * 0xFFFF + min(entry.compress_size, MAX_MEMBER) + 24


def _inner_zip(entries: list[zipfile.ZipInfo], where: str) -> zipfile.ZipInfo:
    """Kaggle's train.zip, or the only zip there is."""
    zips = [entry for entry in entries if entry.filename.lower().endswith(".zip")]
    named = [entry for entry in zips if entry.filename.lower().rpartition("/")[2] == "train.zip"]
    chosen = named or zips
    if len(chosen) != 1:
        found = ", ".join(entry.filename for entry in entries[:3])
        raise BadData(
            f"{where}: no image is named like cat.0.jpg or Cat/0.jpg, and there is no train.zip;"
            f" found {found}{', …' if len(entries) > 3 else ''}; give Kaggle's dogs-vs-cats.zip or PetImages"
        )
    if chosen[0].flag_bits & 1:
        raise BadData(f"{where}: {chosen[0].filename} is encrypted; make the zip anew without a password")
    if chosen[0].compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise BadData(f"{where}: {chosen[0].filename} is neither stored nor deflated; make the zip anew")
    return chosen[0]


def _with_images_of(archive: Archive, inner: Zip, name: str) -> Archive:
    where = f"{archive.uri}: {name}"
    images, passed_over = _images(inner, _directory(inner, where), where)
    if not images:
        raise BadData(f"{where}: no image is named like cat.0.jpg or Cat/0.jpg; give Kaggle's dogs-vs-cats.zip")
    passed_over = [*archive.passed_over, *(f"{name}/{inner_name}" for inner_name in passed_over)]
    return replace(archive, zip=inner, images=images, passed_over=passed_over, packed=None)


def _inflate(source: Zip, packed: Member, write: Callable[[bytes], Any], where: str) -> Iterator[int]:
    """Writes the member's file, range by range, and yields how many bytes are written. Raises BadData."""
    start = packed.start + _data_offset(packed, source.read(packed.start, packed.start + _LOCAL_HEADER.size), where)
    stop = min(start + packed.packed, source.size)
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    crc = written = 0
    for block in _read_ahead(source, start, stop):
        try:
            data = inflater.decompress(block, packed.size - written + 1)
        except zlib.error as error:
            raise BadData(f"{where} does not inflate ({error}); get the archive anew") from None
        crc = zlib.crc32(data, crc)
        written += len(data)
        if written > packed.size:
            break
        write(data)
        yield written
    if written != packed.size or crc != packed.crc:
        raise BadData(f"{where}: its size or CRC-32 is wrong; get the archive anew")


def _read_ahead(source: Zip, start: int, stop: int) -> Iterator[bytes]:
    """The bytes start ≤ i < stop in order, MOST_AT_ONCE at a time, several ranges read at once."""
    starts = iter(range(start, stop, MOST_AT_ONCE))
    pool = ThreadPoolExecutor(WORKERS, "unpack")
    ahead: deque[Future[bytes]] = deque()
    try:
        while True:
            for begin in starts:
                ahead.append(pool.submit(source.read, begin, min(stop, begin + MOST_AT_ONCE)))
                if len(ahead) == WORKERS:
                    break
            if not ahead:
                return
            yield ahead.popleft().result()
    finally:
        with contextlib.suppress(RuntimeError):
            pool.shutdown(cancel_futures=True)
