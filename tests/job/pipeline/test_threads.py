"""How many threads compute an operation decides how its sums are rounded: a run keeps the number that it began with."""

import json
import os
import signal
from pathlib import Path

import pytest

from catsdogs.results import documents, publish
from catsdogs.runtime import cores
from catsdogs.runtime.errors import ConfigError
from catsdogs.storage.address import open_store
from catsdogs.storage.store import StorageOptions
from tests.conftest import Catsdogs
from tests.faults.running import Job
from tests.published import files, rows

SMALL = (
    "--run-id=threads", "--train-per-class=15", "--validation-per-class=4", "--test-per-class=4", "--image-size=64",
    "--batch-size=15", "--epochs=6", "--learning-rate=0.0005", "--log-format=json",
)  # fmt: skip
COLUMNS = ("epoch", "loss", "accuracy", "val_loss", "val_accuracy")


def arguments(archive: Path, folder: Path) -> tuple[str, ...]:
    return ("run", f"--archive={archive}", f"--output={folder / 'runs'}", f"--volume={folder / 'volume'}", *SMALL)


def with_threads(count: int) -> dict[str, str]:
    return {cores.THREADS: str(count)}


@pytest.mark.timeout(900)
def test_a_run_ends_with_the_same_bytes_on_a_machine_with_other_cores(
    sample_archive: Path, catsdogs: Catsdogs, tmp_path: Path
) -> None:
    undisturbed = catsdogs(*arguments(sample_archive, tmp_path / "one"), env=with_threads(3), timeout=400)
    assert (undisturbed.returncode, undisturbed.stderr) == (0, "")
    expected = files(tmp_path / "one" / "runs" / "threads")
    assert json.loads(expected["run.json"])["threads"] == 3

    with Job(*arguments(sample_archive, tmp_path / "two"), env=with_threads(3), directory=tmp_path) as job:
        job.until("epoch", timeout=400, epoch=2)
        job.process.send_signal(signal.SIGTERM)
        assert job.wait(60) == 75
    # One core, and one thread by TensorFlow's own variable.
    usable = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(usable)})
    try:
        resumed = catsdogs(*arguments(sample_archive, tmp_path / "two"), env=with_threads(1), timeout=400)
    finally:
        os.sched_setaffinity(0, usable)
    assert (resumed.returncode, resumed.stderr) == (0, "")
    [kept] = [event for event in map(json.loads, resumed.stdout.splitlines()) if event["event"] == "threads"]
    assert (kept["threads"], kept["usable"]) == (3, 1)
    published = files(tmp_path / "two" / "runs" / "threads")
    for name in ("model.keras", "run.json", "predictions.csv", "split.json"):
        assert published[name] == expected[name], name
    ours, theirs = (rows(run["history.csv"]) for run in (published, expected))
    assert [[row[name] for name in COLUMNS] for row in ours] == [[row[name] for name in COLUMNS] for row in theirs]


def test_the_number_is_that_of_the_variable_or_of_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    for value, expected in {
        "": cores.usable(), "0": cores.usable(), "-3": cores.usable(), "many": cores.usable(), "7": 7, "99999": 1024,
        "9" * 5000: cores.usable(),
    }.items():  # fmt: skip
        monkeypatch.setenv(cores.THREADS, value)
        assert cores.threads() == expected, value


@pytest.mark.parametrize("threads", ["0", "-1", "1025", '"2"', "2.5", "null", "[]", "true"])
def test_a_number_in_the_bucket_that_is_none_is_refused(threads: str, tmp_path: Path) -> None:
    """As many threads would be started."""
    output = open_store(str(tmp_path), StorageOptions())
    (tmp_path / "run.json").write_text(f'{{"format": 1, "threads": {threads}}}')
    with pytest.raises(ConfigError, match=r"run.json: not a run's; choose another --run-id or --output \(.*threads"):
        publish.begun_with(output)


def test_a_run_that_has_not_begun_or_is_older_has_none(tmp_path: Path) -> None:
    output = open_store(str(tmp_path), StorageOptions())
    assert publish.begun_with(output) is None
    (tmp_path / "run.json").write_bytes(documents.dump_run({"run_id": "older"}))
    assert publish.begun_with(output) is None
    (tmp_path / "run.json").write_bytes(documents.dump_run({"run_id": "newer", "threads": 2}))
    assert publish.begun_with(output) == 2
