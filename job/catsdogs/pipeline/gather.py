"""The predictions of all workers of a run, each of which evaluates its shard of the test images, gathered."""

import hashlib

from catsdogs.data.split import Split
from catsdogs.results import report
from catsdogs.results.documents import SplitMetrics
from catsdogs.results.metrics import Shard, combined
from catsdogs.runtime.errors import Interrupted
from catsdogs.storage import volume
from catsdogs.training.predictions import Prediction, predicted_label
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
    if len(everything) < len(images) or not all(map(_is_possible, everything)):
        raise Interrupted("the workers' predictions are not those of the test images; run the same command again")
    digests = {record.path: record.sha256 for record in prepared.images}
    for mistake in report.worst_mistakes(everything):
        _fetch(mistake.image, digests[mistake.image], prepared, group)
    return everything


def _is_possible(prediction: Prediction) -> bool:
    """Whether the labels are those of the image's place and of the probability."""
    label = prediction.image.rpartition("/")[2].partition(".")[0]
    return (
        prediction.label == label
        # That of a model that diverged is not a number.
        and not prediction.probability < 0
        and not prediction.probability > 1
        and prediction.predicted == predicted_label(prediction.probability)
    )


def metrics_of_all(predictions: list[Prediction], images: int, group: WorkerGroup) -> SplitMetrics:
    """Return the metrics of all workers' predictions, for `images` images together. Every worker must call it.

    Raises Interrupted.
    """
    shards = group.gather_json(Shard.of(predictions), Shard)
    # The loss of a model that diverged is not a number.
    possible = all(0 <= shard.correct <= shard.images and not shard.loss < 0 for shard in shards)
    if not possible or sum(shard.images for shard in shards) != images:
        raise Interrupted("the workers' metrics are not those of the training images; run the same command again")
    return combined(shards)


def _fetch(image: str, digest: str, prepared: Split, group: WorkerGroup) -> None:
    """Write an image of another worker's shard to worker 0's volume. Raises Interrupted, VolumeError."""
    path, owner = prepared.directory / image, prepared.owners[image]
    with volume.failures(path):
        data = group.gather(volume.contents(path) if group.worker == owner else b"")[owner]
    if group.worker == 0 != owner:
        if hashlib.sha256(data).hexdigest() != digest:
            raise Interrupted(f"worker {owner} sent {image}, but not as split.json has it; run the same command again")
        volume.write(path, data, durable=False)
