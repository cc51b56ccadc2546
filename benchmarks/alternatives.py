"""Commands to measure: what a user would do instead of `prepare`, and `prepare` without its check of the images.

python -m benchmarks.alternatives boto3|s5cmd s3://bucket/key DIRECTORY TRAIN VALIDATION TEST
python -m benchmarks.alternatives undecoded OPTIONS OF catsdogs prepare
"""

import shutil
import subprocess
import sys
from pathlib import Path


def boto3(uri: str, path: Path) -> None:
    import boto3

    bucket, _, key = uri.removeprefix("s3://").partition("/")
    boto3.client("s3").download_file(bucket, key, str(path))


def s5cmd(uri: str, path: Path) -> None:
    subprocess.run([Path(sys.executable).with_name("s5cmd"), "cp", uri, path], check=True, stdout=subprocess.DEVNULL)


def by_hand(uri: str, directory: Path, counts: dict[str, int], download: str) -> Path:
    """Download the archive, unzip it and a train.zip in it, and copy the images as the book does.

    Return the split directory.
    """
    directory.mkdir(parents=True, exist_ok=True)
    archive = directory / "archive.zip"
    DOWNLOADS[download](uri, archive)
    unzip(archive, directory)
    if (directory / "train.zip").exists():
        unzip(directory / "train.zip", directory)
    return copied(directory / "train", directory / "cats_and_dogs_small", counts)


def unzip(archive: Path, directory: Path) -> None:
    subprocess.run(["unzip", "-q", "-d", directory, archive], check=True)  # noqa: S607


def copied(originals: Path, base: Path, counts: dict[str, int]) -> Path:
    """Return the book's split directories: per class the first images train, the next validate, the next test."""
    for label in ("cat", "dog"):
        numbers = iter(range(sum(counts.values())))
        for split, count in counts.items():
            folder = base / split / f"{label}s"
            folder.mkdir(parents=True)
            for _ in range(count):
                name = f"{label}.{next(numbers)}.jpg"
                shutil.copyfile(originals / name, folder / name)
    return base


def undecoded(arguments: list[str]) -> None:
    """Run `catsdogs prepare` without decoding: CRC-32 and SHA-256 are its only checks."""
    from catsdogs.cli import main
    from catsdogs.data import split
    from catsdogs.runtime.signals import Interruption

    def unchecked(data: bytes) -> None:
        del data

    split.check = unchecked  # type: ignore[attr-defined]
    sys.argv = ["catsdogs", "prepare", *arguments]
    main(Interruption())


DOWNLOADS = {"boto3": boto3, "s5cmd": s5cmd}

if __name__ == "__main__":
    alternative, *rest = sys.argv[1:]
    if alternative == "undecoded":
        undecoded(rest)
    else:
        by_hand(
            rest[0],
            Path(rest[1]),
            dict(zip(("train", "validation", "test"), map(int, rest[2:]), strict=True)),
            alternative,
        )
