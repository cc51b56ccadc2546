"""The predictions of all workers of a run, each of which evaluates its shard of the test images, gathered."""

import hashlib

from catsdogs.data.labels import CLASSES
from catsdogs.data.split import Split
from catsdogs.results import report
from catsdogs.runtime.errors import Interrupted
from catsdogs.storage import volume
from catsdogs.training.predictions import Prediction
from catsdogs.workers.group import WorkerGroup


def of_all(predictions: list[Prediction], prepared: Split, group: WorkerGroup) -> list[Prediction]:
    """Return all workers' predictions, in the order of a single worker's. Every worker must call it.

    Worker 0 also gets the images that its report will show. Raises Interrupted, VolumeError.
    """
    if group.size == 1:
        return predictions
    gathered = group.gather_json(predictions, list[Prediction])
    by_image = {prediction.image: prediction for part in gathered for prediction in part}
    images = [volume.relative(path, prepared.directory) for path in prepared.paths("test")]
    everything = [by_image[image] for image in images if image in by_image]
    classes = {label for prediction in everything for label in (prediction.label, prediction.predicted)}
    if len(everything) < len(images) or not classes <= set(CLASSES):
        raise Interrupted("the workers' predictions are not those of the test images; run the same command again")
    digests = {record.path: record.sha256 for record in prepared.images}
    for mistake in report.worst_mistakes(everything):
        _fetch(mistake.image, digests[mistake.image], prepared, group)
    return everything


def _fetch(image: str, digest: str, prepared: Split, group: WorkerGroup) -> None:
    """Write an image of another worker's shard to worker 0's volume. Raises Interrupted, VolumeError."""
    path, owner = prepared.directory / image, prepared.owners[image]
    with volume.failures(path):
        data = group.gather(volume.contents(path) if group.worker == owner else b"")[owner]
    if group.worker == 0 != owner:
        if hashlib.sha256(data).hexdigest() != digest:
            raise Interrupted(f"worker {owner} sent {image}, but not as split.json has it; run the same command again")
        volume.write(path, data, durable=False)
