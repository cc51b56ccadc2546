"""How far a run has come, by the events of its log. Pure."""

from dataclasses import dataclass

from kubectl_catsdogs.base.text import duration, fixed_width
from kubectl_catsdogs.jobs.job_log import (
    Assembling,
    Device,
    EpochEnded,
    Evaluated,
    Evaluating,
    Event,
    Failed,
    Fetching,
    Published,
    Resumed,
    StageProgress,
    Started,
    Trained,
    Training,
    Uploading,
    Validating,
    Waiting,
    event_of,
)

BAR = 24
"""Characters of a progress bar."""
STAGES: dict[type[Event], str] = {
    Fetching: "fetching",
    Training: "training",
    Validating: "validating",
    Evaluating: "evaluating",
    Uploading: "uploading",
}


@dataclass
class Progress:
    stage: str = ""
    """One of STAGES; empty between two."""
    done: int = 0
    total: int = 0
    epoch: int = 0
    """The current one, from 1."""
    epochs: int = 0
    epochs_done: int = 0
    accuracy: float | None = None
    best: float | None = None
    """Best validation accuracy."""
    best_epoch: int | None = None
    remaining: float | None = None
    """Seconds."""
    device: str | None = None
    recipe: str | None = None
    test_accuracy: float | None = None
    published: str | None = None
    """The address, once the run is published."""
    waiting: str | None = None
    """Why the job waits for storage, while it does."""
    awaited: str | None = None
    """The workers that the job waits for, while it does."""
    failed: str | None = None

    def take(self, line: str) -> Event | None:
        """Update from a line of the log, and return its event, if it is one of worker 0.

        Worker 0 alone says how far the run is.
        """
        event = event_of(line)
        if event is None or event.worker:
            return None
        self.waiting = event.reason or "" if isinstance(event, Waiting) else None
        self.awaited = event.whom or "" if isinstance(event, Assembling) else None
        if isinstance(event, Training | Validating | EpochEnded | Resumed):
            self.epoch = event.epoch or self.epoch
        if isinstance(event, Training | Validating | EpochEnded | Resumed | Started | Trained):
            self.epochs = event.epochs or self.epochs
        if isinstance(event, StageProgress):
            self.stage, self.done, self.total = STAGES[type(event)], event.done or 0, event.total or 0
        match event:
            case Started():
                self.recipe = event.recipe
            case Device():
                self.device = event.device
            case Resumed():
                self.epochs_done = max(self.epochs_done, self.epoch - 1)
            case Training():
                self.accuracy = event.accuracy
            case EpochEnded():
                self._end_epoch(event)
            case Trained():
                self.stage, self.epochs_done, self.remaining = "", self.epochs, None
                self.best, self.best_epoch = event.val_accuracy, event.best_epoch
            case Evaluated():
                self.test_accuracy = event.accuracy
            case Published():
                self.published = event.uri
            case Failed():
                self.failed = event.error
        return event

    def _end_epoch(self, event: EpochEnded) -> None:
        self.epochs_done = self.epoch
        self.stage = ""
        self.accuracy, self.remaining = event.accuracy, event.remaining
        if event.val_accuracy is not None and (self.best is None or event.val_accuracy > self.best):
            self.best, self.best_epoch = event.val_accuracy, self.epoch


def bar(progress: Progress, elapsed: float = 0.0) -> str:
    """'epoch 3/30  [########----] step 40/100  accuracy 71.2 %, best validation 70.1 % (epoch 2), about 4m10s left'.

    `elapsed` is the time in seconds since the last line.
    """
    if progress.waiting is not None:
        return fixed_width(f"waiting for storage: {progress.waiting}")
    if progress.awaited is not None:
        return fixed_width(f"waiting for {progress.awaited}")
    done, total = progress.done, progress.total
    if progress.stage in ("training", "validating"):
        unit = "validation step" if progress.stage == "validating" else "step"
        parts = [f"epoch {progress.epoch}/{progress.epochs}", f"{_bar(done, total)} {unit} {done}/{total}"]
    elif progress.stage:
        parts = [progress.stage, f"{_bar(done, total)} {done}/{total}"]
    elif 0 < progress.epochs_done < progress.epochs:
        # Epochs too short to report progress of their own.
        parts = [f"epoch {progress.epochs_done}/{progress.epochs}", _bar(progress.epochs_done, progress.epochs)]
    else:
        parts = []
    metrics = []
    if progress.accuracy is not None:
        metrics.append(f"accuracy {100 * progress.accuracy:.1f} %")
    if progress.best is not None:
        metrics.append(f"best validation {100 * progress.best:.1f} % (epoch {progress.best_epoch})")
    if progress.remaining is not None and progress.epochs_done < progress.epochs:
        metrics.append(f"about {duration(max(0.0, progress.remaining - elapsed))} left")
    return "  ".join([*parts, ", ".join(metrics)] if metrics else parts)


def _bar(done: int, total: int) -> str:
    filled = round(BAR * min(1.0, max(0.0, done / total))) if total > 0 else 0
    return f"[{'#' * filled}{'-' * (BAR - filled)}]"
