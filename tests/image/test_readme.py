"""The commands for containers in README, typed as they are written there, in a clone of the repository."""

import json
import os
import shutil
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from catsdogs.data import sample
from tests.conftest import REPOSITORY
from tests.documents.blocks import block
from tests.image.engine import Engine, base_image
from tests.published import check_manifest, files, new_bucket, objects
from tests.servers import S3Server

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

SMALL = (
    "--epochs 1 --train-per-class 10 --validation-per-class 4 --test-per-class 4 --image-size 64 --batch-size 5"
    " --run-id typed"
)


@pytest.fixture(scope="module")
def typed(docker: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator["Typed"]:
    folder = tmp_path_factory.mktemp("readme")
    subprocess.run(["git", "clone", "--quiet", REPOSITORY, folder / "clone"], check=True)
    (folder / "bin").mkdir()
    (folder / "bin/docker").symlink_to(docker.docker)
    # `make image` builds for GPUs unless EXTRA and BASE say otherwise, as README explains.
    environment = docker.environment | {
        "PATH": f"{folder}/bin:{os.environ['PATH']}",
        "EXTRA": "cpu", "BASE": base_image(docker), "BUILD_ARGS": "--network=host",
    }  # fmt: skip
    yield Typed(folder / "clone", environment)
    docker("volume", "rm", "--force", "pets")


class Typed:
    """A shell in the clone. There is no GPU here, and containers use the host's network."""

    def __init__(self, clone: Path, environment: dict[str, str]):
        self.clone, self.environment = clone, environment

    def __call__(self, text: str, env: dict[str, str] | None = None) -> str:
        for written, meant in ((" --gpus all", " --network=host"), (" --require-gpu", f" {SMALL}")):
            text = text.replace(written, meant)
        process = subprocess.run(
            ["bash", "-euc", text], cwd=self.clone, env=self.environment | (env or {}), capture_output=True, text=True
        )
        assert process.returncode == 0, f"{text}\n{process.stdout}\n{process.stderr}"
        return process.stdout


@pytest.fixture(scope="module")
def image(typed: Typed) -> Typed:
    typed(block("README.md", "make image\n"))
    return typed


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[str]:
    """The address of Debian's docker-registry, on a free port."""
    program = shutil.which("docker-registry")
    if program is None:
        if os.environ.get("CATSDOGS_TEST_ENGINE") == "required":
            pytest.fail("there is no docker-registry; on Debian: apt-get install docker-registry")
        pytest.skip("there is no docker-registry")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    (tmp_path / "config.yml").write_text(
        f"version: 0.1\nstorage:\n  filesystem:\n    rootdirectory: {tmp_path}/images\nhttp:\n  addr: {address}\n"
    )
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen([program, "serve", tmp_path / "config.yml"], stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            try:
                socket.create_connection(("127.0.0.1", int(address.rpartition(":")[2])), 1).close()
                break
            except OSError:
                time.sleep(0.1)
        yield address
    finally:
        process.terminate()
        process.wait()


def test_from_folder_to_folder(image: Typed) -> None:
    sample.write_archive(image.clone / "dogs-vs-cats.zip", 24)
    image(block("README.md", "docker run --rm --gpus all --user"))
    check_manifest(files(image.clone / "runs/typed"))
    assert (image.clone / "runs/typed/model.keras").stat().st_uid == os.getuid()


def test_from_bucket_to_bucket(image: Typed, seaweedfs: S3Server, sample_archive: Path) -> None:
    bucket = new_bucket(seaweedfs, sample_archive)
    text = block("README.md", "docker run --rm --gpus all -e").replace("s3://pets/", f"s3://{bucket}/")
    assert text.count(bucket) == 2
    image(text, seaweedfs.environment)
    check_manifest(objects(seaweedfs, bucket, "runs/typed/"))


def test_pushed_to_a_registry(image: Typed, registry: str) -> None:
    text = block("README.md", "make image IMAGE=")
    assert text.count("REGISTRY") == 2
    image(text.replace("REGISTRY", registry))
    with urllib.request.urlopen(f"http://{registry}/v2/_catalog") as catalog:
        assert json.load(catalog)["repositories"] == ["catsdogs-train"]
