"""The whole job, top to bottom: archive → split → model → bucket."""

import contextlib
import io
import secrets
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, assert_never

from catsdogs.config import extras
from catsdogs.config.settings import Settings
from catsdogs.data import split
from catsdogs.data.archive import open_archive, unpack
from catsdogs.data.labels import CLASSES
from catsdogs.data.loader import DataLoader
from catsdogs.data.split import Split
from catsdogs.pipeline import records
from catsdogs.pipeline.session import Session, Skipped, open_session
from catsdogs.results import completion, documents, names, publish
from catsdogs.results.artifacts import Finished, metrics_of, write_artifacts
from catsdogs.results.completion import Artifact, complete, complete_artifacts
from catsdogs.results.documents import RunDocument, SplitMetrics
from catsdogs.results.job_log import before_training, lines_of
from catsdogs.results.log_upload import snapshot
from catsdogs.results.tensorboard import EventFiles
from catsdogs.results.tracking import tracker_of
from catsdogs.runtime import cores, gpu, memory
from catsdogs.runtime.errors import ConfigError, NotFound, VolumeError
from catsdogs.runtime.events import (
    AlreadyPublished,
    AlreadyTrained,
    ArchiveGone,
    ArchiveOpened,
    DeviceChosen,
    Evaluated,
    ModelBuilt,
    PassedOver,
    StrayImages,
    ThreadsKept,
)
from catsdogs.runtime.log import Log
from catsdogs.runtime.signals import Interruption
from catsdogs.storage import volume
from catsdogs.storage.address import open_store
from catsdogs.storage.volume import VolumePath
from catsdogs.training import checkpoints, model_file
from catsdogs.training.checkpoints import Checkpoints, Mirror, Progress
from catsdogs.training.predictions import prediction_metrics

if TYPE_CHECKING:
    from catsdogs.training.devices import Devices
    from catsdogs.training.step import Learner

MIRROR_TIMEOUT = 10.0
"""Seconds of retries for a copy of a checkpoint: the next one replaces it, and a finished training needs none."""


def run(settings: Settings, log: Log, interruption: Interruption) -> None:
    """Do what of the run is not done yet. A published run costs one look at the store."""
    if settings.require_gpu:
        gpu.require()

    def publish_only(run: "Run") -> None:
        memory.require_for_training()
        run.publish(run.trained())

    def everything(run: "Run") -> None:
        memory.require_for_training()
        run.publish(run.train(run.prepare()))

    # Where worker 0 has trained already, only its own part is left, and it waits for no other.
    alone = settings.workers > 1 and settings.worker_index == 0 and _complete(settings) is not None
    _do(publish_only if alone else everything, settings, log, interruption, alone=alone)


def prepare(settings: Settings, log: Log, interruption: Interruption) -> None:
    """The first part of `run`: from the archive to a complete split on the volume."""
    _do(lambda run: run.prepare(), settings, log, interruption)


def train(settings: Settings, log: Log, interruption: Interruption) -> None:
    """The second part: from the split to the artifacts on the volume. Raises ConfigError if there is no split."""
    if settings.require_gpu:
        gpu.require()
    _do(lambda run: run.train(run.prepared()), settings, log, interruption)


def publish_trained(settings: Settings, log: Log, interruption: Interruption) -> None:
    """The last part: from the artifacts to the store. Raises ConfigError if there are none."""
    _do(lambda run: run.publish(run.trained()), settings, log, interruption, alone=True)


def _do(
    parts: "Callable[[Run], object]", settings: Settings, log: Log, interruption: Interruption, alone: bool = False
) -> None:
    """Do parts of the run, unless there is nothing to do. Those that worker 0 does `alone` need no other worker."""
    with open_session(settings, log, interruption, alone=alone) as session:
        match session:
            case Session():
                parts(Run(session))
            case Skipped.PUBLISHED:
                log.emit(AlreadyPublished(run_id=settings.run_id, uri=settings.result))
            case Skipped.NOT_NEEDED:
                pass
            case _:
                assert_never(session)


def _complete(settings: Settings) -> dict[str, Artifact] | None:
    """Return the trained run's artifacts on the volume; None if they are not complete.

    Without a format of --export they are not: the run resumes from its last checkpoint, and trains no further.
    """
    artifacts = complete_artifacts(settings.artifacts)
    return None if artifacts is None or extras.missing_formats(artifacts, settings.export) else artifacts


class Run:
    """One run at work: each part takes what the one before it made."""

    def __init__(self, session: Session):
        self.settings, self.log, self.interruption = session.settings, session.log, session.interruption
        self.storage_options, self.output, self.log_upload = session.storage_options, session.output, session.log_upload
        self.ledger, self.group = session.ledger, session.group
        self.tracker = tracker_of(session.settings, session.log)

    def prepare(self) -> Split:
        """Return the split, built from the archive if the volume has none that is complete.

        If the archive is gone, the split that was prepared for this run before suffices. From then on the settings bind
        the run. Raises BadData, ConfigError if another split was prepared for it, VolumeError, Interrupted, and what
        the store raises.
        """
        settings, log = self.settings, self.log
        try:
            archive = open_archive(settings.archive, self.storage_options)
        except NotFound as gone:
            prepared = self._prepared_earlier()
            if prepared is None:
                raise
            log.emit(ArchiveGone(uri=settings.archive, reason=str(gone)))
            return prepared
        archive = unpack(archive, settings.on_volume / "archive", log, self.interruption)
        cats, dogs = (len(archive.numbers(label)) for label in CLASSES)
        log.emit(ArchiveOpened(uri=archive.uri, size=archive.identity["size"], cats=cats, dogs=dogs))
        if archive.passed_over:
            examples = ", ".join(archive.passed_over[:3])
            log.emit(PassedOver(count=len(archive.passed_over), examples=examples))
        if archive.stray:
            examples = ", ".join(archive.stray[:3])
            log.emit(StrayImages(count=len(archive.stray), zip=archive.within[-1], examples=examples))
        split_id = split.split_id(archive, settings.counts)
        self.group.agree("archive contents", split_id)
        records.check_split(settings.run_directory, split_id)
        directory = self._split_directory(split_id)
        prepared = split.build(archive, settings.counts, directory, log, self.interruption, self.group)
        records.record(settings.run_directory, settings.model_settings(), split_id)
        return prepared

    def _prepared_earlier(self) -> Split | None:
        """Return the complete split of an earlier start, as `split.build` would reuse it; None if there is none.

        Asks the other workers what `prepare` asks: they may have found the archive.
        """
        split_id = records.prepared_split(self.settings.run_directory)
        if split_id is None:
            return None
        self.group.agree("archive contents", split_id)
        directory = self._split_directory(split_id)
        with volume.lock(directory):
            return split.load(directory, self.settings.counts, self.log, self.group)

    def prepared(self) -> Split:
        """Return the split that `prepare` left on the volume. Raises ConfigError if there is none that is complete."""
        directory = self.settings.run_directory
        split_id = records.prepared_split(directory)
        prepared = None
        if split_id is not None:
            prepared = split.load(self._split_directory(split_id), self.settings.counts, self.log, self.group)
        if prepared is None:
            raise ConfigError(f"{directory}: no complete split; run `catsdogs prepare` first, with the same options")
        return prepared

    def _split_directory(self, split_id: str) -> VolumePath:
        return self.settings.on_volume / "splits" / split_id

    def train(self, prepared: Split) -> dict[str, Artifact]:
        """Return the artifacts, by name; none in workers other than 0.

        Raises ConfigError if the run id belongs to another run in the store or if memory does not suffice, VolumeError,
        Unavailable, Interrupted, and what the store raises.
        """
        artifacts = _complete(self.settings)
        if self.group.gather_json(artifacts is not None, bool)[0]:
            if artifacts is not None:
                self._check_trained(artifacts)
            self.log.emit(AlreadyTrained(run_id=self.settings.run_id))
            return artifacts or {}
        devices = self._start_devices()
        learner = self._build_learner(devices)
        self._check_memory(learner, prepared)
        about = self._about(prepared, devices)
        if self.group.worker == 0:
            # Once nothing but training is left to fail: a claim binds the run id to these settings.
            publish.claim(self.output, about)
        training = self._loader(prepared, "train", self._image_bytes())
        with self.group.watched(self.settings.worker_timeout):
            progress = self._fit(learner, prepared, training)
        return self._write_artifacts(learner, prepared, training, progress, about)

    def trained(self) -> dict[str, Artifact]:
        """Return the artifacts that `train` left on the volume. Raises ConfigError if they are not complete."""
        artifacts = _complete(self.settings)
        if artifacts is None:
            lacks = complete_artifacts(self.settings.artifacts) is not None
            what = "trained without what --export names" if lacks else "nothing trained"
            raise ConfigError(
                f"{self.settings.run_directory}: {what}; run `catsdogs train` first, with the same options"
            )
        publish.claim(self.output, self._check_trained(artifacts))
        return artifacts

    def _check_trained(self, artifacts: Mapping[str, Artifact]) -> dict[str, Any]:
        """Return run.json. Raises VolumeError for documents or a model on the volume that no training leaves."""
        path = artifacts[names.RUN].path
        try:
            run = documents.load_run(artifacts[names.RUN].contents(documents.MAX_SIZE), str(path))
            path = artifacts[names.METRICS].path
            documents.load_metrics(artifacts[names.METRICS].contents(documents.MAX_SIZE), str(path))
            path = artifacts[names.MODEL].path
            with artifacts[names.MODEL].opened() as file:
                model_file.check(file)
        except (ValueError, OSError) as reason:
            raise VolumeError(
                f"{path}: damaged; remove {path.parent / completion.RECORD} to train again ({reason})"
            ) from None
        return run

    def publish(self, artifacts: Mapping[str, Artifact]) -> None:
        """Publish the artifacts and the log, in worker 0. Raises what `publish.publish` raises, VolumeError."""
        if self.log_upload is None:
            return
        self.group.detach()
        self.tracker.finish(artifacts, self.interruption)
        # The log so far becomes an artifact, so nothing may write it there any more.
        self.log_upload.close()
        log = snapshot(self.settings.run_directory / names.LOG)
        # Drawn at each start: a name that was kept on the volume would be that of its copies, too. A process that is
        # started again waits for its own lease, half a minute at most.
        owner = secrets.token_hex(16)
        publish.publish(
            self.output, {**artifacts, names.LOG: log}, self.settings.run_id, owner, self.log, self.interruption
        )
        for key, _ in list(self.output.list(names.CHECKPOINTS)):
            if checkpoints.NAME.fullmatch(key.removeprefix(names.CHECKPOINTS)):
                self.output.delete(key)
        # The artifacts stay on the volume; the checkpoints, three times their size, are of no more use.
        with contextlib.suppress(VolumeError):
            self.ledger.remove(*(f"{checkpoints.FOLDER}/{name}" for name in self.ledger.names(checkpoints.FOLDER)))
        volume.remove_if_empty(self.settings.run_directory / checkpoints.FOLDER)

    def _start_devices(self) -> "Devices":
        # Imported only now: no command waits for TensorFlow that does not train.
        from catsdogs.training import devices

        self.interruption.check()
        memory.require_for_training()
        settings = self.settings
        devices.load()
        # TensorFlow's workers wait for each other while no thread of Python runs, and thus without heartbeats: none may
        # begin before all can.
        threads = self.group.gather_json(self._threads(), documents.Threads)[0]
        started = devices.start(
            settings.require_gpu, self.group.worker, settings.addresses, settings.precision, settings.xla, threads
        )
        self.interruption.check()
        return started

    def _threads(self) -> int:
        """Return how many threads compute each operation: as many as when the run began, so that it ends with the same
        weights on whatever machine it resumes."""
        usable = cores.threads()
        begun_with = publish.begun_with(self.output) if self.group.worker == 0 else None
        if begun_with not in (None, usable):
            self.log.emit(ThreadsKept(threads=begun_with, usable=usable))
        return begun_with or usable

    def _build_learner(self, devices: "Devices") -> "Learner":
        from catsdogs.training.step import Learner

        settings = self.settings
        learner = Learner(
            settings.recipe, settings.image_size, settings.learning_rate, settings.seed, devices, settings.steps
        )
        self.log.emit(DeviceChosen(device=devices.name, dtype=devices.dtype, replicas=devices.replicas))
        self.log.emit(
            ModelBuilt(
                recipe=settings.recipe_name,
                parameters=learner.model.count_params(),
                image_size=settings.image_size,
                batch_size=settings.batch_size,
            )
        )
        return learner

    def _check_memory(self, learner: "Learner", prepared: Split) -> None:
        """Raises ConfigError if a training step does not fit into memory."""
        settings = self.settings
        images = min(settings.batch_size, len(prepared.paths("train")))
        what = f"{settings.recipe_name} with {images} images of {settings.image_size} pixels a batch"
        memory.require(memory.used() + learner.step_bytes(images), what)

    def _about(self, prepared: Split, devices: "Devices") -> RunDocument:
        """run.json: enough to repeat the run."""
        from catsdogs.training.versions import versions

        return {
            "run_id": self.settings.run_id,
            "settings": self.settings.model_settings(),
            "versions": versions(),
            "device": {"name": devices.name, "dtype": devices.dtype, "replicas": devices.replicas},
            "threads": devices.threads,
            "archive": prepared.archive,
        }

    def _fit(self, learner: "Learner", prepared: Split, training: DataLoader) -> Progress:
        """Train, and leave the best epoch's weights in the learner."""
        from catsdogs.training.loop import Training

        settings = self.settings
        validation = self._loader(prepared, "validation", self._image_bytes() - training.pixels.bytes_in_memory)
        with contextlib.ExitStack() as stack:
            mirror = None
            if settings.checkpoint_to == "bucket" and self.group.worker == 0:
                mirror = stack.enter_context(contextlib.closing(self._mirror()))
            return Training(
                learner,
                settings.recipe,
                training,
                validation,
                Checkpoints(self.ledger, self.log, mirror, self.group),
                self.log,
                self.interruption,
                settings.epochs,
                settings.checkpoint_every,
                self.group,
                [EventFiles(settings.artifacts).write, self.tracker.write] if self.group.worker == 0 else [],
            ).run()

    def _mirror(self) -> Mirror:
        storage_options = replace(self.storage_options, timeout=min(self.storage_options.timeout, MIRROR_TIMEOUT))
        return Mirror(open_store(f"{self.settings.result}/{names.CHECKPOINTS}", storage_options))

    def _image_bytes(self) -> int:
        """Return how many bytes of decoded images may be kept in memory."""
        return int(memory.SHARE_FOR_IMAGES * memory.limit())

    def _loader(self, prepared: Split, name: str, max_bytes: int) -> DataLoader:
        paths = prepared.paths(name)
        own = [prepared.owner(path) == self.group.worker for path in paths] if self.group.size > 1 else None
        return DataLoader.of(
            paths,
            batch_size=self.settings.batch_size,
            image_size=self.settings.image_size,
            seed=self.settings.seed,
            shuffled=name == "train",
            scratch=self.settings.run_directory,
            max_bytes=max_bytes,
            augmentation=self.settings.recipe.augmentation if name == "train" else None,
            mixup=self.settings.recipe.mixup if name == "train" else 0.0,
            own=own,
        )

    def _write_artifacts(
        self, learner: "Learner", prepared: Split, training: DataLoader, progress: Progress, about: RunDocument
    ) -> dict[str, Artifact]:
        from catsdogs.pipeline import gather
        from catsdogs.training import evaluation

        began = time.monotonic()
        test = self._loader(prepared, "test", max_bytes=0)
        predictions = evaluation.predict(learner.model, test, prepared.directory, self.log, self.interruption)
        predictions = gather.of_all(predictions, prepared, self.group)
        train_metrics = self._evaluate_train(learner, prepared, training)
        if self.group.worker:
            return {}
        test_metrics = prediction_metrics(predictions)
        self.log.emit(
            Evaluated(
                accuracy=test_metrics["accuracy"],
                images=test_metrics["images"],
                correct=test_metrics["correct"],
                loss=test_metrics["loss"],
            )
        )
        before = before_training(lines_of(io.BytesIO(snapshot(self.settings.run_directory / names.LOG))))
        assert progress.best is not None
        metrics = metrics_of(
            progress.history, progress.best, train_metrics, test_metrics, before, time.monotonic() - began
        )
        # Made where no other process of the volume can change them before their digests are known.
        with volume.failures(self.settings.artifacts), tempfile.TemporaryDirectory(prefix="catsdogs-") as private:
            directory = Path(private)
            learner.save(directory / names.MODEL)
            if self.settings.export:
                # Imported only if it is needed: it sets TensorFlow to other rounding.
                from catsdogs.training import export

                metrics["exports"] = export.export(
                    directory / names.MODEL, self.settings.export, test, self.log, self.interruption
                )
            write_artifacts(directory, Finished(self.settings, about, metrics, progress.history, prepared, predictions))
            exported = [extras.FORMATS[name] for name in self.settings.export]
            return complete(directory, self.settings.artifacts, [*names.TRAINED, *exported])

    def _evaluate_train(self, learner: "Learner", prepared: Split, training: DataLoader) -> SplitMetrics:
        """Return the model's metrics on all workers' training images, undistorted. They are decoded already.

        Raises Interrupted, VolumeError.
        """
        from catsdogs.pipeline import gather
        from catsdogs.training import evaluation

        loader = replace(training, shuffled=False, augmentation=None, mixup=0.0)
        predictions = evaluation.predict(learner.model, loader, prepared.directory, self.log, self.interruption)
        return gather.metrics_of_all(predictions, len(prepared.paths("train")), self.group)
