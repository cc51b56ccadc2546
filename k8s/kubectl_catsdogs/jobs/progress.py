"""How far a run has come, by its log."""

from dataclasses import dataclass

from kubectl_catsdogs.base.contract import Object
from kubectl_catsdogs.base.text import clean, duration
from kubectl_catsdogs.jobs.job_log import PROGRESS, event_of

BAR = 24
"""Characters of a progress bar."""


@dataclass
class Progress:
    """How far a run has come, by what it has said so far."""

    stage: str = ""
    done: int = 0
    total: int = 0
    epoch: int = 0
    """The epoch that is under way."""
    epochs: int = 0
    epochs_done: int = 0
    accuracy: float | None = None
    best: float | None = None
    """Best validation accuracy."""
    best_epoch: int | None = None
    remaining: float | None = None
    device: str | None = None
    recipe: str | None = None
    test_accuracy: float | None = None
    published: str | None = None
    """The address, once it is."""
    waiting: str | None = None
    """Why the job waits for its storage, while it does."""
    awaited: str | None = None
    """The workers that are waited for, while they are."""
    failed: str | None = None

    def take(self, line: str) -> str | None:
        """Follows the line, and returns its event, if it is one."""
        found = event_of(line)
        if found is None:
            return None
        event, data = found
        self.waiting = str(data.get("reason")) if event == "waiting" else None
        self.awaited = str(data.get("whom")) if event == "assembling" else None
        if event in PROGRESS:
            self.stage, self.done, self.total = event, data.get("done") or 0, data.get("total") or 0
        self.epoch = data.get("epoch") or self.epoch
        self.epochs = data.get("epochs") or self.epochs
        match event:
            case "started":
                self.recipe = data.get("recipe")
            case "device":
                self.device = data.get("device")
            case "resumed":
                self.epochs_done = max(self.epochs_done, self.epoch - 1)
            case "training":
                self.accuracy = data.get("accuracy")
            case "epoch":
                self._end_epoch(data)
            case "trained":
                self.stage, self.epochs_done, self.remaining = "", self.epochs, None
                self.best, self.best_epoch = data.get("val_accuracy"), data.get("best_epoch")
            case "evaluated":
                self.test_accuracy = data.get("accuracy")
            case "published" | "already-published":
                self.published = data.get("uri")
            case "failed":
                self.failed = str(data.get("error"))
        return event

    def _end_epoch(self, data: Object) -> None:
        self.epochs_done = self.epoch
        self.stage = ""
        self.accuracy, self.remaining = data.get("accuracy"), data.get("remaining")
        accuracy = data.get("val_accuracy")
        if accuracy is not None and (self.best is None or accuracy > self.best):
            self.best, self.best_epoch = accuracy, self.epoch


def bar(progress: Progress, elapsed: float = 0.0) -> str:
    """'epoch 3/30  [########----] step 40/100  accuracy 71.2 %, best validation 70.1 % (epoch 2), about 4m10s left'.

    `elapsed` are the seconds since the last line.
    """
    if progress.waiting:
        return clean(f"waiting for storage: {progress.waiting}")
    if progress.awaited:
        return clean(f"waiting for {progress.awaited}")
    done, total = progress.done, progress.total
    if progress.stage in ("training", "validating"):
        unit = "validation step" if progress.stage == "validating" else "step"
        parts = [f"epoch {progress.epoch}/{progress.epochs}", f"{_bar(done, total)} {unit} {done}/{total}"]
    elif progress.stage:
        parts = [progress.stage, f"{_bar(done, total)} {done}/{total}"]
    elif 0 < progress.epochs_done < progress.epochs:
        # The epochs are too short for a line of their own progress.
        parts = [f"epoch {progress.epochs_done}/{progress.epochs}", _bar(progress.epochs_done, progress.epochs)]
    else:
        parts = []
    figures = []
    if progress.accuracy is not None:
        figures.append(f"accuracy {100 * progress.accuracy:.1f} %")
    if progress.best is not None:
        figures.append(f"best validation {100 * progress.best:.1f} % (epoch {progress.best_epoch})")
    if progress.remaining is not None and progress.epochs_done < progress.epochs:
        figures.append(f"about {duration(max(0.0, progress.remaining - elapsed))} left")
    return "  ".join([*parts, ", ".join(figures)] if figures else parts)


def _bar(done: int, total: int) -> str:
    filled = round(BAR * min(1.0, done / total)) if total else 0
    return f"[{'#' * filled}{'-' * (BAR - filled)}]"
