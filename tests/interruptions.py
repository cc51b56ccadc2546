"""An interruption at a chosen moment."""

from catsdogs.runtime.signals import Interruption


class InterruptedAfter(Interruption):
    """Is interrupted, as by SIGTERM, once it has been checked so many times."""

    advice = "enough"

    def __init__(self, checks: int):
        self.left = checks

    def check(self) -> None:
        self.left -= 1
        if self.left < 0:
            self.signal_name = "SIGTERM"
        super().check()
