"""More images, a larger archive: what grows, and what must not."""

import contextlib
import sys
import zipfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from benchmarks import link
from benchmarks.fetching import options, port
from benchmarks.material import BOOK, Material, nest
from benchmarks.measure import Row, Sample, command, interleaved, peak, wall
from catsdogs.data.assignment import Counts


def rows(material: Material, repeats: int) -> Iterator[Row]:
    all_of_it = material.per_class
    sizes = {1000: Counts(300, 100, 100), 4000: BOOK, 2 * all_of_it: Counts(all_of_it - 2000, 1000, 1000)}
    moved: dict[int, int] = {}

    def prepared(size: int) -> Sample:
        with contextlib.closing(link.Relay("127.0.0.1", port(material))) as relay:
            sample = _prepare(material, material.plain, sizes[size], relay.endpoint)
            moved[size] = relay.received
        return sample

    samples = interleaved({f"{size:,}": partial(prepared, size) for size in sizes}, max(1, repeats // 2))
    few, book, every = sizes
    took = [wall(found) for found in samples.values()]
    yield Row(
        "`prepare` of " + ", ".join(samples),
        "; ".join(
            f"{seconds:.1f} s, {moved[size] / 1e6:.1f} MB, {peak(found) / 1e6:.0f} MB of memory"
            for size, seconds, found in zip(sizes, took, samples.values(), strict=True)
        ),
    )
    for what, values in (("time", took), ("bytes", list(moved.values()))):
        slopes = [(values[1] - values[0]) / (book - few), (values[2] - values[1]) / (every - book)]
        yield Row(
            f"{what} an image, from {book:,} to {every:,} against from {few:,} to {book:,}",
            f"{slopes[1] / slopes[0]:.2f}", "linear: ≤ 1.2", slopes[1] <= 1.2 * slopes[0],
        )  # fmt: skip
    peaks = [peak(found) for found in samples.values()]
    yield Row(
        f"memory for {every:,} against {few:,}", f"{peaks[2] / peaks[0]:.2f}", "flat: ≤ 1.1", peaks[2] <= 1.1 * peaks[0]
    )
    small = _smaller(material, few)
    large, little = (peak([_prepare(material, path, sizes[few])]) for path in (material.nested, small))
    yield Row(
        f"memory for 1,000 images from a nested, deflated archive of {every:,}, against from one of {few:,}",
        f"{large / little:.2f}: {large / 1e6:.0f} MB against {little / 1e6:.0f} MB", "independent: ≤ 1.1",
        large <= 1.1 * little,
    )  # fmt: skip


def _prepare(material: Material, archive: Path, counts: Counts, endpoint: str = "") -> Sample:
    where = material.uri(archive) if endpoint else str(archive)
    environment = {"AWS_ENDPOINT_URL_S3": endpoint} if endpoint else {}
    return command(
        [sys.executable, "-m", "catsdogs", "prepare", *options(where, material.scratch(), counts)], environment
    )


def _smaller(material: Material, size: int) -> Path:
    """A nested archive of that many images."""
    plain, nested = material.directory / "small" / "train.zip", material.directory / "small-nested.zip"
    plain.parent.mkdir(exist_ok=True)
    with zipfile.ZipFile(material.plain) as source, zipfile.ZipFile(plain, "w", zipfile.ZIP_DEFLATED) as target:
        for label in ("cat", "dog"):
            for number in range(size // 2):
                name = f"train/{label}.{number}.jpg"
                target.writestr(name, source.read(name))
    nest(plain, nested)
    return nested
