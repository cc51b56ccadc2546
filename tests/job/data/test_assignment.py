import pytest
from hypothesis import given
from hypothesis import strategies as st

from catsdogs.data.assignment import Counts, Image, assign
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
