"""A run's event files, read by TensorBoard itself."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from catsdogs.config.history import HistoryRow
from catsdogs.results.names import TENSORBOARD
from catsdogs.results.tensorboard import EventFiles
from tests.conftest import Catsdogs
from tests.faults.running import Job
from tests.job.conftest import Trained
from tests.published import rows

TAGS = {
    "train": ["epoch_loss", "epoch_accuracy", "epoch_learning_rate", "epoch_images_per_second"],
    "validation": ["epoch_loss", "epoch_accuracy"],
}


def row(epoch: int) -> HistoryRow:
    return {
        "epoch": epoch, "loss": 1 / epoch, "accuracy": 0.5, "val_loss": 2 / epoch, "val_accuracy": 0.25,
        "seconds": 9.0, "rate": 50.0, "learning_rate": 1e-4, "ended": 1.7e9 + epoch,
    }  # fmt: skip


def scalars(run: Path, folder: str, tag: str) -> list[tuple[int, float]]:
    reader: Any = EventAccumulator(str(run / TENSORBOARD[folder]))
    reader.Reload()
    assert reader.Tags()["scalars"] == TAGS[folder]
    return [(event.step, event.value) for event in reader.Scalars(tag)]


def test_published_files_hold_the_history(trained: Trained) -> None:
    history = rows((trained.folder / "history.csv").read_bytes())
    assert len(history) == 3
    for folder, prefix in (("train", ""), ("validation", "val_")):
        for name in ("loss", "accuracy"):
            expected = [(int(row["epoch"]), float(row[prefix + name])) for row in history]
            found = scalars(trained.folder, folder, f"epoch_{name}")
            assert [step for step, _ in found] == [step for step, _ in expected]
            # The format holds them in single precision.
            assert [value for _, value in found] == pytest.approx([value for _, value in expected], rel=1e-6)
    assert [value for _, value in scalars(trained.folder, "train", "epoch_learning_rate")] == pytest.approx([1e-3] * 3)
    assert all(value > 0 for _, value in scalars(trained.folder, "train", "epoch_images_per_second"))


def test_one_that_watches_sees_each_epoch_when_it_ends(tmp_path: Path) -> None:
    history = [row(1)]
    files = EventFiles(tmp_path)
    files.write(history)
    reader: Any = EventAccumulator(str(tmp_path / "tensorboard/train"))
    reader.Reload()
    for epoch in (2, 3):
        history.append(row(epoch))
        files.write(history)
        reader.Reload()
        events = reader.Scalars("epoch_loss")
        assert [event.step for event in events] == list(range(1, epoch + 1))
        assert events[-1].wall_time == 1.7e9 + epoch


@pytest.mark.parametrize("left", ["nothing", "an epoch less", "all", "half an event", "something else", "more"])
def test_whatever_was_there_the_files_end_as_if_never_disturbed(left: str, tmp_path: Path) -> None:
    EventFiles(tmp_path / "undisturbed").write([row(epoch) for epoch in (1, 2, 3)])
    files = EventFiles(tmp_path / "disturbed")
    files.write([row(epoch) for epoch in range(1, {"an epoch less": 2, "more": 5}.get(left, 3) + 1)])
    for name in TENSORBOARD.values():
        path = tmp_path / "disturbed" / name
        match left:
            case "nothing":
                path.unlink()
            case "half an event":
                path.write_bytes(path.read_bytes()[:-20])
            case "something else":
                path.write_bytes(b"x" * 100)
    EventFiles(tmp_path / "disturbed").write([row(epoch) for epoch in (1, 2, 3)])
    for name in TENSORBOARD.values():
        assert (tmp_path / "disturbed" / name).read_bytes() == (tmp_path / "undisturbed" / name).read_bytes()


@pytest.mark.slow
def test_a_killed_run_goes_on_in_the_same_files(sample_archive: Path, catsdogs: Catsdogs, tmp_path: Path) -> None:
    """One file is there while it trains, one is lost with the kill; both have every epoch at the end."""
    arguments = (
        f"--archive={sample_archive}", "--output=runs", "--volume=volume", "--run-id=killed", "--epochs=5",
        "--train-per-class=14", "--validation-per-class=4", "--test-per-class=6", "--image-size=64", "--batch-size=5",
    )  # fmt: skip
    artifacts = tmp_path / "volume/work/killed/artifacts"
    with Job("run", *arguments, "--log-format=json", env={}, directory=tmp_path) as job:
        job.until_true(lambda: (artifacts / TENSORBOARD["validation"]).exists())
        job.kill()
    assert not (artifacts / "artifacts.json").exists()
    assert scalars(artifacts, "train", "epoch_loss")[0][0] == 1
    shutil.rmtree(artifacts / "tensorboard/validation")
    process = catsdogs("run", *arguments)
    assert (process.returncode, process.stderr) == (0, "")
    run = tmp_path / "runs/killed"
    assert json.loads((run / "metrics.json").read_bytes())["starts"] == 2
    for folder in TENSORBOARD:
        assert [step for step, _ in scalars(run, folder, "epoch_loss")] == [1, 2, 3, 4, 5]
