"""A whole `run` against the book's notebook: the same images, the same convnet, the same number of epochs."""

import sys
from collections.abc import Iterator

from benchmarks.fetching import options
from benchmarks.fixtures import BOOK, BUCKET, Fixtures
from benchmarks.measure import Row, Sample, Samples, command, cpu, interleaved, peak, ratio, wall

EPOCHS = 3
OURS, NOTEBOOK = "`catsdogs run`", "the notebook"


def rows(fixtures: Fixtures, repeats: int) -> Iterator[Row]:
    uri = fixtures.uri(fixtures.plain)
    log = fixtures.directory / "whole.log"
    fetching: list[float] = []

    def ours() -> Sample:
        scratch = fixtures.scratch()
        # Under one run id, the second run would be published already.
        output = f"--output=s3://{BUCKET}/runs/{scratch.stat().st_ino}-{len(fetching)}"
        return command(
            [sys.executable, "-m", "catsdogs", "run", f"--epochs={EPOCHS}", *options(uri, scratch, BOOK), output]
        )

    def notebook() -> Sample:
        directory = fixtures.scratch()
        sample = command(
            [sys.executable, "-m", "benchmarks.notebook", uri, directory, str(EPOCHS), *map(str, BOOK)], output=log
        )
        fetching.append(float(log.read_text().rpartition("fetching ")[2]))
        return sample

    samples: Samples = interleaved({OURS: ours, NOTEBOOK: notebook}, max(1, repeats // 2))
    yield Row(
        f"{EPOCHS} epochs of `baseline` from the bucket: seconds",
        "; ".join(f"{name} {wall(measured):.1f} ({cpu(measured):.1f} CPU)" for name, measured in samples.items())
        + f", of which {min(fetching):.1f} for getting the images",
    )
    measured, in_cpu = ratio(samples, OURS, NOTEBOOK), ratio(samples, OURS, NOTEBOOK, cpu)
    yield Row(
        f"Whole `run` of {EPOCHS} epochs, test and report included, against the notebook",
        f"{measured:.2f} ({in_cpu:.2f} in CPU)", "≤ 0.9", measured <= 0.9,
    )  # fmt: skip
    ours_peak, book_peak = peak(samples[OURS]), peak(samples[NOTEBOOK])
    yield Row(
        "Peak memory of `run`, against the notebook's",
        f"{ours_peak / book_peak:.2f}: {ours_peak / 1e6:,.0f} MB against {book_peak / 1e6:,.0f} MB",
        "≤ 1.0", ours_peak <= book_peak,
    )  # fmt: skip
