"""`catsdogs runs`, as users run it: on a bucket, and on folders with every kind of damage."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Catsdogs
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
    assert head.split()[:3] == ["RUN", "TEST", "ACCURACY"]
    for line, starts, texts in (
        (best, "second", ("91.7 %", "64.6 % to 98.5 %", " 12 ", "baseline")),
        (other, "first", ("66.7 %", "39.1 % to 86.2 %", " 12 ", "baseline", " 7 ")),
    ):
        assert line.startswith(starts)
        assert all(text in line for text in texts), line
        for column in ("TEST ACCURACY", "95 % INTERVAL", "SEED", "PUBLISHED"):
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
    assert [line.split()[-1] for line in table[2:]] == ["unpublished"] * 3


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
    manifest["artifacts"] = [entry for entry in manifest["artifacts"] if entry["name"] != "split.json"]
    (run / "manifest.json").write_text(json.dumps(manifest))
    damaged("g\n\x1b[2Jhostile") / "manifest.json"
    (output / "g\n\x1b[2Jhostile" / "manifest.json").write_text("{")

    (output / "z-unpublished").mkdir()
    (output / "z-unpublished" / "log.jsonl").write_text("")

    process = catsdogs("runs", f"--output={output}")
    assert process.returncode == 0
    table = [line.split() for line in process.stdout.splitlines()[1:]]
    assert [line[0] for line in table[:3]] == ["second", "first", "z-unpublished"]
    assert [line[-1] for line in table[2:]] == ["unpublished", *["damaged"] * 7]
    assert [line.split(str(output), 1)[1].split(": ")[0] for line in process.stderr.splitlines()] == [
        "/a-longer-report/report.html", "/b-forged/metrics.json", "/c-no-model/model.keras",
        "/d-no-manifest/manifest.json", "/e-other-metrics", "/f-not-listed/split.json",
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
