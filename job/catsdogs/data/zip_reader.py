"""Reads the members of zips in any store: their byte ranges, and their checked bytes."""

import bisect
import contextlib
import struct
import threading
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, CancelledError, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Generic, NamedTuple, Protocol, TypeVar

from catsdogs.data.budget import LARGE, MAX_FILE, MAX_THREADS, give_back
from catsdogs.data.compression import STORED, Damaged, decompressor, unreadable
from catsdogs.runtime import cores
from catsdogs.runtime.errors import BadData, Unavailable
from catsdogs.runtime.signals import Interruption

Result = TypeVar("Result")

MAX_READERS = 16
"""Ranges read at once: enough to fill a 200 Mbit/s link with 30 ms of delay."""
MAX_AT_ONCE = 1 << 20
"""Bytes of one range. Unpacking holds MAX_READERS ranges in memory; fetching holds only pieces of each."""
MAX_GAP = 1 << 10
"""Bytes between two members that are cheaper to read than a second request would be."""
MAX_UNDER_WAY = 32 << 20
"""Bytes of the ranges that are read or handled at once, unless one alone has more."""
MAX_RATIO = 100
"""The size of an inner zip, or of all images, over the compressed size; photographs hardly compress."""
MAX_CONFIRMING_READS = 4
"""How often bytes without a checksum are read, at most, until two reads agree."""

LOCAL_HEADER = struct.Struct("<4s22x2H")
"""What a zip has before each member: signature, …, length of the name, length of the extra field."""


class Member(NamedTuple):
    """A file in a zip. Label and number are those of an image of the archive, else ("", 0)."""

    label: str
    number: int
    name: str
    start: int
    stop: int
    """Local header, data, and what may follow them are within the bytes start ≤ i < stop of the zip."""
    packed: int
    size: int
    crc: int
    method: int

    @property
    def content(self) -> tuple[int, int]:
        """What two members have in common, as far as the directory tells, if their bytes are the same."""
        return self.size, self.crc


class Broken(Exception):
    """A member's bytes are not what the zip's directory claims; the text is the reason."""


class Source(Protocol):
    """What a zip is read from: a Store, or what reads like one."""

    @property
    def detects_corruption(self) -> bool:
        """As a Store's."""

    def uri(self, key: str) -> str:
        """As a Store's."""

    def stream(self, key: str, start: int, stop: int, etag: str, /) -> Iterator[bytes]:
        """As a Store's."""


@dataclass(frozen=True)
class Zip:
    """A zip of `size` bytes that begins at byte `base` of an object."""

    store: Source
    key: str
    etag: str
    base: int
    size: int

    def stream(self, start: int, stop: int) -> Iterator[bytes]:
        """Yield the bytes start ≤ i < stop that there are, in chunks. Raises what the store raises."""
        # A directory may claim offsets beyond the end, or beyond what any file can have.
        start, stop = min(start, self.size), min(stop, self.size)
        return self.store.stream(self.key, self.base + start, self.base + stop, self.etag)

    def read(self, start: int, stop: int) -> bytes:
        """Return the bytes start ≤ i < stop that there are."""
        return b"".join(self.stream(start, stop))

    def read_confirmed(self, start: int, stop: int) -> bytes:
        """Return bytes that have no checksum of their own, read until two reads agree if the store may corrupt them.

        Raises Unavailable if they never agree.
        """
        if self.store.detects_corruption:
            return self.read(start, stop)
        with ThreadPoolExecutor(2, "confirm") as pool:
            reads = list(pool.map(self.read, [start] * 2, [stop] * 2))
        while reads[-1] != reads[-2]:
            if len(reads) == MAX_CONFIRMING_READS:
                where = self.store.uri(self.key)
                raise Unavailable(f"{where}: every read gives other bytes; check the network and the storage")
            reads.append(self.read(start, stop))
        return reads[-1]


def fetch(
    source: Zip,
    members: Iterable[Member],
    handle: Callable[[Member, bytes], Result],
    interruption: Interruption,
) -> Iterator[tuple[Member, Result | Broken]]:
    """Read the members and yield each with what `handle` makes of its bytes, or with Broken; in order of arrival.

    Members that lie close together are read in one range, and several ranges at once. A member is read twice before it
    counts as broken. `handle` runs in the readers' threads; an exception from it ends the fetch. However the fetch
    ends, no call of `handle` is running afterwards, so the caller may remove what they made. Raises Interrupted, and
    what the store raises.
    """
    waiting = deque(ranges(members))
    readers = ThreadPoolExecutor(MAX_READERS, "fetch")
    handlers = _Handlers(handle)
    try:
        reading: dict[Future[list[tuple[Member, Result | Broken]]], int] = {}
        """Each range under way, and its bytes."""
        while waiting or reading:
            while waiting and len(reading) < 2 * MAX_READERS:
                size = waiting[0][-1].stop - waiting[0][0].start
                if reading and sum(reading.values()) + size > MAX_UNDER_WAY:
                    break
                reading[readers.submit(_fetch_range, source, waiting.popleft(), handlers)] = size
            done, _ = wait(reading, timeout=0.2, return_when=FIRST_COMPLETED)
            interruption.check()
            for future in done:
                del reading[future]
                yield from future.result()
    finally:
        # A reader may be waiting for the storage to answer, so nobody waits for it.
        readers.shutdown(wait=False, cancel_futures=True)
        handlers.stop()


def ranges(members: Iterable[Member]) -> list[list[Member]]:
    """Group members that lie close together. A group spans at most MAX_AT_ONCE bytes, unless it is a single member."""
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


class _Arrival(NamedTuple):
    """Members that have arrived: `block` has the zip's bytes from `start` on, and these members lie within it."""

    members: list[Member]
    block: bytearray
    start: int

    def extracted(self, member: Member) -> bytes:
        """Return the member's file. Raises Broken. A block that has nothing else is given back: it may be large."""
        start, stop = member.start - self.start, member.stop - self.start
        with memoryview(self.block) as block, block[start:stop] as extent:
            data = extract(member, extent)
        if (start, stop) == (0, len(self.block)):
            self.block.clear()
        return data


def _fetch_range(
    source: Zip, group: list[Member], handlers: "_Handlers[Result]"
) -> list[tuple[Member, Result | Broken]]:
    """Run in a reader's thread: read the group's range, and wait until its members are handled."""
    results = []
    for arrival in _arrivals(source, group):
        for member, result in handlers.results(arrival):
            if isinstance(result, Broken):
                # The damage may have happened on the way: ranged reads carry no checksum.
                [(_, result)] = handlers.results(next(_arrivals(source, [member])))
            results.append((member, result))
    return results


def _arrivals(source: Zip, group: list[Member]) -> Iterator[_Arrival]:
    """Yield the group's members as they arrive, so that they can be handled while the rest of the range is read."""
    block, start = bytearray(), group[0].start
    for piece in source.stream(start, group[-1].stop):
        block += piece
        complete = bisect.bisect_right(group, start + len(block), key=lambda member: member.stop)
        if complete:
            yield _Arrival(group[:complete], block, start)
            used = group[complete - 1].stop - start
            group, block, start = group[complete:], block[used:], start + used
    if group:
        # The zip ends before they do.
        yield _Arrival(group, block, start)


class _Handlers(Generic[Result]):
    """Checks the members' bytes and passes them to `handle`: in the readers' threads, few at a time, until stopped."""

    def __init__(self, handle: Callable[[Member, bytes], Result]):
        self._handle = handle
        self._limit = min(MAX_THREADS, cores.usable())
        self._running = 0
        self._alone = False
        """Whether a reader handles members of which one is large, or waits until no other is handling any."""
        self._stopped = False
        self._changed = threading.Condition()

    def results(self, arrival: _Arrival) -> list[tuple[Member, Result | Broken]]:
        """Return each member with its result. Raises what `handle` raises, and CancelledError once stopped."""
        # A zip of a few kB can ask for MAX_FILE again and again at once.
        alone = any(member.size > LARGE for member in arrival.members)
        with self._slot(alone):
            results = [(member, self._one(member, arrival)) for member in arrival.members]
            if alone:
                give_back()
            return results

    def stop(self) -> None:
        """Start no further call of `handle`, and wait for those that are running."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._running == 0)

    @contextlib.contextmanager
    def _slot(self, alone: bool) -> Iterator[None]:
        """Wait for one of the slots, or for all of them, and hold it in the block."""
        with self._changed:
            self._wait_for(lambda: not self._alone and self._running < self._limit)
            if alone:
                # Nobody else starts from here on.
                self._alone = True
                self._wait_for(lambda: self._running == 0)
            self._running += 1
        try:
            yield
        finally:
            with self._changed:
                self._running -= 1
                if self._alone:
                    self._alone = not alone
                    self._changed.notify_all()
                else:
                    # One waiter is enough: the next reader or, once stopped, the thread that called stop.
                    self._changed.notify()

    def _wait_for(self, ready: Callable[[], bool]) -> None:
        """Wait, with the lock held. Raises CancelledError once stopped."""
        self._changed.wait_for(lambda: self._stopped or ready())
        if self._stopped:
            raise CancelledError

    def _one(self, member: Member, arrival: _Arrival) -> Result | Broken:
        if self._stopped:
            raise CancelledError
        try:
            data = arrival.extracted(member)
        except Broken as broken:
            # A new exception: the one that was raised keeps its frames, and with them the bytes.
            return Broken(str(broken))
        return self._handle(member, data)


def extract(member: Member, raw: memoryview) -> bytes:
    """Return the member's file from its extent in the zip. Raises Broken unless size and CRC-32 are as claimed."""
    claimed = max(member.size, member.packed)
    if claimed > MAX_FILE:
        raise Broken(f"claims {claimed:,} bytes, more than {MAX_FILE:,}")
    offset = _data_offset(raw)
    packed = raw[offset : offset + member.packed]
    if len(packed) < member.packed:
        raise Broken("cut off")
    if (reason := unreadable(member.method)) is not None:
        raise Broken(reason)
    if member.method == STORED:
        data = bytes(packed)
    else:
        try:
            # One byte more than claimed is enough to find the claim wrong.
            data = decompressor(member.method, member.size).decompress(packed, member.size + 1)
        except Damaged as damage:
            raise Broken(str(damage)) from None
    if len(data) != member.size:
        raise Broken(f"its size is not the claimed {member.size:,} bytes")
    if zlib.crc32(data) != member.crc:
        raise Broken("its CRC-32 is wrong")
    return data


def data_start(source: Zip, member: Member, where: str) -> int:
    """Return the offset in the zip at which the member's data begin. Raises BadData."""
    try:
        return member.start + _data_offset(source.read_confirmed(member.start, member.start + LOCAL_HEADER.size))
    except Broken as reason:
        raise BadData(f"{where}: {member.name} is {reason}; download the archive again") from None


def _data_offset(raw: bytes | memoryview) -> int:
    """Return the offset in a member's extent at which its data begin. Raises Broken."""
    header = bytes(raw[: LOCAL_HEADER.size]).ljust(LOCAL_HEADER.size)
    signature, name_length, extra_length = LOCAL_HEADER.unpack(header)
    if signature != b"PK\3\4":
        raise Broken("not where the zip's directory says")
    return int(LOCAL_HEADER.size + name_length + extra_length)


def inflate(source: Zip, packed: Member, write: Callable[[bytes], object], where: str) -> Iterator[int]:
    """Write the member's file piece by piece, yielding the number of bytes written so far.

    Its method is one that is read, other than STORED, and its size has been found credible. Raises Broken if its bytes
    are not as claimed, and BadData if it is not where the directory says.
    """
    wrong = "its size or CRC-32 is wrong"
    start = data_start(source, packed, where)
    stream = decompressor(packed.method, packed.size)
    crc = written = 0
    for block in _read_ahead(source, start, min(start + packed.packed, source.size)):
        data = b""
        while block or len(data) == MAX_AT_ONCE:
            try:
                data = stream.decompress(block, MAX_AT_ONCE)
            except Damaged as damage:
                raise Broken(str(damage)) from None
            block = b""
            crc = zlib.crc32(data, crc)
            written += len(data)
            if written > packed.size:
                raise Broken(wrong)
            write(data)
            yield written
    if written != packed.size or crc != packed.crc:
        raise Broken(wrong)


def _read_ahead(source: Zip, start: int, stop: int) -> Iterator[bytes]:
    """Yield the bytes start ≤ i < stop in order, MAX_AT_ONCE at a time, reading several ranges at once."""
    starts = iter(range(start, stop, MAX_AT_ONCE))
    pool = ThreadPoolExecutor(MAX_READERS, "unpack")
    ahead: deque[Future[bytes]] = deque()
    try:
        while True:
            for begin in starts:
                ahead.append(pool.submit(source.read, begin, min(stop, begin + MAX_AT_ONCE)))
                if len(ahead) == MAX_READERS:
                    break
            if not ahead:
                return
            yield ahead.popleft().result()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
