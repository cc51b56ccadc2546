"""Makes the golden files: python tests/golden/make.py CHECKOUT_OF_38ead9b CHECKOUT_OF_ca0e0a6

Only the code of these two commits can make them; README.md says what each file is.
"""

import csv
import io
import json
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import h5py
import numpy as np

GOLDEN = Path(__file__).resolve().parent
PER_CLASS = 24
COUNTS = ("--train-per-class=12", "--validation-per-class=4", "--test-per-class=4")
COMMON = ("--archive=dogs-vs-cats.zip", "--output=runs", "--volume=volume", *COUNTS, "--batch-size=5")
PUBLISHED = ("--recipe=baseline", "--image-size=48", "--epochs=24", "--learning-rate=0.006", "--seed=1")
AUGMENTED = ("--recipe=augmented", "--image-size=48", "--epochs=4", "--learning-rate=0.01", "--seed=2")
COMPACT = ("--recipe=compact", "--image-size=32", "--epochs=4", "--learning-rate=0.1", "--seed=0")
STOP_AFTER = 8
"""Training steps. An epoch has five, so this is in the middle of the second epoch."""

DRAW = """
import io, sys, zipfile
from job import sample

def member(name):
    info = zipfile.ZipInfo(name, (2013, 9, 25, 0, 0, 0))
    info.compress_type = zipfile.ZIP_DEFLATED
    return info

inner = io.BytesIO()
with zipfile.ZipFile(inner, "w") as archive:
    for label in sample.LABELS:
        for number in range(int(sys.argv[1])):
            jpeg = io.BytesIO()
            sample.draw(label, number, (56, 56)).save(jpeg, "JPEG", quality=75)
            size = 200 if (label, number) == ("cat", 3) else None
            archive.writestr(member(f"train/{label}.{number}.jpg"), jpeg.getvalue()[:size])
    archive.writestr(member("train/Thumbs.db"), b"thumbs")
with zipfile.ZipFile("dogs-vs-cats.zip", "w") as archive:
    archive.writestr(member("train.zip"), inner.getvalue())
"""
"""Writes an archive in Kaggle's layout: drawn images, one of them cut short, and a file that is no image."""

LAUNCH = """
import os, signal, sys
from job.interruption import Interruption
interruption = Interruption()
interruption.install()
from job import devices
from job.recipes import RECIPES
from tiny import shrink
shrink(RECIPES)
stop_after, start = int(os.environ.get("STOP_AFTER", 0)), devices.start

def starting(*given):
    found = start(*given)
    from job.learner import Learner
    train_step, steps = Learner.train_step, iter(range(1, 1_000_000))
    def counted(self, *given):
        if next(steps) == stop_after:
            os.kill(os.getpid(), signal.SIGTERM)
        return train_step(self, *given)
    Learner.train_step = counted
    return found

if stop_after:
    devices.start = starting
from job.cli import main
main(interruption)
"""
"""`catsdogs` with tiny models, which gets SIGTERM in training step STOP_AFTER. The learner is patched after the devices
are set up, because it imports TensorFlow."""


def main(checkout: Path, before: Path) -> None:
    for made in ("runs", "runs-before-tensorboard", "volume", "expected"):
        shutil.rmtree(GOLDEN / made, ignore_errors=True)
    with tempfile.TemporaryDirectory() as scratch:
        place, earlier, through = (Path(scratch) / name for name in ("place", "earlier", "through"))
        for directory in (place, earlier):
            directory.mkdir()
        _python(checkout, place, DRAW, str(PER_CLASS))
        shutil.copy(place / "dogs-vs-cats.zip", earlier)

        # A complete run, and its volume just before publishing.
        _catsdogs(checkout, place, "prepare", *PUBLISHED)
        _catsdogs(checkout, place, "train", *PUBLISHED)
        # What `publish` needs; it deletes the checkpoints.
        shutil.copytree(place / "volume", GOLDEN / "volume", ignore=shutil.ignore_patterns("checkpoint"))
        _catsdogs(checkout, place, "publish", *PUBLISHED)
        shutil.copytree(place / "runs", GOLDEN / "runs")
        shutil.copy(place / "dogs-vs-cats.zip", GOLDEN)
        _catsdogs(before, earlier, "run", *PUBLISHED)
        shutil.copytree(earlier / "runs", GOLDEN / "runs-before-tensorboard")

        # Interrupted runs, and the results of the same runs without interruption.
        for recipe in (AUGMENTED, COMPACT):
            shutil.rmtree(through, ignore_errors=True)
            shutil.copytree(place, through)
            [run_id] = _catsdogs(checkout, through, "run", *recipe)
            _catsdogs(checkout, place, "run", *recipe, stop_after=STOP_AFTER)
            shutil.copytree(place / "volume" / "work" / run_id, GOLDEN / "volume" / "work" / run_id)
            _catsdogs(checkout, place, "run", *recipe)
            expected, resumed = _outcome(through / "runs" / run_id), _outcome(place / "runs" / run_id)
            assert expected.keys() == resumed.keys()
            assert all(expected[name].tobytes() == resumed[name].tobytes() for name in expected), run_id
            (GOLDEN / "expected").mkdir(exist_ok=True)
            np.savez_compressed(GOLDEN / "expected" / f"{run_id}.npz", allow_pickle=False, **expected)


def _catsdogs(checkout: Path, directory: Path, command: str, *recipe: str, stop_after: int = 0) -> list[str]:
    """Run the command in `directory` with the code of `checkout`. Return the ids of the runs that it published."""
    known = set(directory.glob("runs/*/manifest.json"))
    code = _python(checkout, directory, LAUNCH, command, *COMMON, *recipe, STOP_AFTER=str(stop_after))
    assert code == (75 if stop_after else 0), code
    return [path.parent.name for path in set(directory.glob("runs/*/manifest.json")) - known]


def _python(checkout: Path, directory: Path, script: str, *arguments: str, **variables: str) -> int:
    environment = {"PATH": os.environ["PATH"], "HOME": str(directory), "PYTHONPATH": f"{checkout}:{GOLDEN}"}
    ended = subprocess.run(
        [sys.executable, "-c", script, *arguments], cwd=directory, env={**environment, **variables}, check=False
    )
    return ended.returncode


def _outcome(run: Path) -> dict[str, np.ndarray[Any, Any]]:
    """Return a run's weights by their names in model.keras, its predictions and its history."""
    with zipfile.ZipFile(run / "model.keras") as model, h5py.File(io.BytesIO(model.read("model.weights.h5"))) as file:
        found: dict[str, np.ndarray[Any, Any]] = {}
        file.visititems(
            lambda name, item: (
                found.__setitem__(f"weights/{name}", item[()]) if isinstance(item, h5py.Dataset) else None
            )
        )
    rows = list(csv.DictReader(io.StringIO((run / "predictions.csv").read_text())))
    found["predictions/images"] = np.array([row["image"] for row in rows])
    found["predictions/probabilities"] = np.array([float(row["probability"]) for row in rows])
    history = list(csv.DictReader(io.StringIO((run / "history.csv").read_text())))
    for name in ("loss", "accuracy", "val_loss", "val_accuracy"):
        found[f"history/{name}"] = np.array([float(row[name]) for row in history])
    found["best_epoch"] = np.array(json.loads((run / "metrics.json").read_bytes())["best_epoch"])
    return found


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve(), Path(sys.argv[2]).resolve())
