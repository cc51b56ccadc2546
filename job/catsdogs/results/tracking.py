"""Logs a run to MLflow if MLFLOW_TRACKING_URI is set. Failures of MLflow do not stop the run.

Server, credentials and experiment come from MLflow's own variables: MLFLOW_TRACKING_URI, MLFLOW_TRACKING_USERNAME,
MLFLOW_EXPERIMENT_NAME and so on. Whatever may block runs in a thread.
"""

import contextlib
import csv
import io
import json
import logging
import os
import re
import shutil
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any, Literal, cast

from catsdogs.config.extras import TRACKING_URI
from catsdogs.config.history import HistoryRow
from catsdogs.config.settings import Settings
from catsdogs.results import documents, names
from catsdogs.results.completion import Artifact
from catsdogs.runtime.errors import VolumeError, masked
from catsdogs.runtime.events import EVENTS, Event, Tracked, Tracking, Untracked
from catsdogs.runtime.log import Log
from catsdogs.runtime.signals import Interruption
from catsdogs.storage import broker

TAG = "catsdogs.result"
"""The MLflow run's tag with the address at which the run is published."""
Metric = Literal["loss", "accuracy", "val_loss", "val_accuracy", "seconds"]
METRICS: tuple[Metric, ...] = ("loss", "accuracy", "val_loss", "val_accuracy", "seconds")
"""Of each epoch: columns of history.csv."""
FINAL = ("best_epoch", "test_loss", "test_accuracy")
"""Of the trained run."""
MAX_WAIT = 60.0
"""Seconds that a trained run waits for MLflow before it is published."""
DEFAULTS = {
    # By default MLflow retries a request for many minutes; here the next epoch logs what this one could not.
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_RESPECT_RETRY_AFTER_HEADER": "false",
    # It would report every use to its makers.
    "MLFLOW_DISABLE_TELEMETRY": "true",
    # At the end it would print the server's address, and any password in it.
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}
"""Defaults for variables that the user has not set."""

AMBIGUOUS = re.compile("https?://[^@]*[@/?#].*@")
"""Credentials of which a part would be taken for the host, and shown."""

History = Sequence[HistoryRow]


class Tracker:
    """Logs one run, from one process; does nothing without MLFLOW_TRACKING_URI.

    It continues the MLflow run that has this run's TAG and the same losses, whichever process began it. It logs what
    the artifacts have, so that an interrupted and resumed run leaves the same record as any other.
    """

    def __init__(self, settings: Settings, log: Log):
        self.settings, self.log = settings, log
        self.uri = os.environ.get(TRACKING_URI, "").rstrip("/")
        self.shown = masked(re.sub("(?<=://).*@", "***@", self.uri))
        self._pool = ThreadPoolExecutor(1, "mlflow")
        self._pending: Future[None] = Future()
        self._run: str | None = None
        self._logged: set[tuple[str, int]] = set()
        """What the MLflow run has: metric and step, which is the epoch."""
        self._failing = False

    def write(self, history: History) -> None:
        """Log the epochs that are not logged yet, in the background. What fails is logged with the next epoch."""
        if self.uri:
            self._pending.cancel()  # this one logs all that it would have logged
            self._pending = self._pool.submit(self.log_now, list(history), {})

    def finish(self, artifacts: Mapping[str, Artifact], interruption: Interruption) -> None:
        """Log the rest of a trained run, its final metrics and its artifacts (name → file).

        Takes at most MAX_WAIT seconds. Raises Interrupted, and VolumeError for a history that no training writes.
        """
        if not self.uri:
            return
        artifact = artifacts[names.HISTORY_CSV]
        try:
            history = _read_history(artifact.contents())
        except (ValueError, KeyError, TypeError, csv.Error):
            raise VolumeError(f"{artifact.path}: damaged; remove the artifacts.json beside it to train again") from None
        self._pending.cancel()
        task, deadline = self._pool.submit(self.log_now, history, artifacts), time.monotonic() + MAX_WAIT
        while not task.done() and time.monotonic() < deadline:
            wait([task], timeout=0.1)
            interruption.check()
        if not task.done():
            self._say_failing(TimeoutError(f"not done in {MAX_WAIT:.0f} s"))
        elif task.exception() is None:
            self.log.emit(Tracked(uri=self.shown, epochs=len(history), artifacts=len(artifacts)))

    def log_now(self, history: History, artifacts: Mapping[str, Artifact]) -> None:
        """Log what is not logged yet. Raises whatever MLflow raises, once that is reported."""
        try:
            client = self._client()
            run = self._run = self._run or self._open(client, history)
            for row in history:
                # history.csv does not say when an epoch ended.
                values: dict[str, float] = {name: row[name] for name in METRICS}
                self._log_metrics(client, run, values, row.get("ended", time.time()), row["epoch"])
            if artifacts:
                artifact = artifacts[names.METRICS]
                metrics = documents.load_metrics(artifact.contents(), str(artifact.path))
                values = {"best_epoch": metrics["best_epoch"]}
                values |= {f"test_{name}": metrics["test"][name] for name in ("loss", "accuracy")}
                self._log_metrics(client, run, values, time.time(), metrics["epochs"])
                for name, artifact in artifacts.items():
                    _log_artifact(client, run, name, artifact)
                client.set_terminated(run)
            self._failing = False
        except Exception as error:
            # Any exception: MLflow passes on those of every store that it supports. None of them stops a training.
            self._say_failing(error)
            raise

    def _log_metrics(self, client: Any, run: str, values: Mapping[str, float], when: float, step: int) -> None:
        """Log those that are not logged yet: a kill may have come between two of them."""
        from mlflow.entities import Metric

        missing = [name for name in values if (name, step) not in self._logged]
        if missing:
            client.log_batch(run, [Metric(name, values[name], int(1000 * when), step) for name in missing])
            self._logged |= {(name, step) for name in missing}

    def _say_failing(self, error: Exception) -> None:
        """Report a failure, once until the next success."""
        if not self._failing:
            reason = masked(" ".join(str(error).replace(self.uri, self.shown).split()))
            self.log.emit(Untracked(uri=self.shown, reason=reason[:300] or type(error).__name__))
        self._failing = True

    def _client(self) -> Any:
        """Return a client, which is only an address. The first import takes seconds."""
        if AMBIGUOUS.match(self.uri):
            raise ValueError("any @, /, ? or # in its password must be percent-encoded")
        for name, value in DEFAULTS.items():
            os.environ.setdefault(name, value)
        from mlflow import MlflowClient

        # Their warnings are reported as an event, or do not matter.
        for name in ("mlflow", "urllib3.connectionpool"):
            logging.getLogger(name).setLevel(logging.ERROR)
        return MlflowClient()

    def _open(self, client: Any, history: History) -> str:
        """Return the MLflow run of this run, created if there is none, and remember what it has."""
        from mlflow.entities import Param

        settings = self.settings
        result = settings.result if "://" in settings.result else str(Path(settings.result).absolute())
        experiment = _experiment(client)
        for candidate in client.search_runs([experiment], f'tags.`{TAG}` = "{result}"'):
            run = candidate.info.run_id
            losses = {metric.step: metric.value for metric in client.get_metric_history(run, "loss")}
            if all(losses.get(row["epoch"], row["loss"]) == row["loss"] for row in history):
                break
        else:
            run = client.create_run(experiment, tags={TAG: result}, run_name=settings.run_id).info.run_id
        # Logging the same values again is not an error.
        client.log_batch(run, params=[Param(name, str(value)) for name, value in settings.model_settings().items()])
        for name in (*METRICS, *FINAL):
            self._logged |= {(name, metric.step) for metric in client.get_metric_history(run, name)}
        epochs = sum(name == "loss" for name, _ in self._logged)
        self.log.emit(Tracking(uri=self.shown, run=run, epochs=epochs))
        return str(run)


class BrokeredTracker(Tracker):
    """Logs one run through the storage broker, which has MLflow's variables."""

    def __init__(self, settings: Settings, log: Log, connection: broker.Connection):
        super().__init__(settings, log)
        self._connection = connection
        self.uri = self.shown = str(connection.call("tracker", "shown"))

    def log_now(self, history: History, artifacts: Mapping[str, Artifact]) -> None:
        with contextlib.ExitStack() as stack:
            opened = [stack.enter_context(artifact.opened()) for artifact in artifacts.values()]
            frames = self._connection.frames(
                "tracker", "log", json.dumps(list(history)).encode(), [file.fileno() for file in opened],
                artifacts=[[name, artifact.sha256] for name, artifact in artifacts.items()],
            )  # fmt: skip
            for frame in frames:
                if "event" in frame.head:
                    self.log.emit(EVENTS[frame.head["event"]](**frame.head["fields"]))
                elif not frame.head["result"]:
                    raise RuntimeError("MLflow fails")  # as reported by the event before


class TrackerService:
    """The broker's side of a BrokeredTracker."""

    def __init__(self, settings: Settings):
        self._events: list[Event] = []
        self._tracker = Tracker(settings, cast(Log, self))
        self._logging = threading.Lock()

    def emit(self, event: Event) -> None:
        """Keep an event of the tracker, which is the caller's to report."""
        self._events.append(event)

    def __call__(self, call: broker.Frame, reply: broker.Reply) -> object:
        if call.head["name"] == "shown":
            return self._tracker.shown
        with self._logging, tempfile.TemporaryDirectory(prefix="catsdogs-") as directory:
            artifacts = {}
            for index, (name, sha256) in enumerate(call.head["artifacts"]):
                path = Path(directory, str(index))
                with os.fdopen(os.dup(call.descriptors[index]), "rb") as source, path.open("wb") as target:
                    source.seek(0)
                    shutil.copyfileobj(source, target)
                artifacts[name] = Artifact(path, sha256)
            succeeded = True
            try:
                self._tracker.log_now(json.loads(call.body), artifacts)
            except Exception:  # reported by an event
                succeeded = False
            for event in self._events:
                reply(broker.Frame({"event": event.name, "fields": Event.data(event)}))
            self._events.clear()
            return succeeded


def tracker_of(settings: Settings, log: Log) -> Tracker:
    """Return what logs the run: from this process, or through the storage broker."""
    connection = broker.connection()
    return Tracker(settings, log) if connection is None else BrokeredTracker(settings, log, connection)


def _experiment(client: Any) -> str:
    """Return the id of the experiment that MLflow's variables name, or of `catsdogs`; create it if there is none."""
    if experiment_id := os.environ.get("MLFLOW_EXPERIMENT_ID"):
        return experiment_id
    name = os.environ.get("MLFLOW_EXPERIMENT_NAME") or "catsdogs"
    experiment = client.get_experiment_by_name(name)
    return str(experiment.experiment_id if experiment else client.create_experiment(name))


def _log_artifact(client: Any, run: str, name: str, artifact: Artifact) -> None:
    """Log the artifact's bytes. The client takes a path alone, so it gets one at which nobody else can write."""
    folder, _, file_name = name.rpartition("/")
    with tempfile.TemporaryDirectory(prefix="catsdogs-") as directory:
        copy = Path(directory, file_name)
        with artifact.opened() as source, copy.open("wb") as target:
            shutil.copyfileobj(source, target)
        # Another process on the volume may have changed the file while it was copied.
        Artifact(copy, artifact.sha256).check_now()
        client.log_artifact(run, str(copy), folder or None)


def _read_history(data: bytes) -> list[HistoryRow]:
    return [
        {
            "epoch": int(row["epoch"]),
            "loss": float(row["loss"]),
            "accuracy": float(row["accuracy"]),
            "val_loss": float(row["val_loss"]),
            "val_accuracy": float(row["val_accuracy"]),
            "seconds": float(row["seconds"]),
        }
        for row in csv.DictReader(io.StringIO(data.decode(), newline=""))
    ]
