"""The archive: which images it has, in a nested zip or not, and which names are accepted.

Only the zip's directory and the byte ranges of the wanted members are read. A member's name is never used as a path;
it only gives the image's class and number, so it may be absolute, or lead anywhere.
"""

import contextlib
import hashlib
import os
import re
import sys
import time
import zlib
from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple, TypedDict

from catsdogs.data.budget import MAX_FILE
from catsdogs.data.compression import STORED, unreadable
from catsdogs.data.directory import Entry, as_path, extents, member_of, read_directory
from catsdogs.data.image_folder import ImageFolder
from catsdogs.data.labels import CLASSES
from catsdogs.data.zip_reader import MAX_AT_ONCE, MAX_RATIO, Broken, Member, Zip, data_start, inflate
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
_CLASS_FOLDER = re.compile(r"(?:^|/)(cat|dog)s?/(?!(?:.*/)?(?:cat|dog)s?/)", re.IGNORECASE)
"""The innermost folder that is called like a class."""
_INNER_ZIPS = (
    re.compile(r"(?:^|/)train\.zip$", re.IGNORECASE),
    re.compile(r"(?:^|/)dogs-vs-cats[^/]*\.zip$", re.IGNORECASE),
    re.compile(r"(?:^|/)(?!test\d*\.zip$)[^/]*\.zip$", re.IGNORECASE),
    re.compile(r"\.zip$", re.IGNORECASE),
)
"""Which inner zip has the images: the first pattern that fits any. Kaggle's test1.zip has none with a label."""
_HIDDEN = re.compile(r"(?:^|/)(?:__MACOSX/|\.(?!\.?/))")
"""Hidden names, such as of previews and the trash, and the attributes that macOS adds beside each member."""

MIN_TOTAL = 1 << 30
"""Bytes that the images may claim however small they are in the zip."""
WHOLE = 4
"""A folder is called after one class for the whole if it has more than one image of the other for so many elsewhere."""
MAX_DEPTH = 3
"""Zips within each other, the archive included: people zip the folder into which they downloaded Kaggle's."""
STRAY = 2
"""Images beside train.zip are not the archive's own if train.zip has more than so many times their bytes."""
FEW = 10
"""Images beside any zip are not the archive's own if they are no more than that, and the zip is larger."""


class Identity(TypedDict):
    """Which archive it is, as split.json and run.json record it."""

    uri: str
    size: int
    etag: str
    directory_sha256: str
    """Over the names, sizes and CRCs in the zip's directory: the same for the same contents."""


class Unusable(NamedTuple):
    """An image that is excluded for what the directory says of it, without having been read."""

    member: Member
    reason: str


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
    """A compressed inner zip of `zip`, which has the images."""
    within: tuple[str, ...] = ()
    """The names of the zips within each other that lead to `zip`; none for the archive itself."""
    unusable: list[Unusable] = field(default_factory=list)
    stray: list[str] = field(default_factory=list)
    """The names of images beside the inner zip that is used."""

    @property
    def where(self) -> str:
        """The zip, as messages name it."""
        return ": ".join((self.uri, *self.within))

    def numbers(self, label: str) -> list[int]:
        """Return the numbers of a class's images, ascending."""
        return sorted(number for other, number in self.images if other == label)

    @property
    def zips(self) -> list[str]:
        """The names of the zips beside the images, which are passed over. Kaggle's test1.zip does not count."""
        return [name for name in self.passed_over if _INNER_ZIPS[2].search(as_path(name))]

    def excluded(self) -> dict[tuple[str, int], str]:
        """Return image → reason for the unusable ones, unless another member is the image."""
        reasons = {(member.label, member.number): reason for member, reason in self.unusable}
        return {image: reason for image, reason in reasons.items() if image not in self.images}


def open_archive(uri: str, storage_options: StorageOptions = DEFAULTS) -> Archive:
    """Read the directory of the zip at `uri`, and that of an uncompressed zip inside it; or a local folder of images.

    Accepts Kaggle's dogs-vs-cats.zip, its train.zip, the same images in any folder, and Microsoft's PetImages, each
    also within another zip. Raises NotFound, BadData if it is none of them, and what the store raises.
    """
    if "://" not in uri and os.path.isdir(uri):
        return _open_folder(uri)
    store, name = open_object(uri, storage_options)
    stat = store.stat(name)
    outer = Zip(store, name, stat.etag, 0, stat.size)
    entries = read_directory(outer, uri)
    identity = Identity(uri=uri, size=stat.size, etag=stat.etag, directory_sha256=_digest(entries))
    return _with_images_of(Archive(uri, identity, outer, {}, []), entries)


def _open_folder(path: str) -> Archive:
    folder = ImageFolder(path, lambda name: _labelled(as_path(name)) is not None)
    source = Zip(folder, path, "", 0, folder.size)
    if not folder.entries and not folder.unread:
        zips = [name for pattern in _INNER_ZIPS for name in folder.others if pattern.search(as_path(name))]
        advice = f"give {os.path.join(path, zips[0])}" if zips else "give a folder of images, or their zip"
        examples = ", ".join(folder.others[:3]) + (", …" if len(folder.others) > 3 else "")
        raise BadData(
            f"{path}: a folder in which no image is named like cat.0.jpg or Cat/0.jpg; found {examples or 'nothing'};"
            f" {advice}"
        )
    found = _images(source, folder.entries, path)
    unusable = [*found.unusable]
    for name, reason in folder.unread.items():
        label = _labelled(as_path(name))
        assert label is not None
        unusable.append(Unusable(Member(*label, name, 0, 0, 0, 0, 0, STORED), reason))
    if not found.images:
        raise _none_usable(path, unusable)
    digest = _digest(folder.entries)
    identity = Identity(uri=path, size=folder.size, etag=digest[:16], directory_sha256=digest)
    return Archive(path, identity, source, found.images, [*found.passed_over, *folder.others], unusable=unusable)


def _digest(entries: list[Entry]) -> str:
    digest = hashlib.sha256()
    for entry in entries:
        digest.update(f"{entry.name}\0{entry.crc:08x}\0{entry.size}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def _none_usable(where: str, unusable: Sequence[Unusable]) -> BadData:
    first = unusable[0]
    return BadData(f"{where}: none of its {len(unusable):,} images is usable: {first.member.name} {first.reason}")


def unpack(archive: Archive, directory: AnyPath, log: Log, interruption: Interruption) -> Archive:
    """Stream a compressed inner zip to `directory`, unless it is there already; return the archive with its images.

    Raises BadData if the CRC-32 is wrong or the zip has no images, Interrupted (also while another process unpacks
    there), VolumeError, and what the store raises.
    """
    unpacked: list[AnyPath] = []
    try:
        while (packed := archive.packed) is not None:
            nested = f"-{len(archive.within) + 1}" if archive.within else ""
            path = directory / f"{archive.identity['directory_sha256'][:16]}{nested}.zip"
            if not _is_intact(path, packed):
                _unpack(archive, packed, path, log, interruption)
            unpacked.append(path)
            store = Folder(directory)
            stat = store.stat(path.name)
            archive = _opened(archive, Zip(store, path.name, stat.etag, 0, stat.size), packed.name)
    except BadData:
        # They are of no use to anybody.
        for path in unpacked:
            with volume.failures(path):
                volume.remove(path)
        raise
    return archive


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
    """Write the inner zip to `path`, instead of a damaged one. Raises BadData, and what the store raises."""
    with volume.failures(path):
        exists = volume.exists(path)
    if exists:
        log.emit(UnpackedDamaged(path=str(path)))
    began = time.monotonic()
    with volume.lock(path.parent):
        _write(archive, packed, path, log, interruption)
    log.emit(Unpacked(member=packed.name, size=packed.size, seconds=time.monotonic() - began))


def _write(archive: Archive, packed: Member, path: AnyPath, log: Log, interruption: Interruption) -> None:
    """Raises BadData if the inner zip is broken twice: the first damage may be the network's."""
    where = f"{archive.where}: {packed.name}"
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


def _opened(archive: Archive, inner: Zip, name: str) -> Archive:
    """Return the archive with the images of the inner zip `name`. Raises BadData if there are none."""
    below = replace(archive, zip=inner, packed=None, within=(*archive.within, name))
    return _with_images_of(below, read_directory(inner, below.where))


def _with_images_of(archive: Archive, entries: list[Entry]) -> Archive:
    """Return the archive with the images of its `zip`, whose directory has these entries.

    If they lie in an uncompressed inner zip, that one becomes its `zip`; a compressed one becomes `packed`. Raises
    BadData if there are no images.
    """
    where, source = archive.where, archive.zip
    prefix = "".join(f"{name}/" for name in archive.within)
    found = _images(source, entries, where)
    inner = _inner_zip(entries, found, where)
    others = [prefix + name for name in found.passed_over if inner is None or name != inner.name]
    archive = replace(archive, passed_over=[*archive.passed_over, *others])
    if inner is None:
        if not found.images:
            raise _none_usable(where, found.unusable)
        return replace(archive, images=found.images, unusable=found.unusable)
    if len(archive.within) + 1 == MAX_DEPTH:
        raise BadData(f"{where}: has its images in {inner.name}, {MAX_DEPTH + 1} zips deep; give {inner.name} itself")
    beside = [member.name for member in [*found.images.values(), *(member for member, _ in found.unusable)]]
    packed = member_of(inner, extents(source, entries)[inner.offset])
    archive = replace(archive, packed=packed, stray=[*archive.stray, *(prefix + name for name in beside)])
    if packed.method == STORED:
        base = data_start(source, packed, where)
        size = min(packed.size, source.size - base)
        return _opened(archive, replace(source, base=source.base + base, size=size), packed.name)
    _check_inner(packed, archive)
    return archive


def _check_inner(packed: Member, archive: Archive) -> None:
    """Raise BadData unless the inner zip's claim is credible; each zip around it may be compressed, too."""
    limit = MAX_RATIO * min(packed.packed, archive.identity["size"])
    if packed.size > limit:
        raise BadData(
            f"{archive.where}: {packed.name}: claims {packed.size:,} bytes in {packed.packed:,}, as no photos do;"
            " check the archive"
        )


def _labelled(path: str) -> tuple[str, int] | None:
    """Return class and number, or None unless the name gives them and is not hidden."""
    match = None if _HIDDEN.search(path) else _KAGGLE.search(path) or _PETIMAGES.search(path)
    # Interned: one string for a class instead of one for each image.
    return (sys.intern(match[1].lower()), int(match[2])) if match else None


def _misplaced(labelled: Sequence[tuple[Entry, tuple[str, int] | None]]) -> dict[str, str]:
    """Return path → class, for images in a folder that is called after that class and not after their own.

    One folder called "dogs", in which both classes lie, is somebody's name for the whole.
    """
    folders: dict[str, tuple[str, str]] = {}
    """Path → the image's class, and that of the innermost folder that has one."""
    direct: set[str] = set()
    images = 0
    for entry, label in labelled:
        if label is not None:
            images += 1
            if match := _CLASS_FOLDER.search(entry.path):
                folders[entry.path] = label[0], match[1].lower()
                if "/" not in entry.path[match.end() :]:
                    direct.add(match[1].lower())
    misplaced = {path: folder for path, (label, folder) in folders.items() if folder != label}
    few = len(misplaced) * WHOLE <= images - len(misplaced)
    return misplaced if few or direct.issuperset(CLASSES) else {}


@dataclass
class _Found:
    """What a zip's directory has."""

    images: dict[tuple[str, int], Member] = field(default_factory=dict)
    unusable: list[Unusable] = field(default_factory=list)
    passed_over: list[str] = field(default_factory=list)


def _images(source: Zip, entries: list[Entry], where: str) -> _Found:
    """Return the images and the other files. Raises BadData for encrypted or ambiguous images."""
    extent_of = extents(source, entries)
    found = _Found()
    labelled = [(entry, _labelled(entry.path)) for entry in entries]
    misplaced = _misplaced(labelled)
    places: dict[int, tuple[str, int]] = {}
    """Where images lie, and the first one that lies there."""
    for entry, label in labelled:
        if label is None:
            if not entry.is_folder:
                found.passed_over.append(entry.name)
            continue
        if entry.is_encrypted:
            raise BadData(f"{where}: {entry.name} is encrypted; recreate the zip without a password")
        reason = unreadable(entry.method) or _hopeless(entry)
        if folder := misplaced.get(entry.path):
            reason = f"lies in a folder of {folder}s, but its name says {label[0]}"
        if places.setdefault(entry.offset, label) != label:
            # Read once, or a zip of a few MB could give work for hours.
            found.passed_over.append(entry.name)
            continue
        member = member_of(entry, extent_of[entry.offset], *label)
        if reason is not None:
            found.unusable.append(Unusable(member, reason))
            continue
        twin = found.images.setdefault(label, member)
        if twin is not member:
            if (twin.size, twin.crc) != (member.size, member.crc):
                raise BadData(f"{where}: {twin.name} and {member.name} claim the same image; remove one of them")
            found.passed_over.append(entry.name)
    _check_total(found.images.values(), where)
    _exclude_two_labels(found)
    return found


def _hopeless(entry: Entry) -> str | None:
    """Return why a member of this size can be no image; None if it can."""
    if entry.size > MAX_FILE:
        return f"claims {entry.size:,} bytes, more than {MAX_FILE:,}"
    return None if entry.size else "is an empty file"


def _exclude_two_labels(found: _Found) -> None:
    """Exclude the images of which the other class has the same bytes: one of the two labels is wrong."""
    same: dict[tuple[int, int], list[Member]] = defaultdict(list)
    for member in found.images.values():
        same[member.content].append(member)
    for members in same.values():
        firsts = {member.label: member for member in reversed(members)}
        if len(firsts) > 1:
            for member in members:
                [other] = (first for label, first in firsts.items() if label != member.label)
                reason = f"has the same bytes as {other.name}, but another label"
                found.unusable.append(Unusable(member, reason))
                del found.images[member.label, member.number]


def _check_total(members: Collection[Member], where: str) -> None:
    """Raise BadData if the images claim to be far larger than they are in the zip: inflating them could take hours."""
    size = sum(member.size for member in members if member.size <= MAX_FILE)
    packed = sum(member.packed for member in members if member.size <= MAX_FILE)
    if size > max(MIN_TOTAL, MAX_RATIO * packed):
        raise BadData(f"{where}: its images claim {size:,} bytes in {packed:,}, as no photos do; check the archive")


def _inner_zip(entries: Sequence[Entry], found: _Found, where: str) -> Entry | None:
    """Return the inner zip that has the images; None if they lie beside it. Raises BadData if there are neither."""
    zips = [entry for entry in entries if not _HIDDEN.search(entry.path)]
    chosen: list[Entry] = []
    for pattern in _INNER_ZIPS:
        if chosen := [entry for entry in zips if pattern.search(entry.path)]:
            break
    if count := len(found.images) + len(found.unusable):
        beside = sum(member.size for member in [*found.images.values(), *(member for member, _ in found.unusable)])
        size = sum(entry.size for entry in chosen)
        is_stray = size > beside if count <= FEW else size > STRAY * beside and pattern in _INNER_ZIPS[:2]
        if not is_stray or pattern is _INNER_ZIPS[-1]:
            return None
    if len(chosen) > 1:
        names = ", ".join(entry.name for entry in chosen[:3])
        raise BadData(
            f"{where}: {len(chosen)} inner zips may have the images: {names}{', …' if len(chosen) > 3 else ''};"
            " give one of them as the archive, or a zip with one of them"
        )
    if len(chosen) != 1:
        files = [entry for entry in entries if not entry.is_folder] or entries
        examples = ", ".join(entry.name for entry in files[:3])
        raise BadData(
            f"{where}: no image is named like cat.0.jpg or Cat/0.jpg, and there is no train.zip;"
            f" found {examples}{', …' if len(files) > 3 else ''}; give Kaggle's dogs-vs-cats.zip or PetImages"
        )
    [inner] = chosen
    if inner.is_encrypted:
        raise BadData(f"{where}: {inner.name} is encrypted; recreate the zip without a password")
    if (reason := unreadable(inner.method)) is not None:
        raise BadData(f"{where}: {inner.name} {reason}")
    return inner
