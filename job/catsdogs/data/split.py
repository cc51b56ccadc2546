"""The split directory on the volume: how it is built, recorded and verified.

    SPLIT/train/cats/cat.0.jpg … SPLIT/test/dogs/dog.1999.jpg
    SPLIT/split.json      every image's member, size and SHA-256, and the excluded images; written last

A split directory without split.json is incomplete: its files are checked, and only the missing ones are fetched.
"""

import contextlib
import hashlib
import json
import re
import time
import zlib
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Annotated, Any, NamedTuple, NotRequired, TypedDict

from catsdogs.data.archive import Archive, Identity, Unusable
from catsdogs.data.assignment import RULE, Assignment, Counts, Image, path_of, shards
from catsdogs.data.images import NotAnImage, check
from catsdogs.data.labels import CLASSES, SPLITS
from catsdogs.data.zip_reader import Member, fetch
from catsdogs.runtime import cores
from catsdogs.runtime.errors import BadData, Interrupted
from catsdogs.runtime.events import Fetching, ImageExcluded, SplitBuilt, SplitDamaged, SplitReused
from catsdogs.runtime.log import Log
from catsdogs.runtime.signals import Interruption
from catsdogs.storage import document, volume
from catsdogs.storage.schema import Check, Count, Sha256
from catsdogs.storage.volume import AnyPath, VolumePath
from catsdogs.workers.group import SINGLE, WorkerGroup

MARKER = "split.json"
FORMAT = 1
"""Of split.json. Files without a rule are of rule 1."""
MAX_SIZE = 64 << 20
"""Bytes of split.json. That of 25,000 images has 5 MB."""
PATH = re.compile(rf"(?:{'|'.join(SPLITS)})/({'|'.join(CLASSES)})s/\1\.[0-9]{{1,9}}\.jpg")
"""What `path_of` gives: a place in one of the splits' directories."""
MAX_EXCLUDED_LINES = 20
"""Excluded images that the log names; split.json names all."""


class Record(NamedTuple):
    """One image of a split; `path` is relative to the split directory."""

    path: str
    member: str
    size: int
    sha256: str


class _RecordDocument(TypedDict):
    path: Annotated[str, Check(lambda path: PATH.fullmatch(path) is not None, "no place of an image")]
    member: str
    size: Count
    sha256: Sha256


class Excluded(TypedDict):
    """An image that is broken, or that no split should have."""

    member: str
    reason: str
    replaced_by: NotRequired[str]
    """The member that has the image's place now, if it had one."""


class SplitDocument(TypedDict):
    """split.json."""

    archive: Identity
    counts: dict[str, Count]
    rule: NotRequired[Count]
    images: list[_RecordDocument]
    quarantined: list[Excluded]


@dataclass(frozen=True)
class Split:
    """A complete split on the volume; this process has verified each of its own files."""

    directory: AnyPath
    counts: Counts
    archive: Identity
    """The archive that the split was made from."""
    images: list[Record]
    excluded: list[Excluded]
    owners: dict[str, int]
    """Path → the worker that has the file; every worker knows all images."""

    def paths(self, split: str) -> list[AnyPath]:
        """Return the files of one split, sorted: cats first."""
        names = sorted(record.path for record in self.images if record.path.startswith(f"{split}/"))
        return [self.directory / name for name in names]

    def owner(self, path: AnyPath) -> int:
        """Return the worker that has the file."""
        return self.owners[volume.relative(path, self.directory)]


def split_id(archive: Archive, counts: Counts) -> str:
    """Return the split's id: 16 hexadecimal digits, from the archive's contents, the counts and the rule.

    The archive's address does not matter.
    """
    # The ids of rule 1 are those of the time when rules had no version, so that the splits of that time stay valid.
    parts = [archive.identity["directory_sha256"], counts, *([] if RULE == 1 else [RULE])]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]


def candidates(archive: Archive) -> tuple[dict[str, list[int]], dict[Image, tuple[int, int]]]:
    """Return the numbers of each class in the archive, ascending, and what tells equal images apart from others.

    The numbers include those that the directory excludes: see `Archive.excluded`.
    """
    images = [*archive.images, *archive.excluded()]
    numbers = {label: sorted(number for other, number in images if other == label) for label in CLASSES}
    contents = {image: member.content for image, member in archive.images.items()}
    return numbers, contents


@contextlib.contextmanager
def naming_zips(archive: Archive) -> Iterator[None]:
    """Where the block finds too few images, name the zips beside them, which may have others."""
    try:
        yield
    except BadData as error:
        if not archive.zips:
            raise
        names = ", ".join(archive.zips[:3]) + (", …" if len(archive.zips) > 3 else "")
        raise BadData(f"{error}; or give the zip that has the images: passed over beside them is {names}") from None


def build(
    archive: Archive,
    counts: Counts,
    directory: VolumePath,
    log: Log,
    interruption: Interruption,
    group: WorkerGroup = SINGLE,
) -> Split:
    """Return the split in `directory`: reused if complete, intact and without images that the archive's directory
    excludes, else built from its sound files and the archive.

    Files there that are not the split's are left alone. Each worker of a group has the files of its shard only. Raises
    BadData if too few images are usable, ConfigError if a newer version wrote split.json, VolumeError, Interrupted, and
    what the store raises.
    """
    with volume.lock(directory):
        recorded = load(directory, counts, log, group)
        if recorded is not None and _is_sound(recorded, archive):
            return recorded
        return _Builder(archive, counts, directory, log, interruption, group).build()


def _is_sound(split: Split, archive: Archive) -> bool:
    """Whether the archive's directory excludes none of the split's images: older versions did not ask it."""
    members = {member.name: member for member in archive.images.values()}
    splits: dict[tuple[int, int], str] = {}
    for record in split.images:
        member = members.get(record.member)
        own = record.path.partition("/")[0]
        if member is None or splits.setdefault(member.content, own) != own:
            return False
    return True


def load(directory: VolumePath, counts: Counts, log: Log, group: WorkerGroup = SINGLE) -> Split | None:
    """Return the split in `directory` if every worker finds it complete and each SHA-256 right, else None.

    Raises ConfigError if a newer version wrote split.json, and VolumeError.
    """
    split = _load(directory, counts, log, group)
    return split if all(group.gather_json(split is not None, bool)) else None


def _load(directory: VolumePath, counts: Counts, log: Log, group: WorkerGroup) -> Split | None:
    began = time.monotonic()
    split = _recorded(directory, counts, group.size)
    if split is None:
        return None
    own = [record for record in split.images if split.owners[record.path] == group.worker]
    with ThreadPoolExecutor(cores.usable()) as pool:
        intact = pool.map(lambda record: _is_intact(directory / record.path, record), own)
        damaged = [record.path for record, is_intact in zip(own, intact, strict=True) if not is_intact]
    if damaged:
        log.emit(SplitDamaged(directory=str(directory), count=len(damaged), first=damaged[0]))
        return None
    log.emit(SplitReused(directory=str(directory), images=len(own), seconds=time.monotonic() - began))
    return split


def _recorded(directory: VolumePath, counts: Counts, workers: int) -> Split | None:
    """Return the split that split.json records, or None unless it is there, readable, and of these counts and RULE."""
    path = directory / MARKER
    try:
        recorded = parse(volume.read(path, MAX_SIZE) or b"", str(path))
    except ValueError:
        return None
    if recorded["counts"] != counts._asdict() or recorded.get("rule", 1) != RULE:
        return None
    images = [
        Record(record["path"], record["member"], record["size"], record["sha256"]) for record in recorded["images"]
    ]
    folders = Counter(record.path.rpartition("/")[0] for record in images)
    if folders != {f"{split}/{label}s": count for split, count in recorded["counts"].items() for label in CLASSES}:
        return None
    owners = shards((record.path for record in images), workers)
    return Split(directory, counts, recorded["archive"], images, recorded["quarantined"], owners)


def parse(data: bytes, where: str) -> SplitDocument:
    """Return the content of a split.json from `where`.

    Raises ConfigError if a newer version wrote it, and ValueError if it is not such a document.
    """
    recorded = document.load_as(SplitDocument, data, FORMAT, where)
    paths = {record["path"] for record in recorded["images"]}
    if len(paths) != len(recorded["images"]):
        raise ValueError("images: a path is there twice")
    return recorded


def _is_intact(path: AnyPath, record: Record) -> bool:
    """Whether the file has the record's size and SHA-256. Raises VolumeError if it cannot be read."""
    data = _contents(path, record.size)
    return data is not None and hashlib.sha256(data).hexdigest() == record.sha256


def _contents(path: AnyPath, size: int) -> bytes | None:
    """Return the file's bytes; None unless there is a file of that size. Raises VolumeError if it cannot be read."""
    with contextlib.suppress(volume.Missing), volume.read_failures(path):
        data = volume.contents(path, size)
        return data if len(data) == size else None
    return None


def _files(directory: VolumePath) -> Iterator[str]:
    """Yield every file in the three splits' directories, images and others, as a path relative to `directory`.

    Raises VolumeError.
    """
    with volume.failures(directory):
        for split in SPLITS:
            for name in volume.walk(directory / split):
                yield f"{split}/{name}"


class _Builder:
    """One build of a split, and what this worker knows so far: its files, and the broken images."""

    def __init__(
        self, archive: Archive, counts: Counts, directory: VolumePath, log: Log, interruption: Interruption,
        group: WorkerGroup,
    ):  # fmt: skip
        self._archive, self._counts, self._directory = archive, counts, directory
        self._log, self._interruption, self._group = log, interruption, group
        self._began = time.monotonic()
        self._known = archive.excluded()
        """Image → reason: those that the archive's directory excludes."""
        self._broken: dict[Image, str] = {}
        """Image → reason: those that were read."""
        self._tried: set[Image] = set()
        """The images that some worker has read."""
        self._excluded_lines = 0
        self._records: dict[str, Record] = {}
        """By path: an image may move to another place when one before it proves broken."""
        self._fetched = self._moved = 0
        """Images and bytes."""

    def build(self) -> Split:
        assignment = self._complete()
        self._report_known(assignment)
        records = self._all_records(assignment)
        self._remove_misplaced(assignment)
        split = Split(
            self._directory,
            self._counts,
            self._archive.identity,
            [records[path] for path in assignment.owners],
            _excluded(self._archive, assignment, {**self._broken, **assignment.copies}),
            assignment.owners,
        )
        _write_marker(split, self._archive.passed_over)
        self._report(len(split.excluded))
        return split

    def _complete(self) -> Assignment:
        """Fetch until every worker has a sound file for each place of its own; return the assignment they agree on."""
        numbers, contents = candidates(self._archive)
        while True:
            broken = len(self._broken)
            with naming_zips(self._archive):
                assignment = Assignment.of(
                    self._archive.uri,
                    numbers,
                    self._counts,
                    contents,
                    {**self._known, **self._broken},
                    self._group.size,
                    self._tried,
                )
            self._tried |= assignment.paths.keys()
            self._fetch(assignment)
            # Each broken image changes the assignment. The others are asked only once this worker is complete.
            if len(self._broken) == broken and self._agreed():
                return assignment

    def _agreed(self) -> bool:
        """Whether all workers know the same broken images; if not, this one knows all of theirs afterwards."""
        ours = sorted((label, number, reason) for (label, number), reason in self._broken.items())
        reports = self._group.gather_json(ours, list[tuple[str, int, str]])
        self._broken = {(label, number): reason for report in reports for label, number, reason in report}
        if not self._broken.keys() <= self._archive.images.keys():
            raise Interrupted(
                "a worker reports a broken image that the archive does not have; run the same command again"
            )
        return all(report == reports[0] for report in reports)

    def _fetch(self, assignment: Assignment) -> None:
        """Make this worker's files, from those on the volume and from the archive; record which images are broken."""
        own = assignment.images_of(self._group.worker)
        self._records = {path: record for path, record in self._records.items() if path in own}
        missing = {image: self._archive.images[image] for path, image in own.items() if path not in self._records}
        for image, digest in _kept(missing, assignment.paths, self._directory, self._interruption):
            self._record(assignment.paths[image], missing.pop(image), digest)

        def check_and_write(member: Member, data: bytes) -> str | NotAnImage:
            return _check_and_write(data, self._directory / assignment.paths[member.label, member.number])

        for member, result in fetch(self._archive.zip, missing.values(), check_and_write, self._interruption):
            self._fetched += 1
            self._moved += member.packed
            image = member.label, member.number
            if isinstance(result, str):
                self._record(assignment.paths[image], member, result)
            else:
                self._exclude(image, member, str(result))
            self._log.emit(Fetching(done=len(self._records), total=len(own)))

    def _record(self, path: str, member: Member, digest: str) -> None:
        self._records[path] = Record(path, member.name, member.size, digest)

    def _exclude(self, image: Image, member: Member, reason: str) -> None:
        self._broken[image] = reason
        self._report_excluded(member.name, reason)

    def _report_known(self, assignment: Assignment) -> None:
        """Report what is excluded by what the directory says: every worker knows it, and one says it."""
        if self._group.worker == 0:
            for member, reason in self._archive.unusable:
                self._report_excluded(member.name, reason)
            for copy, reason in assignment.copies.items():
                self._report_excluded(self._archive.images[copy].name, reason)

    def _report_excluded(self, member: str, reason: str) -> None:
        self._excluded_lines += 1
        if self._excluded_lines <= MAX_EXCLUDED_LINES:
            self._log.emit(ImageExcluded(member=member, reason=reason))

    def _all_records(self, assignment: Assignment) -> dict[str, Record]:
        """Return the records of all workers. Raises Interrupted if those of one are not of its own images."""
        if self._group.size == 1:
            return self._records
        shares = self._group.gather_json(self._records, dict[str, Record])
        for worker, records in enumerate(shares):
            paths = [record.path for record in records.values()]
            if paths != list(records) or set(paths) != assignment.images_of(worker).keys():
                raise Interrupted(
                    f"worker {worker} sent records that are not of its images; run the same command again"
                )
        return {path: record for records in shares for path, record in records.items()}

    def _remove_misplaced(self, assignment: Assignment) -> None:
        """Remove images that this build, or an earlier one, wrote to a place that is no longer theirs.

        That the job wrote them, their bytes tell: they are those of the archive's member. Other files stay.
        """
        others = [path for path in _files(self._directory) if path not in assignment.owners]
        if not others:
            return
        ours = defaultdict(list)
        for member in [*self._archive.images.values(), *(member for member, _ in self._archive.unusable)]:
            for split in SPLITS:
                ours[path_of((member.label, member.number), split)].append(member)
        for path in others:
            if any(_holds(self._directory / path, member) is not None for member in ours.get(path, ())):
                with volume.failures(self._directory / path):
                    volume.remove(self._directory / path)

    def _report(self, excluded: int) -> None:
        self._log.emit(
            SplitBuilt(
                directory=str(self._directory),
                **{name: len(CLASSES) * count for name, count in self._counts._asdict().items()},
                fetched=self._fetched,
                moved=self._moved,
                quarantined=excluded,
                seconds=time.monotonic() - self._began,
            )
        )


def _check_and_write(data: bytes, path: VolumePath) -> str | NotAnImage:
    """Write the file if it decodes, and return its SHA-256; else return why it does not."""
    try:
        check(data)
    except NotAnImage as reason:
        # A new exception: the one that was raised keeps its frames, and with them the data.
        return NotAnImage(str(reason))
    # Not synced: split.json holds the digest, which is checked before the file is trusted.
    volume.write(path, data, durable=False)
    return hashlib.sha256(data).hexdigest()


def _kept(
    members: Mapping[Image, Member], paths: Mapping[Image, str], directory: VolumePath, interruption: Interruption
) -> Iterator[tuple[Image, str]]:
    """Yield the images that an earlier, incomplete build left intact, each with its SHA-256. Raises VolumeError."""
    present = set(_files(directory))
    for image, member in [(image, member) for image, member in members.items() if paths[image] in present]:
        data = _holds(directory / paths[image], member)
        interruption.check()
        if data is not None:
            # It was decoded before it was written.
            yield image, hashlib.sha256(data).hexdigest()


def _holds(path: VolumePath, member: Member) -> bytes | None:
    """Return the file's bytes if they are the member's, as far as size and CRC-32 tell, else None.

    Raises VolumeError if it cannot be read.
    """
    data = _contents(path, member.size)
    return data if data is not None and zlib.crc32(data) == member.crc else None


def _excluded(archive: Archive, assignment: Assignment, images: Mapping[Image, str]) -> list[Excluded]:
    """Return `Split.excluded`: the unusable members of the archive, and these images, with their reasons."""
    holders = {label: [image for image in assignment.paths if image[0] == label] for label in CLASSES}
    read = [Unusable(archive.images[image], reason) for image, reason in images.items()]
    excluded = []
    for member, reason in sorted([*archive.unusable, *read]):
        entry: Excluded = {"member": member.name, "reason": reason}
        if member.number < len(holders[member.label]):
            entry["replaced_by"] = archive.images[holders[member.label][member.number]].name
        excluded.append(entry)
    return excluded


def _write_marker(split: Split, passed_over: list[str]) -> None:
    with volume.new_file(split.directory / MARKER) as file:
        # In pieces: the text of 25,000 images would take 30 MB at once.
        for piece in json.JSONEncoder(indent=1).iterencode(_document(split, passed_over)):
            file.write(piece.encode())


def _document(split: Split, passed_over: list[str]) -> dict[str, Any]:
    return {
        document.FORMAT: FORMAT,
        "rule": RULE,
        "archive": split.archive,
        "counts": split.counts._asdict(),
        "images": [record._asdict() for record in split.images],
        "quarantined": split.excluded,
        "passed_over": {"count": len(passed_over), "examples": passed_over[:10]},
    }
