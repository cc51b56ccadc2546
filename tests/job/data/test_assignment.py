import pytest
from hypothesis import given
from hypothesis import strategies as st

from catsdogs.data.assignment import Counts, Image, assign, assign_apart
from catsdogs.data.labels import CLASSES, SPLITS
from catsdogs.runtime.errors import BadData

NUMBERS = st.sets(st.integers(0, 30)).map(sorted)
BROKEN = st.sets(st.tuples(st.sampled_from(CLASSES), st.integers(0, 30)))
SMALL_COUNTS = st.builds(Counts, *[st.integers(0, 5)] * 3)


@given(st.fixed_dictionaries({"cat": NUMBERS, "dog": NUMBERS}), SMALL_COUNTS, BROKEN)
def test_places_belong_to_numbers_and_spares_stand_in(
    numbers: dict[str, list[int]], counts: Counts, lost: set[Image]
) -> None:
    broken = dict.fromkeys(lost, "its CRC-32 is wrong")
    places = [split for split, count in zip(SPLITS, counts, strict=True) for _ in range(count)]
    usable = {label: [n for n in numbers[label] if (label, n) not in broken] for label in CLASSES}
    short = [label for label in CLASSES if len(usable[label]) < len(places)]
    if short:
        with pytest.raises(BadData, match="too few images") as caught:
            assign("a.zip", numbers, counts, broken)
        for label in CLASSES:
            reason = f"{len(places)} {label}s are wanted, the archive has {len(numbers[label])}"
            assert (reason in str(caught.value)) == (label in short)
        return

    assigned = assign("a.zip", numbers, counts, broken)
    for label in CLASSES:
        spares = [number for number in usable[label] if number >= len(places)]
        holders = [place if place in usable[label] else spares.pop(0) for place in range(len(places))]
        assert [n for of, n in assigned if of == label] == holders
        assert [assigned[label, holder] for holder in holders] == places
    assert assign("a.zip", numbers, counts, dict(reversed(broken.items()))) == assigned


def test_the_default_split_is_that_of_the_book() -> None:
    assigned = assign("a.zip", dict.fromkeys(CLASSES, range(12_500)), Counts(1000, 500, 500))
    assert len(assigned) == 4000
    for label in CLASSES:
        assert [assigned[label, n] for n in (0, 999, 1000, 1499, 1500, 1999)] == [
            "train", "train", "validation", "validation", "test", "test",
        ]  # fmt: skip


def test_all_25000_images_can_be_used() -> None:
    assigned = assign("a.zip", dict.fromkeys(CLASSES, range(12_500)), Counts(10_000, 1_250, 1_250))
    assert len(assigned) == 25_000


CONTENTS = st.lists(st.integers(0, 12), min_size=62, max_size=62)


@given(st.fixed_dictionaries({"cat": NUMBERS, "dog": NUMBERS}), SMALL_COUNTS, BROKEN, CONTENTS)
def test_no_content_is_in_two_splits(
    numbers: dict[str, list[int]], counts: Counts, lost: set[Image], drawn: list[int]
) -> None:
    broken = dict.fromkeys(lost, "its CRC-32 is wrong")
    contents = {(label, n): drawn[31 * (label == "dog") + n] for label in CLASSES for n in numbers[label]}
    try:
        assigned, copies = assign_apart("a.zip", numbers, counts, contents, broken)
    except BadData:
        return
    splits: dict[int, set[str]] = {}
    for image, split in assigned.items():
        splits.setdefault(contents[image], set()).add(split)
    assert all(len(own) == 1 for own in splits.values())
    for label in CLASSES:
        own = [split for image, split in assigned.items() if image[0] == label]
        assert own == [split for split, count in zip(SPLITS, counts, strict=True) for _ in range(count)]
    assert not copies.keys() & assigned.keys()
    alone = assign("a.zip", numbers, counts, broken)
    assert (assigned == alone) == (not copies), "without copies in two splits, nothing changes"


def test_the_earlier_split_keeps_an_image() -> None:
    numbers = {"cat": list(range(8)), "dog": []}
    same = dict.fromkeys([("cat", 0), ("cat", 1), ("cat", 3), ("cat", 4)], "same")
    assigned, copies = assign_apart("a.zip", {"cat": numbers["cat"]}, Counts(2, 1, 1), same)
    assert assigned == {("cat", 0): "train", ("cat", 1): "train", ("cat", 2): "validation", ("cat", 5): "test"}
    assert copies == {("cat", 3): "has the same bytes as cat.0.jpg, which is in train"}


@pytest.mark.parametrize(
    ("numbers", "broken", "tried", "text"),
    [
        ([0], [], [], "4 cats are wanted, the archive has 1; lower --train-per-class"),
        ([], [], [], "4 cats are wanted, the archive has 0; give an archive that has both classes"),
        (range(4), [1], [0, 1, 2, 3], "the archive has 4 (1 unusable); the first is cat.1.jpg: why; lower "),
        (
            range(6),
            [0, 1, 2, 3],
            [0, 1, 2, 3],
            "has 6 (4 unusable, 2 not read); the first is cat.0.jpg: why; check the",
        ),
        (range(6), [0, 1, 3], [0, 1, 2, 3], "has 6 (3 unusable, 2 not read); the first is cat.0.jpg: why; lower "),
        (range(4), [0, 1, 2, 3], [], "has 4 (4 unusable); the first is cat.0.jpg: why; check the archive"),
        (range(4), [0], [], "has 4 (1 unusable); the first is cat.0.jpg: why; lower --train-per-class"),
    ],
)
def test_a_shortage_tells_what_is_known(numbers: list[int], broken: list[int], tried: list[int], text: str) -> None:
    """Nothing is called usable that was never read, and the advice follows from the cause."""
    with pytest.raises(BadData) as caught:
        assign(
            "a.zip", {"cat": numbers}, Counts(2, 1, 1), {("cat", n): "why" for n in broken}, {("cat", n) for n in tried}
        )
    assert text in str(caught.value)
