"""The verdicts of all workers of a run, each of which has seen its shard of the test images, brought together."""

from catsdogs.data.split import Split
from catsdogs.results import report
from catsdogs.storage import volume
from catsdogs.training.predictions import Prediction
from catsdogs.workers.group import WorkerGroup


def of_all(predictions: list[Prediction], prepared: Split, group: WorkerGroup) -> list[Prediction]:
    """All workers' predictions, in the order of a single worker's. Every worker must call it.

    Worker 0 also gets the images that its report will show. Raises Interrupted, VolumeError.
    """
    if group.size == 1:
        return predictions
    found = {row[0]: Prediction(*row) for theirs in group.gathered(predictions) for row in theirs}
    images = [path.relative_to(prepared.directory).as_posix() for path in prepared.paths("test")]
    everyone = [found[image] for image in images]
    for mistake in report.worst_mistakes(everyone):
        path, owner = prepared.directory / mistake.image, prepared.owners[mistake.image]
        with volume.failures(path):
            data = group.gather(path.read_bytes() if group.worker == owner else b"")[owner]
        if group.worker == 0 != owner:
            volume.write(path, data, durable=False)
    return everyone
