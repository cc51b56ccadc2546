"""Whether the NVIDIA driver sees a GPU. Asked before anything is fetched; TensorFlow has the last word, later.

TensorFlow takes seconds to import, and a run may fetch gigabytes before it needs it.
"""

import ctypes
from pathlib import Path

from catsdogs.runtime.errors import Unavailable

DRIVER = "libcuda.so.1"
_AMD = Path("/dev/kfd")
_ERRORS = {
    3: "not initialized", 34: "only the stub library is there, as in CUDA's build images", 100: "no device",
    802: "the GPUs are not ready yet", 803: "the driver is older than its library", 999: "unknown error",
}  # fmt: skip
"""Those of CUresult that occur on misconfigured machines."""


def require() -> None:
    """Raise Unavailable unless the driver can be loaded and sees a GPU. AMD's are left to TensorFlow."""
    if _AMD.exists():
        return
    reason = why_none()
    if reason is not None:
        raise Unavailable(f"no usable GPU: {reason}; give the container a GPU, or remove --require-gpu")


def why_none() -> str | None:
    """Return why the driver offers no GPU; None if it does. Takes milliseconds, or a second while it loads."""
    try:
        driver = ctypes.CDLL(DRIVER)
    except OSError as error:
        return f"the NVIDIA driver's library cannot be loaded ({error})"
    if code := driver.cuInit(0):
        return f"the NVIDIA driver does not start: cuInit ends with {_described(code)}"
    count = ctypes.c_int()
    if code := driver.cuDeviceGetCount(ctypes.byref(count)):
        return f"the NVIDIA driver does not count its GPUs: cuDeviceGetCount ends with {_described(code)}"
    return None if count.value else "the NVIDIA driver sees no GPU"


def _described(code: int) -> str:
    return f"{code} ({_ERRORS[code]})" if code in _ERRORS else f"{code}"
