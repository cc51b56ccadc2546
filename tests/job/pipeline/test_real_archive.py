"""The job on Kaggle's real photographs, from SeaweedFS to a verified manifest."""

import json
import os
from pathlib import Path

import pytest

from tests.conftest import Catsdogs
from tests.published import check_manifest, new_bucket, objects
from tests.servers import S3Server

ARCHIVE = os.environ.get("CATSDOGS_TEST_ARCHIVE", "")


@pytest.mark.slow
@pytest.mark.skipif(not ARCHIVE, reason="no real archive: make test-slow ARCHIVE=dogs-vs-cats.zip")
def test_two_epochs_on_200_photographs(seaweedfs: S3Server, catsdogs: Catsdogs) -> None:
    bucket = new_bucket(seaweedfs, Path(ARCHIVE))
    process = catsdogs(
        "run", f"--archive=s3://{bucket}/datasets/dogs-vs-cats.zip", f"--output=s3://{bucket}/runs", "--run-id=real",
        "--train-per-class=60", "--validation-per-class=20", "--test-per-class=20", "--epochs=2",
        env=seaweedfs.environment,
        timeout=300,
    )  # fmt: skip
    assert (process.returncode, process.stderr) == (0, "")
    assert "12,500 cats and 12,500 dogs" in process.stdout
    published = objects(seaweedfs, bucket, "runs/real/")
    check_manifest(published)
    assert len(json.loads(published["split.json"])["images"]) == 200
