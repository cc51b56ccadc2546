"""Optional dependencies: the export formats and MLflow, and the packages that each needs."""

import importlib.util
import os
from collections.abc import Collection, Iterable

from catsdogs.runtime.errors import ConfigError

FORMATS = {"savedmodel": "model.savedmodel.zip", "onnx": "model.onnx", "tflite": "model.tflite"}
"""A format of `--export` → its artifact, which a run publishes besides `model.keras`."""
TRACKING_URI = "MLFLOW_TRACKING_URI"
"""MLflow's own variable. Setting it turns tracking on."""
_PACKAGES = {"onnx": ("onnx", "tf2onnx", "onnxruntime"), "mlflow": ("mlflow",)}
"""Extra → the packages that it installs. TensorFlow brings what the other formats need."""


def check_installed(formats: Iterable[str]) -> None:
    """Check that the packages for these formats are installed, and MLflow's client if tracking is on.

    Imports none of them. A missing package is reported now, not after hours of training. Raises ConfigError.
    """
    wanted = {name: f"--export {name}" for name in formats}
    if os.environ.get(TRACKING_URI):
        wanted["mlflow"] = f"{TRACKING_URI} is set"
    for extra, reason in wanted.items():
        missing = [name for name in _PACKAGES.get(extra, ()) if importlib.util.find_spec(name) is None]
        if missing:
            raise ConfigError(
                f"{reason}: {', '.join(missing)} not installed; run pip install '.[{extra}]' in a clone of"
                " catsdogs-train"
            )


def missing_formats(artifacts: Collection[str], formats: Iterable[str]) -> list[str]:
    """Return the formats whose artifact is not among `artifacts`."""
    return [name for name in formats if FORMATS[name] not in artifacts]
