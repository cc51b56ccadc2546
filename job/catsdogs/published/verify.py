"""Whether a published run is what it says: its files against its manifest, its accuracy against the archive."""

import contextlib
import csv
import hashlib
import json
import math
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from catsdogs.data.archive import Archive, open_archive, unpack
from catsdogs.data.assignment import path_of
from catsdogs.data.images import NotAnImage, decode
from catsdogs.data.labels import CLASSES
from catsdogs.data.loader import DataLoader
from catsdogs.data.split import MARKER, parse
from catsdogs.data.zip_reader import Broken, Member, fetch
from catsdogs.results import publish
from catsdogs.results.metrics import wilson_interval
from catsdogs.runtime.errors import BadData
from catsdogs.runtime.events import ArtifactDiffers, ArtifactVerified, HeldOutEvaluated, Reproduced, RunVerified
from catsdogs.runtime.log import Log
from catsdogs.runtime.signals import Interruption
from catsdogs.storage import volume
from catsdogs.storage.store import StorageOptions, Store, open_store
from catsdogs.training.predictions import Prediction, prediction_metrics

COUNTS = ("images", "correct", "accuracy", "confusion")
"""What a run claims of its test images that must come out exactly; the loss differs with the processor."""


def verify(address: str, storage_options: StorageOptions, log: Log, interruption: Interruption) -> None:
    """Reads every artifact of the run at `address` through, and says of each whether it is the manifest's.

    Raises NotFound if it is not published, BadData when all were read if one differs or is missing, Interrupted.
    """
    run = open_store(address, storage_options)
    document, entries = publish.manifest(run)
    problems = []
    for entry in entries:
        interruption.check()
        try:
            publish.check(run, entry)
            log.emit(ArtifactVerified(artifact=entry.name, size=entry.size))
        except BadData as error:
            problems.append(str(error))
    listed = {entry.name for entry in entries}
    problems += [f"{run.uri(name)}: not in the manifest" for name in publish.ARTIFACTS if name not in listed]
    for problem in problems:
        log.emit(ArtifactDiffers(reason=problem))
    if problems:
        others = f" (and {len(problems) - 1} more)" if problems[1:] else ""
        raise BadData(problems[0] + others)
    log.emit(RunVerified(run_id=document.get("run_id"), artifacts=len(entries)))


def verify_accuracy(
    address: str,
    archive: str,
    further: int,
    directory: Path,
    storage_options: StorageOptions,
    log: Log,
    interruption: Interruption,
) -> None:
    """Evaluates the run's model again on the archive's test images, and compares that with what the run claims.
    Then says how it does on so many `further` images of each class, if any: those of the lowest numbers that the run
    has not used.

    Works in `directory`/verify, and leaves nothing there; an inner zip that has to be unpacked stays in
    `directory`/archive. Raises BadData if the archive is another one, if the model comes to another verdict on any
    image, or if there are not so many further ones, and what reading and writing raise.
    """
    run = open_store(address, storage_options)
    claim = _claim_of(run)
    found = unpack(open_archive(archive, storage_options), directory / "archive", log, interruption)
    if found.identity["directory_sha256"] != claim.archive:
        raise BadData(f"{archive}: not the archive that {run.uri('')} was made from; name that one")
    more = _further(found, claim, further)
    with _workspace(directory / "verify") as workspace:
        paths = _fetch(found, claim.images, workspace, interruption)
        model_file = workspace / publish.MODEL
        volume.write(model_file, claim.model, durable=False)
        interruption.check()
        # Imported only now: whoever verifies files alone never waits for TensorFlow.
        from catsdogs.training import devices

        device = devices.start(require_gpu=False).name
        from catsdogs.training import evaluation

        model = evaluation.load(model_file, run.uri(publish.MODEL))

        def predictions_on(paths: Sequence[Path]) -> list[Prediction]:
            # In the batches of the run: another number of images at once may round otherwise.
            images = DataLoader.of(
                paths, batch_size=claim.batch_size, image_size=claim.image_size, seed=0, shuffled=False,
                scratch=workspace, most_bytes=0,
            )  # fmt: skip
            return evaluation.predict(model, images, workspace, log, interruption)

        predictions = predictions_on(paths)
        figures = prediction_metrics(predictions)
        difference = _compare(run.uri(""), claim, predictions, figures, device)
        log.emit(
            Reproduced(
                device=device,
                correct=figures["correct"],
                images=figures["images"],
                accuracy=figures["accuracy"],
                difference=difference,
            )
        )
        if more:
            sound = _fetch_further(found, more, workspace, interruption)
            figures = prediction_metrics(predictions_on(sound))
            low, high = wilson_interval(figures["correct"], figures["images"])
            log.emit(HeldOutEvaluated(**figures, low=low, high=high, broken=len(more) - len(sound)))


@dataclass(frozen=True)
class _Claim:
    """What a published run says of itself, each part checked by the manifest's SHA-256."""

    model: bytes
    device: str
    archive: str
    """Its directory's SHA-256."""
    image_size: int
    batch_size: int
    test: dict[str, Any]
    """Of metrics.json."""
    images: list[dict[str, Any]]
    """Those of split.json that test."""
    used: frozenset[str]
    """The members that it has looked at: all of split.json, those left out among them."""
    predictions: dict[str, tuple[str, float]]
    """Image → verdict, probability of a dog."""


def _claim_of(run: Store) -> _Claim:
    """Raises NotFound, or BadData if an artifact is not the manifest's or not what a run writes."""
    entries = {entry.name: entry for entry in publish.manifest(run)[1]}
    try:
        names = (publish.MODEL, publish.RUN, publish.METRICS, MARKER, publish.PREDICTIONS)
        model, about, metrics, marker, predictions = (publish.contents(run, entries[name]) for name in names)
        about, metrics = map(json.loads, (about, metrics))
        split = parse(marker, run.uri(MARKER))
        return _Claim(
            model=model,
            device=about["device"]["name"],
            archive=about["archive"]["directory_sha256"],
            image_size=int(about["settings"]["image_size"]),
            batch_size=int(about["settings"]["batch_size"]),
            test={name: metrics["test"][name] for name in COUNTS},
            images=[image for image in split["images"] if image["path"].startswith("test/")],
            used=frozenset(one["member"] for one in split["images"] + split["quarantined"]),
            predictions={
                row["image"]: (row["verdict"], float(row["probability"]))
                for row in csv.DictReader(predictions.decode().splitlines())
            },
        )
    except (ValueError, KeyError, TypeError):
        raise BadData(f"{run.uri('')}: its files are not those of a run") from None


@contextlib.contextmanager
def _workspace(directory: Path) -> Iterator[Path]:
    """An empty folder for this process alone; what a killed one left there goes first. Raises VolumeError."""
    with volume.lock(directory):
        workspace = directory / "images"
        shutil.rmtree(workspace, ignore_errors=True)
        try:
            yield workspace
        finally:
            shutil.rmtree(directory, ignore_errors=True)


def _fetch(
    archive: Archive, images: Iterable[Mapping[str, Any]], workspace: Path, interruption: Interruption
) -> list[Path]:
    """The run's test images from the archive, as files in the order in which the run evaluated them.

    Raises BadData if one of them is not the archive's.
    """
    members = {member.name: member for member in archive.images.values()}
    digests = {image["member"]: image["sha256"] for image in images}
    for name in digests:
        if name not in members:
            raise BadData(f"{archive.uri}: has no {name}, which the run was tested on")

    def write(member: Member, data: bytes) -> Path:
        if hashlib.sha256(data).hexdigest() != digests[member.name]:
            raise BadData(f"{archive.uri}: its {member.name} is not the one that the run was tested on")
        # Its name is made anew: nothing is written where a run's file says.
        path = workspace / path_of((member.label, member.number), "test")
        volume.write(path, data, durable=False)
        return path

    paths = []
    for member, path in fetch(archive.zip, [members[name] for name in digests], write, interruption):
        if isinstance(path, Broken):
            raise BadData(f"{archive.uri}: {member.name}: {path}; get the archive anew")
        paths.append(path)
    return sorted(paths)


def _further(archive: Archive, claim: _Claim, count: int) -> list[Member]:
    """So many of each class that the run has not used, of the lowest numbers. Raises BadData if there are fewer."""
    chosen = []
    for label in CLASSES:
        members = [archive.images[label, number] for number in archive.numbers(label)]
        unused = [member for member in members if member.name not in claim.used]
        if len(unused) < count:
            raise BadData(
                f"{archive.uri}: has {len(unused)} {label}s that the run has not used; lower --further-per-class"
            )
        chosen += unused[:count]
    return chosen


def _fetch_further(
    archive: Archive, members: Sequence[Member], workspace: Path, interruption: Interruption
) -> list[Path]:
    """Those that are pictures, as files, cats first. Raises BadData unless there are some of each class."""

    def write(member: Member, data: bytes) -> Path | None:
        try:
            decode(data)
        except NotAnImage:
            return None
        path = workspace / path_of((member.label, member.number), "further")
        volume.write(path, data, durable=False)
        return path

    fetched = [path for _, path in fetch(archive.zip, members, write, interruption)]
    paths = sorted(path for path in fetched if isinstance(path, Path))
    if len({path.parent for path in paths}) < len(CLASSES):
        raise BadData(f"{archive.uri}: its further images of one class are no pictures; raise --further-per-class")
    return paths


def _compare(
    uri: str, claim: _Claim, predictions: Sequence[Prediction], figures: Mapping[str, Any], device: str
) -> float:
    """The largest difference between a probability and the one that the run claims. Raises BadData if a count or a
    verdict is another."""
    now = {one.image: (one.predicted, one.probability) for one in predictions}
    if now.keys() != claim.predictions.keys():
        raise BadData(f"{uri}: {publish.PREDICTIONS} is not about the test images of {MARKER}; train it anew")
    pairs = [(now[image], claim.predictions[image]) for image in now]
    # A model that diverged says nan, then as now.
    difference = max((abs(a - b) for (_, a), (_, b) in pairs if not (math.isnan(a) and math.isnan(b))), default=0.0)
    others = sum(a != b for (a, _), (b, _) in pairs)
    if others or any(figures[name] != claim.test[name] for name in COUNTS):
        raise BadData(
            f"{uri}: evaluated again on {device}, {figures['correct']} of {figures['images']} test images are right;"
            f" the run, made on {claim.device}, claims {claim.test['correct']} of {claim.test['images']};"
            f" {others} verdicts differ, probabilities by {difference:.1e} at most; do not rely on its accuracy"
        )
    return difference
