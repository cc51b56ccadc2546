"""The whole job, top to bottom: archive → split → model → bucket."""

import contextlib
import importlib
import json
import platform
import resource
import shutil
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from job import __version__, publish, report, split, volume
from job.archive import open_archive, unpack
from job.batches import SHARE_OF_MEMORY, Generator, memory_limit
from job.checkpoints import Checkpoints, Mirror, Progress
from job.errors import Contradiction
from job.events import Log
from job.interruption import Interruption
from job.settings import Settings
from job.split import Split
from job.stores import Store, open_store

VERSIONS_OF = ("tensorflow", "keras", "numpy", "PIL")


def run(settings: Settings, log: Log, interruption: Interruption) -> None:
    """Does what of the run is not done yet. A published run costs one look at the bucket."""
    with _session(settings, log) as output:
        if output is not None:
            prepared = _prepare(settings, log, interruption)
            artifacts = _train(settings, prepared, output, log, interruption)
            _publish(settings, artifacts, output, log, interruption)


def prepare(settings: Settings, log: Log, interruption: Interruption) -> None:
    """The first part of `run`: from the archive to a complete split on the volume."""
    with _session(settings, log) as output:
        if output is not None:
            _prepare(settings, log, interruption)


def train(settings: Settings, log: Log, interruption: Interruption) -> None:
    """The second part: from the split to the artifacts on the volume. Raises Contradiction if there is no split."""
    with _session(settings, log) as output:
        if output is not None:
            _train(settings, _prepared(settings, log), output, log, interruption)


def publish_artifacts(settings: Settings, log: Log, interruption: Interruption) -> None:
    """The last part: from the artifacts to the store. Raises Contradiction if there are none."""
    with _session(settings, log) as output:
        if output is not None:
            artifacts = publish.sealed(settings.run_directory / "artifacts")
            if artifacts is None:
                raise Contradiction(
                    f"{settings.run_directory}: nothing trained yet; run `catsdogs train` first, with the same options"
                )
            publish.claim(output, json.loads(artifacts[publish.RUN].read_bytes()))
            _publish(settings, artifacts, output, log, interruption)


@contextlib.contextmanager
def _session(settings: Settings, log: Log) -> Iterator[Store | None]:
    """The store for the run's artifacts; None if it is published already.

    Within it the run's directory on the volume is this process's alone, and what is said goes to the
    run's log as well.
    """
    output = open_store(settings.result, settings.addressing_style)
    if publish.is_published(output, settings.model_settings()):
        log.say("already-published", run_id=settings.run_id, uri=settings.result)
        yield None
        return
    directory = settings.run_directory
    with contextlib.ExitStack() as stack:
        stack.enter_context(volume.lock(directory))
        _check_same(directory / "settings.json", settings.model_settings())
        with volume.failures(directory):
            file = stack.enter_context((directory / publish.LOG).open("a"))
        stack.enter_context(log.recorded_in(file))
        log.say(
            "started", version=__version__, run_id=settings.run_id, recipe=settings.recipe_name,
            epochs=settings.epochs, seed=settings.seed,
        )  # fmt: skip
        upload = publish.LogUpload(output, directory / publish.LOG)
        stack.callback(upload.close)
        yield output


def _check_same(path: Path, ours: Mapping[str, Any]) -> None:
    """Records on the volume what the run is about. Raises Contradiction if it was about something else."""
    with volume.failures(path):
        if not path.exists():
            volume.write(path, publish.as_json(ours))
        theirs = json.loads(path.read_bytes())
    for name, value in json.loads(publish.as_json(ours)).items():
        if theirs.get(name) != value:
            raise Contradiction(
                f"{path.parent}: holds a run with {name} {theirs.get(name)!r} instead of {value!r};"
                " choose another --run-id, or remove that folder"
            )


def _prepare(settings: Settings, log: Log, interruption: Interruption) -> Split:
    archive = open_archive(settings.archive, settings.addressing_style)
    archive = unpack(archive, settings.volume / "archive", log, interruption)
    cats, dogs = (len(archive.numbers(label)) for label in ("cat", "dog"))
    log.say("archive", uri=archive.uri, size=archive.identity["size"], cats=cats, dogs=dogs)
    if archive.passed_over:
        examples = ", ".join(archive.passed_over[:3])
        log.say("passed-over", count=len(archive.passed_over), examples=examples)
    identity = split.split_id(archive, settings.counts)
    _check_same(settings.run_directory / "prepared.json", {"split": identity})
    return split.build(archive, settings.counts, settings.volume / "splits" / identity, log, interruption)


def _prepared(settings: Settings, log: Log) -> Split:
    """The split that `prepare` left on the volume."""
    path = settings.run_directory / "prepared.json"
    with contextlib.suppress(FileNotFoundError, ValueError):
        identity = json.loads(path.read_bytes())["split"]
        found = split.load(settings.volume / "splits" / identity, settings.counts, log)
        if found is not None:
            return found
    raise Contradiction(
        f"{settings.run_directory}: no complete split; run `catsdogs prepare` first, with the same options"
    )


def _train(settings: Settings, prepared: Split, output: Store, log: Log, interruption: Interruption) -> dict[str, Path]:
    """The artifacts, name → file on the volume."""
    directory = settings.run_directory / "artifacts"
    artifacts = publish.sealed(directory)
    if artifacts is not None:
        log.say("already-trained", run_id=settings.run_id)
        return artifacts
    # Imported only now: whoever prepares, plans or asks for help never waits for TensorFlow.
    from job import devices

    interruption.check()
    found = devices.start(settings.seed, settings.require_gpu)
    from job import evaluation
    from job.learner import Learner

    interruption.check()
    about = _about(settings, prepared, found)
    publish.claim(output, about)
    learner = Learner(settings.recipe, settings.image_size, settings.learning_rate, found)
    log.say("device", device=found.name, dtype=found.dtype, replicas=found.replicas)
    log.say(
        "model", recipe=settings.recipe_name, parameters=learner.model.count_params(),
        image_size=settings.image_size, batch_size=settings.batch_size,
    )  # fmt: skip
    progress = _fit(settings, prepared, learner, output, log, interruption)

    began = time.monotonic()
    test = _generator(settings, prepared, "test", memory_limit())
    predictions = evaluation.predict(learner.model, test, prepared.directory, log, interruption)
    figures = evaluation.figures(predictions)
    log.say("evaluated", **{name: figures[name] for name in ("accuracy", "images", "correct", "loss")})
    best = progress.best or {}
    metrics = {
        "best_epoch": best["epoch"],
        "epochs": settings.epochs,
        "train": {"loss": best["loss"], "accuracy": best["accuracy"]},
        "validation": {"loss": best["val_loss"], "accuracy": best["val_accuracy"]},
        "test": figures,
        "seconds": {
            "training": sum(row["seconds"] for row in progress.history),
            "evaluation": time.monotonic() - began,
        },
        "peak_memory_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    }
    with volume.failures(directory):
        directory.mkdir(parents=True, exist_ok=True)
        learner.save(directory / "model.keras")
        report.history_csv(directory / "history.csv", progress.history)
        title = f"{settings.recipe_name}, {settings.epochs} epochs"
        report.history_png(directory / "history.png", progress.history, int(best["epoch"]), title)
        report.predictions_csv(directory / "predictions.csv", predictions)
        report.report_html(
            directory / "report.html", run=about, metrics=metrics, history=progress.history,
            quarantined=prepared.quarantined, history_image=(directory / "history.png").read_bytes(),
        )  # fmt: skip
        (directory / "metrics.json").write_bytes(publish.as_json(metrics))
        (directory / publish.RUN).write_bytes(publish.as_json(about))
        shutil.copyfile(prepared.directory / split.MARKER, directory / "split.json")
    return publish.seal(directory, publish.MADE_BY_TRAINING)


def _about(settings: Settings, prepared: Split, found: Any) -> dict[str, Any]:
    """run.json: enough to repeat the run."""
    return {
        "run_id": settings.run_id,
        "settings": settings.model_settings(),
        "versions": {
            "catsdogs-train": __version__,
            "python": platform.python_version(),
            **{name: importlib.import_module(name).__version__ for name in VERSIONS_OF},
        },
        "device": {"name": found.name, "dtype": found.dtype, "replicas": found.replicas},
        "archive": prepared.archive,
    }


def _fit(
    settings: Settings, prepared: Split, learner: Any, output: Store, log: Log, interruption: Interruption
) -> Progress:
    """Trains, and leaves the best epoch's weights in the learner."""
    from job.training import Training

    most_bytes = int(SHARE_OF_MEMORY * memory_limit())
    training = _generator(settings, prepared, "train", most_bytes)
    validation = _generator(settings, prepared, "validation", most_bytes - training.pixels.bytes_in_memory)
    mirror = Mirror(open_store(f"{settings.result}/{publish.CHECKPOINTS}", settings.addressing_style))
    checkpoints = Checkpoints(
        settings.run_directory / "checkpoint", log, mirror if settings.checkpoint_to == "bucket" else None
    )
    try:
        return Training(
            learner, settings.recipe, training, validation, checkpoints, log, interruption,
            settings.epochs, settings.checkpoint_every,
        ).run()  # fmt: skip
    finally:
        mirror.close()


def _generator(settings: Settings, prepared: Split, name: str, most_bytes: int) -> Generator:
    return Generator.of(
        prepared.paths(name), batch_size=settings.batch_size, image_size=settings.image_size, seed=settings.seed,
        shuffled=name == "train", scratch=settings.run_directory, most_bytes=most_bytes,
    )  # fmt: skip


def _publish(
    settings: Settings, artifacts: Mapping[str, Path], output: Store, log: Log, interruption: Interruption
) -> None:
    spoken = publish.snapshot(settings.run_directory / publish.LOG)
    publish.publish(output, {**artifacts, publish.LOG: spoken}, settings.run_id, log, interruption)
    for key, _ in list(output.list(publish.CHECKPOINTS)):
        output.delete(key)
    # The artifacts stay on the volume; the checkpoints, three times their size, have done their work.
    shutil.rmtree(settings.run_directory / "checkpoint", ignore_errors=True)
