"""From an archive in a bucket to the split directory, against downloading and unzipping all of it."""

import contextlib
import sys
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from urllib.parse import urlsplit

from benchmarks import link
from benchmarks.fixtures import BOOK, Fixtures
from benchmarks.measure import NOT_RUN, Row, Sample, Samples, command, cpu, interleaved, ratio, wall
from catsdogs.data.assignment import Counts

OURS, UNDECODED, BOTO3, S5CMD = "ours", "ours, not decoded", "boto3 + unzip + copy", "s5cmd + unzip + copy"


def rows(fixtures: Fixtures, repeats: int) -> Iterator[Row]:
    yield from _book(fixtures, repeats)
    yield from _whole(fixtures, max(1, repeats // 2))
    yield from _distant(fixtures, max(1, repeats // 2))


def _book(fixtures: Fixtures, repeats: int) -> Iterator[Row]:
    what = f"4,000 of {2 * fixtures.per_class:,} from `train.zip`"
    packed = _packed_size(fixtures.plain)
    received = _received(fixtures)
    for counted, named in (
        (received, "read twice, as over plain http"),
        (received - _directory_size(fixtures.plain), "read once, as over https (reckoned)"),
    ):
        yield Row(
            f"{what}: bytes moved, the zip's directory {named}",
            f"{counted / packed:.3f} × the members' {packed / 1e6:.1f} MB", "≤ 1.1", counted <= 1.1 * packed,
        )  # fmt: skip
    samples = _measured(fixtures, fixtures.plain, BOOK, repeats)
    yield Row(f"{what}: seconds", _seconds(samples))
    for ours, other, most in (
        (UNDECODED, BOTO3, 0.35),
        (UNDECODED, S5CMD, 0.5),
        (OURS, BOTO3, 1.0),
        (OURS, S5CMD, 1.0),
    ):
        yield _ratio(what, samples, ours, other, most)


def _whole(fixtures: Fixtures, repeats: int) -> Iterator[Row]:
    what = f"All {2 * fixtures.per_class:,}, nested and deflated"
    parts = fixtures.per_class // 10
    samples = _measured(fixtures, fixtures.nested, Counts(fixtures.per_class - 2 * parts, parts, parts), repeats)
    yield Row(f"{what}: seconds", _seconds(samples))
    for ours in (UNDECODED, OURS):
        yield _ratio(what, samples, ours, S5CMD, 1.0)


def _distant(fixtures: Fixtures, repeats: int) -> Iterator[Row]:
    what = "4,000 through 30 ms and 200 Mbit/s"
    if not link.may_make_links():
        yield Row(what, NOT_RUN.format("needs root and /dev/net/tun"), "≥ 5 times faster")
        return
    with link.slow_link() as prefix, contextlib.closing(link.Relay(link.SERVER, port(fixtures))) as relay:
        samples = _measured(fixtures, fixtures.plain, BOOK, repeats, prefix, relay.endpoint)
    yield Row(f"{what}: seconds", _seconds(samples))
    for ours in (UNDECODED, OURS):
        for other in (BOTO3, S5CMD):
            faster = 1 / ratio(samples, ours, other)
            yield Row(f"{what}: {ours}, against {other}", f"{faster:.1f} times faster", "≥ 5", faster >= 5)


def _measured(
    fixtures: Fixtures, archive: Path, counts: Counts, repeats: int, prefix: Sequence[str] = (), endpoint: str = ""
) -> Samples:
    environment = {"AWS_ENDPOINT_URL_S3": endpoint or fixtures.server.endpoint}
    # The name that s5cmd reads.
    environment["S3_ENDPOINT_URL"] = environment["AWS_ENDPOINT_URL_S3"]

    def run(*arguments: str | Path) -> Sample:
        return command([*prefix, sys.executable, *arguments], environment)

    def by_hand(download: str) -> Sample:
        return run(
            "-m", "benchmarks.alternatives", download, fixtures.uri(archive), fixtures.scratch(), *map(str, counts)
        )

    def ours(*module: str) -> Sample:
        return run(*module, *options(fixtures.uri(archive), fixtures.scratch(), counts))

    return interleaved(
        {
            OURS: lambda: ours("-m", "catsdogs", "prepare"),
            UNDECODED: lambda: ours("-m", "benchmarks.alternatives", "undecoded"),
            BOTO3: lambda: by_hand("boto3"),
            S5CMD: lambda: by_hand("s5cmd"),
        },
        repeats,
    )


def options(archive: str, volume: Path, counts: Counts) -> list[str]:
    """Return the options for `catsdogs`, with the output in a folder of the volume."""
    per_class = [f"--{name}-per-class={count}" for name, count in counts._asdict().items()]
    return [f"--archive={archive}", f"--output={volume / 'runs'}", f"--volume={volume}", *per_class]


def _received(fixtures: Fixtures) -> int:
    """Return the bytes that the server sends for one `prepare`, HTTP headers included."""
    with contextlib.closing(link.Relay("127.0.0.1", port(fixtures))) as relay:
        command(
            [
                sys.executable,
                "-m",
                "catsdogs",
                "prepare",
                *options(fixtures.uri(fixtures.plain), fixtures.scratch(), BOOK),
            ],
            {"AWS_ENDPOINT_URL_S3": relay.endpoint},
        )
        return relay.received


def port(fixtures: Fixtures) -> int:
    return urlsplit(fixtures.server.endpoint).port or 80


def _packed_size(archive: Path) -> int:
    """Return the compressed bytes of the book's images."""
    wanted = {f"{label}.{number}.jpg" for label in ("cat", "dog") for number in range(sum(BOOK))}
    with zipfile.ZipFile(archive) as opened:
        return sum(entry.compress_size for entry in opened.infolist() if Path(entry.filename).name in wanted)


def _directory_size(archive: Path) -> int:
    with zipfile.ZipFile(archive) as opened:
        return archive.stat().st_size - opened.start_dir


def _seconds(samples: Samples) -> str:
    return "; ".join(f"{name} {wall(measured):.2f} ({cpu(measured):.2f} CPU)" for name, measured in samples.items())


def _ratio(what: str, samples: Samples, ours: str, other: str, most: float) -> Row:
    measured = ratio(samples, ours, other)
    in_cpu = ratio(samples, ours, other, cpu)
    return Row(
        f"{what}: {ours}, against {other}", f"{measured:.2f} ({in_cpu:.2f} in CPU)", f"≤ {most:g}", measured <= most
    )
