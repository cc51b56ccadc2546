"""The rule of the split: which image goes to which split, and to which worker. Pure functions, no I/O."""

from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import NamedTuple

from catsdogs.data.labels import SPLITS
from catsdogs.runtime.errors import BadData

RULE = 1
"""The version of the rule by which images are assigned (`assign`) and checked (`images.decode`). Increase it with any
change after which an archive could give another split: it is part of the split's id. Not increased for images that
once were too large, or that no run could train on: a split that is recorded without them stays good. Nor for images
that are excluded since by what the archive's directory says: `split.build` finds them in the record."""

Image = tuple[str, int]
"""Class and number."""
_NONE: Mapping[Image, str] = MappingProxyType({})


class Counts(NamedTuple):
    """Images per class."""

    train: int
    validation: int
    test: int


def assign(
    where: str,
    numbers: Mapping[str, Sequence[int]],
    counts: Counts,
    broken: Mapping[Image, str] = _NONE,
    tried: Collection[Image] = (),
) -> dict[Image, str]:
    """Return image → split: per class, the first numbers train, the next validate, the next test.

    Each place belongs to the number equal to its index; a class's images are in the order of its places. If that
    number is absent or broken, the lowest number beyond all places takes the place, so one broken image moves no
    other. Raises BadData, naming `where`, if a class has too few images; `broken` has the reasons, and `tried` are the
    images that have been read.
    """
    total = sum(counts)
    split_of_place = [split for split, count in zip(SPLITS, counts, strict=True) for _ in range(count)]
    assigned: dict[Image, str] = {}
    short: list[str] = []
    for label in numbers:
        usable = [number for number in numbers[label] if (label, number) not in broken]
        if len(usable) < total:
            short.append(label)
            continue
        own = set(usable[:total]) & set(range(total))
        spare = iter([number for number in usable if number >= total])
        for place, split in enumerate(split_of_place):
            assigned[label, place if place in own else next(spare)] = split
    if short:
        raise BadData(f"{where}: too few images: {_shortage(short, numbers, counts, broken, tried)}")
    return assigned


def _shortage(
    short: Sequence[str],
    numbers: Mapping[str, Sequence[int]],
    counts: Counts,
    broken: Mapping[Image, str],
    tried: Collection[Image],
) -> str:
    """Return how many images of each class in `short` there are, why the others cannot be used, and what to do."""
    parts = []
    example = None
    advice = "lower --train-per-class, --validation-per-class or --test-per-class"
    for label in short:
        images = [(label, number) for number in numbers[label]]
        lost = [image for image in images if image in broken]
        sound = sum(image in tried and image not in broken for image in images)
        part = f"{sum(counts)} {label}s are wanted, the archive has {len(images)}"
        if lost:
            example = example or lost[0]
            unread = len(images) - len(lost) - sound if tried else 0
            part += f" ({len(lost)} unusable, {unread} not read)" if unread else f" ({len(lost)} unusable)"
        parts.append(part)
        if not images:
            advice = "give an archive that has both classes"
        elif len(lost) == len(images) or (tried and not sound):
            advice = "check the archive"
    if example is not None:
        parts.append(f"the first is {name_of(example)}: {broken[example]}")
    return "; ".join([*parts, advice])


def name_of(image: Image) -> str:
    """Return the image's name in the split directory."""
    return f"{image[0]}.{image[1]}.jpg"


def path_of(image: Image, split: str) -> str:
    """Return the image's path in the split directory."""
    return f"{split}/{image[0]}s/{name_of(image)}"


def assign_apart(
    where: str,
    numbers: Mapping[str, Sequence[int]],
    counts: Counts,
    contents: Mapping[Image, Hashable],
    broken: Mapping[Image, str] = _NONE,
    tried: Collection[Image] = (),
) -> tuple[dict[Image, str], dict[Image, str]]:
    """Return what `assign` returns, but with no image in two splits, and the copies that are left out, with reasons.

    Of equal `contents` in two splits, the earlier split keeps the image: what a model is trained on says nothing about
    it in a test. Copies within one split stay. Raises BadData, as `assign` does.
    """
    assigned = assign(where, numbers, counts, broken, tried)
    copies = _copies(assigned, contents)
    if not copies:
        return assigned, {}
    # Nor may those that take their places be copies: of any that has a place, or of each other.
    taken = {contents[image] for image in assigned if image in contents}
    spare_copies = {}
    for label in numbers:
        for number in numbers[label]:
            image = label, number
            if number >= sum(counts) and image not in assigned and image not in broken and image in contents:
                if contents[image] in taken:
                    spare_copies[image] = "has the same bytes as another image"
                taken.add(contents[image])
    return assign(where, numbers, counts, {**broken, **spare_copies, **copies}, tried), copies


def _copies(assigned: Mapping[Image, str], contents: Mapping[Image, Hashable]) -> dict[Image, str]:
    """Return the images whose contents an earlier split has, with the reasons."""
    first: dict[Hashable, Image] = {}
    copies = {}
    for split in SPLITS:
        for image, own in assigned.items():
            if own == split and image in contents:
                other = first.setdefault(contents[image], image)
                if assigned[other] != split:
                    copies[image] = f"has the same bytes as {name_of(other)}, which is in {assigned[other]}"
    return copies


def shards(paths: Iterable[str], workers: int) -> dict[str, int]:
    """Return path → the worker that fetches, decodes and trains on the image.

    Each worker has as many images of each split as any other, give or take one. Only the order of the paths matters,
    so a worker keeps its images from epoch to epoch and from one start to the next.
    """
    counted = dict.fromkeys(SPLITS, 0)
    owners = {}
    for path in paths:
        split = path.partition("/")[0]
        owners[path] = counted[split] % workers
        counted[split] += 1
    return owners


@dataclass(frozen=True)
class Assignment:
    """Where each image of a split goes: its path, and the worker that has it."""

    paths: dict[Image, str]
    """In the order of the places."""
    owners: dict[str, int]
    """Path → worker, in the same order."""

    copies: dict[Image, str]
    """The images that are left out because another split has the same, with the reasons."""

    @classmethod
    def of(
        cls,
        where: str,
        numbers: Mapping[str, Sequence[int]],
        counts: Counts,
        contents: Mapping[Image, Hashable],
        broken: Mapping[Image, str],
        workers: int,
        tried: Collection[Image] = (),
    ) -> "Assignment":
        """Return the assignment that leaves broken images and copies out. Raises BadData, as `assign` does."""
        assigned, copies = assign_apart(where, numbers, counts, contents, broken, tried)
        paths = {image: path_of(image, split) for image, split in assigned.items()}
        return cls(paths, shards(paths.values(), workers), copies)

    def images_of(self, worker: int) -> dict[str, Image]:
        """Return path → image for the images of this worker."""
        return {path: image for image, path in self.paths.items() if self.owners[path] == worker}
