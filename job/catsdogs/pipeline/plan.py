"""What `run` would do, from the archive's directory alone. Does none of it."""

from collections.abc import Mapping
from typing import Any, TypedDict, final

from catsdogs.config.extras import FORMATS
from catsdogs.config.settings import Settings
from catsdogs.data.archive import Archive, open_archive
from catsdogs.data.assignment import assign_apart
from catsdogs.data.labels import CLASSES, SPLITS
from catsdogs.data.split import MARKER, candidates, naming_zips, split_id
from catsdogs.data.zip_reader import ranges
from catsdogs.results import names, publish
from catsdogs.runtime.errors import printable
from catsdogs.runtime.formatting import count_text, size_text
from catsdogs.storage import volume
from catsdogs.storage.address import open_store
from catsdogs.storage.store import StorageOptions

MAX_EXAMPLES = 10
"""Names in the plan."""
MAX_STORAGE_TIMEOUT = 10.0
"""Seconds of retries while storage is unavailable: somebody waits for the answer."""


@final
class FetchedRanges(TypedDict):
    """Images that are read from the archive, several at once."""

    images: int
    bytes: int
    requests: int


class ExcludedImage(TypedDict):
    member: str
    reason: str


@final
class FetchedZip(TypedDict):
    """An inner zip that is unpacked to the volume."""

    unpack: str
    bytes: int
    unpacked_bytes: int


class Plan(TypedDict):
    """The plan as JSON has it."""

    run_id: str
    published: bool
    archive: dict[str, Any]
    """The archive's identity, its number of cats and dogs, and which images are excluded and which passed over."""
    fetch: FetchedRanges | FetchedZip
    split: dict[str, Any]
    """directory, on_volume, and the number of train, validation and test images."""
    train: dict[str, Any]
    """The settings that decide the model, steps_per_epoch and validation_steps."""
    write: dict[str, Any]
    """uri and artifacts."""


def plan(settings: Settings) -> Plan:
    """Return what `run` would do. Raises what `run` would raise before it fetches anything."""
    storage_options = StorageOptions(settings.addressing_style, min(settings.storage_timeout, MAX_STORAGE_TIMEOUT))
    output = open_store(settings.result, storage_options)
    published = publish.is_published(output, settings.model_settings(), settings.export)
    archive = open_archive(settings.archive, storage_options)
    fetch, excluded = _fetch(archive, settings)
    directory = settings.on_volume / "splits" / split_id(archive, settings.counts)
    with volume.failures(directory):
        on_volume = volume.exists(directory / MARKER)
    sizes = {name: len(CLASSES) * count for name, count in settings.counts._asdict().items()}
    exported = [FORMATS[name] for name in settings.export]
    return {
        "run_id": settings.run_id,
        "published": published,
        "archive": {
            **archive.identity,
            **{f"{label}s": len(archive.numbers(label)) for label in CLASSES},
            "excluded": {"count": len(excluded), "examples": excluded[:MAX_EXAMPLES]},
            "stray": {"count": len(archive.stray), "examples": archive.stray[:MAX_EXAMPLES]},
        },
        "fetch": fetch,
        "split": {"directory": str(directory), "on_volume": on_volume, **sizes},
        "train": {
            **settings.model_settings(),
            "steps_per_epoch": -(-sizes["train"] // settings.batch_size),
            "validation_steps": -(-sizes["validation"] // settings.batch_size),
        },
        "write": {"uri": settings.result, "artifacts": [*names.ARTIFACTS, *exported, names.MANIFEST]},
    }


def _fetch(archive: Archive, settings: Settings) -> tuple[FetchedRanges | FetchedZip, list[ExcludedImage]]:
    """Return what is fetched, and the images that the directory excludes. Raises BadData if there are too few."""
    if archive.packed is not None:
        unpacked: FetchedZip = {
            "unpack": archive.packed.name,
            "bytes": archive.packed.packed,
            "unpacked_bytes": archive.packed.size,
        }
        return unpacked, []
    numbers, contents = candidates(archive)
    with naming_zips(archive):
        places, copies = assign_apart(archive.uri, numbers, settings.counts, contents, archive.excluded())
    members = [archive.images[image] for image in places]
    requests = ranges(members)
    fetched: FetchedRanges = {
        "images": len(members),
        "bytes": sum(group[-1].stop - group[0].start for group in requests),
        "requests": len(requests),
    }
    excluded = [(member.name, reason) for member, reason in archive.unusable]
    excluded += [(archive.images[copy].name, reason) for copy, reason in copies.items()]
    return fetched, [{"member": name, "reason": reason} for name, reason in excluded]


def text_of(plan: Plan) -> str:
    """Return a line for each part of the plan."""
    archive, split, train, write = plan["archive"], plan["split"], plan["train"], plan["write"]
    content, fetched = _fetch_texts(plan)
    lines = {
        "run": f"{plan['run_id']}, {'published: nothing to do' if plan['published'] else 'not published yet'}",
        "archive": f"{archive['uri']}: {size_text(archive['size'])}, {content}",
        "ignore": _examples_text(archive["stray"], "beside the inner zip"),
        "exclude": _examples_text(archive["excluded"], "by what the directory says"),
        "fetch": "nothing, if the split on the volume is intact" if split["on_volume"] else fetched,
        "split": f"{split['directory']}: " + ", ".join(f"{split[name]:,} {name}" for name in SPLITS),
        "train": (
            f"{train['recipe_name']}: {count_text(train['epochs'], 'epoch')} of"
            f" {count_text(train['steps_per_epoch'], 'step')} and {train['validation_steps']:,} to validate,"
            f" batches of {train['batch_size']}, images {train['image_size']}x{train['image_size']},"
            f" learning rate {train['learning_rate']:g}, seed {train['seed']}"
        ),
        "write": f"{write['uri']}/: {', '.join(write['artifacts'])}",
    }
    return "\n".join(f"{name:<9}{printable(line)}" for name, line in lines.items() if line)


def _examples_text(images: Mapping[str, Any], which: str) -> str:
    """Return how many images there are, and the first one; nothing if there are none."""
    if not images["count"]:
        return ""
    first = images["examples"][0]
    example = first if isinstance(first, str) else f"{first['member']} {first['reason']}"
    return f"{count_text(images['count'], 'image')} {which}: {example}{', …' if images['count'] > 1 else ''}"


def _fetch_texts(plan: Plan) -> tuple[str, str]:
    """Return what the archive contains, and what is fetched of it."""
    archive, fetch = plan["archive"], plan["fetch"]
    if "unpack" in fetch:
        return f"its images lie in {fetch['unpack']}, compressed", (
            f"{size_text(fetch['bytes'])}: {fetch['unpack']} is streamed once to the volume,"
            f" where it takes {size_text(fetch['unpacked_bytes'])}"
        )
    return (
        f"{count_text(archive['cats'], 'cat')}, {count_text(archive['dogs'], 'dog')}",
        f"{size_text(fetch['bytes'])}: {count_text(fetch['images'], 'image')} in"
        f" {count_text(fetch['requests'], 'range')}",
    )
