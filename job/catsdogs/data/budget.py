"""The memory that images take while they are decoded, over all threads of the process."""

import contextlib
import ctypes
import functools
import threading
from collections import deque
from collections.abc import Callable, Iterator

MAX_DECODING = 256 << 20
"""Bytes of the images being decoded at one time, of their files, and of what the decoders need besides: enough for one
image of 64 million pixels in the four bytes that Pillow holds each in."""
MAX_FILE = 64 << 20
"""Bytes of an image file, a hundred times as many as the largest photograph of Kaggle's archive has."""
LARGE = 8 << 20
"""Bytes. Files above this size are handled one at a time."""
MAX_THREADS = 4
"""Threads that decode at once. With more, each waits for Python's lock most of the time: sixteen took 1.4 times the CPU
time of two."""

_KEPT = 4 << 20
"""Bytes. What a larger image took is returned to the system at once."""

ONE_LARGE = threading.Lock()


class Budget:
    """A number of bytes that threads share, first come, first served."""

    def __init__(self, size: int):
        self.size = size
        self._free = size
        self._queue: deque[object] = deque()
        self._changed = threading.Condition()

    @contextlib.contextmanager
    def reserve(self, amount: int) -> Iterator[None]:
        """Wait until there are `amount` bytes, and hold them in the block; all of them if there will never be as many.

        Not to be nested.
        """
        amount = min(amount, self.size)
        ticket = object()
        with self._changed:
            self._queue.append(ticket)
            try:
                self._changed.wait_for(lambda: self._queue[0] is ticket and self._free >= amount)
            finally:
                self._queue.remove(ticket)
                self._changed.notify_all()
            self._free -= amount
        try:
            yield
        finally:
            if amount > _KEPT:
                give_back()
            with self._changed:
                self._free += amount
                self._changed.notify_all()


DECODING = Budget(MAX_DECODING)


def one_large(size: int) -> contextlib.AbstractContextManager[object]:
    """Return the lock under which a file of `size` bytes is read, and handled."""
    return ONE_LARGE if size > LARGE else contextlib.nullcontext()


def give_back() -> None:
    """Return what is free to the system: malloc keeps it for its thread, and every thread has a large image once."""
    if malloc_trim := _malloc_trim():
        malloc_trim(0)


@functools.cache
def _malloc_trim() -> Callable[[int], int] | None:
    """Return glibc's function; None with another C library."""
    try:
        function: Callable[[int], int] = ctypes.CDLL(None).malloc_trim
    except (OSError, AttributeError):
        return None
    return function
