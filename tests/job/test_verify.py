"""`catsdogs verify RUN`, as users run it: on a sound run, and on runs with every part changed."""

import json
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

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
        ("", "no manifest"),
        ('{"artifacts": [{"name": "../secret", "size": 0, "sha256": ""}]}', "no manifest"),
        ('{"artifacts": [{"name": "/etc/passwd", "size": 0, "sha256": ""}]}', "no manifest"),
        ('{"artifacts": [{"name": 1, "size": 0, "sha256": ""}]}', "no manifest"),
        ('{"artifacts": [{"name": "a", "size": "0", "sha256": ""}]}', "no manifest"),
        ('{"artifacts": [{"name": "a", "size": 0, "sha256": 0}]}', "no manifest"),
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
    last = json.loads(process.stdout.splitlines()[-1])
    test = json.loads((trained.folder / "metrics.json").read_bytes())["test"]
    assert (last["event"], last["correct"], last["images"]) == ("reproduced", test["correct"], 12)
    assert last["difference"] == 0, "the same machine, the same batches: the same bits"
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


@pytest.mark.parametrize(
    ("forge", "said"),
    [
        (forge_count, "test images are right; the run, made on CPU, claims"),
        (forge_accuracy, "0 verdicts differ"),
        (forge_verdict, "1 verdicts differ"),
        (forge_fewer, "predictions.csv is not about the test images"),
        (forge_model, "model.keras: no model that can be used"),
        (forge_images, "is not the one that the run was tested on"),
        (forge_member, "has no train/cat.99999.jpg, which the run was tested on"),
        (forge_settings, "its files are not those of a run"),
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


def test_accuracy_needs_an_archive(run: Path, catsdogs: Catsdogs) -> None:
    process = catsdogs("verify", run, "--accuracy")
    assert (process.returncode, process.stdout) == (2, "")
    assert "--accuracy needs --archive" in process.stderr
