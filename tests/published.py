"""Reading what the job published, by means other than the job's own."""

import csv
import hashlib
import json
import os
import zipfile
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from tests import warm
from tests.conftest import environment_in
from tests.servers import S3Server

ARTIFACTS = [
    "model.keras", "history.png", "history.csv", "metrics.json", "predictions.csv", "report.html", "split.json",
    "run.json", "tensorboard/train/events.out.tfevents.catsdogs",
    "tensorboard/validation/events.out.tfevents.catsdogs", "log.jsonl", "manifest.json",
]  # fmt: skip


def new_bucket(server: S3Server, archive: Path) -> str:
    name = f"run-{os.urandom(6).hex()}"
    client = server.client()
    client.create_bucket(Bucket=name)
    client.upload_file(str(archive), name, "datasets/dogs-vs-cats.zip")
    return name


def files(run: Path) -> dict[str, bytes]:
    """What `objects` gives, of a run that was published to a folder."""
    return {str(path.relative_to(run)): path.read_bytes() for path in run.rglob("*") if path.is_file()}


def objects(server: S3Server, bucket: str, prefix: str) -> dict[str, bytes]:
    client = server.client()
    keys = [item["Key"] for item in client.list_objects_v2(Bucket=bucket, Prefix=prefix).get("Contents", [])]
    return {key.removeprefix(prefix): client.get_object(Bucket=bucket, Key=key)["Body"].read() for key in keys}


def weights(model: bytes, tmp_path: Path) -> list[np.ndarray[Any, Any]]:
    """Every array in a `.keras` file, in order of their names."""
    path = tmp_path / "model.keras"
    path.write_bytes(model)
    zipfile.ZipFile(path).extract("model.weights.h5", tmp_path)
    found: dict[str, np.ndarray[Any, Any]] = {}
    with h5py.File(tmp_path / "model.weights.h5") as file:
        file.visititems(
            lambda name, item: found.__setitem__(name, item[()]) if isinstance(item, h5py.Dataset) else None
        )
    return [found[name] for name in sorted(found)]


def rows(text: bytes) -> list[dict[str, str]]:
    return list(csv.DictReader(text.decode().splitlines()))


def check_manifest(published: dict[str, bytes]) -> None:
    """Every artifact is there, and the manifest has its size and SHA-256."""
    assert set(published) == set(ARTIFACTS)
    manifest = json.loads(published["manifest.json"])
    listed = {entry["name"]: (entry["size"], entry["sha256"]) for entry in manifest["artifacts"]}
    assert listed == {
        name: (len(data), hashlib.sha256(data).hexdigest())
        for name, data in published.items()
        if name != "manifest.json"
    }


def reseal(run: Path) -> None:
    """Makes the manifest of a local run fit files that were changed, as someone would who forges one."""
    manifest = json.loads((run / "manifest.json").read_bytes())
    for entry in manifest["artifacts"]:
        data = (run / entry["name"]).read_bytes()
        entry["size"], entry["sha256"] = len(data), hashlib.sha256(data).hexdigest()
    (run / "manifest.json").write_text(json.dumps(manifest))


EVALUATE = """
import sys, json, pathlib, keras, numpy as np
from catsdogs.data.images import decode
model = keras.models.load_model(sys.argv[1])
size = model.input_shape[1]
paths = sorted(pathlib.Path(sys.argv[2]).rglob(f"{sys.argv[3]}/*/*.jpg"))
images = np.stack([decode(path.read_bytes(), (size, size)) for path in paths]) / np.float32(255)
dogs = np.array([path.name.startswith("dog") for path in paths])
model.compile(loss="binary_crossentropy", metrics=["accuracy"])
loss, accuracy = model.evaluate(images, dogs, verbose=0)
print(json.dumps({"loss": loss, "images": len(paths), "correct": round(accuracy * len(paths))}))
"""


def evaluated(run: Path, volume: Path, split: str) -> dict[str, Any]:
    """What Keras says about the published model on a split's images, of all workers that share the volume."""
    process = warm.python(EVALUATE, run / "model.keras", volume, split, env=environment_in(volume), directory=volume)
    assert process.returncode == 0, process.stderr
    result: dict[str, Any] = json.loads(process.stdout)
    return result
