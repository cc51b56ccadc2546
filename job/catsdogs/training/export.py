"""Export: the trained model in the formats of other programs.

A file is published only if it predicts what `model.keras` does, so each is loaded and compared on the test images.
"""

import shutil
import tempfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TypedDict

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from catsdogs.config.extras import FORMATS
from catsdogs.data.loader import DataLoader
from catsdogs.models.protocols import Model
from catsdogs.runtime.errors import ConfigError
from catsdogs.runtime.events import Exported
from catsdogs.runtime.log import Log
from catsdogs.runtime.signals import Interruption
from catsdogs.training import evaluation
from catsdogs.training.devices import without_stderr
from catsdogs.training.model_file import inspect

LARGEST_DIFFERENCE = 1e-4
"""Largest accepted difference of two probabilities for an image. Another order of float32 additions makes 6e-8 with
`baseline`."""

Predictor = Callable[[NDArray[np.float32]], NDArray[np.float32]]
"""Images, N×height×width×3 in [0, 1], to N probabilities of a dog."""


class Export(TypedDict):
    artifact: str
    largest_difference: float
    """Of a probability for a test image from that of `model.keras`."""


def export(
    model_file: Path, formats: Iterable[str], test: DataLoader, log: Log, interruption: Interruption
) -> dict[str, Export]:
    """Write the model beside `model_file` in each format, and compare each. Return format → Export.

    Raises what `compare` raises, and OSError.
    """
    model = evaluation.load(inspect(model_file, str(model_file)))
    files = {name: model_file.with_name(FORMATS[name]) for name in formats}
    for name, path in files.items():
        interruption.check()
        # The converters write much that is of no use to the job's users.
        with without_stderr():
            _CODECS[name][0](model, path)
    differences = compare(model, files, test, interruption)
    for name, difference in differences.items():
        size = files[name].stat().st_size
        log.emit(Exported(artifact=FORMATS[name], size=size, difference=difference, images=len(test.labels)))
    return {name: {"artifact": FORMATS[name], "largest_difference": differences[name]} for name in files}


def compare(model: Model, files: Mapping[str, Path], test: DataLoader, interruption: Interruption) -> dict[str, float]:
    """Predict the test images with each file (format → file), as a program that serves it would.

    Return format → the largest difference of a probability from the model's own. Raises ConfigError if one is above
    LARGEST_DIFFERENCE or not a number, Interrupted, and OSError.
    """
    # Newer GPUs round the factors of a float32 product to 10 bits, which would count as a difference. This process
    # computes nothing later for which that speed matters.
    tf.config.experimental.enable_tensor_float_32_execution(False)
    ours = evaluation.probability_of(model)
    with without_stderr():
        theirs = {name: _CODECS[name][1](path) for name, path in files.items()}
    largest = dict.fromkeys(files, 0.0)
    for batch in test.batches():
        interruption.check()
        expected = np.array(ours(batch.images))
        for name, predict in theirs.items():
            # Unlike Python's max, numpy's is nan if any value is.
            difference = np.max(np.abs(predict(batch.images) - expected))
            largest[name] = float(np.maximum(largest[name], difference))
    for name, difference in largest.items():
        # Not `>`, which is false for nan.
        if not difference <= LARGEST_DIFFERENCE:
            raise ConfigError(
                f"--export {name}: its probabilities differ from model.keras's by up to {difference:.1e}, more than"
                f" {LARGEST_DIFFERENCE:.0e}; leave {name} out: the trained model is kept, and published without it"
            )
    return largest


def _keras_export(model: Model, path: str, form: str) -> None:
    # An explicit name: Keras numbers its own by what else the process has made.
    signature = [tf.TensorSpec((None, *model.input_shape[1:]), tf.float32, name="images")]
    model.export(path, format=form, verbose=False, input_signature=signature)


def _write_savedmodel(model: Model, path: Path) -> None:
    """Write a zip of the SavedModel's folder, because a run's artifacts are files."""
    with tempfile.TemporaryDirectory(prefix="catsdogs-") as folder:
        _keras_export(model, folder, "tf_saved_model")
        shutil.make_archive(str(path.with_suffix("")), "zip", folder)


def _read_savedmodel(path: Path) -> Predictor:
    with tempfile.TemporaryDirectory(prefix="catsdogs-") as folder:
        shutil.unpack_archive(path, folder)
        loaded = tf.saved_model.load(folder)
    serve = loaded.signatures["serving_default"]

    def predict(images: NDArray[np.float32]) -> NDArray[np.float32]:
        # Refers to `loaded`, without which the variables would be deleted.
        assert loaded is not None
        [probabilities] = serve(tf.constant(images)).values()
        return np.asarray(probabilities)[:, 0]

    return predict


def _write_onnx(model: Model, path: Path) -> None:
    _keras_export(model, str(path), "onnx")


def _read_onnx(path: Path) -> Predictor:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    [images_in] = session.get_inputs()

    def predict(images: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.asarray(session.run(None, {images_in.name: images})[0])[:, 0]

    return predict


def _write_tflite(model: Model, path: Path) -> None:
    _keras_export(model, str(path), "litert")


def _read_tflite(path: Path) -> Predictor:
    interpreter = tf.lite.Interpreter(str(path))
    interpreter.allocate_tensors()
    images_in, probabilities_out = (
        details[0]["index"] for details in (interpreter.get_input_details(), interpreter.get_output_details())
    )

    def predict(images: NDArray[np.float32]) -> NDArray[np.float32]:
        interpreter.resize_tensor_input(images_in, images.shape)
        interpreter.allocate_tensors()
        interpreter.set_tensor(images_in, images)
        interpreter.invoke()
        return np.asarray(interpreter.get_tensor(probabilities_out))[:, 0]

    return predict


_CODECS: dict[str, tuple[Callable[[Model, Path], None], Callable[[Path], Predictor]]] = {
    "savedmodel": (_write_savedmodel, _read_savedmodel),
    "onnx": (_write_onnx, _read_onnx),
    "tflite": (_write_tflite, _read_tflite),
}
