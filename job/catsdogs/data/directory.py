"""A zip's central directory, entry by entry: what is odd about one member does not condemn the others.

Python's zipfile refuses a whole zip for one name that is not the UTF-8 that it claims, one malformed extra field, one
member of a newer version, or an end with fields that it does not know. Here such a member stays an entry, and its own
bytes decide later whether it can be used.
"""

import struct
from typing import NamedTuple

from catsdogs.data.budget import MAX_FILE
from catsdogs.data.file_types import HEAD, part_of_split, what_it_is
from catsdogs.data.zip_reader import LOCAL_HEADER, Member, Zip
from catsdogs.runtime.errors import BadData

MAX_DIRECTORY = 16 << 20
"""Bytes, ten times as many as 25,000 images need. Python's objects for them take up to ten times as much memory."""
MAX_COMMENT = 0xFFFF
"""Bytes of the zip's comment, between which and the directory the end record lies."""
MAX_EXTENSION = 64 << 10
"""Bytes of a Zip64 end record, with the fields that only its writer knows."""

_END = struct.Struct("<4s4H2IH")
"""The end record: signature, this disk, the directory's disk, entries here, entries, size, offset, comment's length."""
_END64 = struct.Struct("<4sQ4x2I2Q2Q")
"""The Zip64 end record: signature, bytes that follow, and the same in 32 and 64 bits, from this disk to offset."""
_LOCATOR64 = struct.Struct("<4sIQI")
"""What stands between both: signature, disk, offset, disks."""
_ENTRY = struct.Struct("<4s4x2H4x3I3H8xI")
"""Signature, flags, method, CRC-32, packed size, size, the lengths of name, extra field and comment, and offset."""
_USUAL_END = _END64.size + _LOCATOR64.size + _END.size
_SIGNATURE = b"PK\5\6"
_UNKNOWN = 0xFFFFFFFF
_UTF8 = 0x800
_ENCRYPTED = 0x41


class Entry(NamedTuple):
    """A member as the directory has it."""

    name: str
    flags: int
    method: int
    crc: int
    packed: int
    size: int
    offset: int
    """Of its local header in the zip. It may be beyond the end."""

    @property
    def path(self) -> str:
        return as_path(self.name)

    @property
    def is_folder(self) -> bool:
        return self.path.endswith("/")

    @property
    def is_encrypted(self) -> bool:
        return bool(self.flags & _ENCRYPTED)


def as_path(name: str) -> str:
    """Return the name with forward slashes: some writers use backslashes, whatever the format says.

    In Shift-JIS, GBK and Big5 a backslash may be half a character. Taking it for a slash changes only the names of
    folders further up, which nothing depends on.
    """
    return name.replace("\\", "/")


class _Tail:
    """The end of a zip, of which more is read when needed."""

    def __init__(self, source: Zip):
        self._source = source
        self._start = max(0, source.size - _USUAL_END)
        self._data = source.read_confirmed(self._start, source.size)

    def since(self, start: int) -> bytes:
        """Return the zip's bytes from `start` on."""
        start = max(0, start)
        if start < self._start:
            self._data = self._source.read_confirmed(start, self._start) + self._data
            self._start = start
        return self._data[start - self._start :]


class _End(NamedTuple):
    """Where the directory is said to be."""

    place: int
    """Where the record begins that says it, right behind the directory."""
    size: int
    offset: int
    """From the start of the zip, which may have something before it."""
    parts: int
    """Of how many files of a split zip this is the last one."""


def read_directory(source: Zip, where: str) -> list[Entry]:
    """Return the zip's members. Raises BadData, naming `where`, if there are none or the zip is damaged."""
    name = where.rpartition("/")[2]
    tail = _Tail(source)
    end = _end(source, tail)
    if end is None:
        raise BadData(f"{where}: {what_it_is(source.read(0, HEAD), name)}")
    if end.parts > 1:
        raise BadData(
            f"{where}: is the last of {end.parts} parts of a split zip; join them: zip -s 0 {name} --out whole.zip"
        )
    if end.size > MAX_DIRECTORY:
        raise BadData(
            f"{where}: its directory has {end.size:,} bytes, more than {MAX_DIRECTORY:,}; zip the images alone"
        )
    start = end.place - end.size
    data = tail.since(start)[: end.size] if start >= 0 else b""
    if not data.startswith(b"PK\1\2") and 0 <= end.offset <= start:
        # Something that only its writer knows lies between the directory and its end.
        other = tail.since(end.offset)[: end.size] if source.size - end.offset <= 2 * MAX_DIRECTORY else b""
        start, data = (end.offset, other) if other.startswith(b"PK\1\2") else (start, data)
    if start < 0 or (not data and end.size):
        raise BadData(f"{where}: is not a zip, or a truncated one; download the archive again")
    entries = _entries(data, start - end.offset, where)
    if any(entry.offset < 0 for entry in entries):
        raise BadData(f"{where}: {part_of_split(name) or 'its beginning is missing; download the archive again'}")
    if not entries:
        raise BadData(f"{where}: a zip without members; download the archive again")
    return entries


def extents(source: Zip, entries: list[Entry]) -> dict[int, tuple[int, int]]:
    """Return header offset → (start, stop): a member ends where the next one begins."""
    starts = sorted({entry.offset for entry in entries})
    return {start: (start, stop) for start, stop in zip(starts, [*starts[1:], source.size], strict=False)}


def member_of(entry: Entry, extent: tuple[int, int], label: str = "", number: int = 0) -> Member:
    """Return the Member for an entry of the directory."""
    start, stop = extent
    # At most header, name, extra field, data and data descriptor: the next member may be far away, or the size a lie.
    stop = min(stop, start + LOCAL_HEADER.size + 2 * 0xFFFF + min(entry.packed, MAX_FILE) + 24)
    return Member(label, number, entry.name, start, stop, entry.packed, entry.size, entry.crc, entry.method)


def _end(source: Zip, tail: _Tail) -> _End | None:
    """Return what the end of the zip says; None if it has none."""
    place = _end_place(source, tail)
    if place is None:
        return None
    _, disk, directory_disk, *_, size, offset, _ = _END.unpack_from(tail.since(place))
    end64 = _end64(tail, place)
    if end64 is not None:
        place, (disk64, directory_disk64, size, offset) = end64
        disk, directory_disk = max(disk64, disk % 0xFFFF), max(directory_disk64, directory_disk % 0xFFFF)
    return _End(place, size, offset, parts=max(disk, directory_disk) + 1)


def _end_place(source: Zip, tail: _Tail) -> int | None:
    """Return where the end record begins: before the comment, if there is one."""
    place = source.size - _END.size
    if place < 0:
        return None
    data = tail.since(place)
    if data.startswith(_SIGNATURE) and data.endswith(b"\0\0"):
        return place
    start = max(0, place - MAX_COMMENT)
    data = tail.since(start)
    found, last = len(data) - _END.size + len(_SIGNATURE), None
    while (found := data.rfind(_SIGNATURE, 0, found)) >= 0:
        # A comment may have the signature too; only the right one's reaches the end.
        comment = int.from_bytes(data[found + _END.size - 2 : found + _END.size], "little")
        if found + _END.size + comment == len(data):
            return start + found
        last = start + found if last is None else last
        found += len(_SIGNATURE) - 1
    return last


def _end64(tail: _Tail, place: int) -> tuple[int, tuple[int, int, int, int]] | None:
    """Return where the Zip64 end record begins, and its disk, directory's disk, size and offset; None without one."""
    place -= _LOCATOR64.size
    if place < 0 or not tail.since(place).startswith(b"PK\6\7"):
        return None
    for length in (_END64.size, MAX_EXTENSION):
        start = max(0, place - length)
        data = tail.since(start)[: place - start]
        found = len(data)
        while (found := data.rfind(b"PK\6\6", 0, found)) >= 0:
            if found + _END64.size <= len(data):
                _, rest, disk, directory_disk, _, _, size, offset = _END64.unpack_from(data, found)
                if found + 12 + rest == len(data) or length == _END64.size:
                    return start + found, (disk, directory_disk, size, offset)
    return None


def _entries(data: bytes, before: int, where: str) -> list[Entry]:
    """Return the directory's entries. `before` is what precedes the zip. Raises BadData if it is damaged."""
    entries: list[Entry] = []
    place = 0
    while place < len(data) and not data.startswith(b"PK\5\5", place):
        if place + _ENTRY.size > len(data) or not data.startswith(b"PK\1\2", place):
            behind = f"behind {entries[-1].name}" if entries else "at its beginning"
            raise BadData(f"{where}: its directory is damaged {behind}; download the archive again")
        _, flags, method, crc, packed, size, *lengths, offset = _ENTRY.unpack_from(data, place)
        name_at = place + _ENTRY.size
        extra_at = name_at + lengths[0]
        name = _name(data[name_at:extra_at], flags)
        if _UNKNOWN in (packed, size, offset):
            extra = data[extra_at : extra_at + lengths[1]]
            size, packed, offset = _from_zip64(extra, size, packed, offset)
        entries.append(Entry(name, flags, method, crc, packed, size, offset + before))
        place = name_at + sum(lengths)
    return entries


def _name(raw: bytes, flags: int) -> str:
    """Return the name up to its first zero byte, as zipfile does: the archive's identity depends on it."""
    name = None
    if flags & _UTF8:
        try:
            name = raw.decode()
        except UnicodeDecodeError:
            # The flag is wrong.
            name = None
    return (raw.decode("cp437") if name is None else name).partition("\0")[0]


def _from_zip64(extra: bytes, *values: int) -> tuple[int, int, int]:
    """Return size, packed size and offset, each from the extra field if the entry has no room for it.

    What a malformed field does not have stays as it is, a claim that no member can fulfil.
    """
    place = 0
    field = b""
    while place + 4 <= len(extra):
        kind, length = struct.unpack_from("<2H", extra, place)
        if kind == 1:
            field = extra[place + 4 : place + 4 + length]
            break
        place += 4 + length
    result = []
    for value in values:
        if value == _UNKNOWN and len(field) >= 8:
            value, field = int.from_bytes(field[:8], "little"), field[8:]
        result.append(value)
    size, packed, offset = result
    return size, packed, offset
