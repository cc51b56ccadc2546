"""`catsdogs runs`, as users run it: on a bucket, and on folders with every kind of damage."""

import hashlib
import json
import os
import re
import shutil
import signal
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Catsdogs
from tests.faults.running import Job
from tests.job.conftest import Trained
from tests.published import reseal


def changed(run: Path, name: str, **changes: Any) -> None:
    """Changes parts of a run's JSON, and its manifest with it."""
    document = json.loads((run / name).read_bytes())
    for part, values in changes.items():
        document[part] |= values
    (run / name).write_text(json.dumps(document))
    reseal(run)


@pytest.fixture
def output(trained: Trained, tmp_path: Path) -> Path:
    """Two published runs, `first` and `second`, the better one."""
    for name, correct in (("first", 8), ("second", 11)):
        run = tmp_path / "out" / name
        shutil.copytree(trained.folder, run)
        changed(run, "metrics.json", test={"correct": correct, "accuracy": correct / 12})
    return tmp_path / "out"


def test_all_runs_of_a_bucket(trained: Trained, catsdogs: Catsdogs) -> None:
    process = catsdogs("runs", f"--output=s3://{trained.bucket}/runs", "--json", env=trained.environment)
    assert (process.returncode, process.stderr) == (0, "")
    [run] = json.loads(process.stdout)
    test = json.loads((trained.folder / "metrics.json").read_bytes())["test"]
    assert (run["run_id"], run["uri"], run["state"]) == ("small", trained.run + "/", "published")
    assert (run["test_accuracy"], run["test_images"]) == (test["accuracy"], 12)
    assert run["interval"][0] < test["accuracy"] < run["interval"][1]
    assert (run["recipe_name"], run["epochs"], run["seed"], run["problem"]) == ("baseline", 3, 0, None)
    # The whole bucket holds no run beside its folders, and an archive is none.
    whole = catsdogs("runs", f"--output=s3://{trained.bucket}", env=trained.environment)
    assert (whole.returncode, whole.stdout) == (0, "")
    assert whole.stderr == f"catsdogs: s3://{trained.bucket}: no runs there\n"


def test_runs_stand_side_by_side_the_best_first(output: Path, catsdogs: Catsdogs) -> None:
    changed(output / "first", "run.json", settings={"seed": 7})
    process = catsdogs("runs", f"--output={output}/")
    assert (process.returncode, process.stderr) == (0, "")
    head, best, other = process.stdout.splitlines()
    assert head.split()[:3] == ["RUN", "TEST", "95"]
    for line, starts, texts in (
        (best, "second", ("91.7 %", "64.6 to 98.5 %", "baseline")),
        (other, "first", ("66.7 %", "39.1 to 86.2 %", "baseline", " 7 ")),
    ):
        assert line.startswith(starts)
        assert all(text in line for text in texts), line
        for column in ("TEST", "95 % INTERVAL", "SEED", "STATUS"):
            place = head.index(column)
            assert (line[place - 1], line[place] != " ") == (" ", True)


def test_unpublished_runs_are_marked(output: Path, catsdogs: Catsdogs) -> None:
    (output / "first" / "manifest.json").unlink()
    (output / "just-begun").mkdir()
    (output / "just-begun" / "log.jsonl").write_text("")
    (output / "saving" / "checkpoint").mkdir(parents=True)
    (output / "saving" / "checkpoint" / "epoch.bin").write_text("")
    (output / "pictures").mkdir()
    (output / "pictures" / "cat.jpg").write_text("")
    process = catsdogs("runs", "--json", env={"CATSDOGS_OUTPUT": str(output)})
    assert (process.returncode, process.stderr) == (0, "")
    found = [
        (run["run_id"], run["state"], run["recipe_name"], run["test_accuracy"]) for run in json.loads(process.stdout)
    ]
    assert found == [
        ("second", "published", "baseline", 11 / 12),
        ("first", "unpublished", "baseline", None),
        ("just-begun", "unpublished", None, None),
        ("saving", "unpublished", None, None),
    ]
    table = catsdogs("runs", f"--output={output}").stdout.splitlines()
    assert [line.split()[-1] for line in table[3:5]] == ["unknown"] * 2


def last_start(output: Path, run_id: str, catsdogs: Catsdogs) -> tuple[dict[str, Any], str]:
    """The row of a run in JSON, which has been started, and the note below the table."""
    rows = json.loads(catsdogs("runs", f"--output={output}", "--json").stdout)
    table = catsdogs("runs", f"--output={output}")
    assert (table.returncode, table.stderr) == (0, "")
    assert all(len(line) <= 80 for line in table.stdout.splitlines()[: len(rows) + 1])
    notes = table.stdout.split("\n\n")[1].replace("\n  ", " ").splitlines()
    [note] = [note for note in notes if note.startswith(f"{run_id}: ")]
    [row] = [row for row in rows if row["run_id"] == run_id]
    assert row["state"] == "unpublished"
    return row, note.removeprefix(f"{run_id}: ")


def test_a_failed_run_says_why(sample_archive: Path, catsdogs: Catsdogs, tmp_path: Path) -> None:
    (tmp_path / "cut.zip").write_bytes(sample_archive.read_bytes()[:5000])
    assert catsdogs("prepare", "--archive=cut.zip", "--output=out", "--run-id=bad").returncode == 65
    row, note = last_start(tmp_path / "out", "bad", catsdogs)
    assert (row["status"], row["last_start"]["exit_code"], row["problem"]) == ("failed", 65, None)
    assert row["last_start"]["text"].startswith("cut.zip: is a truncated zip")
    assert row["last_start"]["host"] == os.uname().nodename
    assert re.match(
        rf"failed on {os.uname().nodename} at 20[\d-]+ \d\d:\d\d UTC with exit code 65: cut.zip: is a truncated zip",
        note,
    )


@pytest.mark.slow
def test_a_running_an_interrupted_and_a_killed_run(sample_archive: Path, catsdogs: Catsdogs, tmp_path: Path) -> None:
    arguments = (
        f"--archive={sample_archive}", "--output=out", "--run-id=at-work", "--epochs=1000", "--train-per-class=14",
        "--validation-per-class=4", "--test-per-class=6", "--image-size=64", "--batch-size=5", "--log-format=json",
    )  # fmt: skip
    log = tmp_path / "out/at-work/log.jsonl"
    with Job("run", *arguments, env={}, directory=tmp_path) as job:
        job.until("started")
        job.until_true(lambda: b"started" in log.read_bytes())
        row, note = last_start(tmp_path / "out", "at-work", catsdogs)
        assert (row["status"], row["last_start"]["exit_code"]) == ("running", None)
        assert note.startswith(f"running on {os.uname().nodename} since {row['last_start']['started'][:10]} ")
        job.until("epoch")
        job.process.send_signal(signal.SIGTERM)
        assert job.wait() == 75
    row, note = last_start(tmp_path / "out", "at-work", catsdogs)
    assert (row["status"], row["last_start"]["exit_code"]) == ("interrupted", 75)
    assert note.startswith("interrupted on ")
    assert note.endswith("; the same command resumes it")
    with Job("run", *arguments, env={}, directory=tmp_path) as job:
        job.until_true(lambda: log.read_bytes().count(b'"started"') == 2)
        job.kill()
    assert last_start(tmp_path / "out", "at-work", catsdogs)[0]["status"] == "running", "for all that anybody can know"
    an_hour_ago = (datetime.now(UTC) - timedelta(hours=1)).isoformat(timespec="milliseconds")
    log.write_text(re.sub(r'"time": "[^"]*"', f'"time": "{an_hour_ago}"', log.read_text()))
    row, note = last_start(tmp_path / "out", "at-work", catsdogs)
    assert row["status"] == "stopped"
    assert f"silent since {an_hour_ago[:10]} {an_hour_ago[11:16]} UTC: " in note


def test_the_table_fits_80_columns(output: Path, catsdogs: Catsdogs) -> None:
    long = "a-run-id-that-is-" + "very-" * 9 + "long"
    shutil.copytree(output / "first", output / long)
    for run in (output / "first", output / long):
        changed(run, "run.json", settings={"recipe_name": "augmented", "epochs": 100000, "seed": 4294967295})
    lines = catsdogs("runs", f"--output={output}").stdout.splitlines()
    assert all(len(line) <= 80 for line in lines)
    assert long in lines, "a line of its own"
    assert [line.split()[0] for line in lines] == ["RUN", "second", long, "66.7", "first"]


def test_a_run_of_another_version_is_judged_by_its_manifest(output: Path, catsdogs: Catsdogs) -> None:
    def with_manifest(name: str, change: Callable[[dict[str, Any]], object]) -> None:
        shutil.copytree(output / "first", output / name)
        manifest = json.loads((output / name / "manifest.json").read_bytes())
        change(manifest)
        (output / name / "manifest.json").write_text(json.dumps(manifest))

    def without(*names: str) -> Callable[[dict[str, Any]], object]:
        return lambda document: document.update(
            artifacts=[entry for entry in document["artifacts"] if entry["name"] not in names]
        )

    with_manifest("no-split", without("split.json"))
    with_manifest("no-metrics", without("metrics.json"))
    with_manifest(
        "more",
        lambda document: document["artifacts"].append(
            {"name": "saliency.png", "size": 3, "sha256": hashlib.sha256(b"png").hexdigest()}
        ),
    )
    (output / "more" / "saliency.png").write_bytes(b"png")
    with_manifest(
        "more-lost",
        lambda document: document["artifacts"].append(
            {"name": "saliency.png", "size": 3, "sha256": hashlib.sha256(b"png").hexdigest()}
        ),
    )
    with_manifest("newer", lambda document: document.update(format=2))
    process = catsdogs("runs", f"--output={output}", "--json")
    assert process.returncode == 0
    rows = {row["run_id"]: row for row in json.loads(process.stdout)}
    assert {name: (row["state"], row["status"]) for name, row in rows.items()} == {
        **dict.fromkeys(("first", "second", "no-split", "more"), ("published", "published")),
        **dict.fromkeys(("no-metrics", "more-lost"), ("damaged", "damaged")),
        "newer": ("published", "newer"),
    }
    assert rows["no-metrics"]["problem"].endswith("no-metrics/metrics.json: not in the manifest")
    assert "written by a newer version" in rows["newer"]["problem"]


def test_damaged_runs_are_named_and_stop_nothing(output: Path, trained: Trained, catsdogs: Catsdogs) -> None:
    def damaged(name: str) -> Path:
        shutil.copytree(trained.folder, output / name)
        return output / name

    page = damaged("a-longer-report") / "report.html"
    page.write_bytes(page.read_bytes() + b"!")
    metrics = damaged("b-forged") / "metrics.json"
    metrics.write_text(metrics.read_text().replace('"correct": ', '"correct":  ').replace('": {\n', '":{\n', 1))
    (damaged("c-no-model") / "model.keras").unlink()
    (damaged("d-no-manifest") / "manifest.json").write_text("{")
    run = damaged("e-other-metrics")
    (run / "metrics.json").write_text("[]")
    reseal(run)
    run = damaged("f-not-listed")
    manifest = json.loads((run / "manifest.json").read_bytes())
    manifest["artifacts"] = [entry for entry in manifest["artifacts"] if entry["name"] != "metrics.json"]
    (run / "manifest.json").write_text(json.dumps(manifest))
    damaged("g\n\x1b[2Jhostile") / "manifest.json"
    (output / "g\n\x1b[2Jhostile" / "manifest.json").write_text("{")

    (output / "z-unpublished").mkdir()
    (output / "z-unpublished" / "log.jsonl").write_text("")

    process = catsdogs("runs", f"--output={output}")
    assert process.returncode == 0
    table = [line.split() for line in process.stdout.splitlines()[1:]]
    assert [line[0] for line in table[:3]] == ["second", "first", "z-unpublished"]
    assert [line[-1] for line in table[2:]] == ["unknown", *["damaged"] * 7]
    assert [line.split(str(output), 1)[1].split(": ")[0] for line in process.stderr.splitlines()] == [
        "/a-longer-report/report.html", "/b-forged/metrics.json", "/c-no-model/model.keras",
        "/d-no-manifest/manifest.json", "/e-other-metrics/metrics.json", "/f-not-listed/metrics.json",
        "/g\\n\\x1b[2Jhostile/manifest.json",
    ]  # fmt: skip
    assert "\x1b" not in process.stdout
    problems = [run["problem"] for run in json.loads(catsdogs("runs", f"--output={output}", "--json").stdout)[3:]]
    assert [f"catsdogs: {problem}" for problem in problems] == process.stderr.splitlines()


def test_an_output_that_is_not_there(trained: Trained, catsdogs: Catsdogs) -> None:
    process = catsdogs("runs", "--output=s3://nobody-has-this/runs", env=trained.environment)
    assert (process.returncode, process.stdout) == (65, "")
    assert process.stderr.startswith("catsdogs: s3://nobody-has-this: no such bucket")
    process = catsdogs("runs", "--output=nowhere", "--json")
    assert (process.returncode, json.loads(process.stdout)) == (0, [])


def test_storage_that_is_away_is_waited_for(trained: Trained, catsdogs: Catsdogs) -> None:
    nobody = trained.environment | {"AWS_ENDPOINT_URL_S3": "http://127.0.0.1:9"}
    process = catsdogs("runs", "--output=s3://pets/runs", "--storage-timeout=1s", "--json", env=nobody)
    assert (process.returncode, process.stdout) == (69, "")
    waiting, last = process.stderr.splitlines()
    assert waiting.startswith("catsdogs: waiting for storage, 1.0 s at most: s3://pets/runs/")
    assert last.startswith("catsdogs: s3://pets/runs/")
