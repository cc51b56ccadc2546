"""A run in MLflow, by the real command: in MLflow's file store, and before servers that do not do what they should.

CATSDOGS_TEST_MLFLOW is the address of a real server, which then takes the place of the file store.
"""

import http.server
import json
import os
import secrets
import shutil
import threading
import time
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import pytest

from tests import warm
from tests.conftest import REPOSITORY, Catsdogs, environment_in
from tests.faults.running import Job
from tests.published import rows

SMALL = (
    "--run-id=tracked", "--epochs=24", "--train-per-class=14", "--validation-per-class=4", "--test-per-class=6",
    "--image-size=64", "--batch-size=5", "--log-format=json", "--output=runs", "--volume=volume",
)  # fmt: skip
PASSWORD = "hidden-and-secret"
CALM = {"MLFLOW_ALLOW_FILE_STORE": "true", "MLFLOW_DISABLE_TELEMETRY": "true"}


class Tracked(NamedTuple):
    volume: Path
    """Holds the run, trained and not published. Copy it."""
    store: dict[str, str]
    """The variables that lead to where its training was logged."""


def new_store(directory: Path) -> dict[str, str]:
    """An experiment of its own."""
    uri = os.environ.get("CATSDOGS_TEST_MLFLOW", f"file://{directory}/mlruns")
    return {"MLFLOW_TRACKING_URI": uri, "MLFLOW_EXPERIMENT_NAME": f"pets-{secrets.token_hex(6)}", **CALM}


@pytest.fixture(scope="module")
def trained(sample_archive: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A volume with the run, trained without MLflow and not published. Copy it."""
    directory = tmp_path_factory.mktemp("trained")
    for part in ("prepare", "train"):
        options = (part, f"--archive={sample_archive}", *SMALL)
        process = warm.catsdogs(*options, env=environment_in(directory), directory=directory)
        assert (process.returncode, process.stderr) == (0, "")
    return directory / "volume"


@pytest.fixture(scope="module")
def tracked(sample_archive: Path, tmp_path_factory: pytest.TempPathFactory) -> Tracked:
    """Its training was killed once, while it was logged."""
    directory = tmp_path_factory.mktemp("tracked")
    store = new_store(directory)
    with Job("run", f"--archive={sample_archive}", *SMALL, env=store, directory=directory) as job:
        assert job.until("tracking")["epochs"] == 0
        job.kill()
    with Job("train", f"--archive={sample_archive}", *SMALL, env=store, directory=directory) as job:
        assert job.wait() == 0, job.stderr
    # It resumed, unless MLflow is imported so slowly that the killed one had trained all its epochs by then.
    assert job.stderr == ""
    return Tracked(directory / "volume", store)


class Publish(Protocol):
    def __call__(self, volume: Path, env: dict[str, str], output: str | Path = "runs") -> list[str]:
        """Runs `catsdogs publish` on a copy of that volume, in `tmp_path`; returns the lines of its log."""


@pytest.fixture
def publish(sample_archive: Path, catsdogs: Catsdogs, tmp_path: Path) -> Publish:
    def run(volume: Path, env: dict[str, str], output: str | Path = "runs") -> list[str]:
        shutil.copytree(volume, tmp_path / "volume")
        process = catsdogs("publish", f"--archive={sample_archive}", *SMALL, f"--output={output}", env=env)
        assert (process.returncode, process.stderr) == (0, "")
        return process.stdout.splitlines()

    return run


def check_record(store: dict[str, str], run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One MLflow run with all that is published but the log, each figure once."""
    for name, value in CALM.items():
        monkeypatch.setenv(name, value)
    from mlflow import MlflowClient

    client = MlflowClient(store["MLFLOW_TRACKING_URI"])
    experiment = client.get_experiment_by_name(store["MLFLOW_EXPERIMENT_NAME"])
    assert experiment is not None
    [found] = client.search_runs([experiment.experiment_id])
    identity = found.info.run_id
    history, metrics = rows((run / "history.csv").read_bytes()), json.loads((run / "metrics.json").read_bytes())
    assert (found.info.run_name, found.info.status) == ("tracked", "FINISHED")
    assert found.data.params["recipe_name"] == "baseline"
    assert found.data.params["epochs"] == "24"
    columns = [name for name in history[0] if name != "epoch"]
    assert set(found.data.metrics) == {*columns, "best_epoch", "test_accuracy", "test_loss"}
    for name in columns:
        logged = [(metric.step, metric.value) for metric in client.get_metric_history(identity, name)]
        assert logged == [(int(row["epoch"]), float(row[name])) for row in history], name
    test = {f"test_{name}": metrics["test"][name] for name in ("accuracy", "loss")}
    for name, value in {"best_epoch": metrics["best_epoch"], **test}.items():
        assert [metric.value for metric in client.get_metric_history(identity, name)] == [value]
    published = {entry["name"] for entry in json.loads((run / "manifest.json").read_bytes())["artifacts"]}
    kept = Path(client.download_artifacts(identity, ""))
    assert {str(path.relative_to(kept)) for path in kept.rglob("*") if path.is_file()} == published - {"log.jsonl"}
    assert (kept / "model.keras").read_bytes() == (run / "model.keras").read_bytes()


def names(lines: list[str]) -> list[str]:
    return [json.loads(line)["event"] for line in lines]


@pytest.mark.slow
def test_a_killed_run_goes_on_in_the_same_one(
    tracked: Tracked, publish: Publish, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In three processes: one that was killed, one that trained on, one that publishes."""
    output = tracked.volume.parent / "runs"
    assert names(publish(tracked.volume, tracked.store, output))[-3:] == ["tracking", "tracked", "published"]
    check_record(tracked.store, output / "tracked", monkeypatch)


def test_trained_before_it_was_to_be_logged(
    trained: Path, publish: Publish, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The record is that of any run."""
    store = new_store(tmp_path)
    assert names(publish(trained, store))[-3:] == ["tracking", "tracked", "published"]
    check_record(store, tmp_path / "runs/tracked", monkeypatch)


class Bad(http.server.BaseHTTPRequestHandler):
    """A server with a fault."""

    fault = ""
    seen: list[str]

    def _answer(self) -> None:
        self.seen.append(self.path)
        length = int(self.headers.get("Content-Length") or 0)
        self.rfile.read(length)
        match self.fault:
            case "hangs":
                time.sleep(30)
            case "redirects":
                self.send_response(302)
                self.send_header("Location", self.path)
            case "refuses":
                self.send_response(401)
            case "is overloaded":
                self.send_response(503)
                self.send_header("Retry-After", "3600")
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_GET = do_POST = do_PUT = do_PATCH = _answer

    def log_message(self, *_: Any) -> None:
        pass


@pytest.mark.parametrize(
    "fault",
    [
        "is away", "refuses",
        *(pytest.param(fault, marks=pytest.mark.slow) for fault in ("redirects", "is overloaded", "hangs")),
    ],
)  # fmt: skip
def test_a_server_with_a_fault(fault: str, trained: Path, publish: Publish, tmp_path: Path) -> None:
    handler = type("Handler", (Bad,), {"fault": fault, "seen": []})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    if fault == "is away":
        server.server_close()
    else:
        threading.Thread(target=server.serve_forever, daemon=True).start()
    began = time.monotonic()
    lines = publish(trained, {"MLFLOW_TRACKING_URI": f"http://someone:{PASSWORD}@127.0.0.1:{server.server_port}"})
    assert time.monotonic() - began < (35 if fault == "hangs" else 15)
    if fault != "is away":
        server.shutdown()
        server.server_close()
        assert handler.seen  # type: ignore[attr-defined]
    assert [name for name in names(lines) if "track" in name] == ["untracked"]
    assert names(lines)[-1] == "published"
    assert PASSWORD not in "".join(lines) + (tmp_path / "runs/tracked/log.jsonl").read_text()


def test_a_password_that_would_be_taken_for_a_host(trained: Path, publish: Publish) -> None:
    lines = publish(trained, {"MLFLOW_TRACKING_URI": "http://me:one@two/three@127.0.0.1:1"})
    [line] = [line for line in lines if "MLflow" in line]
    assert "must be percent-encoded" in line
    assert not any(part in line for part in ("one@", "two", "three"))


def test_the_extra_is_not_installed(catsdogs_from_scratch: Catsdogs, sample_archive: Path, tmp_path: Path) -> None:
    (tmp_path / "hidden").mkdir()
    (tmp_path / "hidden/sitecustomize.py").write_text("import sys\nsys.modules['mlflow'] = None\n")
    env = {"PYTHONPATH": f"{tmp_path}/hidden:{REPOSITORY / 'job'}", "MLFLOW_TRACKING_URI": "http://127.0.0.1:1"}
    process = catsdogs_from_scratch("run", f"--archive={sample_archive}", *SMALL, env=env)
    assert (process.returncode, process.stdout) == (78, "")
    assert process.stderr == (
        "catsdogs: MLFLOW_TRACKING_URI is set: mlflow not installed; run pip install '.[mlflow]' in a clone of"
        " catsdogs-train\n"
    )
    assert not (tmp_path / "volume").exists()
