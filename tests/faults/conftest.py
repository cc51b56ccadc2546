"""An archive in a bucket, and the undisturbed run on it, which every disturbed one must equal."""

import secrets
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from tests.faults.running import OPTIONS, RUN_ID, TRAINED, Job, ended
from tests.published import check_manifest, objects, rows, weights
from tests.servers import S3Server

COLUMNS = ("epoch", "loss", "accuracy", "val_loss", "val_accuracy")


def new_bucket(server: S3Server) -> str:
    name = f"faults-{secrets.token_hex(6)}"
    server.client().create_bucket(Bucket=name)
    return name


class Undisturbed(NamedTuple):
    """A run from a bucket to a bucket that nothing happened to."""

    archive: str
    published: dict[str, bytes]
    volume: Path
    seconds: float
    job: Job

    def arguments(self, bucket: str, volume: Path, *more: str) -> list[str]:
        """Of the same run, from the same archive to another bucket."""
        where = (f"--archive={self.archive}", f"--output=s3://{bucket}/runs", f"--volume={volume}")
        return [*where, *OPTIONS, *more]

    def trained(self, volume: Path) -> Path:
        """A new volume on which the run is trained, as another process would have done it, and not published."""
        run = volume / "work" / RUN_ID
        run.mkdir(parents=True)
        for name in TRAINED:
            there = self.volume / "work" / RUN_ID / name
            (shutil.copytree if there.is_dir() else shutil.copyfile)(there, run / name)
        return volume

    def check(self, published: Mapping[str, bytes], scratch: Path) -> None:
        """The same images, figures and weights, bit for bit, each epoch once, and a manifest that verifies."""
        check_manifest(dict(published))
        for name in ("split.json", "run.json", "predictions.csv"):
            assert published[name] == self.published[name], name
        history, undisturbed = rows(published["history.csv"]), rows(self.published["history.csv"])
        assert [[row[name] for name in COLUMNS] for row in history] == [
            [row[name] for name in COLUMNS] for row in undisturbed
        ]
        assert [int(row["epoch"]) for row in history] == list(range(1, len(history) + 1))
        ours, theirs = (weights(run["model.keras"], scratch) for run in (published, self.published))
        assert all(np.array_equal(mine, other) for mine, other in zip(ours, theirs, strict=True))
        assert published["model.keras"] == self.published["model.keras"]

    def finish(self, server: S3Server, bucket: str, volume: Path, scratch: Path, *more: str) -> Job:
        """Starts the run once more, undisturbed from here on: it ends as if nothing had ever happened."""
        code, job = ended("run", *self.arguments(bucket, volume, *more), env=server.environment, directory=scratch)
        assert (code, job.stderr) == (0, "")
        self.check(objects(server, bucket, f"runs/{RUN_ID}/"), scratch)
        return job


@pytest.fixture(scope="session")
def archive(seaweedfs: S3Server, sample_archive: Path) -> str:
    """The address of the drawn sample in a bucket; train.zip is deflated in it, as in Kaggle's."""
    bucket = new_bucket(seaweedfs)
    seaweedfs.client().upload_file(str(sample_archive), bucket, "dogs-vs-cats.zip")
    return f"s3://{bucket}/dogs-vs-cats.zip"


@pytest.fixture(scope="session")
def undisturbed(seaweedfs: S3Server, archive: str, tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    directory, bucket = tmp_path_factory.mktemp("undisturbed"), new_bucket(seaweedfs)
    volume = directory / "volume"
    run = Undisturbed(archive, {}, volume, 0, None)  # type: ignore[arg-type]
    began = time.monotonic()
    code, job = ended("run", *run.arguments(bucket, volume), env=seaweedfs.environment, directory=directory)
    seconds = time.monotonic() - began
    assert (code, job.stderr) == (0, ""), job.names
    published = objects(seaweedfs, bucket, f"runs/{RUN_ID}/")
    check_manifest(published)
    return Undisturbed(archive, published, volume, seconds, job)
