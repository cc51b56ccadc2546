"""The `.keras` file: packed so that its bytes follow from the model alone, and looked into before Keras opens it.

Does not import TensorFlow. Keras writes three members, none of them compressed: metadata.json, config.json, and
model.weights.h5, whose arrays are not compressed either. So neither a member nor an array is larger than the file,
unless somebody has made it so; a zip that was packed again gets some room.
"""

import io
import json
import shutil
import zipfile
from pathlib import Path
from typing import IO, Any, NamedTuple

from catsdogs.runtime.errors import BadData
from catsdogs.storage import schema

MAX_SIZE = 1280 << 20
"""Bytes of a file, and of what it inflates to. The largest model that the options allow, `baseline` for images of 1,024
pixels, has 1,009 million."""
MAX_RATIO = 4
"""How many times its size a file inflates to. Weights that were trained are compressed by a tenth."""
FREE = 1 << 20
"""Bytes that are not held against a file."""
MAX_MEMBERS = 16
MAX_DIRECTORY = 1 << 16
"""Bytes after the last member."""
MAX_CONFIG = 4 << 20
MAX_OBJECTS = 10_000
"""Groups and arrays in the weights."""
MAX_DEPTH = 16
"""Groups within each other."""
METADATA, CONFIG, WEIGHTS = "metadata.json", "config.json", "model.weights.h5"
DATE_SAVED = "1980-01-01@00:00:00"
"""In place of the time of saving, as in the members' entries of the zip, which know no earlier year."""
_END, _END_ZIP64 = b"PK\x05\x06", b"PK\x06\x07"


class ModelFile(NamedTuple):
    """A `.keras` file within the bounds above."""

    path: Path
    uri: str
    """Where it came from."""
    config: dict[str, Any]
    weights: int
    """Bytes of all its arrays, at most."""


def pack(folder: Path, path: Path) -> None:
    """Write what Keras saved in `folder` (`zipped=False`) as a `.keras` file, the same bytes each time. Raises OSError.

    Keras' own has the time in it, twice, and lays out the weights by how much memory is free.
    """
    metadata = json.loads((folder / METADATA).read_bytes()) | {"date_saved": DATE_SAVED}
    with zipfile.ZipFile(path, "w") as packed:
        packed.writestr(_member(METADATA), json.dumps(metadata))
        for name in (CONFIG, WEIGHTS):
            member = _member(name)
            member.file_size = (folder / name).stat().st_size
            with (folder / name).open("rb") as source, packed.open(member, "w") as target:
                shutil.copyfileobj(source, target)


def _member(name: str) -> zipfile.ZipInfo:
    """Return an entry as Keras makes it, without the time."""
    member = zipfile.ZipInfo(name)
    # Otherwise of the system that it was made on.
    member.create_system = 3
    member.external_attr = 0o600 << 16
    return member


def inspect(path: Path, uri: str) -> ModelFile:
    """Look into a file that came from `uri`.

    Raises BadData for what is not a `.keras` file or exceeds the bounds above, and OSError.
    """
    try:
        with path.open("rb") as file:
            return ModelFile(path, uri, *check(file))
    except ValueError as reason:
        raise BadData(f"{uri}: no model that can be used: {reason}") from None


def check(file: IO[bytes]) -> tuple[dict[str, Any], int]:
    """Return the config in an opened file, and the bytes of its weights. Raises ValueError where `inspect` raises
    BadData, and OSError."""
    try:
        size = file.seek(0, io.SEEK_END)
        _check_directory(file, size)
        with zipfile.ZipFile(file) as opened:
            return _check_members(opened, size)
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError) as error:
        raise ValueError(str(error) or type(error).__name__) from None


def _check_directory(file: IO[bytes], size: int) -> None:
    """A directory of 1 GB would take 12 GB of memory before its first entry is looked at."""
    if size > MAX_SIZE:
        raise ValueError(f"larger than {MAX_SIZE:,} bytes")
    file.seek(max(0, size - MAX_DIRECTORY))
    tail = file.read()
    end = tail.rfind(_END)
    if end < 0 or len(tail) < end + 22:
        raise ValueError("no zip, or a truncated one")
    # zipfile believes a Zip64 record before the ordinary one; a file of less than 4 GiB needs none.
    if tail[max(0, end - 20) : end].startswith(_END_ZIP64):
        raise ValueError("a Zip64 file")
    claimed = int.from_bytes(tail[end + 12 : end + 16], "little")
    if claimed > MAX_DIRECTORY:
        raise ValueError(f"a zip with a directory of more than {MAX_DIRECTORY:,} bytes")
    file.seek(0)


def _check_members(opened: zipfile.ZipFile, size: int) -> tuple[dict[str, Any], int]:
    members = {member.filename: member for member in opened.infolist()}
    if len(opened.infolist()) > MAX_MEMBERS or len(members) < len(opened.infolist()):
        raise ValueError(f"more than {MAX_MEMBERS} members, or one twice")
    total, most = sum(member.file_size for member in members.values()), min(MAX_SIZE, MAX_RATIO * size + FREE)
    if total > most:
        raise ValueError(f"its members inflate to {total:,} bytes; of a file of this size {most:,} are read")
    for name in (CONFIG, WEIGHTS):
        if name not in members:
            raise ValueError(f"no {name} in it")
    if members[CONFIG].file_size > MAX_CONFIG:
        raise ValueError(f"its {CONFIG} is larger than {MAX_CONFIG:,} bytes")
    try:
        config = schema.parse(_read(opened, CONFIG), dict[str, object])
    except ValueError as reason:
        raise ValueError(f"its {CONFIG}: {reason}") from None
    weights = _read(opened, WEIGHTS)
    _check_weights(weights)
    return config, len(weights)


def _read(opened: zipfile.ZipFile, name: str) -> bytes:
    """Return a member. Of more than its directory says nothing is read."""
    most = opened.getinfo(name).file_size
    with opened.open(name) as member:
        data = member.read(most + 1)
    if len(data) != most:
        raise ValueError(f"its {name} has another size than its directory says")
    return data


def _check_weights(data: bytes) -> None:
    """Raises ValueError unless all arrays lie in the file, uncompressed, each once."""
    import h5py

    try:
        with h5py.File(io.BytesIO(data), "r") as file:
            total = _sum(file, h5py, [0], 0)
    except ValueError:
        raise
    except Exception as error:
        # h5py raises exceptions of any kind for a damaged file.
        raise ValueError(f"its {WEIGHTS}: {' '.join(str(error).split())[:100] or type(error).__name__}") from None
    if total > len(data):
        raise ValueError(f"its {WEIGHTS} claims {total:,} bytes of arrays, and has {len(data):,} bytes")


def _sum(group: Any, h5py: Any, objects: list[int], depth: int) -> int:
    """Return the bytes of all arrays in the group; count them in `objects`."""
    total = 0
    for name in group:
        objects[0] += 1
        if objects[0] > MAX_OBJECTS or depth > MAX_DEPTH:
            raise ValueError(f"its {WEIGHTS} has too many groups and arrays, or too deep ones")
        if not isinstance(group.get(name, getlink=True), h5py.HardLink):
            raise ValueError(f"its {WEIGHTS} has a link")
        item = group[name]
        if isinstance(item, h5py.Group):
            total += _sum(item, h5py, objects, depth + 1)
        elif not isinstance(item, h5py.Dataset) or item.dtype.kind not in "biufV" or item.dtype.hasobject:
            raise ValueError(f"its {WEIGHTS} has something else than numbers")
        elif item.external or item.is_virtual or item.chunks is not None:
            raise ValueError(f"its {WEIGHTS} has an array in pieces, which Keras writes none of")
        else:
            total += item.nbytes
    return total
