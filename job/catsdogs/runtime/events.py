"""What the job reports: one class an event, rendered as a line of text or as JSON.

The text is made from the event's fields, so the two forms always agree.
"""

import os
import string
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, dataclass_transform

from catsdogs.runtime.errors import printable
from catsdogs.runtime.formatting import count_text, duration_text, percent, size_text


class _EventFormatter(string.Formatter):
    """Adds the conversions !b bytes, !t seconds and !p share, and the format `#noun`, a count with its noun."""

    def convert_field(self, value: Any, conversion: str | None) -> Any:
        match conversion:
            case "b":
                return size_text(value)
            case "t":
                return duration_text(value)
            case "p":
                return percent(value)
        return super().convert_field(value, conversion)

    def format_field(self, value: Any, format_spec: str) -> str:
        if format_spec.startswith("#"):
            return count_text(value, format_spec[1:])
        return str(super().format_field(value, format_spec))


_FORMATTER = _EventFormatter()


@dataclass_transform(kw_only_default=True, frozen_default=True)
class Event:
    """Something that happened. A subclass has its `name` in JSON, its text as a format string over its fields, and
    its fields."""

    name: ClassVar[str]
    template: ClassVar[str]
    progress: ClassVar[bool] = False
    """Emitted up to many times a second, with `done` and `total`; a sink shows one per `interval`."""
    shared: ClassVar[bool] = False
    """The same for all workers of a run: only worker 0 reports it."""
    warning: ClassVar[bool] = False
    """Something is wrong that the job can cope with; yellow on a terminal."""

    def __init_subclass__(
        cls, *, name: str, template: str, progress: bool = False, shared: bool = False, warning: bool = False
    ) -> None:
        cls.name, cls.template, cls.progress, cls.shared, cls.warning = name, template, progress, shared, warning
        dataclass(frozen=True, kw_only=True)(cls)
        EVENTS[name] = cls

    def data(self) -> dict[str, Any]:
        """Return the fields by name."""
        return {field.name: getattr(self, field.name) for field in fields(self)}  # type: ignore[arg-type]

    def sentence(self) -> str:
        """Return one line of text, unprintable characters escaped: names in a zip may contain them."""
        return printable(_FORMATTER.vformat(self.template, (), self.data()))


EVENTS: dict[str, type[Event]] = {}
"""Every event by its name."""


class Started(
    Event,
    name="started",
    template="catsdogs {version}: run {run_id}, recipe {recipe}, {epochs:#epoch}, seed {seed}",
):
    version: str
    run_id: str
    recipe: str
    epochs: int
    seed: int
    host: str = field(default_factory=lambda: os.uname().nodename)


class AlreadyPublished(
    Event, name="already-published", template="run {run_id} is already published at {uri}; nothing to do"
):
    run_id: str
    uri: str


class Assembling(Event, name="assembling", template="waiting for {whom}, {left!t} at most"):
    whom: str
    left: float


class Assembled(Event, name="assembled", template="all {workers} workers are there, after {seconds!t}", shared=True):
    workers: int
    seconds: float


class WrongKey(
    Event,
    name="another-key",
    template="{peer} has another key and cannot join; give all workers the same --worker-key-file",
    warning=True,
):
    peer: str


class Unauthenticated(
    Event,
    name="unauthenticated",
    template="the workers have no key, so anybody on this machine can join or stop the run; see --worker-key-file",
    shared=True,
    warning=True,
):
    pass


class ArchiveOpened(
    Event, name="archive", template="archive {uri}: {size!b}, {cats:,} cats and {dogs:,} dogs", shared=True
):
    uri: str
    size: int
    cats: int
    dogs: int


class ArchiveGone(
    Event,
    name="archive-gone",
    template="archive {uri} is gone; the volume has all images of this run ({reason})",
    shared=True,
    warning=True,
):
    uri: str
    reason: str


class PassedOver(
    Event,
    name="passed-over",
    template="passed over {count:#member} of the archive other than labelled images: {examples}",
    shared=True,
):
    count: int
    examples: str


class StrayImages(
    Event,
    name="stray-images",
    template="passed over {count:#image} beside {zip}, which has the archive's images: {examples}",
    shared=True,
    warning=True,
):
    count: int
    zip: str
    examples: str


class Unpacking(Event, name="unpacking", template="unpacking {member}: {done!b} of {total!b}", progress=True):
    member: str
    done: int
    total: int


class UnpackingAgain(Event, name="unpacking-again", template="unpacking {member} again: {reason}", warning=True):
    member: str
    reason: str


class UnpackedDamaged(Event, name="unpacked-damaged", template="{path} is damaged and is unpacked again", warning=True):
    path: str


class Unpacked(Event, name="unpacked", template="unpacked {member}: {size!b} in {seconds!t}"):
    member: str
    size: int
    seconds: float


class SplitReused(
    Event,
    name="split-reused",
    template="split {directory} is complete and verified: {images:#image}, checked in {seconds!t}",
):
    directory: str
    images: int
    seconds: float


class SplitDamaged(
    Event,
    name="split-damaged",
    template="split {directory}: {count:#file} missing or damaged, fetched again, first {first}",
    warning=True,
):
    directory: str
    count: int
    first: str


class Fetching(Event, name="fetching", template="fetching images: {done:,} of {total:,}", progress=True):
    done: int
    total: int


class ImageExcluded(Event, name="quarantined", template="left out {member}: {reason}", warning=True):
    member: str
    reason: str


class SplitBuilt(
    Event,
    name="split",
    template="split {directory}: {train:,} train, {validation:,} validation, {test:,} test images;"
    " {fetched:,} fetched in {seconds!t}, {moved!b} moved, {quarantined} left out",
):
    directory: str
    train: int
    validation: int
    test: int
    fetched: int
    moved: int
    quarantined: int
    seconds: float


class DeviceChosen(Event, name="device", template="training on {device}, {dtype}, {replicas:#replica}"):
    device: str
    dtype: str
    replicas: int


class ThreadsKept(
    Event,
    name="threads",
    template="each operation is computed by {threads:#thread}, as when the run began, not by {usable}: another number"
    " gives other weights; choose another --run-id to use it",
):
    threads: int
    usable: int


class ModelBuilt(
    Event,
    name="model",
    template="recipe {recipe}: {parameters:,} parameters, images {image_size}x{image_size}, batches of {batch_size}",
    shared=True,
):
    recipe: str
    parameters: int
    image_size: int
    batch_size: int


class Resumed(
    Event,
    name="resumed",
    template="resuming at epoch {epoch}/{epochs}, step {step}/{steps}, from {checkpoint}",
    shared=True,
):
    epoch: int
    epochs: int
    step: int
    steps: int
    checkpoint: str


class CheckpointDamaged(
    Event,
    name="checkpoint-damaged",
    template="checkpoint {checkpoint} is damaged ({reason}) and is passed over",
    warning=True,
):
    checkpoint: str
    reason: str


class TrainingProgress(
    Event,
    name="training",
    template="epoch {epoch}/{epochs}: step {done}/{total}, loss {loss:.4f}, accuracy {accuracy!p}, {rate:.0f} images/s",
    progress=True,
    shared=True,
):
    epoch: int
    epochs: int
    done: int
    total: int
    loss: float
    accuracy: float
    rate: float
    """Images a second."""


class Validating(
    Event,
    name="validating",
    template="epoch {epoch}/{epochs}: validation step {done}/{total}",
    progress=True,
    shared=True,
):
    epoch: int
    epochs: int
    done: int
    total: int


class EpochEnded(
    Event,
    name="epoch",
    template="epoch {epoch}/{epochs}: loss {loss:.4f}, accuracy {accuracy!p},"
    " validation loss {val_loss:.4f}, validation accuracy {val_accuracy!p},"
    " {seconds!t}, {rate:.0f} images/s",
    shared=True,
):
    epoch: int
    epochs: int
    loss: float
    accuracy: float
    val_loss: float
    val_accuracy: float
    seconds: float
    rate: float
    ended: float
    """Seconds since 1970."""
    learning_rate: float
    remaining: float
    """Estimated seconds until the training is done."""

    def sentence(self) -> str:
        left = f", {duration_text(self.remaining)} left" if self.epoch < self.epochs else ""
        return super().sentence() + left


class Trained(
    Event,
    name="trained",
    template="trained {epochs:#epoch} in {seconds!t}; best epoch {best_epoch}:"
    " validation loss {val_loss:.4f}, validation accuracy {val_accuracy!p}",
    shared=True,
):
    epochs: int
    seconds: float
    best_epoch: int
    val_loss: float
    val_accuracy: float


class AlreadyTrained(
    Event, name="already-trained", template="run {run_id} is already trained on this volume", shared=True
):
    run_id: str


class Evaluating(Event, name="evaluating", template="evaluating: step {done}/{total}", progress=True, shared=True):
    done: int
    total: int


class Evaluated(
    Event,
    name="evaluated",
    template="test accuracy {accuracy!p} on {images:#image} ({correct:,} right), test loss {loss:.4f}",
    shared=True,
):
    accuracy: float
    images: int
    correct: int
    loss: float


class Exported(
    Event,
    name="exported",
    template="exported {artifact}, {size!b}; its probabilities for {images:#test image} differ from model.keras's"
    " by {difference:.1e} at most",
):
    artifact: str
    size: int
    difference: float
    images: int


class Tracking(
    Event, name="tracking", template="logging to MLflow at {uri}, run {run}, which has {epochs:#epoch} so far"
):
    uri: str
    run: str
    epochs: int


class Untracked(
    Event,
    name="untracked",
    template="MLflow at {uri} does not take the run ({reason}); the run goes on, and is logged once it does",
    warning=True,
):
    uri: str
    reason: str


class Tracked(Event, name="tracked", template="logged to MLflow at {uri}: {epochs:#epoch}, {artifacts:#artifact}"):
    uri: str
    epochs: int
    artifacts: int


class Uploading(Event, name="uploading", template="uploading: {done} of {total:#artifact}", progress=True):
    done: int
    total: int


class Published(
    Event,
    name="published",
    template="published {artifacts:#artifact}, {size!b}, each verified, at {uri}",
    shared=True,
):
    uri: str
    artifacts: int
    size: int


class StorageWaiting(Event, name="waiting", template="waiting for storage, {left!t} at most: {reason}", warning=True):
    reason: str
    left: float


class CredentialsRenewed(
    Event,
    name="credentials-renewed",
    template="storage refused the credentials for {uri}; reading them again found others, which it takes",
):
    uri: str


class Unconfined(
    Event,
    name="unconfined",
    template="this system lacks Landlock: whoever reaches the workers' ports can read this user's files",
    warning=True,
): ...


class LeaseWaiting(
    Event,
    name="lease-waiting",
    template="waiting: another process publishes this run, on {host} since {since}; waited {waited!t} so far ({lease})",
):
    host: str
    since: str
    lease: str
    waited: float


class ArtifactVerified(Event, name="artifact", template="{name}: {size!b}, as the manifest says"):
    artifact: str
    size: int

    def data(self) -> dict[str, Any]:
        return {"name": self.artifact, "size": self.size}


class ArtifactDiffers(Event, name="artifact-differs", template="differs: {reason}", warning=True):
    reason: str


class RunVerified(
    Event, name="verified", template="verified run {run_id}: its {artifacts:#artifact} are what its manifest says"
):
    run_id: str | None
    artifacts: int


class Reproduced(
    Event,
    name="reproduced",
    template="evaluated again on {device}: {correct:,} of {images:#test image} right, {accuracy!p}, as the run"
    " claims; every verdict is the same, probabilities differ by {difference:.1e} at most",
):
    device: str
    correct: int
    images: int
    accuracy: float
    difference: float


class TrainReproduced(
    Event,
    name="train-reproduced",
    template="evaluated again on {device}: {correct:,} of {images:#training image} right, {accuracy!p}, as the run"
    " claims; loss {loss:.4f}",
):
    device: str
    correct: int
    images: int
    accuracy: float
    loss: float


class HeldOutEvaluated(
    Event,
    name="further",
    template="on {images:#further image}, which the run has not used: {correct:,} right, {accuracy!p}, 95 %"
    " interval {low!p} to {high!p}, loss {loss:.4f}; {broken:,} more are no pictures",
):
    images: int
    correct: int
    accuracy: float
    confusion: dict[str, dict[str, int]]
    loss: float
    low: float
    high: float
    broken: int


class Failed(Event, name="failed", template="ended with exit code {exit_code}: {error}"):
    exit_code: int
    error: str


class Demo(Event, name="demo", template="{text}"):
    text: str
