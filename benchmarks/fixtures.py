"""What the benchmarks work on: archives, a bucket that has them, and directories of images."""

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
from catsdogs.storage import volume
from tests.servers import S3Server, seaweedfs

BUCKET = "pets"
BOOK = Counts(1000, 500, 500)
"""The book's 4,000 images."""
PER_CLASS = 12_500
LEAST_FREE = 4 << 30
"""Bytes of disk, five times what any measurement needs."""
DRAWN = 250
"""Images per class that are drawn if no archive is given; the others repeat them."""


@dataclass(frozen=True)
class Fixtures:
    """`nested` is Kaggle's archive, `plain` its train.zip; the bucket on `server` has both under the same names."""

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
        """Return an empty directory.

        Earlier ones are deleted only when the disk gets full: ext4 does not reuse the blocks of files deleted minutes
        ago, which would slow down the next writer.
        """
        if shutil.disk_usage(self.directory).free < LEAST_FREE:
            for earlier in self.directory.glob("scratch-*"):
                shutil.rmtree(earlier, ignore_errors=True)
        return Path(tempfile.mkdtemp(prefix="scratch-", dir=self.directory))

    def images(self, archive: Path, name: str, counts: Counts) -> Path:
        """Return a split directory with images of the archive, built once."""
        directory = self.directory / name
        if not directory.exists():
            split.build(open_archive(str(archive)), counts, volume.root(directory), Log([]), Interruption())
        return directory


@contextlib.contextmanager
def fixtures(directory: Path, archive: Path | None, original: Path | None) -> Iterator[Fixtures]:
    """Prepare the fixtures in `directory`, and serve them until the block ends."""
    nested, plain = directory / "dogs-vs-cats.zip", directory / "train.zip"
    if archive is None:
        say(f"no archive given: {PER_CLASS:,} cats and dogs, {DRAWN} of each drawn, the others repeat them")
        _draw(plain)
        nest(plain, nested)
    else:
        opened = open_archive(str(archive))
        if opened.packed is not None:
            unpack(opened, directory / "unpacked", Log([]), Interruption())
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
        yield Fixtures(directory, nested, plain, original, per_class, server)


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
