"""A zip wherever it lies: its directory, its members' byte ranges, and their checked bytes."""

import bisect
import contextlib
import io
import struct
import threading
import zipfile
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, CancelledError, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

from catsdogs.runtime import cores
from catsdogs.runtime.errors import BadData, Unavailable
from catsdogs.runtime.signals import Interruption
from catsdogs.storage.store import Store

Result = TypeVar("Result")

WORKERS = 16
"""Ranges read at once: enough to fill a 200 Mbit/s link with 30 ms of delay."""
MAX_HANDLERS = 4
"""Ranges whose members are handled at once, if there are as many cores. Of more threads each would wait for Python's
lock most of the time: sixteen took 1.4 times the CPU time of two."""
MAX_AT_ONCE = 1 << 20
"""Bytes of one range; with WORKERS, what unpacking holds in memory. Of a range of images only pieces are held."""
MAX_GAP = 1 << 10
"""Unwanted bytes between two members that are cheaper to read than a request of its own."""
MAX_DIRECTORY = 16 << 20
"""Bytes; that of 25,000 images has a tenth of it. Python's objects for it take ten times as much."""
END = 98
"""Bytes at the end of most zips that say where its directory is, if only in the longer form of large ones."""
MAX_MEMBER = 64 << 20
"""Bytes; no photograph of the archive has a hundredth of it."""
LARGE = 4 << 20
"""Bytes; of members above it, one at a time is inflated."""
MAX_RATIO = 100
"""Of an inner zip's size to what it takes packed; photographs hardly become smaller."""
SURE_READS = 4
"""How often bytes that no checksum covers are read until two reads agree."""

_ONE_LARGE = threading.Lock()
_LOCAL_HEADER = struct.Struct("<4s22x2H")
"""Signature, …, length of the name, length of the extra field: what a zip repeats before each member."""


class Member(NamedTuple):
    """A file of a zip. Of an archive's image the name says label and number; others have ("", 0)."""

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

    def read_surely(self, start: int, stop: int) -> bytes:
        """For bytes without a checksum of their own: where one may change on its way, read until two reads agree.

        Raises Unavailable if they never do.
        """
        if self.store.guarded:
            return self.read(start, stop)
        with ThreadPoolExecutor(2, "surely") as pool:
            reads = list(pool.map(self.read, [start] * 2, [stop] * 2))
        while reads[-1] != reads[-2]:
            if len(reads) == SURE_READS:
                where = self.store.uri(self.key)
                raise Unavailable(f"{where}: reads differently each time; check the network and the storage")
            reads.append(self.read(start, stop))
        return reads[-1]


class _Window(io.RawIOBase):
    """A Zip as the seekable file that zipfile wants, who reads it from its end: from there on nothing is read again."""

    def __init__(self, source: Zip):
        self.source = source
        self.position = self.start = max(0, source.size - END)
        self.end = source.read_surely(self.start, source.size)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self.position = max(0, offset + (0, self.position, self.source.size)[whence])
        return self.position

    def readinto(self, buffer: Any) -> int:
        if self.source.size - self.position > MAX_DIRECTORY:
            raise zipfile.BadZipFile(f"a directory of more than {MAX_DIRECTORY:,} bytes")
        if self.position < self.start:
            self.end = self.source.read_surely(self.position, self.start) + self.end
            self.start = self.position
        data = self.end[self.position - self.start :][: len(buffer)]
        buffer[: len(data)] = data
        self.position += len(data)
        return len(data)


def read_directory(source: Zip, where: str) -> list[zipfile.ZipInfo]:
    try:
        with zipfile.ZipFile(io.BufferedReader(_Window(source))) as opened:
            entries = opened.infolist()
    except (zipfile.BadZipFile, ValueError, struct.error, NotImplementedError, OverflowError):
        what = "is empty" if source.size == 0 else "is not a zip, or a truncated one"
        raise BadData(f"{where}: {what}; get the archive anew") from None
    if any(entry.header_offset < 0 for entry in entries):
        raise BadData(f"{where}: its beginning is missing; get the archive anew")
    if not entries:
        raise BadData(f"{where}: a zip without members; get the archive anew")
    return entries


def extents(source: Zip, entries: list[zipfile.ZipInfo]) -> dict[int, tuple[int, int]]:
    """Header offset → (start, stop): a member ends where the next one begins."""
    starts = sorted({entry.header_offset for entry in entries})
    return dict(zip(starts, zip(starts, [*starts[1:], source.size], strict=True), strict=True))


def member_of(entry: zipfile.ZipInfo, extent: tuple[int, int], label: str = "", number: int = 0) -> Member:
    start, stop = extent
    # Header, name, extra field, data and data descriptor, should the next member lie far off, or the size be a lie.
    stop = min(stop, start + _LOCAL_HEADER.size + 2 * 0xFFFF + min(entry.compress_size, MAX_MEMBER) + 24)
    sizes = entry.compress_size, entry.file_size
    return Member(label, number, entry.filename, start, stop, *sizes, entry.CRC, entry.compress_type)


def fetch(
    source: Zip,
    members: Iterable[Member],
    handle: Callable[[Member, bytes], Result],
    interruption: Interruption,
) -> Iterator[tuple[Member, Result | Broken]]:
    """Reads the members' bytes, each checked by its CRC-32, and yields what `handle` made of them.

    Neighbours are read in one range, ranges in parallel. `handle` runs in a worker thread; what it
    raises ends the fetching. The order is that of arrival. However it ends, no `handle` runs any more then:
    the caller may remove what they made.
    """
    waiting = deque(ranges(members))
    handlers = min(MAX_HANDLERS, cores.usable())
    handling, ended = threading.Semaphore(handlers), threading.Event()

    def handled(group: list[Member], block: bytearray, start: int) -> list[tuple[Member, Result | Broken]]:
        with handling:
            return [(member, _handled(member, block, start, handle, ended)) for member in group]

    pool = ThreadPoolExecutor(WORKERS, "fetch")
    try:
        running: set[Future[list[tuple[Member, Result | Broken]]]] = set()
        while waiting or running:
            while waiting and len(running) < 2 * WORKERS:
                running.add(pool.submit(_fetch_range, source, waiting.popleft(), handled))
            done, running = wait(running, timeout=0.2, return_when=FIRST_COMPLETED)
            interruption.check()
            for future in done:
                yield from future.result()
    finally:
        # Waits for what `handle` has begun, which is short, and not for the storage to answer.
        pool.shutdown(wait=False, cancel_futures=True)
        ended.set()
        for _ in range(handlers):
            handling.acquire()
        handling.release(handlers)


def ranges(members: Iterable[Member]) -> list[list[Member]]:
    """Groups members that lie close together, each group at most MAX_AT_ONCE long unless it is one member."""
    groups: list[list[Member]] = []
    for member in sorted(members, key=lambda member: member.start):
        if (
            groups
            and member.start - groups[-1][-1].stop <= MAX_GAP
            and member.stop - groups[-1][0].start <= MAX_AT_ONCE
        ):
            groups[-1].append(member)
        else:
            groups.append([member])
    return groups


def _fetch_range(
    source: Zip, group: list[Member], handled: Callable[..., list[tuple[Member, Result | Broken]]]
) -> list[tuple[Member, Result | Broken]]:
    results = []
    for arrival in _arrivals(source, group):
        for member, result in handled(*arrival):
            if isinstance(result, Broken):
                # The damage may have happened on the way: ranged reads carry no checksum.
                [(_, result)] = handled(*next(_arrivals(source, [member])))
            results.append((member, result))
    return results


def _arrivals(source: Zip, group: list[Member]) -> Iterator[tuple[list[Member], bytearray, int]]:
    """A group's members as they come, so that those which are there are handled while the others are on their way:
    some of them, and a part of the zip that has them, from that byte of it on."""
    block, start = bytearray(), group[0].start
    for piece in source.stream(start, group[-1].stop):
        block += piece
        whole = bisect.bisect_right(group, start + len(block), key=lambda member: member.stop)
        if whole:
            yield group[:whole], block, start
            gone = group[whole - 1].stop - start
            group, block, start = group[whole:], block[gone:], start + gone
    if group:
        # The zip ends before they do.
        yield group, block, start


def _handled(
    member: Member, block: bytearray, start: int, handle: Callable[[Member, bytes], Result], ended: threading.Event
) -> Result | Broken:
    """What `handle` made of the member, whose range begins in `block` at its start less `start`."""
    # A zip of a few kB can ask for MAX_MEMBER again and again at once.
    with _ONE_LARGE if member.size > LARGE else contextlib.nullcontext():
        if ended.is_set():
            raise CancelledError
        try:
            data = extract(member, memoryview(block)[member.start - start : member.stop - start])
        except Broken as broken:
            # A new one: that which was raised holds on to its frames, and with them to the bytes.
            return Broken(str(broken))
        return handle(member, data)


def extract(member: Member, raw: memoryview) -> bytes:
    """The member's file from its extent in the zip. Raises Broken unless size and CRC-32 are as promised."""
    claimed = max(member.size, member.packed)
    if claimed > MAX_MEMBER:
        raise Broken(f"claims {claimed:,} bytes, more than {MAX_MEMBER:,}")
    offset = _data_offset(raw)
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


def data_start(source: Zip, member: Member, where: str) -> int:
    """Where in the zip the member's data begin. Raises BadData."""
    try:
        return member.start + _data_offset(source.read_surely(member.start, member.start + _LOCAL_HEADER.size))
    except Broken as reason:
        raise BadData(f"{where}: {member.name} is {reason}; get the archive anew") from None


def _data_offset(raw: bytes | memoryview) -> int:
    """Where in a member's extent its data begin. Raises Broken."""
    header = bytes(raw[: _LOCAL_HEADER.size]).ljust(_LOCAL_HEADER.size)
    signature, name_length, extra_length = _LOCAL_HEADER.unpack(header)
    if signature != b"PK\3\4":
        raise Broken("not where the zip's directory says")
    return int(_LOCAL_HEADER.size + name_length + extra_length)


def inflate(source: Zip, packed: Member, write: Callable[[bytes], Any], where: str) -> Iterator[int]:
    """Writes the member's file, piece by piece, and yields how many bytes are written.

    Raises Broken if its bytes are not what is promised, BadData if the promise itself is not to be believed.
    """
    if packed.size > MAX_RATIO * packed.packed:
        raise BadData(f"{where}: claims {packed.size:,} bytes in {packed.packed:,}, as no photos do; check the archive")
    wrong = "its size or CRC-32 is wrong"
    start = data_start(source, packed, where)
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    crc = written = 0
    for block in _read_ahead(source, start, min(start + packed.packed, source.size)):
        data = b""
        while block or len(data) == MAX_AT_ONCE:
            try:
                data = inflater.decompress(block, MAX_AT_ONCE)
            except zlib.error as error:
                raise Broken(f"does not inflate: {error}") from None
            block = inflater.unconsumed_tail
            crc = zlib.crc32(data, crc)
            written += len(data)
            if written > packed.size:
                raise Broken(wrong)
            write(data)
            yield written
    if written != packed.size or crc != packed.crc:
        raise Broken(wrong)


def _read_ahead(source: Zip, start: int, stop: int) -> Iterator[bytes]:
    """The bytes start ≤ i < stop in order, MAX_AT_ONCE at a time, several ranges read at once."""
    starts = iter(range(start, stop, MAX_AT_ONCE))
    pool = ThreadPoolExecutor(WORKERS, "unpack")
    ahead: deque[Future[bytes]] = deque()
    try:
        while True:
            for begin in starts:
                ahead.append(pool.submit(source.read, begin, min(stop, begin + MAX_AT_ONCE)))
                if len(ahead) == WORKERS:
                    break
            if not ahead:
                return
            yield ahead.popleft().result()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
