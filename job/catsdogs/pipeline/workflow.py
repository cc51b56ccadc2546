"""The whole job, top to bottom: archive → split → model → bucket."""

import contextlib
import functools
import importlib
import json
import platform
import secrets
import shutil
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

from catsdogs import __version__
from catsdogs.config import extras
from catsdogs.config.settings import Settings
from catsdogs.data import split
from catsdogs.data.archive import open_archive, unpack
from catsdogs.data.labels import CLASSES
from catsdogs.data.loader import DataLoader
from catsdogs.data.split import Split
from catsdogs.results import names, publish
from catsdogs.results.artifacts import Finished, metrics_of, write_artifacts
from catsdogs.results.completion import complete_artifacts, mark_complete
from catsdogs.results.documents import RunDocument, SplitMetrics, TestMetrics
from catsdogs.results.job_log import before_training
from catsdogs.results.log_upload import LogUpload, snapshot
from catsdogs.results.metrics import combined
from catsdogs.results.tensorboard import EventFiles
from catsdogs.results.tracking import Tracker
from catsdogs.runtime import memory
from catsdogs.runtime.errors import ConfigError, VolumeError
from catsdogs.runtime.events import (
    AlreadyPublished,
    AlreadyTrained,
    ArchiveOpened,
    DeviceChosen,
    Evaluated,
    ModelBuilt,
    PassedOver,
    Started,
    StorageWaiting,
)
from catsdogs.runtime.log import Log
from catsdogs.runtime.signals import Interruption
from catsdogs.storage import document, volume
from catsdogs.storage.store import StorageOptions, Store, open_store
from catsdogs.training.checkpoints import Checkpoints, Mirror, Progress
from catsdogs.training.predictions import figures_of
from catsdogs.workers.group import SINGLE, WorkerGroup
from catsdogs.workers.rendezvous import Peers, join

MIRROR_TIMEOUT = 10.0
"""Seconds for which a storage that does not take a checkpoint is waited for."""
VERSIONS_OF = ("tensorflow", "keras", "numpy", "PIL")


def run(settings: Settings, log: Log, interruption: Interruption) -> None:
    """Does what of the run is not done yet. A published run costs one look at the store."""
    # Where worker 0 has trained already, nothing but its own part is left to do, and it waits for no other.
    together = not (settings.workers > 1 and settings.worker_index == 0 and _complete(settings))
    with _opened(settings, log, interruption, together) as run:
        if run is not None:
            memory.require(memory.TENSORFLOW, "a training")
            run.publish(run.train(run.prepare()) if together else run.trained())


def _complete(settings: Settings) -> dict[str, Path] | None:
    """The trained run's artifacts on the volume. One that was trained without a format of --export is not complete: it
    goes on from its last checkpoint, which has nothing left to train."""
    artifacts = complete_artifacts(settings.artifacts)
    return None if artifacts is None or extras.missing_formats(artifacts, settings.export) else artifacts


def prepare(settings: Settings, log: Log, interruption: Interruption) -> None:
    """The first part of `run`: from the archive to a complete split on the volume."""
    with _opened(settings, log, interruption) as run:
        if run is not None:
            run.prepare()


def train(settings: Settings, log: Log, interruption: Interruption) -> None:
    """The second part: from the split to the artifacts on the volume. Raises ConfigError if there is no split."""
    with _opened(settings, log, interruption) as run:
        if run is not None:
            run.train(run.prepared())


def publish_trained(settings: Settings, log: Log, interruption: Interruption) -> None:
    """The last part: from the artifacts to the store. Raises ConfigError if there are none."""
    with _opened(settings, log, interruption, together=False) as run:
        if run is not None:
            run.publish(run.trained())


@contextlib.contextmanager
def _opened(settings: Settings, log: Log, interruption: Interruption, together: bool = True) -> Iterator["Run | None"]:
    """The run, its directory on the volume held for this process alone, its log kept; None if it is published.

    Of several workers all are there, and end together. What need not be done `together` is worker 0's alone, and the
    others get None. Raises ConfigError if there is another run under its run id, on the volume or in the store.
    """
    storage_options = _access(settings, log)
    output = open_store(settings.result, storage_options)
    published = functools.partial(publish.is_published, output, settings.model_settings(), settings.export)
    if published():
        log.emit(AlreadyPublished(run_id=settings.run_id, uri=settings.result))
        yield None
        return
    if settings.worker_index and not together:
        yield None
        return
    directory = settings.run_directory
    with contextlib.ExitStack() as stack:
        stack.enter_context(volume.lock(directory))
        _record(directory / "settings.json", settings.model_settings())
        # Also what is said needs room: any line may be the one that finds the volume full.
        stack.enter_context(volume.failures(directory / names.LOG, only_known=True))
        with volume.failures(directory):
            file = stack.enter_context((directory / names.LOG).open("a"))
        upload = None
        if settings.worker_index == 0:
            upload = stack.enter_context(contextlib.closing(LogUpload(output, directory / names.LOG)))
        stack.enter_context(log.recorded_in(file))
        log.emit(
            Started(
                version=__version__,
                run_id=settings.run_id,
                recipe=settings.recipe_name,
                epochs=settings.epochs,
                seed=settings.seed,
            )
        )
        group = join(peers_of(settings), log, interruption, published) if together else SINGLE
        if group is None:
            log.emit(AlreadyPublished(run_id=settings.run_id, uri=settings.result))
            yield None
            return
        with group:
            yield Run(settings, storage_options, output, upload, log, interruption, group, Tracker(settings, log))
            group.finish()


def peers_of(settings: Settings) -> Peers:
    agreed = {"version": __version__, "run_id": settings.run_id, **settings.model_settings()}
    return Peers(
        settings.worker_index, settings.addresses, settings.worker_timeout, settings.heartbeat_timeout, agreed
    )  # fmt: skip


def _access(settings: Settings, log: Log) -> StorageOptions:
    """How the run reaches its storage: what is waited for is said."""

    def waiting(reason: str, left: float) -> None:
        log.emit(StorageWaiting(reason=reason, left=left))

    return StorageOptions(settings.addressing_style, settings.storage_timeout, waiting)


def _record(path: Path, facts: Mapping[str, Any]) -> None:
    """Writes down what the run began with. Raises ConfigError if it began with something else."""
    found = volume.read(path)
    if found is None:
        volume.write(path, document.dump(facts))
        return
    try:
        recorded = dict(json.loads(found))
    except (ValueError, TypeError):
        raise VolumeError(f"{path}: damaged; remove {path.parent}, and the run starts anew") from None
    for name, value in facts.items():
        if recorded.get(name) != value:
            raise ConfigError(
                f"{path.parent}: its run began with {name} {recorded.get(name)!r} instead of {value!r};"
                " choose another --run-id, or remove that folder"
            )


@dataclass(frozen=True)
class Run:
    """One run at work: each part takes what the one before it made."""

    settings: Settings
    storage_options: StorageOptions
    output: Store
    log_upload: LogUpload | None
    """Worker 0's."""
    log: Log
    interruption: Interruption
    group: WorkerGroup
    tracker: Tracker

    def prepare(self) -> Split:
        settings, log = self.settings, self.log
        archive = open_archive(settings.archive, self.storage_options)
        archive = unpack(archive, settings.volume / "archive", log, self.interruption)
        cats, dogs = (len(archive.numbers(label)) for label in CLASSES)
        log.emit(ArchiveOpened(uri=archive.uri, size=archive.identity["size"], cats=cats, dogs=dogs))
        if archive.passed_over:
            examples = ", ".join(archive.passed_over[:3])
            log.emit(PassedOver(count=len(archive.passed_over), examples=examples))
        split_id = split.split_id(archive, settings.counts)
        self.group.agree("archive contents", split_id)
        _record(settings.run_directory / "prepared.json", {"archive contents": split_id})
        directory = self._split_directory(split_id)
        return split.build(archive, settings.counts, directory, log, self.interruption, self.group)

    def prepared(self) -> Split:
        """What `prepare` left on the volume. Raises ConfigError if there is no complete split."""
        directory = self.settings.run_directory
        with contextlib.suppress(ValueError, KeyError, TypeError):
            split_id = json.loads(volume.read(directory / "prepared.json") or b"")["archive contents"]
            found = split.load(self._split_directory(split_id), self.settings.counts, self.log, self.group)
            if found is not None:
                return found
        raise ConfigError(f"{directory}: no complete split; run `catsdogs prepare` first, with the same options")

    def _split_directory(self, split_id: str) -> Path:
        return self.settings.volume / "splits" / split_id

    def train(self, prepared: Split) -> dict[str, Path]:
        """Returns the artifacts, name → file on the volume; of several workers, worker 0's."""
        artifacts = _complete(self.settings)
        if self.group.gathered(artifacts is not None)[0]:
            self.log.emit(AlreadyTrained(run_id=self.settings.run_id))
            return artifacts or {}
        # Imported only now: whoever prepares, plans or asks for help never waits for TensorFlow.
        from catsdogs.training import devices

        self.interruption.check()
        memory.require(memory.TENSORFLOW, "a training")
        found = devices.start(
            self.settings.require_gpu, self.group.worker, self.settings.addresses,
            self.settings.precision, self.settings.xla,
        )  # fmt: skip
        from catsdogs.training.step import Learner

        self.interruption.check()
        about = self._about(prepared, found)
        if self.group.worker == 0:
            publish.claim(self.output, about)
        settings = self.settings
        learner = Learner(
            settings.recipe, settings.image_size, settings.learning_rate, settings.seed, found, settings.steps
        )
        self.log.emit(DeviceChosen(device=found.name, dtype=found.dtype, replicas=found.replicas))
        self.log.emit(
            ModelBuilt(
                recipe=self.settings.recipe_name,
                parameters=learner.model.count_params(),
                image_size=self.settings.image_size,
                batch_size=self.settings.batch_size,
            )
        )
        with self.group.watched(settings.worker_timeout):
            progress = self._fit(learner, prepared)
        return self._write_artifacts(learner, prepared, progress, about)

    def trained(self) -> dict[str, Path]:
        """What `train` left on the volume. Raises ConfigError if there is nothing complete."""
        artifacts = _complete(self.settings)
        if artifacts is None:
            lacks = complete_artifacts(self.settings.artifacts) is not None
            what = "trained without what --export names" if lacks else "nothing trained"
            raise ConfigError(
                f"{self.settings.run_directory}: {what}; run `catsdogs train` first, with the same options"
            )
        publish.claim(self.output, json.loads(artifacts[names.RUN].read_bytes()))
        return artifacts

    def publish(self, artifacts: Mapping[str, Path]) -> None:
        if self.log_upload is None:
            return
        self.group.let_go()
        self.tracker.finish(artifacts, self.interruption)
        # The log so far becomes an artifact, so nothing may write it there any more.
        self.log_upload.close()
        log = snapshot(self.settings.run_directory / names.LOG)
        files = {**artifacts, names.LOG: log}
        owner = self._owner()
        publish.publish(self.output, files, self.settings.run_id, owner, self.log, self.interruption)
        for key, _ in list(self.output.list(names.CHECKPOINTS)):
            self.output.delete(key)
        # The artifacts stay on the volume; the checkpoints, three times their size, have done their work.
        shutil.rmtree(self.settings.run_directory / "checkpoint", ignore_errors=True)

    def _owner(self) -> str:
        """The same for every process that works on this volume's copy of the run, and for no other."""
        path = self.settings.run_directory / "owner"
        with volume.failures(path):
            if not path.exists():
                volume.write(path, secrets.token_hex(16).encode())
            return path.read_text()

    def _about(self, prepared: Split, found: Any) -> RunDocument:
        """run.json: enough to repeat the run."""
        versions = {name: importlib.import_module(name).__version__ for name in VERSIONS_OF}
        return {
            "run_id": self.settings.run_id,
            "settings": self.settings.model_settings(),
            "versions": {"catsdogs-train": __version__, "python": platform.python_version(), **versions},
            "device": {"name": found.name, "dtype": found.dtype, "replicas": found.replicas},
            "archive": prepared.archive,
        }

    def _fit(self, learner: Any, prepared: Split) -> Progress:
        """Trains, and leaves the best epoch's weights in the learner."""
        from catsdogs.training.loop import Training

        settings = self.settings
        images = min(settings.batch_size, len(prepared.paths("train")))
        what = f"{settings.recipe_name} with {images} images of {settings.image_size} pixels a batch"
        memory.require(memory.used() + learner.step_bytes(images), what)
        most_bytes = int(memory.SHARE_FOR_IMAGES * memory.limit())
        training = self._generator(prepared, "train", most_bytes)
        validation = self._generator(prepared, "validation", most_bytes - training.pixels.bytes_in_memory)
        with contextlib.ExitStack() as stack:
            mirror = None
            if settings.checkpoint_to == "bucket" and self.group.worker == 0:
                # Little patience: the next checkpoint is a better one, and a finished training need not wait for any.
                storage_options = replace(
                    self.storage_options, timeout=min(self.storage_options.timeout, MIRROR_TIMEOUT)
                )
                store = open_store(f"{settings.result}/{names.CHECKPOINTS}", storage_options)
                mirror = stack.enter_context(contextlib.closing(Mirror(store)))
            return Training(
                learner,
                settings.recipe,
                training,
                validation,
                Checkpoints(settings.run_directory / "checkpoint", self.log, mirror, self.group),
                self.log,
                self.interruption,
                settings.epochs,
                settings.checkpoint_every,
                self.group,
                [EventFiles(settings.artifacts).write, self.tracker.write] if self.group.worker == 0 else [],
            ).run()

    def _generator(self, prepared: Split, name: str, most_bytes: int) -> DataLoader:
        paths = prepared.paths(name)
        own = [prepared.owner(path) == self.group.worker for path in paths] if self.group.size > 1 else None
        return DataLoader.of(
            paths,
            batch_size=self.settings.batch_size,
            image_size=self.settings.image_size,
            seed=self.settings.seed,
            shuffled=name == "train",
            scratch=self.settings.run_directory,
            most_bytes=most_bytes,
            augmentation=self.settings.recipe.augmentation if name == "train" else None,
            mixup=self.settings.recipe.mixup if name == "train" else 0.0,
            own=own,
        )

    def _write_artifacts(
        self, learner: Any, prepared: Split, progress: Progress, about: RunDocument
    ) -> dict[str, Path]:
        from catsdogs.pipeline import gather
        from catsdogs.training import evaluation

        began = time.monotonic()
        test = self._generator(prepared, "test", most_bytes=0)
        predictions = evaluation.predict(learner.model, test, prepared.directory, self.log, self.interruption)
        predictions = gather.of_all(predictions, prepared, self.group)
        train_metrics = self._evaluate_train(learner, prepared)
        if self.group.worker:
            return {}
        test_metrics = cast(TestMetrics, figures_of(predictions))
        self.log.emit(
            Evaluated(
                accuracy=test_metrics["accuracy"],
                images=test_metrics["images"],
                correct=test_metrics["correct"],
                loss=test_metrics["loss"],
            )
        )
        with volume.failures(self.settings.run_directory), (self.settings.run_directory / names.LOG).open() as log:
            before = before_training(log)
        assert progress.best is not None
        metrics = metrics_of(
            progress.history, progress.best, train_metrics, test_metrics, before, time.monotonic() - began
        )
        directory = self.settings.artifacts
        with volume.failures(directory):
            directory.mkdir(parents=True, exist_ok=True)
            learner.save(directory / names.MODEL)
            if self.settings.export:
                # Imported only if it is needed: it sets TensorFlow to other rounding.
                from catsdogs.training import export

                metrics["exports"] = export.export(
                    directory / names.MODEL, self.settings.export, test, self.log, self.interruption
                )
            write_artifacts(directory, Finished(self.settings, about, metrics, progress.history, prepared, predictions))
        exported = [extras.FORMATS[name] for name in self.settings.export]
        return mark_complete(directory, [*names.TRAINED, *exported])

    def _evaluate_train(self, learner: Any, prepared: Split) -> SplitMetrics:
        """Return the model's metrics on all workers' training images, undistorted. Raises Interrupted, VolumeError."""
        from catsdogs.training import evaluation

        loader = self._generator(prepared, "train", int(memory.SHARE_FOR_IMAGES * memory.limit()))
        loader = replace(loader, shuffled=False, augmentation=None, mixup=0.0)
        predictions = evaluation.predict(learner.model, loader, prepared.directory, self.log, self.interruption)
        shard = figures_of(predictions) if predictions else {"loss": 0.0, "images": 0, "correct": 0}
        return combined(self.group.gathered([shard["loss"], shard["images"], shard["correct"]]))
