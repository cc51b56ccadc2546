"""A small published run, trained once by the real command, for whatever reads runs."""

import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.conftest import REPOSITORY
from tests.published import new_bucket, objects
from tests.servers import S3Server

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
    subprocess.run(
        [
            sys.executable, "-m", "catsdogs", "run", f"--archive={archive}", f"--output=s3://{bucket}/runs",
            f"--volume={directory / 'volume'}", *ARGUMENTS,
        ],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(REPOSITORY / "job"), **seaweedfs.environment},
        cwd=directory,
        check=True,
        timeout=120,
    )  # fmt: skip
    folder = directory / "runs" / "small"
    folder.mkdir(parents=True)
    for name, data in objects(seaweedfs, bucket, "runs/small/").items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return Trained(bucket, archive, f"s3://{bucket}/runs/small", folder, seaweedfs.environment)
