"""The verdicts of all workers of a run, each of which has seen its shard of the test images, brought together."""

from typing import TYPE_CHECKING

from job import page, volume
from job.gang import Gang
from job.split import Split

if TYPE_CHECKING:
    from job.evaluation import Prediction


def of_all(predictions: "list[Prediction]", prepared: Split, gang: Gang) -> "list[Prediction]":
    """All workers' predictions, in the order of a single worker's. Every worker must call it.

    Worker 0 also gets the images that its report will show. Raises Interrupted, VolumeFailed.
    """
    if gang.size == 1:
        return predictions
    from job.evaluation import Prediction

    found = {row[0]: Prediction(*row) for theirs in gang.gathered(predictions) for row in theirs}
    images = [path.relative_to(prepared.directory).as_posix() for path in prepared.paths("test")]
    everyone = [found[image] for image in images]
    for mistake in page.worst_mistakes(everyone):
        path, owner = prepared.directory / mistake.image, prepared.owners[mistake.image]
        with volume.failures(path):
            data = gang.gather(path.read_bytes() if gang.worker == owner else b"")[owner]
        if gang.worker == 0 != owner:
            volume.write(path, data, durable=False)
    return everyone
