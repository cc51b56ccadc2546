"""The formats that a run can publish its model in, besides `model.keras`, and what they need."""

import importlib.util
from collections.abc import Collection, Iterable

from job.errors import Contradiction

FORMATS = {"savedmodel": "model.savedmodel.zip", "onnx": "model.onnx", "tflite": "model.tflite"}
"""What --export takes → the artifact."""
NEEDS = {"onnx": ("onnx", "tf2onnx", "onnxruntime")}
"""Format → what catsdogs-train[FORMAT] installs for it. TensorFlow brings what the others need."""


def check_installed(formats: Iterable[str]) -> None:
    """Raises Contradiction for a format whose extra is not installed; imports nothing."""
    for name in formats:
        missing = [module for module in NEEDS.get(name, ()) if importlib.util.find_spec(module) is None]
        if missing:
            raise Contradiction(
                f"--export {name}: {', '.join(missing)} not installed; pip install 'catsdogs-train[{name}]'"
            )


def lacking(artifacts: Collection[str], formats: Iterable[str]) -> list[str]:
    """The formats whose artifact is not among those."""
    return [name for name in formats if FORMATS[name] not in artifacts]
