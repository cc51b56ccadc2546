"""CPU seconds of an epoch of each recipe, on the images of an archive.

`python -m benchmarks.epochs dogs-vs-cats.zip > benchmarks/runs/epochs.json` writes the figures of README's table.
"""

import json
import sys
import tempfile
from pathlib import Path

from benchmarks import measure
from catsdogs.config.recipes import RECIPES

FEW, MORE = 1, 3


def used(part: str, archive: Path, folder: Path, *options: str) -> float:
    """Return the CPU seconds of a part of the job, over all threads."""
    where = f"--archive={archive}", f"--volume={folder}", f"--output={folder / 'runs'}"
    return measure.command([sys.executable, "-m", "catsdogs", part, *where, *options]).cpu


def main(archive: Path) -> None:
    measured = {}
    with tempfile.TemporaryDirectory() as folder:
        used("prepare", archive, Path(folder))
        for recipe in RECIPES:
            few, more = (
                used("run", archive, Path(folder), f"--recipe={recipe}", f"--epochs={epochs}")
                for epochs in (FEW, MORE)
            )  # fmt: skip
            measured[recipe] = round(
                (more - few) / (MORE - FEW), 1
            )  # without the start and the end, which both runs have
            measure.say(f"{recipe}: {measured[recipe]} CPU seconds an epoch")
    sys.stdout.write(json.dumps(measured, indent=2) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
