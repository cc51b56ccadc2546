"""The libraries that the job uses, imported; nothing of the job itself. See `tests.warm`."""

import gc
import importlib
import os
import sys

LIBRARIES = ("boto3", "click", "cv2", "jinja2", "matplotlib.figure", "PIL.Image", "simplejpeg", "tensorflow")


def load() -> None:
    # TensorFlow greets on standard error, whatever its level.
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        os.environ |= {"TF_CPP_MIN_LOG_LEVEL": "3", "KERAS_BACKEND": "tensorflow"}
        for name in LIBRARIES:
            importlib.import_module(name)
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
    # Imports what botocore imports when it makes the first client.
    sys.modules["boto3"].Session("nobody", "nothing", region_name="us-east-1").client("s3")
    assert "catsdogs" not in sys.modules
    # No garbage collection touches these objects, so that the processes go on sharing their memory.
    gc.freeze()


load()
