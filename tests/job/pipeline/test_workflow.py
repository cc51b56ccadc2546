"""The whole command, as users run it: exit codes, output, files and bucket, on a real S3 server."""

import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from catsdogs.runtime import cores
from catsdogs.runtime.formatting import size_text
from tests import warm
from tests.conftest import REPOSITORY, Catsdogs, environment_in
from tests.published import ARTIFACTS, check_manifest, new_bucket, objects, rows, weights
from tests.servers import S3Server

SMALL = (
    "--train-per-class=15", "--validation-per-class=4", "--test-per-class=4", "--image-size=64", "--batch-size=4",
    "--learning-rate=0.001",
)  # fmt: skip


class Finished(NamedTuple):
    """A run from a bucket to a bucket, and all that it published under `prefix`."""

    process: subprocess.CompletedProcess[str]
    bucket: str
    prefix: str
    published: dict[str, bytes]
    arguments: tuple[str, ...]
    volume: Path


@pytest.fixture(scope="module")
def finished(seaweedfs: S3Server, sample_archive: Path, tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """One run that most tests here look at; 10 epochs, undisturbed."""
    bucket = new_bucket(seaweedfs, sample_archive)
    volume = tmp_path_factory.mktemp("finished")
    arguments = (
        f"--archive=s3://{bucket}/datasets/dogs-vs-cats.zip", f"--output=s3://{bucket}/runs", "--run-id=first",
        "--epochs=10", "--log-format=json", *SMALL,
    )  # fmt: skip
    process = subprocess.run(
        [sys.executable, "-m", "catsdogs", "run", *arguments, f"--volume={volume}"],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(REPOSITORY / "job"), **seaweedfs.environment},
        cwd=volume,
        capture_output=True,
        text=True,
        timeout=120,
    )
    published = objects(seaweedfs, bucket, "runs/first/")
    return Finished(process, bucket, "runs/first/", published, arguments, volume)


def test_run_says_what_it_does_and_nothing_else(finished: Finished) -> None:
    assert (finished.process.returncode, finished.process.stderr) == (0, "")
    events = [json.loads(line) for line in finished.process.stdout.splitlines()]
    once = [event["event"] for event in events if event["event"] not in ("epoch", "training", "validating")]
    assert once == [
        "started", "unpacked", "archive", "passed-over", "split", "device", "model", "trained", "evaluated",
        "published",
    ]  # fmt: skip
    epochs = [event for event in events if event["event"] == "epoch"]
    assert [event["epoch"] for event in epochs] == list(range(1, 11))
    assert epochs[0]["text"].startswith("epoch 1/10: loss ")


def test_manifest_lists_every_artifact_with_its_digest(finished: Finished) -> None:
    check_manifest(finished.published)
    assert json.loads(finished.published["manifest.json"])["run_id"] == "first"


def test_figures_agree_with_each_other(finished: Finished) -> None:
    metrics, history = json.loads(finished.published["metrics.json"]), rows(finished.published["history.csv"])
    predictions = rows(finished.published["predictions.csv"])
    assert [int(row["epoch"]) for row in history] == list(range(1, 11))
    best = max(history, key=lambda row: float(row["val_accuracy"]))
    assert metrics["best_epoch"] == int(best["epoch"])
    assert metrics["validation"]["accuracy"] == float(best["val_accuracy"])
    assert len(predictions) == 8
    assert all((row["probability"] > "0.5") == (row["verdict"] == "dog") for row in predictions)
    assert all(Path(row["image"]).name.startswith(row["truth"]) for row in predictions)
    right = sum(row["truth"] == row["verdict"] for row in predictions)
    assert (metrics["test"]["correct"], metrics["test"]["accuracy"]) == (right, right / 8)
    confusion = metrics["test"]["confusion"]
    assert sum(sum(row.values()) for row in confusion.values()) == 8
    assert confusion["cat"]["cat"] + confusion["dog"]["dog"] == right


def test_model_predicts_what_the_run_claims(finished: Finished, tmp_path: Path) -> None:
    """Decoded in full here, where the job lets the JPEG decoder halve, so close but not equal."""
    (tmp_path / "model.keras").write_bytes(finished.published["model.keras"])
    script = """
import warnings
warnings.simplefilter("error")
import sys, keras, numpy as np
from PIL import Image
model = keras.models.load_model(sys.argv[1])
images = [np.asarray(Image.open(path).resize((64, 64), Image.BILINEAR)) for path in sys.argv[2:]]
for dog in model.predict(np.stack(images) / 255, verbose=0)[:, 0]:
    print(float(dog))
"""
    predictions = rows(finished.published["predictions.csv"])
    split = next((finished.volume / "splits").iterdir())
    paths = [str(split / row["image"]) for row in predictions]
    told = warm.python(script, tmp_path / "model.keras", *paths, env=environment_in(tmp_path), directory=tmp_path)
    assert told.returncode == 0, told.stderr
    ours = [float(row["probability"]) for row in predictions]
    assert np.allclose([float(line) for line in told.stdout.split()], ours, atol=0.1)


def test_run_json_is_enough_to_repeat_the_run(finished: Finished) -> None:
    run = json.loads(finished.published["run.json"])
    assert run["settings"]["seed"] == 0
    assert run["settings"]["learning_rate"] == 0.001
    assert run["archive"]["uri"].endswith("/datasets/dogs-vs-cats.zip")
    assert set(run["versions"]) == {
        "catsdogs-train", "python", "tensorflow", "keras", "numpy", "PIL", "simplejpeg", "opencv", "onednn",
    }  # fmt: skip
    for version in run["versions"].values():
        assert re.match(r"\d+\.\d+", version)
    assert run["threads"] == cores.threads()
    assert run["device"] == {"name": "CPU", "dtype": "float32", "replicas": 1}


def test_no_secret_leaves_the_environment(finished: Finished, seaweedfs: S3Server) -> None:
    said = finished.process.stdout + finished.process.stderr
    everything = [said.encode(), *finished.published.values()]
    everything += [path.read_bytes() for path in finished.volume.rglob("*") if path.is_file()]
    assert not any(seaweedfs.secret_key.encode() in data for data in everything)


def test_same_run_id_again_does_nothing(
    finished: Finished, catsdogs: Catsdogs, seaweedfs: S3Server, tmp_path: Path
) -> None:
    before = seaweedfs.client().list_objects_v2(Bucket=finished.bucket)["Contents"]
    again = catsdogs("run", *finished.arguments, f"--volume={tmp_path / 'new'}", env=seaweedfs.environment)
    assert again.returncode == 0
    assert [json.loads(line)["event"] for line in again.stdout.splitlines()] == ["already-published"]
    assert seaweedfs.client().list_objects_v2(Bucket=finished.bucket)["Contents"] == before
    assert not (tmp_path / "new").exists()


def test_same_run_id_for_other_settings_is_refused(
    finished: Finished, catsdogs: Catsdogs, seaweedfs: S3Server, tmp_path: Path
) -> None:
    other = catsdogs("run", *finished.arguments, "--seed=1", f"--volume={tmp_path}", env=seaweedfs.environment)
    assert other.returncode == 78
    assert "seed 0 instead of 1" in other.stderr


@pytest.mark.slow
def test_parts_in_turn_equal_run(finished: Finished, catsdogs: Catsdogs, sample_archive: Path, tmp_path: Path) -> None:
    """From a local file to a local folder, with lines of text instead of JSON: the same model, bit for bit."""
    arguments = (
        f"--archive={sample_archive}", f"--output={tmp_path / 'out'}", f"--volume={tmp_path / 'vol'}", "--epochs=10",
        *SMALL,
    )  # fmt: skip
    early = catsdogs("train", *arguments)
    assert (early.returncode, "catsdogs prepare" in early.stderr) == (78, True)
    for part in ("prepare", "train", "publish"):
        process = catsdogs(part, *arguments)
        assert (process.returncode, process.stderr) == (0, ""), part
        assert "\r" not in process.stdout
    [run] = (tmp_path / "out").iterdir()
    assert {str(path.relative_to(run)) for path in run.rglob("*") if path.is_file()} == set(ARTIFACTS)
    assert (run / "model.keras").read_bytes() == finished.published["model.keras"]
    assert run.name.startswith("baseline-")


@pytest.mark.slow
def test_interrupted_run_goes_on_without_its_volume(
    finished: Finished, seaweedfs: S3Server, sample_archive: Path, tmp_path: Path
) -> None:
    """SIGTERM in mid-training, exit 75; the volume is lost; the same command ends with the undisturbed model."""
    bucket = new_bucket(seaweedfs, sample_archive)
    command = [
        sys.executable, "-m", "catsdogs", "run", f"--archive=s3://{bucket}/datasets/dogs-vs-cats.zip",
        f"--output=s3://{bucket}/runs", "--run-id=second", "--epochs=10", "--log-format=json", "--checkpoint-to=bucket",
        *SMALL,
    ]  # fmt: skip
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": str(REPOSITORY / "job"), **seaweedfs.environment}
    first = subprocess.Popen(
        [*command, f"--volume={tmp_path / 'one'}"], env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert first.stdout is not None
    for line in first.stdout:
        if json.loads(line)["event"] == "epoch":
            break
    first.send_signal(signal.SIGTERM)
    _, stderr = first.communicate(timeout=60)
    assert first.returncode == 75
    assert stderr.splitlines()[-1].startswith("catsdogs: SIGTERM received: progress is saved")
    left = objects(seaweedfs, bucket, "runs/second/")
    assert "manifest.json" not in left
    assert any(name.startswith("checkpoint/") for name in left)
    shutil.rmtree(tmp_path / "one")

    second = subprocess.run(
        [*command, f"--volume={tmp_path / 'two'}"], env=env, capture_output=True, text=True, timeout=120
    )
    assert (second.returncode, second.stderr) == (0, "")
    assert '"event": "resumed"' in second.stdout
    published = objects(seaweedfs, bucket, "runs/second/")
    assert set(published) == set(ARTIFACTS), "the checkpoints are gone"
    ours, theirs = (weights(model["model.keras"], tmp_path) for model in (published, finished.published))
    assert all(np.array_equal(mine, other) for mine, other in zip(ours, theirs, strict=True))
    columns = ("epoch", "loss", "accuracy", "val_loss", "val_accuracy")
    history, undisturbed = rows(published["history.csv"]), rows(finished.published["history.csv"])
    assert [[row[name] for name in columns] for row in history] == [
        [row[name] for name in columns] for row in undisturbed
    ]
    assert published["predictions.csv"] == finished.published["predictions.csv"]


def zip_of(**members: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        for name, data in members.items():
            file.writestr(name, data)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        pytest.param(lambda data: data[: len(data) // 2], "is a truncated zip, or", id="truncated"),
        pytest.param(lambda data: b"", "is empty", id="empty"),
        pytest.param(
            lambda data: b"<html>404</html>" * 100, "is an HTML page, such as of a login or an error", id="not a zip"
        ),
        pytest.param(lambda data: zip_of(readme=b"no animals"), "no image is named like", id="of something else"),
        pytest.param(lambda data: zip_of(), "without members", id="without members"),
    ],
)
def test_bad_archive(
    damage: Callable[[bytes], bytes], said: str, catsdogs: Catsdogs, sample_archive: Path, tmp_path: Path
) -> None:
    archive = tmp_path / "archive.zip"
    archive.write_bytes(damage(sample_archive.read_bytes()))
    process = catsdogs("run", f"--archive={archive}", f"--output={tmp_path}/out", *SMALL)
    assert process.returncode == 65
    [line] = process.stderr.splitlines()
    assert str(archive) in line
    assert said in line
    assert not list((tmp_path / "out").rglob("manifest.json"))


@pytest.mark.parametrize(
    ("changes", "code", "said"),
    [
        (["--archive=s3://nobody-has-this/a.zip"], 65, "s3://nobody-has-this: no such bucket"),
        (["--archive=s3://BUCKET/not/there.zip"], 65, "s3://BUCKET/not/there.zip: no such object"),
        (["--archive=not-there.zip"], 65, "not-there.zip: no such file"),
        (["--archive=."], 65, "a folder in which no image is named like cat.0.jpg"),
        (["--output=s3://nobody-has-this/runs"], 78, "s3://nobody-has-this: no such bucket"),
        (["--train-per-class=20"], 65, "28 cats are wanted, the archive has 24"),
        (["--volume=/dev/null"], 74, "/dev/null"),
        (["--volume=/proc/nowhere"], 74, "/proc"),
        (["--output=/dev/null/out"], 74, "/dev/null"),
        (["--output=s3://BUCKET", "--run-id=datasets"], 78, "dogs-vs-cats.zip: not a file of a run"),
        (["--recipe=resnet"], 2, "resnet"),
        (["--epochs=0"], 2, "--epochs"),
        (["--learning-rate=-1"], 2, "--learning-rate"),
        (["--learning-rate=nan"], 78, "--learning-rate nan"),
        (["--seed=one"], 2, "--seed"),
        (["--run-id=../escape"], 2, "--run-id"),
        (["--archive=gs://bucket/a.zip"], 2, "gs://bucket/a.zip"),
        (["--archive=s3://BUCKET"], 2, "--archive"),
        (["--checkpoint-every=often"], 2, "--checkpoint-every"),
        (["--batch-size=31"], 78, "--batch-size 31 is more than the 30 training images"),
        (["--image-size=45"], 78, "--image-size 45: recipe baseline needs at least 46"),
    ],
)
def test_bad_input_is_one_clear_line(
    changes: list[str], code: int, said: str, finished: Finished, catsdogs: Catsdogs, seaweedfs: S3Server
) -> None:
    """Nothing is fetched into, or published from, whatever cannot work."""
    good = [f"--archive=s3://{finished.bucket}/datasets/dogs-vs-cats.zip", f"--output=s3://{finished.bucket}/bad"]
    changes = [change.replace("BUCKET", finished.bucket) for change in changes]
    process = catsdogs("run", *good, *SMALL, *changes, env=seaweedfs.environment)
    assert (process.returncode, "Traceback" in process.stderr) == (code, False), process.stderr
    assert said.replace("BUCKET", finished.bucket) in process.stderr.splitlines()[-1]
    left = objects(seaweedfs, finished.bucket, "bad/")
    assert not any(name.endswith(("manifest.json", "run.json")) for name in left)


@pytest.mark.parametrize(
    ("environment", "code", "said"),
    [
        ({"AWS_SECRET_ACCESS_KEY": "wrong-and-secret"}, 77, "storage refuses"),
        ({"AWS_ACCESS_KEY_ID": "nobody"}, 77, "storage refuses"),
        ({"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""}, 77, "credentials"),
        ({"AWS_PROFILE": "absent"}, 78, "absent"),
        ({"AWS_ENDPOINT_URL_S3": "nonsense"}, 78, "nonsense"),
    ],
)
def test_storage_that_refuses(
    environment: dict[str, str], code: int, said: str, finished: Finished, catsdogs: Catsdogs, seaweedfs: S3Server
) -> None:
    process = catsdogs("run", *finished.arguments, "--volume=new", env=seaweedfs.environment | environment)
    assert process.returncode == code, process.stderr
    [line] = process.stderr.splitlines()
    assert said in line
    assert "wrong-and-secret" not in line


def test_options_are_environment_variables_too(catsdogs: Catsdogs, sample_archive: Path) -> None:
    variables = {
        "CATSDOGS_ARCHIVE": str(sample_archive), "CATSDOGS_OUTPUT": "out", "CATSDOGS_RUN_ID": "told",
        "CATSDOGS_TRAIN_PER_CLASS": "10", "CATSDOGS_VALIDATION_PER_CLASS": "5", "CATSDOGS_TEST_PER_CLASS": "5",
        "CATSDOGS_EPOCHS": "7", "CATSDOGS_LOG_FORMAT": "json",
    }  # fmt: skip
    process = catsdogs("plan", env=variables)
    plan = json.loads(process.stdout)
    assert (plan["run_id"], plan["train"]["epochs"], plan["split"]["train"]) == ("told", 7, 20)


def test_plan_does_nothing_and_says_all(catsdogs: Catsdogs, sample_archive: Path, tmp_path: Path) -> None:
    shutil.copyfile(sample_archive, tmp_path / "a.zip")
    process = catsdogs("plan", "--archive=a.zip", "--output=out", *SMALL)
    directory = re.search(r"data/splits/[0-9a-f]{16}", process.stdout)
    run_id = re.search(r"baseline-[0-9a-f]{8}", process.stdout)
    assert directory is not None
    assert run_id is not None
    inner = zipfile.ZipFile(sample_archive).getinfo("train.zip")
    size, packed, unpacked = map(size_text, (sample_archive.stat().st_size, inner.compress_size, inner.file_size))
    assert (
        process.stdout
        == f"""\
run      {run_id[0]}, not published yet
archive  a.zip: {size}, its images lie in train.zip, compressed
fetch    {packed}: train.zip is streamed once to the volume, where it takes {unpacked}
split    {directory[0]}: 30 train, 8 validation, 8 test
train    baseline: 30 epochs of 8 steps and 2 to validate, batches of 4, images 64x64, learning rate 0.001, seed 0
write    out/{run_id[0]}/: {", ".join(ARTIFACTS)}
"""
    )
    assert [path.name for path in tmp_path.iterdir()] == ["a.zip"]


@pytest.mark.parametrize(
    "command", [[], ["run"], ["prepare"], ["train"], ["publish"], ["plan"], ["demo"], ["runs"], ["verify"], ["predict"]]
)
def test_help_answers_without_heavy_imports(command: list[str], tmp_path: Path) -> None:
    """TensorFlow takes seconds to import, numpy and boto3 tenths of one."""
    script = (
        "import os, sys, catsdogs.__main__\n"
        "end = os._exit\n"
        "def told(code):\n"
        "    print({'tensorflow', 'numpy', 'boto3', 'PIL'} & set(sys.modules), file=sys.stderr, flush=True)\n"
        "    end(code)\n"
        "os._exit = told\n"
        "catsdogs.__main__.start()"
    )
    process = subprocess.run(
        [sys.executable, "-c", script, *command, "--help"], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    assert process.stderr.strip() == "set()"
    assert "Usage:" in process.stdout


def test_full_volume(catsdogs: Catsdogs, sample_archive: Path, tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", small], capture_output=True)
    if mounted.returncode:
        pytest.skip(f"cannot mount a small volume: {mounted.stderr.decode().strip()}")
    try:
        process = catsdogs("run", f"--archive={sample_archive}", "--output=out", f"--volume={small}", *SMALL)
    finally:
        subprocess.run(["umount", small], check=True)
    assert process.returncode == 74
    assert "the volume is full" in process.stderr.splitlines()[-1]


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("https://b.s3.example.com/k?X-Amz-Credential=a&X-Amz-Signature=hidden", "https://b.s3.example.com/k?***"),
        ("https://me:hidden@example.com/k", "https://***@example.com/k"),
    ],
)
def test_credentials_in_an_address_are_not_shown(address: str, shown: str, catsdogs: Catsdogs) -> None:
    process = catsdogs("run", f"--archive={address}", "--output=out")
    assert process.returncode == 2
    assert shown in process.stderr
    assert "hidden" not in process.stdout + process.stderr
