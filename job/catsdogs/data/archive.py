"""The archive: which images it has, in a nested zip or not, and which names are accepted.

Only the zip's directory and the byte ranges of the wanted members are read. A member's name is never used as a path;
it only gives the image's class and number.
"""

import contextlib
import hashlib
import os
import re
import sys
import time
import zipfile
import zlib
from dataclasses import dataclass, replace
from typing import TypedDict

from catsdogs.data.zip_reader import (
    MAX_AT_ONCE,
    Broken,
    Member,
    Zip,
    data_start,
    extents,
    inflate,
    member_of,
    read_directory,
)
from catsdogs.runtime.errors import BadData
from catsdogs.runtime.events import Unpacked, UnpackedDamaged, Unpacking, UnpackingAgain
from catsdogs.runtime.log import Log
from catsdogs.runtime.signals import Interruption
from catsdogs.storage import volume
from catsdogs.storage.address import open_object
from catsdogs.storage.folder import Folder
from catsdogs.storage.store import DEFAULTS, StorageOptions
from catsdogs.storage.volume import AnyPath

_KAGGLE = re.compile(r"(?:^|/)(cat|dog)\.(\d{1,9})\.jpe?g$", re.IGNORECASE)
_PETIMAGES = re.compile(r"(?:^|/)(cat|dog)s?/(\d{1,9})\.jpe?g$", re.IGNORECASE)


class Identity(TypedDict):
    """Which archive it is, as split.json and run.json record it."""

    uri: str
    size: int
    etag: str
    directory_sha256: str
    """Over the names, sizes and CRCs in the zip's directory: the same for the same contents."""


@dataclass(frozen=True)
class Archive:
    """What the archive holds. While `packed` is set, its images are not known yet: see `unpack`."""

    uri: str
    identity: Identity
    zip: Zip
    images: dict[tuple[str, int], Member]
    passed_over: list[str]
    """The names of the other files."""
    packed: Member | None = None
    """A compressed inner zip, which has the images."""

    def numbers(self, label: str) -> list[int]:
        """Return the numbers of a class's images, ascending."""
        return sorted(number for other, number in self.images if other == label)


def open_archive(uri: str, storage_options: StorageOptions = DEFAULTS) -> Archive:
    """Read the directory of the zip at `uri`, and that of an uncompressed zip inside it.

    Accepts Kaggle's dogs-vs-cats.zip, its train.zip, the same images in any folder, and Microsoft's PetImages. Raises
    NotFound, BadData if it is none of them, and what the store raises.
    """
    store, name = open_object(uri, storage_options)
    stat = store.stat(name)
    outer = Zip(store, name, stat.etag, 0, stat.size)
    entries = read_directory(outer, uri)
    digest = hashlib.sha256()
    for entry in entries:
        digest.update(f"{entry.filename}\0{entry.CRC:08x}\0{entry.file_size}\n".encode("utf-8", "surrogateescape"))
    identity = Identity(uri=uri, size=stat.size, etag=stat.etag, directory_sha256=digest.hexdigest())
    images, passed_over = _images(outer, entries, uri)
    archive = Archive(uri, identity, outer, images, passed_over)
    if images:
        return archive
    entry = _inner_zip(entries, uri)
    passed_over.remove(entry.filename)
    packed = member_of(entry, extents(outer, entries)[entry.header_offset])
    if entry.compress_type != zipfile.ZIP_STORED:
        return replace(archive, packed=packed)
    base = data_start(outer, packed, uri)
    inner = replace(outer, base=base, size=min(packed.size, outer.size - base))
    return _with_images_of(archive, inner, packed.name)


def unpack(archive: Archive, directory: AnyPath, log: Log, interruption: Interruption) -> Archive:
    """Stream a compressed inner zip to `directory`, unless it is there already; return the archive with its images.

    Raises BadData if the CRC-32 is wrong, Interrupted (also while another process unpacks there), VolumeError, and what
    the store raises.
    """
    packed = archive.packed
    if packed is None:
        return archive
    path = directory / f"{archive.identity['directory_sha256'][:16]}.zip"
    if not _is_intact(path, packed):
        with volume.failures(path):
            exists = volume.exists(path)
        if exists:
            log.emit(UnpackedDamaged(path=str(path)))
        began = time.monotonic()
        with volume.lock(directory):
            _unpack(archive, packed, path, log, interruption)
        log.emit(Unpacked(member=packed.name, size=packed.size, seconds=time.monotonic() - began))
    store = Folder(directory)
    stat = store.stat(path.name)
    return _with_images_of(archive, Zip(store, path.name, stat.etag, 0, stat.size), packed.name)


def _is_intact(path: AnyPath, packed: Member) -> bool:
    """Whether the unpacked zip is there, with the size and CRC-32 that the archive claims."""
    crc = size = 0
    with volume.failures(path), contextlib.suppress(FileNotFoundError), volume.open_file(path) as file:
        if os.fstat(file.fileno()).st_size != packed.size:
            return False
        while block := file.read(MAX_AT_ONCE):
            crc, size = zlib.crc32(block, crc), size + len(block)
    return (size, crc) == (packed.size, packed.crc)


def _unpack(archive: Archive, packed: Member, path: AnyPath, log: Log, interruption: Interruption) -> None:
    """Write the inner zip to `path`. Raises BadData if it is broken twice: the first damage may be the network's."""
    where = f"{archive.uri}: {packed.name}"
    for last in (False, True):
        try:
            with volume.new_file(path) as file:
                for written in inflate(archive.zip, packed, file.write, where):
                    log.emit(Unpacking(member=packed.name, done=written, total=packed.size))
                    interruption.check()
            return
        except Broken as reason:
            if last:
                raise BadData(f"{where}: {reason}; download the archive again") from None
            log.emit(UnpackingAgain(member=packed.name, reason=str(reason)))


def _labelled(name: str) -> tuple[str, int] | None:
    """Return class and number, or None unless a plain relative name gives them."""
    if name.startswith("/") or "\\" in name or ".." in name.split("/"):
        return None
    match = _KAGGLE.search(name) or _PETIMAGES.search(name)
    # Interned: one string for a class instead of one for each image.
    return (sys.intern(match[1].lower()), int(match[2])) if match else None


def _images(source: Zip, entries: list[zipfile.ZipInfo], where: str) -> tuple[dict[tuple[str, int], Member], list[str]]:
    """Return the images, and the names of the other files. Raises BadData for encrypted or ambiguous images."""
    extent_of = extents(source, entries)
    images: dict[tuple[str, int], Member] = {}
    passed_over: list[str] = []
    for entry in entries:
        label = _labelled(entry.filename)
        if label is None:
            # is_dir() would fail on an empty name.
            if not entry.filename.endswith("/"):
                passed_over.append(entry.filename)
            continue
        if entry.flag_bits & 1:
            raise BadData(f"{where}: {entry.filename} is encrypted; recreate the zip without a password")
        member = member_of(entry, extent_of[entry.header_offset], *label)
        twin = images.setdefault(label, member)
        if twin is not member:
            if (twin.size, twin.crc) != (member.size, member.crc):
                raise BadData(f"{where}: {twin.name} and {member.name} claim the same image; remove one of them")
            passed_over.append(entry.filename)
    return images, passed_over


def _inner_zip(entries: list[zipfile.ZipInfo], where: str) -> zipfile.ZipInfo:
    """Return Kaggle's train.zip, or the only zip there is. Raises BadData."""
    zips = [entry for entry in entries if entry.filename.lower().endswith(".zip")]
    named = [entry for entry in zips if entry.filename.lower().rpartition("/")[2] == "train.zip"]
    chosen = named or zips
    if len(chosen) != 1:
        examples = ", ".join(entry.filename for entry in entries[:3])
        raise BadData(
            f"{where}: no image is named like cat.0.jpg or Cat/0.jpg, and there is no train.zip;"
            f" found {examples}{', …' if len(entries) > 3 else ''}; give Kaggle's dogs-vs-cats.zip or PetImages"
        )
    if chosen[0].flag_bits & 1:
        raise BadData(f"{where}: {chosen[0].filename} is encrypted; recreate the zip without a password")
    if chosen[0].compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise BadData(f"{where}: {chosen[0].filename} is neither stored nor deflated; recreate the zip")
    return chosen[0]


def _with_images_of(archive: Archive, inner: Zip, name: str) -> Archive:
    """Return the archive with the images of its inner zip, the member `name`. Raises BadData if there are none."""
    where = f"{archive.uri}: {name}"
    images, passed_over = _images(inner, read_directory(inner, where), where)
    if not images:
        raise BadData(f"{where}: no image is named like cat.0.jpg or Cat/0.jpg; give Kaggle's dogs-vs-cats.zip")
    passed_over = [*archive.passed_over, *(f"{name}/{inner_name}" for inner_name in passed_over)]
    return replace(archive, zip=inner, images=images, passed_over=passed_over, packed=None)
