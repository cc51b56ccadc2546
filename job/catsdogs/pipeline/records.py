"""What a run's folder on the volume says about the run: its settings, and the split that was prepared for it.

    work/RUN_ID/settings.json   the settings that decide the model
    work/RUN_ID/prepared.json   the id of the split; written last, once the split is complete

Settings bind a run from the moment when something of it exists: a complete split that was prepared for it, a
checkpoint, artifacts, or its claim in the store (`publish.claim`). A start that fails before that, such as on a wrong
archive, binds nothing.
"""

import re
from collections.abc import Mapping

from catsdogs.runtime.errors import ConfigError, VolumeError
from catsdogs.storage import document, volume
from catsdogs.storage.volume import AnyPath

SETTINGS = "settings.json"
PREPARED = "prepared.json"
FORMAT = 1
"""Of both files. Format 0, without a number, is the same otherwise."""
_SPLIT = "archive contents"
_MADE = (PREPARED, "checkpoint", "artifacts")
"""Of these, each is made under the settings, and binds the run to them."""


def check_settings(directory: AnyPath, settings: Mapping[str, object]) -> None:
    """Check that what exists of the run in `directory` was made with these settings.

    Raises ConfigError if it was made with others, or by a newer version, VolumeError if its record is damaged.
    """
    with volume.failures(directory):
        exists = any(volume.exists(directory / name) for name in _MADE)
    if exists:
        _compare(directory / SETTINGS, settings)


def check_split(directory: AnyPath, split_id: str) -> None:
    """Check that no other split was prepared for the run in `directory`. Raises what `check_settings` raises."""
    _compare(directory / PREPARED, {_SPLIT: split_id})


def record(directory: AnyPath, settings: Mapping[str, object], split_id: str) -> None:
    """Record a complete split, which binds the run to these settings. Both must have been checked. Raises VolumeError.

    Existing records stay as they are.
    """
    if _read(directory / SETTINGS) is None or _read(directory / PREPARED) is None:
        volume.write(directory / SETTINGS, document.dump(settings, FORMAT))
        volume.write(directory / PREPARED, document.dump({_SPLIT: split_id}, FORMAT))


def prepared_split(directory: AnyPath) -> str | None:
    """Return the id of the split that was prepared for the run in `directory`; None if there is none.

    Raises what `check_settings` raises.
    """
    path = directory / PREPARED
    recorded = _read(path)
    if recorded is None:
        return None
    split_id = recorded.get(_SPLIT)
    # It becomes part of a path.
    if not isinstance(split_id, str) or not re.fullmatch(r"[\w-]+", split_id):
        raise _damaged(path)
    return split_id


def _compare(path: AnyPath, expected: Mapping[str, object]) -> None:
    recorded = _read(path)
    if recorded is None:
        return
    for name, value in expected.items():
        if recorded.get(name) != value:
            raise ConfigError(
                f"{path.parent}: belongs to a run with {name} {recorded.get(name)!r} instead of {value!r};"
                " choose another --run-id, or remove that folder"
            )


def _read(path: AnyPath) -> Mapping[str, object] | None:
    data = volume.read(path)
    if data is None:
        return None
    try:
        return document.load(data, FORMAT, str(path))
    except ValueError:
        raise _damaged(path) from None


def _damaged(path: AnyPath) -> VolumeError:
    return VolumeError(f"{path}: damaged; remove {path.parent} to start the run again")
