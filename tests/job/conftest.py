"""A small published run, trained once by the command, for whatever reads runs."""

import os
from pathlib import Path
from typing import NamedTuple

import pytest

from tests import warm
from tests.published import new_bucket, objects
from tests.servers import S3Server

warm.preload("tests.preloaded.job")

ARGUMENTS = (
    "--run-id=small", "--epochs=3", "--train-per-class=14", "--validation-per-class=4", "--test-per-class=6",
    "--image-size=64", "--batch-size=5", "--learning-rate=0.001",
)  # fmt: skip


class Trained(NamedTuple):
    """A run that is published in a bucket of its own, and the same files in a local folder."""

    bucket: str
    archive: str
    run: str
    """s3://bucket/runs/small"""
    folder: Path
    """…/runs/small"""
    environment: dict[str, str]


@pytest.fixture(scope="session")
def trained(seaweedfs: S3Server, sample_archive: Path, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """Twelve test images, six of each class. Copy what you change."""
    bucket = new_bucket(seaweedfs, sample_archive)
    directory = tmp_path_factory.mktemp("trained")
    archive = f"s3://{bucket}/datasets/dogs-vs-cats.zip"
    process = warm.catsdogs(
        "run", f"--archive={archive}", f"--output=s3://{bucket}/runs", f"--volume={directory / 'volume'}", *ARGUMENTS,
        env={"PATH": os.environ["PATH"], **seaweedfs.environment}, directory=directory,
    )  # fmt: skip
    assert process.returncode == 0, process.stderr
    folder = directory / "runs" / "small"
    folder.mkdir(parents=True)
    for name, data in objects(seaweedfs, bucket, "runs/small/").items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return Trained(bucket, archive, f"s3://{bucket}/runs/small", folder, seaweedfs.environment)
