"""The rule of the split: which image goes to which split, and to which worker. Pure functions, no I/O."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from catsdogs.data.labels import SPLITS
from catsdogs.runtime.errors import BadData

RULE = 1
"""The version of the rule by which images are assigned (`assign`) and checked (`images.decode`). Increase it with any
change after which an archive could give another split: it is part of the split's id. Not increased for images that
once were too large, or that no run could train on: a split that is recorded without them stays good."""

Image = tuple[str, int]
"""Class and number."""


class Counts(NamedTuple):
    """Images per class."""

    train: int
    validation: int
    test: int


def assign(
    where: str, numbers: Mapping[str, Sequence[int]], counts: Counts, broken: Iterable[Image] = ()
) -> dict[Image, str]:
    """Return image → split: per class, the first numbers train, the next validate, the next test.

    Each place belongs to the number equal to its index; a class's images are in the order of its places. If that
    number is absent or broken, the lowest number beyond all places takes the place, so one broken image moves no
    other. Raises BadData, naming `where`, if a class has too few images.
    """
    total = sum(counts)
    split_of_place = [split for split, count in zip(SPLITS, counts, strict=True) for _ in range(count)]
    excluded = set(broken)
    assigned: dict[Image, str] = {}
    short: list[str] = []
    for label in numbers:
        usable = [number for number in numbers[label] if (label, number) not in excluded]
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


def path_of(image: Image, split: str) -> str:
    """Return the image's path in the split directory."""
    return f"{split}/{image[0]}s/{image[0]}.{image[1]}.jpg"


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

    @classmethod
    def of(
        cls, where: str, numbers: Mapping[str, Sequence[int]], counts: Counts, broken: Iterable[Image], workers: int
    ) -> "Assignment":
        """Return the assignment that leaves the broken images out. Raises BadData, as `assign` does."""
        paths = {image: path_of(image, split) for image, split in assign(where, numbers, counts, broken).items()}
        return cls(paths, shards(paths.values(), workers))

    def images_of(self, worker: int) -> dict[str, Image]:
        """Return path → image for the images of this worker."""
        return {path: image for image, path in self.paths.items() if self.owners[path] == worker}
