"""`--export`, as users run it: what is published is loaded by the programs that serve such files."""

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest

from catsdogs.config.extras import FORMATS
from tests import warm
from tests.conftest import REPOSITORY, Catsdogs, environment_in
from tests.faults.running import Job
from tests.published import rows

SMALL = (
    "--run-id=exported", "--epochs=2", "--train-per-class=14", "--validation-per-class=4", "--test-per-class=6",
    "--image-size=64", "--batch-size=5", "--learning-rate=0.001",
)  # fmt: skip
ALL = f"--export={','.join(FORMATS)}"


@pytest.fixture
def arguments(sample_archive: Path, tmp_path: Path) -> tuple[str, ...]:
    return (f"--archive={sample_archive}", f"--output={tmp_path / 'runs'}", f"--volume={tmp_path / 'volume'}", *SMALL)


PREDICT = """
import sys, zipfile, numpy as np, tensorflow as tf, onnxruntime, keras
run, scratch, paths = sys.argv[1], sys.argv[2], sys.argv[3:]
from PIL import Image
images = np.stack([np.asarray(Image.open(path).resize((64, 64))) for path in paths]).astype(np.float32) / 255
zipfile.ZipFile(f"{run}/model.savedmodel.zip").extractall(scratch)
predicted = {"keras": keras.models.load_model(f"{run}/model.keras").predict(images, verbose=0)}
saved = tf.saved_model.load(scratch)
predicted["savedmodel"] = saved.serve(images).numpy()
session = onnxruntime.InferenceSession(f"{run}/model.onnx")
[predicted["onnx"]] = session.run(None, {"images": images})
interpreter = tf.lite.Interpreter(f"{run}/model.tflite")
lite = interpreter.get_signature_runner()
predicted["tflite"] = np.concatenate([next(iter(lite(images=image[None]).values())) for image in images])
np.savez(f"{scratch}/predicted.npz", **predicted)
"""


def test_every_format_predicts_what_the_model_does(
    arguments: tuple[str, ...], catsdogs: Catsdogs, tmp_path: Path
) -> None:
    process = catsdogs("run", *arguments, ALL, "--log-format=json")
    assert (process.returncode, process.stderr) == (0, "")
    run = tmp_path / "runs" / "exported"
    metrics = json.loads((run / "metrics.json").read_bytes())
    events = [json.loads(line) for line in process.stdout.splitlines()]
    exported = {event["artifact"]: event for event in events if event["event"] == "exported"}
    listed = {entry["name"] for entry in json.loads((run / "manifest.json").read_bytes())["artifacts"]}
    for name, artifact in FORMATS.items():
        assert metrics["exports"][name] == {
            "artifact": artifact,
            "largest_difference": exported[artifact]["difference"],
        }
        assert exported[artifact]["images"] == 12
        assert exported[artifact]["size"] == (run / artifact).stat().st_size
    assert set(FORMATS.values()) <= listed
    assert all(0 <= one["difference"] < 1e-5 for one in exported.values())

    split = next((tmp_path / "volume" / "splits").iterdir())
    images = [str(split / row["image"]) for row in rows((run / "predictions.csv").read_bytes())]
    scratch = tmp_path / "scratch"
    loaded = warm.python(PREDICT, run, scratch, *images, env=environment_in(tmp_path), directory=tmp_path)
    assert loaded.returncode == 0, loaded.stderr
    predicted = np.load(scratch / "predicted.npz")
    assert np.ptp(predicted["keras"]) > 1e-3, "or any constant would pass"
    for name in FORMATS:
        assert np.abs(predicted[name] - predicted["keras"]).max() < 1e-5, name

    # Commands that read runs know the exported files.
    assert catsdogs("verify", run).stdout.count("as the manifest says") == len(listed)
    [row] = json.loads(catsdogs("runs", f"--output={run.parent}", "--json").stdout)
    assert row["state"] == "published"
    assert catsdogs("run", *arguments, "--export=onnx").returncode == 0


@pytest.mark.slow
def test_a_format_can_be_asked_for_until_the_run_is_published(
    arguments: tuple[str, ...], catsdogs: Catsdogs, tmp_path: Path
) -> None:
    for part in ("prepare", "train"):
        assert catsdogs(part, *arguments).returncode == 0
    model = tmp_path / "volume/work/exported/artifacts/model.keras"
    before = zipfile.ZipFile(model).read("model.weights.h5")
    early = catsdogs("publish", *arguments, "--export=tflite")
    assert (early.returncode, "trained without what --export names; run `catsdogs train`" in early.stderr) == (78, True)
    more = catsdogs("train", *arguments, "--export=tflite", "--log-format=json")
    assert more.returncode == 0, more.stderr
    names = [json.loads(line)["event"] for line in more.stdout.splitlines()]
    assert "exported" in names
    assert "epoch" not in names
    assert zipfile.ZipFile(model).read("model.weights.h5") == before
    assert catsdogs("publish", *arguments, "--export=tflite").returncode == 0
    late = catsdogs("run", *arguments, "--export=savedmodel,tflite")
    assert late.returncode == 78
    assert late.stderr == (
        f"catsdogs: {tmp_path}/runs/exported: published without savedmodel, and stays as it is; choose another"
        " --run-id, or leave --export out\n"
    )


def test_an_extra_that_is_not_installed(
    arguments: tuple[str, ...], catsdogs_from_scratch: Catsdogs, tmp_path: Path
) -> None:
    hidden = tmp_path / "hidden"
    hidden.mkdir()
    # How Python marks a module that must not be found.
    (hidden / "sitecustomize.py").write_text("import sys\nsys.modules['tf2onnx'] = None\n")
    path = f"{hidden}:{REPOSITORY / 'job'}"
    process = catsdogs_from_scratch("run", *arguments, ALL, env={"PYTHONPATH": path})
    assert (process.returncode, process.stdout) == (78, "")
    assert process.stderr == (
        "catsdogs: --export onnx: tf2onnx not installed; run pip install '.[onnx]' in a clone of catsdogs-train\n"
    )
    assert not (tmp_path / "volume").exists()
    assert catsdogs_from_scratch("plan", *arguments, "--export=tflite", env={"PYTHONPATH": path}).returncode == 0


def test_adding_a_format_does_not_start_a_new_run(arguments: tuple[str, ...], catsdogs: Catsdogs) -> None:
    unnamed = [argument for argument in arguments if not argument.startswith("--run-id")]
    with_export, without = (
        json.loads(catsdogs("plan", *unnamed, "--log-format=json", env={"CATSDOGS_EXPORT": formats}).stdout)
        for formats in ("tflite,savedmodel", "")
    )
    assert with_export["run_id"] == without["run_id"]
    added = [name for name in with_export["write"]["artifacts"] if name not in without["write"]["artifacts"]]
    assert added == ["model.savedmodel.zip", "model.tflite"]


def test_an_unknown_format(arguments: tuple[str, ...], catsdogs: Catsdogs) -> None:
    process = catsdogs("run", *arguments, "--export=onnx,pickle")
    assert process.returncode == 2
    assert "'pickle' is not one of savedmodel, onnx, tflite" in process.stderr


@pytest.mark.slow
def test_killed_while_it_exports(arguments: tuple[str, ...], catsdogs: Catsdogs, tmp_path: Path) -> None:
    with Job("run", *arguments, ALL, "--log-format=json", env={}, directory=tmp_path) as job:
        job.until_true((tmp_path / "volume/work/exported/artifacts/model.savedmodel.zip").exists)
        job.kill()
    assert not (tmp_path / "runs/exported/manifest.json").exists()
    process = catsdogs("run", *arguments, ALL)
    assert (process.returncode, process.stderr) == (0, "")
    assert catsdogs("verify", tmp_path / "runs/exported").returncode == 0


NAN = """
import sys
from pathlib import Path
from catsdogs.training import devices
devices.start(require_gpu=False)
import numpy as np
from keras import Input, Sequential, layers
from PIL import Image
from catsdogs.data.loader import DataLoader
from catsdogs.runtime.errors import ConfigError
from catsdogs.runtime.signals import Interruption
from catsdogs.training import export
scratch = Path(sys.argv[1])
for name, grey in (("cats/cat.0.jpg", 0), ("dogs/dog.0.jpg", 255), ("dogs/dog.1.jpg", 0)):
    (scratch / name).parent.mkdir(exist_ok=True)
    Image.fromarray(np.full((8, 8, 3), grey, np.uint8)).save(scratch / name)
test = DataLoader.of(sorted(scratch.rglob("*.jpg")), batch_size=1, image_size=8, seed=0, shuffled=False,
                     scratch=scratch, max_bytes=0)

def model(scale):
    # White, scaled twice, is infinite for a large scale, and infinity times 0 is nan; everything else gives 0.5.
    return Sequential([Input((8, 8, 3)), layers.GlobalAveragePooling2D(), layers.Rescaling(scale),
                       layers.Rescaling(scale), layers.Dense(1, "sigmoid", kernel_initializer="zeros")])

for scale in (1.0, 3e38):
    export._write_savedmodel(model(scale), scratch / "model.savedmodel.zip")
    try:
        print(export.compare(model(1.0), {"savedmodel": scratch / "model.savedmodel.zip"}, test, Interruption()))
    except ConfigError as error:
        print(error)
"""


def test_a_probability_that_is_not_a_number_is_a_difference(tmp_path: Path) -> None:
    """Even for one image of several, between others that are predicted as they should be."""
    process = warm.python(NAN, tmp_path, env=environment_in(tmp_path), directory=tmp_path)
    assert process.returncode == 0, process.stderr
    same, other = process.stdout.splitlines()
    assert same == "{'savedmodel': 0.0}"
    assert other.startswith("--export savedmodel: its probabilities differ from model.keras's by up to nan, more than")


COMPARE = """
import sys
from pathlib import Path
from catsdogs.training import devices
devices.start(require_gpu=False)
from catsdogs.config.extras import FORMATS
from catsdogs.training import export, evaluation
from catsdogs.training.model_file import inspect
from catsdogs.data.loader import DataLoader
from catsdogs.runtime.errors import ConfigError
from catsdogs.runtime.log import Log
from catsdogs.runtime.signals import Interruption
scratch, images = Path(sys.argv[1]), sorted(Path(sys.argv[2]).rglob("*.jpg"))
model, other = (evaluation.load(inspect(Path(path), path)) for path in sys.argv[3:5])
test = DataLoader.of(
    images, batch_size=5, image_size=64, seed=0, shuffled=False, scratch=scratch, max_bytes=0
)
other.save(scratch / "model.keras")
export.export(scratch / "model.keras", ["savedmodel", "onnx", "tflite"], test, Log([]), Interruption())
for name, artifact in FORMATS.items():
    try:
        export.compare(model, {name: scratch / artifact}, test, Interruption())
    except ConfigError as error:
        print(error)
"""


@pytest.mark.slow
def test_another_model_s_predictions_are_noticed(
    arguments: tuple[str, ...], catsdogs: Catsdogs, tmp_path: Path
) -> None:
    """In each format the model of another seed, as a converter might make that has a bug."""
    assert catsdogs("prepare", *arguments).returncode == 0
    for seed in (0, 1):
        assert catsdogs("run", *arguments, f"--seed={seed}", f"--run-id=seed{seed}", "--epochs=1").returncode == 0
    (tmp_path / "scratch").mkdir()
    split = next((tmp_path / "volume/splits").iterdir())
    models = [str(tmp_path / f"runs/seed{seed}/model.keras") for seed in (0, 1)]
    process = warm.python(
        COMPARE, tmp_path / "scratch", split / "test", *models, env=environment_in(tmp_path), directory=tmp_path
    )
    assert process.returncode == 0, process.stderr
    lines = process.stdout.splitlines()
    assert [line.split(": its probabilities differ")[0] for line in lines] == [f"--export {name}" for name in FORMATS]
    assert all("more than 1e-04; leave" in line for line in lines)
