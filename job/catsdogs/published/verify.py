"""Checks a published run: its files against its manifest, its metrics against the archive."""

import csv
import hashlib
import math
import reprlib
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

from catsdogs.data import split
from catsdogs.data.archive import Archive, open_archive, unpack
from catsdogs.data.assignment import path_of
from catsdogs.data.images import NotAnImage, check
from catsdogs.data.labels import CLASSES, SPLITS
from catsdogs.data.loader import DataLoader
from catsdogs.data.zip_reader import Broken, Member, fetch
from catsdogs.results import documents, manifest, names, tables
from catsdogs.results.metrics import wilson_interval
from catsdogs.runtime.errors import BadData
from catsdogs.runtime.events import (
    ArtifactDiffers,
    ArtifactVerified,
    HeldOutEvaluated,
    Reproduced,
    RunVerified,
    TrainReproduced,
)
from catsdogs.runtime.log import Log
from catsdogs.runtime.signals import Interruption
from catsdogs.storage import volume
from catsdogs.storage.address import open_store
from catsdogs.storage.store import StorageOptions, Store
from catsdogs.storage.volume import AnyPath, VolumePath
from catsdogs.training import model_file
from catsdogs.training.predictions import Prediction, prediction_metrics

Count = Literal["images", "correct", "accuracy", "confusion"]
TRAIN_COUNTS: tuple[Count, ...] = ("images", "correct", "accuracy")
TEST_COUNTS: tuple[Count, ...] = (*TRAIN_COUNTS, "confusion")
"""What a run claims of a split that must come out exactly."""
LOSS_TOLERANCE = 1e-3
"""Relative and absolute, of the loss on the training images: it differs with the processor, as probabilities do."""
HELD_OUT = "held-out"
"""The folder of held-out images in the workspace, beside those of the splits."""
T = TypeVar("T")
Evaluate = Callable[[Sequence[AnyPath]], list[Prediction]]


def verify(address: str, storage_options: StorageOptions, log: Log, interruption: Interruption) -> None:
    """Compare every artifact of the run at `address` with its manifest, and report each.

    Raises NotFound if it is not published, ConfigError if a newer version published it, Interrupted, and BadData at the
    end if an artifact differs or is missing, or if the manifest does not list what every run has.
    """
    run = open_store(address, storage_options)
    found = manifest.load(run)
    problems = []
    for entry in found.entries.values():
        interruption.check()
        try:
            manifest.check(run, entry)
            log.emit(ArtifactVerified(artifact=entry.name, size=entry.size))
        except BadData as error:
            problems.append(str(error))
    problems += [f"{run.uri(name)}: not in the manifest" for name in found.missing]
    for problem in problems:
        log.emit(ArtifactDiffers(reason=problem))
    if problems:
        others = f" (and {len(problems) - 1} more)" if problems[1:] else ""
        raise BadData(problems[0] + others)
    log.emit(RunVerified(run_id=found.run_id, artifacts=len(found.entries)))


def verify_accuracy(
    address: str,
    archive: str,
    held_out: int,
    directory: Path,
    storage_options: StorageOptions,
    log: Log,
    interruption: Interruption,
) -> None:
    """Evaluate the run's model again on the archive's images, and compare the result with what the run claims.

    On the test images, every prediction must be the same; on the training images, the numbers of images and of correct
    predictions, and the loss within LOSS_TOLERANCE. Runs of older versions claim nothing about the training images.
    Then evaluate the model on `held_out` images per class, if any: those with the lowest numbers that the run has not
    used.

    Works in a new folder of `directory`, and leaves nothing there; an inner zip that has to be unpacked stays in
    `directory`/archive. Raises BadData if the archive is another one, if the result differs, or if there are not as
    many held-out images; and what reading and writing raise.
    """
    run = open_store(address, storage_options)
    claim = _claim_of(run)
    scratch = volume.root(directory)
    found = unpack(open_archive(archive, storage_options), scratch / "archive", log, interruption)
    if found.identity["directory_sha256"] != claim.archive:
        raise BadData(f"{archive}: not the archive that {run.uri('')} was made from; name that one")
    unused = _unused(found, claim, held_out)
    with volume.new_directory(scratch, "verify") as workspace:
        test = _fetch(found, claim.images["test"], "test", workspace, interruption)
        evaluate, device = _load_model(claim, run.uri(names.MODEL), workspace, log, interruption)
        _compare_test(run.uri(""), claim, evaluate(test), device, log)
        if claim.train is not None:
            train = _fetch(found, claim.images["train"], "train", workspace, interruption)
            _compare_train(run.uri(""), claim, claim.train, evaluate(train), device, log)
        if unused:
            images = _fetch_held_out(found, unused, workspace, interruption)
            result = prediction_metrics(evaluate(images))
            low, high = wilson_interval(result["correct"], result["images"])
            log.emit(HeldOutEvaluated(**result, low=low, high=high, broken=len(unused) - len(images)))


@dataclass(frozen=True)
class _Claim:
    """What a published run says about itself, each part checked by the manifest's SHA-256."""

    model: bytes
    device: str
    threads: int | None
    """That computed the run's operations; None for a run of an older version."""
    archive: str
    """The SHA-256 of its directory."""
    image_size: int
    batch_size: int
    train: dict[str, Any] | None
    """TRAIN_COUNTS and loss; None for a run of an older version, which has only running means."""
    test: dict[str, Any]
    """TEST_COUNTS."""
    images: dict[str, dict[str, str]]
    """Split → member → SHA-256."""
    used: frozenset[str]
    """All members that the run has read, including excluded ones."""
    predictions: dict[str, tuple[str, float]]
    """Image → predicted label, probability of a dog."""


def _claim_of(run: Store) -> _Claim:
    """Raises NotFound, ConfigError for a newer version's run, or BadData if an artifact is not the manifest's or not
    what a run writes."""
    entries = manifest.load(run).entries
    for name in (names.MODEL, names.RUN, names.METRICS, names.SPLIT, names.PREDICTIONS):
        if name not in entries:
            raise BadData(f"{run.uri(name)}: not in the manifest, so that the run's accuracy cannot be verified")

    def content(name: str, max_bytes: int = documents.MAX_SIZE) -> bytes:
        return manifest.contents(run, entries[name], max_bytes)

    about = _parsed(run, names.RUN, lambda where: documents.load_run(content(names.RUN), where))
    metrics = _parsed(run, names.METRICS, lambda where: documents.load_metrics(content(names.METRICS), where))
    record = _parsed(run, names.SPLIT, lambda where: split.parse(content(names.SPLIT, split.MAX_SIZE), where))
    images = {name: _digests(record["images"], name) for name in SPLITS}
    for name in SPLITS:
        if not images[name]:
            raise BadData(f"{run.uri(names.SPLIT)}: not that of a run (no {name} images)")
    predictions = _parsed(
        run, names.PREDICTIONS, lambda _: _predictions(content(names.PREDICTIONS, split.MAX_SIZE), len(images["test"]))
    )
    return _Claim(
        model=content(names.MODEL, model_file.MAX_SIZE),
        device=about["device"]["name"],
        threads=about.get("threads"),
        archive=about["archive"]["directory_sha256"],
        image_size=about["settings"]["image_size"],
        batch_size=about["settings"]["batch_size"],
        train=_train_claim(metrics["train"]) if documents.evaluates_train(metrics) else None,
        test={name: metrics["test"][name] for name in TEST_COUNTS},
        images=images,
        used=frozenset(image["member"] for part in (record["images"], record["quarantined"]) for image in part),
        predictions=predictions,
    )


def _parsed(run: Store, name: str, parse: Callable[[str], T]) -> T:
    """Return what `parse` makes of the artifact at the address that it is given. Raises BadData for ValueError."""
    where = run.uri(name)
    try:
        return parse(where)
    except ValueError as reason:
        raise BadData(f"{where}: not that of a run ({reason})") from None


def _predictions(data: bytes, count: int) -> dict[str, tuple[str, float]]:
    """Return predictions.csv as image → predicted label, probability of a dog. Raises ValueError.

    Each line is read for itself: a quote that is never closed would make all the rest one text.
    """
    head, *lines = data.decode().split("\n", count + 2)
    if head != ",".join(tables.PREDICTIONS_COLUMNS) or not 0 < len(lines) <= count + 1 or lines[-1]:
        raise ValueError(f"not {count:,} lines under its head")
    found: dict[str, tuple[str, float]] = {}
    try:
        for line in lines[:-1]:
            image, _, probability, predicted = next(csv.reader([line]))
            if predicted not in CLASSES or image in found:
                raise ValueError(f"{reprlib.repr(image)}: another label, or a second line")
            # A model that diverged predicts NaN.
            dog = float(probability)
            if not 0 <= dog <= 1 and not math.isnan(dog):
                raise ValueError(f"{reprlib.repr(probability)} is no probability")
            found[image] = (predicted, dog)
    except csv.Error as reason:
        raise ValueError(str(reason)) from None
    return found


def _train_claim(metrics: Mapping[str, Any]) -> dict[str, Any]:
    return {**{name: metrics[name] for name in TRAIN_COUNTS}, "loss": float(metrics["loss"])}


def _digests(images: Iterable[Mapping[str, Any]], name: str) -> dict[str, str]:
    """Return member → SHA-256 of the images of one split."""
    return {image["member"]: image["sha256"] for image in images if image["path"].startswith(f"{name}/")}


def _load_model(
    claim: _Claim, uri: str, workspace: VolumePath, log: Log, interruption: Interruption
) -> tuple[Evaluate, str]:
    """Return a function that evaluates the run's model on image files, and the device that does it."""
    with tempfile.TemporaryDirectory(prefix="catsdogs-") as private:
        # Keras takes a path alone.
        path = Path(private, names.MODEL)
        volume.write(path, claim.model, durable=False)
        file = model_file.inspect(path, uri)
        interruption.check()
        # Imported only now: verifying files does not need TensorFlow.
        from catsdogs.training import devices

        device = devices.start(require_gpu=False, threads=claim.threads).name
        from catsdogs.training import evaluation

        model = evaluation.load(file)
    if model.input_shape[1] != claim.image_size:
        raise BadData(f"{uri}: takes images of {model.input_shape[1]} pixels, its run had {claim.image_size}")

    def evaluate(paths: Sequence[AnyPath]) -> list[Prediction]:
        # In the run's batches: another number of images at once may round otherwise.
        images = DataLoader.of(
            paths, batch_size=claim.batch_size, image_size=claim.image_size, seed=0, shuffled=False,
            scratch=workspace, max_bytes=0,
        )  # fmt: skip
        return evaluation.predict(model, images, workspace, log, interruption)

    return evaluate, device


def _fetch(
    archive: Archive, digests: Mapping[str, str], name: str, workspace: VolumePath, interruption: Interruption
) -> list[VolumePath]:
    """Return a split's images from the archive (member → SHA-256), as files in the order in which the run had them.

    Raises BadData if one of them is not the archive's.
    """
    # A run of an older version may have used what is excluded today.
    excluded = [member for member, _ in archive.unusable]
    members = {member.name: member for member in [*archive.images.values(), *excluded]}
    for member_name in digests:
        if member_name not in members:
            raise BadData(f"{archive.uri}: has no {member_name}, which is one of the run's {name} images")

    def write(member: Member, data: bytes) -> VolumePath:
        if hashlib.sha256(data).hexdigest() != digests[member.name]:
            raise BadData(f"{archive.uri}: its {member.name} is not the one of the run's {name} images")
        # Not the path that the run's file gives: it may lead anywhere.
        path = workspace / path_of((member.label, member.number), name)
        volume.write(path, data, durable=False)
        return path

    paths = []
    for member, path in fetch(archive.zip, [members[name] for name in digests], write, interruption):
        if isinstance(path, Broken):
            raise BadData(f"{archive.uri}: {member.name}: {path}; download the archive again")
        paths.append(path)
    return sorted(paths)


def _unused(archive: Archive, claim: _Claim, count: int) -> list[Member]:
    """Return `count` members of each class that the run has not used, nor a copy of.

    Raises BadData if there are fewer.
    """
    used = {member.content for member in archive.images.values() if member.name in claim.used}
    chosen = []
    for label in CLASSES:
        members = [archive.images[label, number] for number in archive.numbers(label)]
        unused = [member for member in members if member.name not in claim.used and member.content not in used]
        if len(unused) < count:
            raise BadData(
                f"{archive.uri}: has {len(unused)} {label}s that the run has not used; lower --further-per-class"
            )
        chosen += unused[:count]
    return chosen


def _fetch_held_out(
    archive: Archive, members: Sequence[Member], workspace: VolumePath, interruption: Interruption
) -> list[VolumePath]:
    """Return those that are images, as files, cats first. Raises BadData unless there are some of each class."""

    def write(member: Member, data: bytes) -> VolumePath | None:
        try:
            check(data)
        except NotAnImage:
            return None
        path = workspace / path_of((member.label, member.number), HELD_OUT)
        volume.write(path, data, durable=False)
        return path

    fetched = [path for _, path in fetch(archive.zip, members, write, interruption)]
    paths = sorted(path for path in fetched if isinstance(path, VolumePath))
    if len({path.parent for path in paths}) < len(CLASSES):
        raise BadData(f"{archive.uri}: its held-out images of one class are not images; raise --further-per-class")
    return paths


def _compare_test(uri: str, claim: _Claim, predictions: Sequence[Prediction], device: str, log: Log) -> None:
    """Compare every prediction on the test images with the run's. Raises BadData if a count or a label differs."""
    now = {prediction.image: (prediction.predicted, prediction.probability) for prediction in predictions}
    if now.keys() != claim.predictions.keys():
        raise BadData(f"{uri}: {names.PREDICTIONS} is not about the test images of {names.SPLIT}; train it again")
    pairs = [(now[image], claim.predictions[image]) for image in now]
    # A model that diverged predicts NaN, in the run and now.
    difference = max((abs(a - b) for (_, a), (_, b) in pairs if not (math.isnan(a) and math.isnan(b))), default=0.0)
    others = sum(a != b for (a, _), (b, _) in pairs)
    result = prediction_metrics(predictions)
    if others or any(result[name] != claim.test[name] for name in TEST_COUNTS):
        raise BadData(
            f"{uri}: evaluated again on {device}, {result['correct']} of {result['images']} test images are right;"
            f" the run, made on {claim.device}, claims {claim.test['correct']} of {claim.test['images']};"
            f" {others} predictions differ, probabilities by {difference:.1e} at most; do not rely on its accuracy"
        )
    log.emit(
        Reproduced(
            device=device,
            correct=result["correct"],
            images=result["images"],
            accuracy=result["accuracy"],
            difference=difference,
        )
    )


def _compare_train(
    uri: str, claim: _Claim, claimed: Mapping[str, Any], predictions: Sequence[Prediction], device: str, log: Log
) -> None:
    """Compare the metrics on the training images with the run's. Raises BadData if they differ."""
    result = prediction_metrics(predictions)
    if any(result[name] != claimed[name] for name in TRAIN_COUNTS) or not _close(result["loss"], claimed["loss"]):
        raise BadData(
            f"{uri}: evaluated again on {device}, {result['correct']} of {result['images']} training images are right,"
            f" loss {result['loss']:.4f}; the run, made on {claim.device}, claims {claimed['correct']} of"
            f" {claimed['images']}, loss {claimed['loss']:.4f}; do not rely on its accuracy"
        )
    log.emit(
        TrainReproduced(
            device=device,
            correct=result["correct"],
            images=result["images"],
            accuracy=result["accuracy"],
            loss=result["loss"],
        )
    )


def _close(loss: float, claimed: float) -> bool:
    both_nan = math.isnan(loss) and math.isnan(claimed)
    return both_nan or math.isclose(loss, claimed, rel_tol=LOSS_TOLERANCE, abs_tol=LOSS_TOLERANCE)
