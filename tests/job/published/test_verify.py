"""`catsdogs verify RUN`, as users run it: on a sound run, and on runs with every part changed."""

import io
import json
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from catsdogs.data import sample
from tests.conftest import Catsdogs
from tests.job.conftest import Trained
from tests.published import ARTIFACTS, reseal
from tests.servers import S3Server


@pytest.fixture
def run(trained: Trained, tmp_path: Path) -> Path:
    """A copy of the published run, to be changed."""
    shutil.copytree(trained.folder, tmp_path / "run")
    return tmp_path / "run"


@pytest.mark.parametrize("address", ["s3", "s3 with a slash", "folder"])
def test_a_sound_run(address: str, trained: Trained, catsdogs: Catsdogs) -> None:
    where = {"s3": trained.run, "s3 with a slash": trained.run + "/", "folder": str(trained.folder)}[address]
    process = catsdogs("verify", where, "--log-format=json", env=trained.environment)
    assert (process.returncode, process.stderr) == (0, "")
    *artifacts, last = map(json.loads, process.stdout.splitlines())
    assert {(one["event"], one["name"]) for one in artifacts} == {
        ("artifact", name) for name in ARTIFACTS if name != "manifest.json"
    }
    assert (last["event"], last["run_id"], last["artifacts"]) == ("verified", "small", 11)


@pytest.mark.parametrize("name", [name for name in ARTIFACTS if name != "manifest.json"])
def test_one_bit_of_any_artifact(name: str, run: Path, catsdogs: Catsdogs) -> None:
    data = bytearray((run / name).read_bytes())
    data[len(data) // 2] ^= 1
    (run / name).write_bytes(data)
    process = catsdogs("verify", run)
    assert process.returncode == 65
    assert process.stderr.startswith(f"catsdogs: {run / name}: not what the manifest says")
    assert process.stdout.count("as the manifest says") == 10


def test_every_difference_is_named(run: Path, catsdogs: Catsdogs) -> None:
    (run / "history.csv").unlink()
    (run / "split.json").write_bytes((run / "split.json").read_bytes() + b"\n")
    manifest = json.loads((run / "manifest.json").read_bytes())
    manifest["artifacts"] = [entry for entry in manifest["artifacts"] if entry["name"] != "model.keras"]
    (run / "manifest.json").write_text(json.dumps(manifest))
    process = catsdogs("verify", run)
    assert process.returncode == 65
    [line] = process.stderr.splitlines()
    assert line == f"catsdogs: {run}/history.csv: no such file; check the path (and 2 more)"
    told = [line.partition("differs: ")[2] for line in process.stdout.splitlines() if "differs: " in line]
    assert [text.split(": ")[0] for text in told] == [
        f"{run}/{n}" for n in ("history.csv", "split.json", "model.keras")
    ]


@pytest.mark.parametrize(
    ("manifest", "said"),
    [
        (None, "no such file; check the path; without a manifest a run is not published"),
        ("", "not a manifest; publish the run again under another --run-id"),
        ('{"artifacts": [{"name": "../secret", "size": 0, "sha256": ""}]}', "not a manifest"),
        ('{"artifacts": [{"name": "/etc/passwd", "size": 0, "sha256": ""}]}', "not a manifest"),
        ('{"artifacts": [{"name": 1, "size": 0, "sha256": ""}]}', "not a manifest"),
        ('{"artifacts": [{"name": "a", "size": "0", "sha256": ""}]}', "not a manifest"),
        ('{"artifacts": [{"name": "a", "size": 0, "sha256": 0}]}', "not a manifest"),
    ],
)
def test_no_sound_manifest(manifest: str | None, said: str, run: Path, catsdogs: Catsdogs) -> None:
    (run / "manifest.json").unlink()
    if manifest is not None:
        (run / "manifest.json").write_text(manifest)
    process = catsdogs("verify", run)
    assert (process.returncode, process.stdout) == (65, "")
    [line] = process.stderr.splitlines()
    assert line.startswith(f"catsdogs: {run / 'manifest.json'}: {said}")


def test_accuracy_is_reproduced_from_bucket_and_archive(
    trained: Trained, catsdogs: Catsdogs, tmp_path: Path, seaweedfs: S3Server
) -> None:
    process = catsdogs(
        "verify", trained.run, "--accuracy", f"--archive={trained.archive}", "--log-format=json",
        env=trained.environment,
    )  # fmt: skip
    assert (process.returncode, process.stderr) == (0, "")
    on_test, on_train = [json.loads(line) for line in process.stdout.splitlines() if "reproduced" in line]
    metrics = json.loads((trained.folder / "metrics.json").read_bytes())
    assert (on_test["event"], on_test["correct"], on_test["images"]) == ("reproduced", metrics["test"]["correct"], 12)
    assert on_test["difference"] == 0, "the same machine, the same batches: the same bits"
    train = metrics["train"]
    assert (on_train["event"], on_train["correct"], on_train["images"]) == ("train-reproduced", train["correct"], 28)
    assert on_train["loss"] == pytest.approx(train["loss"])
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["archive"], "no images stay"


def test_another_archive_is_refused(run: Path, sample_archive: Path, catsdogs: Catsdogs, tmp_path: Path) -> None:
    other = tmp_path / "other.zip"
    shutil.copyfile(sample_archive, other)
    with zipfile.ZipFile(other, "a") as file:
        file.writestr("one-more.txt", "")
    process = catsdogs("verify", run, "--accuracy", f"--archive={other}")
    assert process.returncode == 65
    assert process.stderr == f"catsdogs: {other}: not the archive that {run} was made from; name that one\n"


def forge_count(run: Path) -> None:
    metrics = json.loads((run / "metrics.json").read_bytes())
    metrics["test"]["correct"] += 1
    (run / "metrics.json").write_text(json.dumps(metrics))


def forge_accuracy(run: Path) -> None:
    metrics = json.loads((run / "metrics.json").read_bytes())
    metrics["test"]["accuracy"] = 0.999
    (run / "metrics.json").write_text(json.dumps(metrics))


def forge_train(**values: float) -> Callable[[Path], None]:
    def forge(run: Path) -> None:
        metrics = json.loads((run / "metrics.json").read_bytes())
        metrics["train"] |= values
        (run / "metrics.json").write_text(json.dumps(metrics))

    return forge


def forge_batch_size(run: Path) -> None:
    about = json.loads((run / "run.json").read_bytes())
    about["settings"]["batch_size"] = 0
    (run / "run.json").write_text(json.dumps(about))


def forge_image_size(run: Path) -> None:
    about = json.loads((run / "run.json").read_bytes())
    about["settings"]["image_size"] = 1_000_000
    (run / "run.json").write_text(json.dumps(about))


def forge_no_training_images(run: Path) -> None:
    split = json.loads((run / "split.json").read_bytes())
    split["images"] = [image for image in split["images"] if not image["path"].startswith("train/")]
    (run / "split.json").write_text(json.dumps(split))


def forge_verdict(run: Path) -> None:
    head, first, *rest = (run / "predictions.csv").read_text().splitlines()
    other = first.removesuffix("dog") + "cat" if first.endswith("dog") else first.removesuffix("cat") + "dog"
    (run / "predictions.csv").write_text("\n".join([head, other, *rest]) + "\n")


def forge_fewer(run: Path) -> None:
    lines = (run / "predictions.csv").read_text().splitlines()
    (run / "predictions.csv").write_text("\n".join(lines[:-1]) + "\n")


def forge_model(run: Path) -> None:
    (run / "model.keras").write_bytes(b"PK no model")


def forge_images(run: Path) -> None:
    split = json.loads((run / "split.json").read_bytes())
    test = [image for image in split["images"] if image["path"].startswith("test/")]
    test[0]["sha256"] = "0" * 64
    (run / "split.json").write_text(json.dumps(split))


def forge_member(run: Path) -> None:
    split = json.loads((run / "split.json").read_bytes())
    test = [image for image in split["images"] if image["path"].startswith("test/")]
    test[0]["member"] = "train/cat.99999.jpg"
    (run / "split.json").write_text(json.dumps(split))


def forge_settings(run: Path) -> None:
    about = json.loads((run / "run.json").read_bytes())
    del about["settings"]["image_size"]
    (run / "run.json").write_text(json.dumps(about))


SLOW = pytest.mark.slow
"""Each of these evaluates the model once more."""


@pytest.mark.parametrize(
    ("forge", "said"),
    [
        pytest.param(forge_count, "test images are right; the run, made on CPU, claims", marks=SLOW),
        pytest.param(forge_accuracy, "0 predictions differ", marks=SLOW),
        (forge_verdict, "1 predictions differ"),
        (forge_train(correct=29), "training images are right, loss "),
        pytest.param(forge_train(accuracy=0.999), "training images are right, loss ", marks=SLOW),
        pytest.param(forge_train(loss=0.001), "training images are right, loss ", marks=SLOW),
        pytest.param(forge_train(loss=float("nan")), "training images are right, loss ", marks=SLOW),
        (forge_train(loss=10**400), "metrics.json: not that of a run (train.loss: the number has more than 64 bits)"),
        (forge_batch_size, "run.json: not that of a run (settings.batch_size: 0 is below 1)"),
        pytest.param(forge_image_size, "model.keras: takes images of 64 pixels, its run had 1000000", marks=SLOW),
        (forge_no_training_images, "split.json: not that of a run (no train images)"),
        pytest.param(forge_fewer, "predictions.csv is not about the test images", marks=SLOW),
        (forge_model, "model.keras: no model that can be used"),
        (forge_images, "is not the one of the run's test images"),
        (forge_member, "has no train/cat.99999.jpg, which is one of the run's test images"),
        (forge_settings, "run.json: not that of a run (settings: image_size is missing)"),
    ],
)  # fmt: skip
def test_a_claim_that_the_archive_does_not_bear_out(
    forge: Callable[[Path], None], said: str, run: Path, sample_archive: Path, catsdogs: Catsdogs, tmp_path: Path
) -> None:
    """The manifest was made to fit, so that only the evaluation can tell."""
    forge(run)
    reseal(run)
    process = catsdogs("verify", run, "--accuracy", f"--archive={sample_archive}", "--volume=vol")
    assert process.returncode == 65
    [line] = process.stderr.splitlines()
    assert said in line
    assert "verified run small" in process.stdout
    assert not (tmp_path / "vol" / "verify").exists()


def test_a_run_of_an_older_version_claims_nothing_of_the_training_images(
    run: Path, sample_archive: Path, catsdogs: Catsdogs
) -> None:
    """Only running means, which no evaluation gives."""
    metrics = json.loads((run / "metrics.json").read_bytes())
    del metrics["format"]
    metrics["train"] = {"loss": 0.5, "accuracy": 0.123}
    (run / "metrics.json").write_text(json.dumps(metrics))
    reseal(run)
    process = catsdogs("verify", run, "--accuracy", f"--archive={sample_archive}", "--log-format=json")
    assert (process.returncode, process.stderr) == (0, "")
    assert json.loads(process.stdout.splitlines()[-1])["event"] == "reproduced"


@pytest.mark.parametrize("name", ["manifest.json", "run.json", "metrics.json", "split.json"])
def test_a_run_of_a_newer_version(name: str, run: Path, sample_archive: Path, catsdogs: Catsdogs) -> None:
    document = json.loads((run / name).read_bytes())
    (run / name).write_text(json.dumps({**document, "format": 99}))
    if name != "manifest.json":
        reseal(run)
    process = catsdogs("verify", run, "--accuracy", f"--archive={sample_archive}")
    assert process.returncode == 78
    [line] = process.stderr.splitlines()
    assert line.startswith(f"catsdogs: {run / name}: written by a newer version of catsdogs-train (format 99;")


def test_a_manifest_decides_which_artifacts_a_run_has(run: Path, catsdogs: Catsdogs) -> None:
    """Neither those of this version, but for the least of a run, nor no others."""
    (run / "new.bin").write_bytes(b"new")
    manifest = json.loads((run / "manifest.json").read_bytes())
    manifest["artifacts"] = [entry for entry in manifest["artifacts"] if "tensorboard" not in entry["name"]]
    manifest["artifacts"].append({"name": "new.bin"})
    (run / "manifest.json").write_text(json.dumps(manifest))
    reseal(run)
    process = catsdogs("verify", run)
    assert (process.returncode, process.stderr) == (0, "")
    assert "verified run small: its 10 artifacts" in process.stdout
    (run / "new.bin").write_bytes(b"old")
    assert catsdogs("verify", run).stderr.startswith(f"catsdogs: {run / 'new.bin'}: not what the manifest says")


def test_accuracy_needs_an_archive(run: Path, catsdogs: Catsdogs) -> None:
    process = catsdogs("verify", run, "--accuracy")
    assert (process.returncode, process.stdout) == (2, "")
    assert "--accuracy needs --archive" in process.stderr


@pytest.fixture
def partial(tmp_path: Path, catsdogs: Catsdogs) -> tuple[Path, Path]:
    """A run that has used twelve images of each class, and its archive, which has fourteen more, two of them broken."""
    archive, run = tmp_path / "train.zip", tmp_path / "runs" / "partial"
    with zipfile.ZipFile(archive, "w") as file:
        for label in ("cat", "dog"):
            for number in range(26):
                picture = io.BytesIO()
                sample.draw(label, number).save(picture, "JPEG")
                # The first is found while the split is built, and image 12 takes its place.
                broken = (label, number) in {("cat", 0), ("cat", 20), ("dog", 12)}
                content = f"no picture: {label} {number}".encode() if broken else picture.getvalue()
                file.writestr(f"{label}.{number}.jpg", content)
    process = catsdogs(
        "run", f"--archive={archive}", "--output=runs", "--run-id=partial", "--epochs=1", "--train-per-class=8",
        "--validation-per-class=2", "--test-per-class=2", "--image-size=48", "--batch-size=4",
    )  # fmt: skip
    assert (process.returncode, process.stderr) == (0, "")
    return run, archive


@pytest.mark.slow
def test_accuracy_on_further_images(partial: tuple[Path, Path], catsdogs: Catsdogs, tmp_path: Path) -> None:
    run, archive = partial
    accuracy = ("verify", run, "--accuracy", f"--archive={archive}", "--log-format=json")
    process = catsdogs(*accuracy, "--further-per-class=12")
    assert (process.returncode, process.stderr) == (0, "")
    said = [json.loads(line) for line in process.stdout.splitlines()]
    assert [one["event"] for one in said[-3:]] == ["reproduced", "train-reproduced", "further"]
    # Cats 13 to 24, dogs 12 to 23, as `predict` sees them.
    names = {
        f"{label}.{number}.jpg" for label, first in (("cat", 13), ("dog", 12)) for number in range(first, first + 12)
    }
    zipfile.ZipFile(archive).extractall(tmp_path / "further", names)
    predicted = catsdogs("predict", tmp_path / "further", f"--model={run}", "--format=json")
    assert predicted.returncode == 65, "the two that are broken"
    verdicts = [one for one in map(json.loads, predicted.stdout.splitlines()) if "verdict" in one]
    right = sum(Path(one["image"]).name.startswith(one["verdict"]) for one in verdicts)
    last = said[-1]
    assert (last["images"], last["correct"], last["broken"]) == (22, right, 2) == (len(verdicts), right, 2)
    assert last["low"] < last["accuracy"] < last["high"]

    process = catsdogs(*accuracy, "--further-per-class=14")
    assert process.returncode == 65
    assert process.stderr == (
        f"catsdogs: {archive}: has 13 cats that the run has not used; lower --further-per-class\n"
    )


@pytest.mark.slow
def test_further_images_of_one_class_that_are_no_pictures(
    partial: tuple[Path, Path], catsdogs: Catsdogs, tmp_path: Path
) -> None:
    """Cat 13 is sound; dog 12, the only one asked for, is not."""
    run, archive = partial
    process = catsdogs("verify", run, "--accuracy", f"--archive={archive}", "--further-per-class=1")
    assert process.returncode == 65
    assert process.stderr == (
        f"catsdogs: {archive}: its held-out images of one class are not images; raise --further-per-class\n"
    )


def test_further_images_need_accuracy(run: Path, catsdogs: Catsdogs) -> None:
    process = catsdogs("verify", run, "--further-per-class=3")
    assert (process.returncode, process.stdout) == (2, "")
    assert "--further-per-class needs --accuracy" in process.stderr
