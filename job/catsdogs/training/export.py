"""The trained model in the formats of other programs, each compared with `model.keras` before it counts."""

import shutil
import tempfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from catsdogs.config.extras import FORMATS
from catsdogs.data.loader import DataLoader
from catsdogs.runtime.errors import ConfigError
from catsdogs.runtime.events import Exported
from catsdogs.runtime.log import Log
from catsdogs.runtime.signals import Interruption
from catsdogs.training import evaluation
from catsdogs.training.devices import without_stderr

LARGEST_DIFFERENCE = 1e-4
"""Between two probabilities of one image. Another order of float32 additions was seen to make 6e-8 of `baseline`."""

Predictor = Callable[[NDArray[np.float32]], NDArray[np.float32]]
"""Images, N×height×width×3 in [0, 1], to N probabilities of a dog."""


def export(
    model_file: Path, formats: Iterable[str], test: DataLoader, log: Log, interruption: Interruption
) -> dict[str, dict[str, Any]]:
    """Writes the model beside `model_file` in each format, and compares each.

    Returns format → its `artifact` and the `largest_difference` of a probability from the model's own. Raises what
    `compare` raises, OSError.
    """
    model = evaluation.load(model_file, str(model_file))
    files = {name: model_file.with_name(FORMATS[name]) for name in formats}
    for name, path in files.items():
        interruption.check()
        # The converters tell, and warn of, much that is of no use to who runs a job.
        with without_stderr():
            _CODECS[name][0](model, path)
    differences = compare(model, files, test, interruption)
    for name, difference in differences.items():
        size = files[name].stat().st_size
        log.emit(Exported(artifact=FORMATS[name], size=size, difference=difference, images=len(test.labels)))
    return {name: {"artifact": FORMATS[name], "largest_difference": differences[name]} for name in files}


def compare(model: Any, files: Mapping[str, Path], test: DataLoader, interruption: Interruption) -> dict[str, float]:
    """Has each file (format → file) predict the test images, as a program that serves it would.

    Returns format → the largest difference of a probability from the model's own. Raises ConfigError if one is above
    LARGEST_DIFFERENCE, Interrupted, OSError.
    """
    # Newer GPUs round the factors of a float32 product to 10 bits, which would count as a difference. Nothing that
    # this process computes later needs it.
    tf.config.experimental.enable_tensor_float_32_execution(False)
    ours = evaluation.probability_of(model)
    with without_stderr():
        theirs = {name: _CODECS[name][1](path) for name, path in files.items()}
    largest = dict.fromkeys(files, 0.0)
    for batch in test.batches():
        interruption.check()
        expected = np.array(ours(batch.images))
        for name, predict in theirs.items():
            # Of nan and a number numpy's maximum is nan.
            difference = np.max(np.abs(predict(batch.images) - expected))
            largest[name] = float(np.maximum(largest[name], difference))
    for name, difference in largest.items():
        # Written so that nan does not pass.
        if not difference <= LARGEST_DIFFERENCE:
            raise ConfigError(
                f"--export {name}: its probabilities differ from model.keras's by up to {difference:.1e}, more than"
                f" {LARGEST_DIFFERENCE:.0e}; leave {name} out: what is trained is kept, and published without it"
            )
    return largest


def _keras_export(model: Any, path: str, form: str) -> None:
    # A name of ours, since Keras numbers its own by what else the process has made.
    signature = [tf.TensorSpec((None, *model.input_shape[1:]), tf.float32, name="images")]
    model.export(path, format=form, verbose=False, input_signature=signature)


def _write_savedmodel(model: Any, path: Path) -> None:
    """A zip of the SavedModel's folder, as a run's artifacts are files."""
    with tempfile.TemporaryDirectory(prefix="catsdogs-") as folder:
        _keras_export(model, folder, "tf_saved_model")
        shutil.make_archive(str(path.with_suffix("")), "zip", folder)


def _read_savedmodel(path: Path) -> Predictor:
    with tempfile.TemporaryDirectory(prefix="catsdogs-") as folder:
        shutil.unpack_archive(path, folder)
        loaded = tf.saved_model.load(folder)
    serve = loaded.signatures["serving_default"]

    def predict(images: NDArray[np.float32]) -> NDArray[np.float32]:
        # The model goes when nobody holds it, and its variables with it.
        assert loaded is not None
        [probabilities] = serve(tf.constant(images)).values()
        return np.asarray(probabilities)[:, 0]

    return predict


def _write_onnx(model: Any, path: Path) -> None:
    _keras_export(model, str(path), "onnx")


def _read_onnx(path: Path) -> Predictor:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    [images_in] = session.get_inputs()

    def predict(images: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.asarray(session.run(None, {images_in.name: images})[0])[:, 0]

    return predict


def _write_tflite(model: Any, path: Path) -> None:
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


_CODECS: dict[str, tuple[Callable[[Any, Path], None], Callable[[Path], Predictor]]] = {
    "savedmodel": (_write_savedmodel, _read_savedmodel),
    "onnx": (_write_onnx, _read_onnx),
    "tflite": (_write_tflite, _read_tflite),
}
