"""The versions of what decides a model's weights, from the bytes of an image to the sums of a training step."""

import importlib
import platform
import re
from pathlib import Path

import catsdogs

MODULES = {
    "tensorflow": "tensorflow", "keras": "keras", "numpy": "numpy", "PIL": "PIL", "simplejpeg": "simplejpeg",
    "opencv": "cv2",
}  # fmt: skip
"""Name in run.json → module."""


def versions() -> dict[str, str]:
    """Return name → version. Imports TensorFlow."""
    return {
        "catsdogs-train": catsdogs.__version__,
        "python": platform.python_version(),
        **{name: importlib.import_module(module).__version__ for name, module in MODULES.items()},
        "onednn": onednn(),
    }


def onednn() -> str:
    """Return the version of oneDNN, which TensorFlow's library has inside, by its header; "unknown" without one."""
    import tensorflow as tf

    header = Path(tf.sysconfig.get_include(), "external/onednn/include/oneapi/dnnl/dnnl_version.h")
    try:
        found = dict(re.findall(r"#define DNNL_VERSION_(MAJOR|MINOR|PATCH) (\d+)", header.read_text()))
        return f"{found['MAJOR']}.{found['MINOR']}.{found['PATCH']}"
    except (OSError, KeyError):
        return "unknown"
