"""Which image goes where, and the train/validation/test directories on the volume.

    SPLIT/train/cats/cat.0.jpg … SPLIT/test/dogs/dog.1999.jpg
    SPLIT/split.json      every image's member, size and SHA-256, and what was left out; written last

A split without split.json is unfinished: what lies there is checked, and only the rest is fetched.
"""

import hashlib
import json
import os
import time
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from catsdogs.data.archive import Archive
from catsdogs.data.images import NotAnImage, decode
from catsdogs.data.labels import CLASSES, SPLITS
from catsdogs.data.zip_reader import Member, fetch
from catsdogs.runtime import cores
from catsdogs.runtime.errors import BadData
from catsdogs.runtime.events import Fetching, ImageExcluded, SplitBuilt, SplitDamaged, SplitReused
from catsdogs.runtime.log import Log
from catsdogs.runtime.signals import Interruption
from catsdogs.storage import volume
from catsdogs.workers.group import SINGLE, WorkerGroup

MARKER = "split.json"
FORMAT = 1
MAX_QUARANTINE_LINES = 20

Image = tuple[str, int]
"""Class and number."""


class Counts(NamedTuple):
    """Images per class."""

    train: int
    validation: int
    test: int


class Record(NamedTuple):
    """One image of a split; `path` is relative to the split's directory."""

    path: str
    member: str
    size: int
    sha256: str


@dataclass(frozen=True)
class Split:
    """A complete split on the volume, every file of it verified by this process."""

    directory: Path
    counts: Counts
    archive: dict[str, Any]
    """The identity of the archive that it was made from."""
    images: list[Record]
    quarantined: list[dict[str, str]]
    owners: dict[str, int]
    """Path → the worker that has the file; every worker knows of all images."""

    def paths(self, split: str) -> list[Path]:
        """The files of one split, cats first, in order of their names."""
        return sorted(self.directory / record.path for record in self.images if record.path.startswith(f"{split}/"))

    def owner(self, path: Path) -> int:
        return self.owners[path.relative_to(self.directory).as_posix()]


def split_id(archive: Archive, counts: Counts) -> str:
    """The same for the same archive contents and counts, wherever the archive lies."""
    text = json.dumps([archive.identity["directory_sha256"], counts])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def assign(
    where: str, numbers: Mapping[str, Sequence[int]], counts: Counts, broken: Iterable[Image] = ()
) -> dict[Image, str]:
    """Image → split, as in the seed recipe: per class the first numbers train, the next validate, the next test.
    A class's images come in the order of their places.

    The place of a number that is absent or broken is taken by the lowest number that no place belongs
    to, so that one broken image moves no other. Raises BadData, naming `where`, when a class has too few.
    """
    total = sum(counts)
    split_of_place = [split for split, count in zip(SPLITS, counts, strict=True) for _ in range(count)]
    left_out = set(broken)
    assigned: dict[Image, str] = {}
    short: list[str] = []
    for label in numbers:
        usable = [number for number in numbers[label] if (label, number) not in left_out]
        if len(usable) < total:
            lost = len(numbers[label]) - len(usable)
            short.append(
                f"{total} {label}s are wanted, {len(usable)} are usable" + (f" ({lost} broken)" if lost else "")
            )
            continue
        own = set(usable[:total]) & set(range(total))
        spare = iter([number for number in usable if number >= total])
        for place, split in enumerate(split_of_place):
            assigned[label, place if place in own else next(spare)] = split
    if short:
        raise BadData(
            f"{where}: too few images: {'; '.join(short)};"
            " lower --train-per-class, --validation-per-class or --test-per-class"
        )
    return assigned


def shards(paths: Iterable[str], workers: int) -> dict[str, int]:
    """Path → the worker that fetches, decodes and shows the image; of each split all have equally many, give or take
    one.

    It depends on nothing but the images' order, so that a worker's images stay its own from epoch to epoch and from
    one start to the next.
    """
    seen = dict.fromkeys(SPLITS, 0)
    owners = {}
    for path in paths:
        split = path.partition("/")[0]
        owners[path] = seen[split] % workers
        seen[split] += 1
    return owners


def path_of(image: Image, split: str) -> str:
    return f"{split}/{image[0]}s/{image[0]}.{image[1]}.jpg"


def build(
    archive: Archive, counts: Counts, directory: Path, log: Log, interruption: Interruption, group: WorkerGroup = SINGLE
) -> Split:
    """The split in `directory`: reused if it is complete and verified, else built from what is there and the archive.
    Of several workers each has the files of its shard.

    Raises BadData when too few images are usable, VolumeError, Interrupted, and what the store raises.
    """
    with volume.lock(directory):
        return load(directory, counts, log, group) or _build(archive, counts, directory, log, interruption, group)


def load(directory: Path, counts: Counts, log: Log, group: WorkerGroup = SINGLE) -> Split | None:
    """The split in `directory` if it is complete and each file's SHA-256 is right, for every worker; else None."""
    found = _load(directory, counts, log, group)
    return found if all(group.gathered(found is not None)) else None


def _load(directory: Path, counts: Counts, log: Log, group: WorkerGroup) -> Split | None:
    began = time.monotonic()
    try:
        document = json.loads(volume.read(directory / MARKER) or b"")
        images = [Record(**record) for record in document["images"]]
        if document["counts"] != counts._asdict():
            return None
        owners = shards((record.path for record in images), group.size)
        split = Split(directory, counts, document["archive"], images, document["quarantined"], owners)
    except (ValueError, KeyError, TypeError):
        return None
    damaged = sorted(set(_files(directory)) - {record.path for record in images})
    with ThreadPoolExecutor(cores.usable()) as pool:
        own = [record for record in images if owners[record.path] == group.worker]
        whole = pool.map(lambda record: _is_whole(directory / record.path, record), own)
        damaged += [record.path for record, is_whole in zip(own, whole, strict=True) if not is_whole]
    if damaged:
        log.emit(SplitDamaged(directory=str(directory), count=len(damaged), first=damaged[0]))
        return None
    log.emit(SplitReused(directory=str(directory), images=len(own), seconds=time.monotonic() - began))
    return split


def _is_whole(path: Path, record: Record) -> bool:
    try:
        return path.stat().st_size == record.size and volume.sha256(path) == record.sha256
    except OSError:
        return False


def _files(directory: Path) -> Iterator[str]:
    """Everything in the split's own directories, relative to it: images, and what does not belong there."""
    for split in SPLITS:
        for folder, _, names in os.walk(directory / split):
            within = Path(folder).relative_to(directory).as_posix()
            for name in names:
                yield f"{within}/{name}"


def _build(
    archive: Archive, counts: Counts, directory: Path, log: Log, interruption: Interruption, group: WorkerGroup
) -> Split:
    began = time.monotonic()
    numbers = {label: archive.numbers(label) for label in CLASSES}
    broken: dict[Image, str] = {}
    done: dict[str, Record] = {}
    fetched = moved = 0
    while True:
        known_broken = len(broken)
        paths = {image: path_of(image, split) for image, split in assign(archive.uri, numbers, counts, broken).items()}
        owners = shards(paths.values(), group.size)
        mine = {path: image for image, path in paths.items() if owners[path] == group.worker}
        # By path: a spare may have got another place, when one before it was found broken.
        done = {path: record for path, record in done.items() if path in mine}
        members = {image: archive.images[image] for path, image in mine.items() if path not in done}
        total = len(members) + len(done)

        def check_and_write(member: Member, data: bytes, paths: Mapping[Image, str] = paths) -> str | NotAnImage:
            return _check_and_write(data, directory / paths[member.label, member.number])

        for image, digest in _kept(members, paths, directory, interruption):
            member = members.pop(image)
            done[paths[image]] = Record(paths[image], member.name, member.size, digest)
        for member, result in fetch(archive.zip, members.values(), check_and_write, interruption):
            fetched += 1
            moved += member.packed
            image = member.label, member.number
            if isinstance(result, str):
                done[paths[image]] = Record(paths[image], member.name, member.size, result)
            else:
                broken[image] = str(result)
                if len(broken) <= MAX_QUARANTINE_LINES:
                    log.emit(ImageExcluded(member=member.name, reason=str(result)))
            log.emit(Fetching(done=len(done), total=total))
        if len(broken) > known_broken:
            continue
        # What one worker found broken may be another's to replace.
        known = group.gathered(sorted([*image, reason] for image, reason in broken.items()))
        if all(theirs == known[0] for theirs in known):
            break
        broken = {(label, number): reason for theirs in known for label, number, reason in theirs}
    if group.size > 1:
        done = {path: Record(*record) for theirs in group.gathered(done) for path, record in theirs.items()}
    images = [done[path] for path in owners]
    for path in _files(directory):
        if path not in owners:
            with volume.failures(directory / path):
                (directory / path).unlink()
    split = Split(directory, counts, archive.identity, images, _quarantined(archive, paths, broken), owners)
    with volume.new_file(directory / MARKER) as file:
        # Piece by piece: in one, 25,000 images' would take 30 MB.
        for piece in json.JSONEncoder(indent=1).iterencode(_document(archive, split)):
            file.write(piece.encode())
    sizes = {name: len(CLASSES) * count for name, count in counts._asdict().items()}
    log.emit(
        SplitBuilt(
            directory=str(directory),
            **sizes,
            fetched=fetched,
            moved=moved,
            quarantined=len(broken),
            seconds=time.monotonic() - began,
        )
    )
    return split


def _check_and_write(data: bytes, path: Path) -> str | NotAnImage:
    """Writes a file that decodes, and returns its SHA-256."""
    try:
        decode(data)
    except NotAnImage as reason:
        # A new one: that which was raised holds on to its frames, and with them to the data.
        return NotAnImage(str(reason))
    # Not synced: split.json holds its digest, and is checked before the file is trusted.
    volume.write(path, data, durable=False)
    return hashlib.sha256(data).hexdigest()


def _kept(
    members: Mapping[Image, Member], paths: Mapping[Image, str], directory: Path, interruption: Interruption
) -> Iterator[tuple[Image, str]]:
    """The images that an earlier, unfinished build left whole, each with its SHA-256."""
    there = set(_files(directory))
    for image, member in [(image, member) for image, member in members.items() if paths[image] in there]:
        try:
            data = volume.contents(directory / paths[image])
        except OSError:
            continue
        interruption.check()
        if len(data) == member.size and zlib.crc32(data) == member.crc:
            # It was decoded before it was written.
            yield image, hashlib.sha256(data).hexdigest()


def _quarantined(archive: Archive, chosen: Iterable[Image], broken: Mapping[Image, str]) -> list[dict[str, str]]:
    """What was left out, why, and which image has its place, if it had one; `chosen` is in the order of the places."""
    holders = {label: [number for of, number in chosen if of == label] for label in CLASSES}
    entries = []
    for (label, number), reason in sorted(broken.items()):
        entry = {"member": archive.images[label, number].name, "reason": reason}
        if number < len(holders[label]):
            entry["replaced_by"] = archive.images[label, holders[label][number]].name
        entries.append(entry)
    return entries


def _document(archive: Archive, split: Split) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "archive": split.archive,
        "counts": split.counts._asdict(),
        "images": [record._asdict() for record in split.images],
        "quarantined": split.quarantined,
        "passed_over": {"count": len(archive.passed_over), "examples": archive.passed_over[:10]},
    }
