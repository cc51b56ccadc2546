"""A stranger types the commands of README and docs, in a fresh clone, with an empty home."""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from catsdogs.data import sample
from tests.conftest import REPOSITORY
from tests.documents.blocks import block
from tests.published import check_manifest, files, objects
from tests.servers import S3Server

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]

SMALL = {
    "CATSDOGS_TRAIN_PER_CLASS": "10", "CATSDOGS_VALIDATION_PER_CLASS": "4", "CATSDOGS_TEST_PER_CLASS": "4",
    "CATSDOGS_IMAGE_SIZE": "64", "CATSDOGS_BATCH_SIZE": "5", "CATSDOGS_EPOCHS": "1",
}  # fmt: skip
"""The commands stay as they are written; these variables make them small."""


class Stranger:
    """Types blocks in bash. What is needed from outside, such as the package index's settings, is kept."""

    def __init__(self, clone: Path, home: Path):
        self.clone, self.home = clone, home
        # A make that runs this test passes its variables on to the make that is typed.
        make = ("MAKE", "MFLAGS", "ARCHIVE", "ARGS")
        own = ("AWS_", "CATSDOGS_", "MLFLOW_", "PYTHON", "VIRTUAL_ENV", "KUBECONFIG", *make)
        kept = {name: value for name, value in os.environ.items() if not name.startswith(own)}
        # Downloaded packages may come from this machine's cache: they are checked by their hashes all the same.
        cache = {"PIP_CACHE_DIR": str(Path.home() / ".cache/pip")}
        # `.ci/run` sets up a clean clone; a second time here would take as long again.
        ready = {"MAKEFLAGS": f"VENV={REPOSITORY}/.venv"}
        without = [part for part in kept["PATH"].split(":") if Path(part) != REPOSITORY / ".venv/bin"]
        self.environment = kept | cache | ready | SMALL | {"HOME": str(home), "PATH": ":".join(without)}

    def types(self, text: str, replaced: Mapping[str, str] | None = None, env: Mapping[str, str] | None = None) -> str:
        """Return standard output. Each key of `replaced`, which must be there, stands for the reader's own."""
        for written, meant in (replaced or {}).items():
            assert written in text, f"{written} is not in {text}"
            text = text.replace(written, meant)
        process = subprocess.run(
            ["bash", "-euc", text],
            cwd=self.clone,
            env={**self.environment, **(env or {})},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
        )
        assert process.returncode == 0, f"{text}\n{process.stdout}\n{process.stderr}"
        return process.stdout


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stranger]:
    folder = tmp_path_factory.mktemp("stranger")
    subprocess.run(["git", "clone", "--quiet", REPOSITORY, folder / "clone"], check=True)
    # What is not committed yet is tried as well.
    changed = subprocess.run(["git", "diff", "HEAD", "--binary"], cwd=REPOSITORY, capture_output=True, check=True)
    if changed.stdout:
        subprocess.run(["git", "apply"], cwd=folder / "clone", input=changed.stdout, check=True)
    for name in ("locks/dev.txt", "pyproject.toml", "k8s/pyproject.toml"):
        # Older than the environment, which make would otherwise fill with this clone.
        os.utime(folder / "clone" / name, (0, 0))
    (folder / "home").mkdir()
    yield Stranger(folder / "clone", folder / "home")
    # The tens of thousands of files of an environment: some disks take minutes to remove them.
    subprocess.run(f"rm -r {folder} &", shell=True, check=True, start_new_session=True)


@pytest.fixture(scope="module")
def archive(stranger: Stranger) -> Path:
    """dogs-vs-cats.zip in the clone, with drawn animals."""
    path = stranger.clone / "dogs-vs-cats.zip"
    sample.write_archive(path, 24)
    return path


@pytest.fixture(scope="module")
def installed(stranger: Stranger, archive: Path) -> Stranger:
    """With README's environment, activated; README's first local run is done."""
    text = block("README.md", "python3 -m venv ~/.venvs/catsdogs")
    stranger.types(text)
    stranger.environment["PATH"] = f"{stranger.home}/.venvs/catsdogs/bin:{stranger.environment['PATH']}"
    return stranger


@pytest.fixture(scope="module")
def bucket(seaweedfs: S3Server, archive: Path) -> str:
    name = "stranger"
    client = seaweedfs.client()
    client.create_bucket(Bucket=name)
    client.upload_file(str(archive), name, "datasets/dogs-vs-cats.zip")
    return name


def only_run(folder: Path) -> Path:
    [run] = [path.parent for path in folder.glob("*/manifest.json")]
    return run


def storage(server: S3Server) -> dict[str, str]:
    return {name: value for name, value in server.environment.items() if name.startswith("AWS_")}


def test_make_demo(stranger: Stranger) -> None:
    told = stranger.types(block("README.md", "make demo\n"))
    assert "the animals are drawn" in told
    run = only_run(stranger.clone / "demo/runs")
    check_manifest(files(run))
    shutil.rmtree(stranger.clone / "demo")


def test_make_demo_of_an_archive(stranger: Stranger, archive: Path) -> None:
    """Nothing of an earlier demo is there."""
    assert not (stranger.clone / "demo").exists()
    told = stranger.types(block("README.md", "make demo ARCHIVE="))
    assert "the animals are drawn" not in told
    check_manifest(files(only_run(stranger.clone / "demo/runs")))


def test_local_run(installed: Stranger) -> None:
    check_manifest(files(only_run(installed.clone / "runs")))


def test_bucket_to_bucket_and_what_follows(installed: Stranger, seaweedfs: S3Server, bucket: str) -> None:
    keys = storage(seaweedfs)
    pets = {"s3://pets/": f"s3://{bucket}/"}
    own = {
        "ACCESS_KEY AWS": f"{keys['AWS_ACCESS_KEY_ID']} AWS",
        "=SECRET_KEY": f"={keys['AWS_SECRET_ACCESS_KEY']}",
        "https://s3.example.com": keys["AWS_ENDPOINT_URL_S3"],
    }
    installed.types(block("README.md", "export AWS_ACCESS_KEY_ID="), pets | own, env={"AWS_REGION": "us-east-1"})
    told = installed.types(block("docs/runs.md", "catsdogs runs"), pets, keys)
    run_id = told.splitlines()[1].split()[0]
    check_manifest(objects(seaweedfs, bucket, f"runs/{run_id}/"))
    of_run = pets | {"RUN_ID": run_id}
    assert "every verdict is the same" in installed.types(block("docs/runs.md", "catsdogs verify"), of_run, keys)
    (installed.clone / "photos").mkdir()
    for label in ("cat", "dog"):
        sample.draw(label, 99).save(installed.clone / f"photos/{label}.jpg")
    told = installed.types(block("docs/runs.md", "catsdogs predict"), of_run, keys)
    assert re.findall(r"photos/(\w+)\.jpg$", told, re.MULTILINE) == ["cat", "dog"]
    assert "already published" in installed.types(block("benchmarks/RESULTS.md", "catsdogs run"), pets, keys)


def test_compact_and_its_held_out_images(installed: Stranger) -> None:
    text = block("docs/recipes.md", "catsdogs run")
    run, verify = text.splitlines(keepends=True)
    installed.types(run)
    [folder] = (installed.clone / "runs").glob("compact-*")
    told = installed.types(verify, {"RUN_ID": folder.name, "--further-per-class 2500": "--further-per-class 2"})
    assert "4 further images" in told


def test_exports(installed: Stranger) -> None:
    installed.types(block("docs/runs.md", "pip install '.[onnx]'"), env={"CATSDOGS_SEED": "8"})
    [run] = [path.parent for path in (installed.clone / "runs").glob("*/model.onnx")]
    assert {"model.onnx", "model.tflite", "model.savedmodel.zip"} <= {path.name for path in run.iterdir()}


def test_mlflow(installed: Stranger, seaweedfs: S3Server, bucket: str) -> None:
    """A folder stands for the server."""
    text = block("docs/runs.md", "pip install '.[mlflow]'")
    own = {"https://mlflow.example.com": f"file:{installed.home}/mlruns", "s3://pets/": f"s3://{bucket}/"}
    told = installed.types(text, own, storage(seaweedfs) | {"CATSDOGS_SEED": "9", "MLFLOW_ALLOW_FILE_STORE": "true"})
    assert "logged to MLflow" in told


def test_two_workers(installed: Stranger) -> None:
    before = set((installed.clone / "runs").iterdir())
    told = installed.types(block("docs/workers.md", "for index in 0 1; do"), env={"CATSDOGS_SEED": "7"})
    assert "all 2 workers are there" in told
    [run] = set((installed.clone / "runs").iterdir()) - before
    check_manifest(files(run))


@pytest.mark.parametrize("document", ["README.md", "docs/kubectl.md"])
def test_plugin(installed: Stranger, document: str) -> None:
    """Where there is no cluster it says so. On a cluster its commands are typed by tests/cluster."""
    install, follow = block(document, "pip install ./k8s").splitlines()
    installed.types(install)
    plugin = follow.replace("kubectl catsdogs", "kubectl-catsdogs", 1)
    process = subprocess.run(
        ["bash", "-c", plugin], env=installed.environment, capture_output=True, text=True, cwd=installed.clone
    )
    assert process.returncode == 78, process.stderr
    assert process.stderr.startswith("kubectl catsdogs: ")
    assert "Traceback" not in process.stderr


def test_completion(installed: Stranger) -> None:
    text = block("docs/kubectl.md", 'eval "$(_KUBECTL_CATSDOGS_COMPLETE=')
    assert "kubectl-catsdogs" in installed.types(f"{text}complete -p kubectl-catsdogs\n")
