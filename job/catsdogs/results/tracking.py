"""A run as MLflow shows it, where MLFLOW_TRACKING_URI is set. Whatever MLflow does, the run goes on.

Server, credentials and experiment come from MLflow's own variables: MLFLOW_TRACKING_URI, MLFLOW_TRACKING_USERNAME,
MLFLOW_EXPERIMENT_NAME and so on. A thread of its own does all that may wait.
"""

import csv
import json
import logging
import os
import re
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

from catsdogs.config.extras import TRACKING_URI
from catsdogs.config.settings import Settings
from catsdogs.runtime.errors import masked
from catsdogs.runtime.events import Tracked, Tracking, Untracked
from catsdogs.runtime.log import Log
from catsdogs.runtime.signals import Interruption

TAG = "catsdogs.result"
"""The MLflow run's tag with the address under which the run is published."""
METRICS = ("loss", "accuracy", "val_loss", "val_accuracy", "seconds")
"""Of each epoch: columns of history.csv."""
FINAL = ("best_epoch", "test_loss", "test_accuracy")
"""Of the trained run."""
MAX_WAIT = 60.0
"""Seconds that a trained run waits for MLflow at most, before it is published."""
DEFAULTS = {
    # MLflow's own patience is many minutes a request; here a later epoch makes good what one misses.
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_RESPECT_RETRY_AFTER_HEADER": "false",
    # It would tell its makers of every use.
    "MLFLOW_DISABLE_TELEMETRY": "true",
    # At the end it would print the server's address, with the password that may be in it.
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}
"""Where the user does not say otherwise."""

AMBIGUOUS = re.compile("https?://[^@]*[@/?#].*@")
"""Credentials of which a part would be taken for the host, and be said."""

History = Sequence[Mapping[str, float]]


class Tracker:
    """Logs one run, from one process; does nothing where MLflow is not wanted.

    It goes on with the MLflow run that has this run's TAG and the same losses, whichever process began it. Figures are
    those that stand in artifacts, so that a run which was stopped leaves the same record as any other.
    """

    def __init__(self, settings: "Settings", log: Log):
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
        """Logs the epochs that are not logged yet, soon. Does not wait; what fails comes with the next ones."""
        if self.uri:
            self._pending.cancel()  # this one does all that it would have done
            self._pending = self._pool.submit(self._log, list(history), {})

    def finish(self, artifacts: Mapping[str, Path], interruption: Interruption) -> None:
        """Logs what is missing of a trained run, its final figures and its artifacts (name → file).

        Takes MAX_WAIT seconds at most. Raises Interrupted.
        """
        if not self.uri:
            return
        with artifacts["history.csv"].open(newline="") as file:
            history = [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]
        self._pending.cancel()
        task, deadline = self._pool.submit(self._log, history, artifacts), time.monotonic() + MAX_WAIT
        while not task.done() and time.monotonic() < deadline:
            wait([task], timeout=0.1)
            interruption.check()
        if not task.done():
            self._say_failing(TimeoutError(f"not done in {MAX_WAIT:.0f} s"))
        elif task.exception() is None:
            self.log.emit(Tracked(uri=self.shown, epochs=len(history), artifacts=len(artifacts)))

    def _log(self, history: History, artifacts: Mapping[str, Path]) -> None:
        try:
            client = self._client()
            run = self._run = self._run or self._open(client, history)
            for row in history:
                # history.csv does not say when an epoch ended.
                figures, ended = {name: row[name] for name in METRICS}, row.get("ended", time.time())
                self._log_metrics(client, run, figures, ended, int(row["epoch"]))
            if artifacts:
                metrics = json.loads(artifacts["metrics.json"].read_bytes())
                figures = {"best_epoch": metrics["best_epoch"]}
                figures |= {f"test_{name}": metrics["test"][name] for name in ("loss", "accuracy")}
                self._log_metrics(client, run, figures, time.time(), metrics["epochs"])
                for name, path in artifacts.items():
                    client.log_artifact(run, str(path), name.rpartition("/")[0] or None)
                client.set_terminated(run)
            self._failing = False
        except Exception as error:
            # No list of kinds: MLflow passes on those of every store that it can have. No training ends of them.
            self._say_failing(error)
            raise

    def _log_metrics(self, client: Any, run: str, figures: Mapping[str, float], when: float, step: int) -> None:
        """Logs those that are not logged yet: a kill may have come between two of them."""
        from mlflow.entities import Metric

        missing = [name for name in figures if (name, step) not in self._logged]
        if missing:
            client.log_batch(run, [Metric(name, figures[name], int(1000 * when), step) for name in missing])
            self._logged |= {(name, step) for name in missing}

    def _say_failing(self, error: Exception) -> None:
        """Once for each time that the server is away, not for each epoch."""
        if not self._failing:
            reason = masked(" ".join(str(error).replace(self.uri, self.shown).split()))
            self.log.emit(Untracked(uri=self.shown, reason=reason[:300] or type(error).__name__))
        self._failing = True

    def _client(self) -> Any:
        """Cheap: it holds nothing but the address. The first import takes seconds."""
        if AMBIGUOUS.match(self.uri):
            raise ValueError("what is @, /, ? or # in its password must be percent-encoded")
        for name, value in DEFAULTS.items():
            os.environ.setdefault(name, value)
        from mlflow import MlflowClient

        # What they warn of is said as an event, or is of no matter.
        for name in ("mlflow", "urllib3.connectionpool"):
            logging.getLogger(name).setLevel(logging.ERROR)
        return MlflowClient()

    def _open(self, client: Any, history: History) -> str:
        """The MLflow run that is this one's, made if there is none yet; takes note of what it has."""
        from mlflow.entities import Param

        settings = self.settings
        result = settings.result if "://" in settings.result else str(Path(settings.result).absolute())
        experiment = _experiment(client)
        for found in client.search_runs([experiment], f'tags.`{TAG}` = "{result}"'):
            run = found.info.run_id
            losses = {metric.step: metric.value for metric in client.get_metric_history(run, "loss")}
            if all(losses.get(int(row["epoch"]), row["loss"]) == row["loss"] for row in history):
                break
        else:
            run = client.create_run(experiment, tags={TAG: result}, run_name=settings.run_id).info.run_id
        # The same values again are no error.
        client.log_batch(run, params=[Param(name, str(value)) for name, value in settings.model_settings().items()])
        for name in (*METRICS, *FINAL):
            self._logged |= {(name, metric.step) for metric in client.get_metric_history(run, name)}
        epochs = sum(name == "loss" for name, _ in self._logged)
        self.log.emit(Tracking(uri=self.shown, run=run, epochs=epochs))
        return str(run)


def _experiment(client: Any) -> str:
    """Its id: the one that MLflow's variables name, or else that of `catsdogs`, made if there is none."""
    if given := os.environ.get("MLFLOW_EXPERIMENT_ID"):
        return given
    name = os.environ.get("MLFLOW_EXPERIMENT_NAME") or "catsdogs"
    found = client.get_experiment_by_name(name)
    return str(found.experiment_id if found else client.create_experiment(name))
