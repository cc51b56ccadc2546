"""From an archive in a bucket to the split directories, against downloading and unzipping it all."""

import contextlib
import sys
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from urllib.parse import urlsplit

from benchmarks import link
from benchmarks.material import BOOK, Material
from benchmarks.measure import NOT_RUN, Row, Sample, Samples, command, cpu, interleaved, ratio, wall
from catsdogs.data.assignment import Counts

OURS, UNDECODED, BOTO3, S5CMD = "ours", "ours, not decoded", "boto3 + unzip + copy", "s5cmd + unzip + copy"


def rows(material: Material, repeats: int) -> Iterator[Row]:
    yield from _book(material, repeats)
    yield from _whole(material, max(1, repeats // 2))
    yield from _distant(material, max(1, repeats // 2))


def _book(material: Material, repeats: int) -> Iterator[Row]:
    what = f"4,000 of {2 * material.per_class:,} from `train.zip`"
    packed = _packed_size(material.plain)
    received = _received(material)
    for counted, named in (
        (received, "read twice, as over plain http"),
        (received - _directory_size(material.plain), "read once, as over https (reckoned)"),
    ):
        yield Row(
            f"{what}: bytes moved, the zip's directory {named}",
            f"{counted / packed:.3f} × the members' {packed / 1e6:.1f} MB", "≤ 1.1", counted <= 1.1 * packed,
        )  # fmt: skip
    samples = _measured(material, material.plain, BOOK, repeats)
    yield Row(f"{what}: seconds", _seconds(samples))
    for ours, other, most in (
        (UNDECODED, BOTO3, 0.35),
        (UNDECODED, S5CMD, 0.5),
        (OURS, BOTO3, 1.0),
        (OURS, S5CMD, 1.0),
    ):
        yield _ratio(what, samples, ours, other, most)


def _whole(material: Material, repeats: int) -> Iterator[Row]:
    what = f"All {2 * material.per_class:,}, nested and deflated"
    parts = material.per_class // 10
    samples = _measured(material, material.nested, Counts(material.per_class - 2 * parts, parts, parts), repeats)
    yield Row(f"{what}: seconds", _seconds(samples))
    for ours in (UNDECODED, OURS):
        yield _ratio(what, samples, ours, S5CMD, 1.0)


def _distant(material: Material, repeats: int) -> Iterator[Row]:
    what = "4,000 through 30 ms and 200 Mbit/s"
    if not link.may_make_links():
        yield Row(what, NOT_RUN.format("needs root and /dev/net/tun"), "≥ 5 times faster")
        return
    with link.slow_link() as prefix, contextlib.closing(link.Relay(link.SERVER, port(material))) as relay:
        samples = _measured(material, material.plain, BOOK, repeats, prefix, relay.endpoint)
    yield Row(f"{what}: seconds", _seconds(samples))
    for ours in (UNDECODED, OURS):
        for other in (BOTO3, S5CMD):
            faster = 1 / ratio(samples, ours, other)
            yield Row(f"{what}: {ours}, against {other}", f"{faster:.1f} times faster", "≥ 5", faster >= 5)


def _measured(
    material: Material, archive: Path, counts: Counts, repeats: int, prefix: Sequence[str] = (), endpoint: str = ""
) -> Samples:
    environment = {"AWS_ENDPOINT_URL_S3": endpoint or material.server.endpoint}
    # s5cmd knows no other name for it.
    environment["S3_ENDPOINT_URL"] = environment["AWS_ENDPOINT_URL_S3"]

    def run(*arguments: str | Path) -> Sample:
        return command([*prefix, sys.executable, *arguments], environment)

    def by_hand(download: str) -> Sample:
        return run("-m", "benchmarks.ways", download, material.uri(archive), material.scratch(), *map(str, counts))

    def ours(*module: str) -> Sample:
        return run(*module, *options(material.uri(archive), material.scratch(), counts))

    return interleaved(
        {
            OURS: lambda: ours("-m", "catsdogs", "prepare"),
            UNDECODED: lambda: ours("-m", "benchmarks.ways", "undecoded"),
            BOTO3: lambda: by_hand("boto3"),
            S5CMD: lambda: by_hand("s5cmd"),
        },
        repeats,
    )


def options(archive: str, volume: Path, counts: Counts) -> list[str]:
    """What `catsdogs` is told, its result going to a folder of the volume."""
    told = [f"--{name}-per-class={count}" for name, count in counts._asdict().items()]
    return [f"--archive={archive}", f"--output={volume / 'runs'}", f"--volume={volume}", *told]


def _received(material: Material) -> int:
    """Bytes that the server sends for one `prepare`, HTTP headers and all."""
    with contextlib.closing(link.Relay("127.0.0.1", port(material))) as relay:
        command(
            [
                sys.executable,
                "-m",
                "catsdogs",
                "prepare",
                *options(material.uri(material.plain), material.scratch(), BOOK),
            ],
            {"AWS_ENDPOINT_URL_S3": relay.endpoint},
        )
        return relay.received


def port(material: Material) -> int:
    return urlsplit(material.server.endpoint).port or 80


def _packed_size(archive: Path) -> int:
    """Compressed bytes of the book's images."""
    wanted = {f"{label}.{number}.jpg" for label in ("cat", "dog") for number in range(sum(BOOK))}
    with zipfile.ZipFile(archive) as opened:
        return sum(entry.compress_size for entry in opened.infolist() if Path(entry.filename).name in wanted)


def _directory_size(archive: Path) -> int:
    with zipfile.ZipFile(archive) as opened:
        return archive.stat().st_size - opened.start_dir


def _seconds(samples: Samples) -> str:
    return "; ".join(f"{name} {wall(found):.2f} ({cpu(found):.2f} CPU)" for name, found in samples.items())


def _ratio(what: str, samples: Samples, ours: str, other: str, most: float) -> Row:
    measured = ratio(samples, ours, other)
    in_cpu = ratio(samples, ours, other, cpu)
    return Row(
        f"{what}: {ours}, against {other}", f"{measured:.2f} ({in_cpu:.2f} in CPU)", f"≤ {most:g}", measured <= most
    )
