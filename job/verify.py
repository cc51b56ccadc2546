"""Whether a published run is what it says: its files against its manifest, its accuracy against the archive."""

import contextlib
import csv
import hashlib
import json
import math
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from job import publish, volume
from job.archive import open_archive, unpack
from job.batches import Generator
from job.errors import BadData
from job.events import Log
from job.interruption import Interruption
from job.split import MARKER, path_of
from job.stores import Access, Store, open_store
from job.zips import Broken, Member, fetch

if TYPE_CHECKING:  # imports TensorFlow
    from job.evaluation import Prediction

COUNTS = ("images", "correct", "accuracy", "confusion")
"""What a run claims of its test images that must come out exactly; the loss differs with the processor."""


def verify(address: str, access: Access, log: Log, interruption: Interruption) -> None:
    """Reads every artifact of the run at `address` through, and says of each whether it is the manifest's.

    Raises NotFound if it is not published, BadData when all were read if one differs or is missing, Interrupted.
    """
    run = open_store(address, access)
    document, entries = publish.manifest(run)
    problems = []
    for entry in entries:
        interruption.check()
        try:
            publish.check(run, entry)
            log.say("artifact", name=entry.name, size=entry.size)
        except BadData as error:
            problems.append(str(error))
    listed = {entry.name for entry in entries}
    problems += [f"{run.uri(name)}: not in the manifest" for name in publish.ARTIFACTS if name not in listed]
    for problem in problems:
        log.say("artifact-differs", reason=problem)
    if problems:
        others = f" (and {len(problems) - 1} more)" if problems[1:] else ""
        raise BadData(problems[0] + others)
    log.say("verified", run_id=document.get("run_id"), artifacts=len(entries))


def verify_accuracy(
    address: str, archive: str, directory: Path, access: Access, log: Log, interruption: Interruption
) -> None:
    """Evaluates the run's model again on the archive's test images, and compares that with what the run claims.

    Works in `directory`/verify, and leaves nothing there; an inner zip that has to be unpacked stays in
    `directory`/archive. Raises BadData if the archive is another one or the model gives another verdict on any image,
    and what reading and writing raise.
    """
    run = open_store(address, access)
    claim = _Claim(run)
    found = unpack(open_archive(archive, access), directory / "archive", log, interruption)
    if found.identity["directory_sha256"] != claim.archive_sha256:
        raise BadData(f"{archive}: not the archive that {address} was made from; give that one as --archive")
    members = {member.name: member for member in found.images.values()}
    with _workspace(directory / "verify") as workspace:
        paths = []
        wanted: dict[str, str] = {}
        for path, member_name, digest in claim.images:
            member = members.get(member_name)
            # Made anew from class and number: nothing is written where a run's file says.
            if member is None or path_of((member.label, member.number), "test") != path:
                raise BadData(f"{run.uri(MARKER)}: {member_name!r} is no image of {archive}; check the archive")
            wanted[member_name] = digest
            paths.append(workspace / path)

        def write(member: Member, data: bytes) -> None:
            if hashlib.sha256(data).hexdigest() != wanted[member.name]:
                raise BadData(f"{archive}: {member.name} is not the image that the run was tested on")
            volume.write(workspace / path_of((member.label, member.number), "test"), data, durable=False)

        for member, result in fetch(found.zip, [members[name] for name in wanted], write, interruption):
            if isinstance(result, Broken):
                raise BadData(f"{archive}: {member.name}: {result}; get the archive anew")
        model_file = workspace / "model.keras"
        volume.write(model_file, claim.model, durable=False)
        from job import devices

        device = devices.start(require_gpu=False).name
        from job import evaluation

        test = Generator.of(
            sorted(paths), batch_size=claim.batch_size, image_size=claim.image_size, seed=0, shuffled=False,
            scratch=workspace, most_bytes=0,
        )  # fmt: skip
        model = evaluation.load(model_file, run.uri("model.keras"))
        predictions = evaluation.predict(model, test, workspace, log, interruption)
        figures = evaluation.figures(predictions)
    claim.compare(predictions, figures, device)
    log.say(
        "reproduced", device=device, correct=figures["correct"], images=figures["images"], accuracy=figures["accuracy"],
        difference=claim.largest_difference(predictions),
    )  # fmt: skip
