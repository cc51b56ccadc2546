"""The image, built from the very Dockerfile with the CPU extra, and run as users and clusters run it."""

import json
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from catsdogs import __version__
from tests.conftest import REPOSITORY
from tests.image.conftest import IMAGE
from tests.image.engine import Engine
from tests.published import check_manifest, files, new_bucket, objects
from tests.servers import S3Server

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

SMALL = (
    "--train-per-class=15", "--validation-per-class=4", "--test-per-class=4", "--image-size=64", "--batch-size=4",
    "--log-format=json",
)  # fmt: skip
LOCKED_DOWN = (
    "--read-only", "--tmpfs=/tmp", "--cap-drop=ALL", "--security-opt=no-new-privileges", "--memory=2g",
    "--network=host",
)  # fmt: skip


@pytest.fixture
def data(docker: Engine) -> Iterator[str]:
    """The name of a new volume, as the engine makes it: with the owner and mode that the image gives /data."""
    name = f"catsdogs-test-{os.urandom(4).hex()}"
    docker("volume", "create", name)
    yield name
    docker("volume", "rm", "--force", name)


def credentials(server: S3Server) -> list[str]:
    """Only the names; the values are in the client's environment, not in its argument list."""
    return [f"--env={name}" for name in server.environment]


def events(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def test_configuration(docker: Engine) -> None:
    [image] = json.loads(docker("image", "inspect", IMAGE).stdout)
    config = image["Config"]
    assert config["Entrypoint"] == ["catsdogs"]
    assert config["Cmd"] == ["run"]
    assert config["User"] == "10001:0"
    assert set(config["Volumes"]) == {"/data"}
    labels = config["Labels"]
    assert labels["org.opencontainers.image.version"] == __version__
    assert {"org.opencontainers.image.revision", "org.opencontainers.image.source"} <= set(labels)
    variables = dict(entry.split("=", 1) for entry in config["Env"])
    for name in ("HOME", "KERAS_HOME", "MPLCONFIGDIR", "CUDA_CACHE_PATH"):
        assert variables[name].startswith("/tmp"), name


def test_contains_the_job_and_no_build_tools(docker: Engine) -> None:
    script = "ls /opt/catsdogs; for tool in pip pip3 gcc cc make git; do command -v $tool; done; ls /src /tests 2>&1"
    told = docker("run", "--rm", "--entrypoint=sh", IMAGE, "-c", script).stdout.split()
    assert told[:3] == ["bin", "catsdogs", f"catsdogs_train-{__version__}.dist-info"]
    assert not {"/usr/bin/pip", "/usr/bin/gcc", "/usr/bin/cc", "/usr/bin/make", "/usr/bin/git"} & set(told)
    assert "/opt/venv/bin/pip" not in told


def test_without_options_says_what_is_missing(docker: Engine) -> None:
    process = docker("run", "--rm", IMAGE)
    assert process.returncode == 2
    assert "Missing option '--archive'" in process.stderr


def test_memory_limit_is_seen(docker: Engine) -> None:
    script = "from catsdogs.runtime import memory; print(memory.limit())"
    process = docker("run", "--rm", "--memory=1g", "--entrypoint=python3", IMAGE, "-c", script)
    assert process.stdout.strip() == str(2**30)


@pytest.mark.parametrize(
    ("engine_options", "options", "code", "words"),
    [
        ([], ["--require-gpu"], 69, ["no usable GPU: "]),
        (["--memory=200m"], [], 78, ["256 MiB", "200 MiB", "raise"]),
        (["--memory=1400m"], ["--image-size=400", "--batch-size=20"], 78, ["20 images of 400 pixels", "1400 MiB"]),
    ],
    ids=["gpu", "memory for TensorFlow", "memory for the model"],
)
def test_machine_that_is_not_enough(
    engine_options: list[str], options: list[str], code: int, words: list[str], docker: Engine, data: str
) -> None:
    with_archive = ["--volume", f"{data}:/data", *LOCKED_DOWN, *engine_options]
    sample = "import pathlib; from catsdogs.data import sample; sample.write_archive(pathlib.Path('/data/a.zip'), 24)"
    assert docker("run", "--rm", *with_archive, "--entrypoint=python3", IMAGE, "-c", sample).returncode == 0
    process = docker("run", "--rm", *with_archive, IMAGE, "run", "--archive=a.zip", "--output=runs", *SMALL, *options)
    assert process.returncode == code, process.stderr
    said = process.stderr.splitlines()[-1]
    assert [word for word in words if word not in said] == [], said


def test_bucket_to_bucket_locked_down(docker: Engine, data: str, seaweedfs: S3Server, sample_archive: Path) -> None:
    bucket = new_bucket(seaweedfs, sample_archive)
    process = docker(
        "run", "--rm", *LOCKED_DOWN, "--volume", f"{data}:/data", *credentials(seaweedfs), IMAGE,
        "run", f"--archive=s3://{bucket}/datasets/dogs-vs-cats.zip", f"--output=s3://{bucket}/runs", "--run-id=boxed",
        "--epochs=2", *SMALL,
        env=seaweedfs.environment,
    )  # fmt: skip
    assert (process.returncode, process.stderr) == (0, "")
    assert events(process.stdout)[-1]["event"] == "published"
    check_manifest(objects(seaweedfs, bucket, "runs/boxed/"))
    owners = docker(
        "run", "--rm", "--volume", f"{data}:/data", "--entrypoint=find", IMAGE, "/data", "-printf", "%U:%G\n"
    )
    assert set(owners.stdout.split()) == {"10001:0"}


def test_stop_in_mid_training_and_resume(docker: Engine, data: str, seaweedfs: S3Server, sample_archive: Path) -> None:
    bucket = new_bucket(seaweedfs, sample_archive)
    name = f"catsdogs-test-{os.urandom(4).hex()}"
    run = [
        *LOCKED_DOWN, "--volume", f"{data}:/data", *credentials(seaweedfs), IMAGE,
        "run", f"--archive=s3://{bucket}/datasets/dogs-vs-cats.zip", f"--output=s3://{bucket}/runs", "--run-id=stopped",
        "--epochs=60", *SMALL,
    ]  # fmt: skip
    docker("run", "--detach", "--name", name, *run, env=seaweedfs.environment)
    try:
        deadline = time.monotonic() + 120
        while '"event": "epoch"' not in docker("logs", name).stdout:
            assert time.monotonic() < deadline, docker("logs", name)
            time.sleep(0.1)
        docker("stop", "--time=30", name)
        [state] = json.loads(docker("container", "inspect", name).stdout)
        assert state["State"]["ExitCode"] == 75
        assert "progress is saved" in docker("logs", name).stderr.splitlines()[-1]
        trained = [event for event in events(docker("logs", name).stdout) if event["event"] == "epoch"]
        assert len(trained) < 60
    finally:
        docker("rm", "--force", name)
    again = docker("run", "--rm", *run, env=seaweedfs.environment)
    assert (again.returncode, again.stderr) == (0, "")
    assert "resumed" in [event["event"] for event in events(again.stdout)]
    published = objects(seaweedfs, bucket, "runs/stopped/")
    check_manifest(published)
    assert len(published["history.csv"].splitlines()) == 61


def test_local_folder_as_the_user_who_owns_it(docker: Engine, sample_archive: Path, tmp_path: Path) -> None:
    """The README's first line, but for the GPU: an arbitrary user, archive and output in the current folder."""
    shutil.copyfile(sample_archive, tmp_path / "dogs-vs-cats.zip")
    os.chown(tmp_path, 123456, 123456)
    process = docker(
        "run", "--rm", *LOCKED_DOWN, "--user=123456:123456", "--volume", f"{tmp_path}:/data", IMAGE,
        "run", "--archive=dogs-vs-cats.zip", "--output=runs", "--epochs=1", *SMALL,
    )  # fmt: skip
    assert (process.returncode, process.stderr) == (0, "")
    [run] = (tmp_path / "runs").iterdir()
    check_manifest(files(run))
    assert run.stat().st_uid == 123456


def test_folder_of_somebody_else(docker: Engine, sample_archive: Path, tmp_path: Path) -> None:
    shutil.copyfile(sample_archive, tmp_path / "dogs-vs-cats.zip")
    process = docker(
        "run", "--rm", *LOCKED_DOWN, "--volume", f"{tmp_path}:/data", IMAGE,
        "run", "--archive=dogs-vs-cats.zip", "--output=runs", *SMALL,
    )  # fmt: skip
    assert process.returncode == 74
    assert "permission denied" in process.stderr.splitlines()[-1]


def test_dockerfile_copies_nothing_that_is_ignored() -> None:
    """Every file that the Dockerfile copies from the project is let through by .dockerignore."""
    copied = {
        word.replace("${EXTRA}", "cpu").partition("/")[0]
        for line in (REPOSITORY / "Dockerfile").read_text().splitlines()
        if line.startswith("COPY ") and "--from" not in line
        for word in line.split()[1:-1]
    }
    allowed = {line[1:] for line in (REPOSITORY / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert copied == allowed
