"""What is worked on: archives, a bucket that has them, and images in directories."""

import contextlib
import io
import os
import shutil
import tempfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.measure import say
from catsdogs.data import sample, split
from catsdogs.data.archive import open_archive, unpack
from catsdogs.data.assignment import Counts
from catsdogs.data.labels import CLASSES
from catsdogs.runtime.log import Log
from catsdogs.runtime.signals import Interruption
from tests.servers import S3Server, seaweedfs

BUCKET = "pets"
BOOK = Counts(1000, 500, 500)
"""The book's 4,000 images."""
PER_CLASS = 12_500
LEAST_FREE = 4 << 30
"""Bytes of the disk: five times what the hungriest way needs."""
DRAWN = 250
"""Pictures a class that are drawn, where no archive is given; the others repeat them."""


@dataclass(frozen=True)
class Material:
    """`nested` is Kaggle's archive, `plain` its train.zip; both lie in `server`'s bucket under these names, too."""

    directory: Path
    nested: Path
    plain: Path
    original: Path | None
    """A train.zip of images as large as Kaggle's."""
    per_class: int
    server: S3Server

    def uri(self, archive: Path) -> str:
        return f"s3://{BUCKET}/{archive.name}"

    def scratch(self) -> Path:
        """An empty directory. Those that were asked for before are gone only where the disk would else be full: ext4
        passes over the places of files that were deleted minutes ago, and whoever writes next would pay for it."""
        if shutil.disk_usage(self.directory).free < LEAST_FREE:
            for earlier in self.directory.glob("scratch-*"):
                shutil.rmtree(earlier, ignore_errors=True)
        return Path(tempfile.mkdtemp(prefix="scratch-", dir=self.directory))

    def images(self, archive: Path, name: str, counts: Counts) -> Path:
        """A directory train/cats/… with images of the archive, made once."""
        directory = self.directory / name
        if not directory.exists():
            split.build(open_archive(str(archive)), counts, directory, Log([]), Interruption())
        return directory


@contextlib.contextmanager
def material(directory: Path, archive: Path | None, original: Path | None) -> Iterator[Material]:
    """Makes it ready in `directory`, and serves it, until the block ends."""
    nested, plain = directory / "dogs-vs-cats.zip", directory / "train.zip"
    if archive is None:
        say(f"no archive given: {PER_CLASS:,} cats and dogs, {DRAWN} of each drawn, the others repeat them")
        _draw(plain)
        nest(plain, nested)
    else:
        found = open_archive(str(archive))
        if found.packed is not None:
            unpack(found, directory / "unpacked", Log([]), Interruption())
            next((directory / "unpacked").glob("*.zip")).rename(plain)
            nested.symlink_to(archive.absolute())
        else:
            plain.symlink_to(archive.absolute())
            nest(plain, nested)
    opened = open_archive(str(plain))
    per_class = min(len(opened.numbers(label)) for label in CLASSES)
    with seaweedfs(directory / "server") as server:
        client = server.client()
        client.create_bucket(Bucket=BUCKET)
        for path in (nested, plain):
            client.upload_file(str(path), BUCKET, path.name)
        os.environ.update(server.environment)
        yield Material(directory, nested, plain, original, per_class, server)


def _draw(path: Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for label in CLASSES:
            pictures = []
            for number in range(DRAWN):
                jpeg = io.BytesIO()
                sample.draw(label, number).save(jpeg, "JPEG", quality=75)
                pictures.append(jpeg.getvalue())
            for number in range(PER_CLASS):
                archive.writestr(f"train/{label}.{number}.jpg", pictures[number % DRAWN])


def nest(plain: Path, nested: Path) -> None:
    with zipfile.ZipFile(nested, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(plain, "train.zip")
