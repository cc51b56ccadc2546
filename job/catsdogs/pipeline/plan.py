"""What `run` would do, found out from the archive's directory alone, and nothing done."""

from typing import Any

from catsdogs.config.extras import FORMATS
from catsdogs.config.settings import Settings
from catsdogs.data.archive import open_archive
from catsdogs.data.labels import CLASSES, SPLITS
from catsdogs.data.split import MARKER, assign, split_id
from catsdogs.data.zip_reader import ranges
from catsdogs.results import names, publish
from catsdogs.runtime.formatting import size_text
from catsdogs.storage.store import StorageOptions, open_store

MAX_PATIENCE = 10.0
"""Seconds of waiting for a storage that fails: who asks sits before it."""


def plan(settings: Settings) -> dict[str, Any]:
    """The plan as data. Raises what `run` would raise before it fetches anything."""
    storage_options = StorageOptions(settings.addressing_style, min(settings.storage_timeout, MAX_PATIENCE))
    output = open_store(settings.result, storage_options)
    published = publish.is_published(output, settings.model_settings(), settings.export)
    archive = open_archive(settings.archive, storage_options)
    directory = settings.volume / "splits" / split_id(archive, settings.counts)
    steps = {name: -(-len(CLASSES) * count // settings.batch_size) for name, count in settings.counts._asdict().items()}
    if archive.packed is None:
        places = assign(archive.uri, {label: archive.numbers(label) for label in CLASSES}, settings.counts)
        members = [archive.images[image] for image in places]
        fetch: dict[str, Any] = {
            "images": len(members),
            "bytes": sum(group[-1].stop - group[0].start for group in ranges(members)),
            "requests": len(ranges(members)),
        }
    else:
        fetch = {
            "unpack": archive.packed.name,
            "bytes": archive.packed.packed,
            "unpacked_bytes": archive.packed.size,
        }
    exported = [FORMATS[name] for name in settings.export]
    return {
        "run_id": settings.run_id,
        "published": published,
        "archive": {**archive.identity, **{f"{label}s": len(archive.numbers(label)) for label in CLASSES}},
        "fetch": fetch,
        "split": {
            "directory": str(directory),
            "on_volume": (directory / MARKER).exists(),
            **{name: len(CLASSES) * count for name, count in settings.counts._asdict().items()},
        },
        "train": {
            **settings.model_settings(),
            "steps_per_epoch": steps["train"],
            "validation_steps": steps["validation"],
        },
        "write": {"uri": settings.result, "artifacts": [*names.ARTIFACTS, *exported, names.MANIFEST]},
    }


def text_of(plan: dict[str, Any]) -> str:
    """A line for each part of the plan."""
    archive, fetch, split, train, write = (plan[part] for part in ("archive", "fetch", "split", "train", "write"))
    if "unpack" in fetch:
        content = f"its images lie in {fetch['unpack']}, compressed"
        moved = (
            f"{size_text(fetch['bytes'])}: {fetch['unpack']} is streamed once to the volume,"
            f" where it takes {size_text(fetch['unpacked_bytes'])}"
        )
    else:
        content = f"{archive['cats']:,} cats, {archive['dogs']:,} dogs"
        moved = f"{size_text(fetch['bytes'])}: {fetch['images']:,} images in {fetch['requests']:,} ranges"
    if split["on_volume"]:
        moved = "nothing, if the split on the volume proves whole"
    lines = {
        "run": f"{plan['run_id']}, {'published: nothing to do' if plan['published'] else 'not published yet'}",
        "archive": f"{archive['uri']}: {size_text(archive['size'])}, {content}",
        "fetch": moved,
        "split": f"{split['directory']}: " + ", ".join(f"{split[name]:,} {name}" for name in SPLITS),
        "train": (
            f"{train['recipe_name']}: {train['epochs']} epochs of {train['steps_per_epoch']} steps and"
            f" {train['validation_steps']} to validate, batches of {train['batch_size']},"
            f" images {train['image_size']}x{train['image_size']},"
            f" learning rate {train['learning_rate']:g}, seed {train['seed']}"
        ),
        "write": f"{write['uri']}/: {', '.join(write['artifacts'])}",
    }
    return "\n".join(f"{name:<9}{line}" for name, line in lines.items())
