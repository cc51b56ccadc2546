"""When a failed request is sent again, and when its failure is final. Does no I/O."""

import random
import time
from dataclasses import dataclass

from kubectl_catsdogs.base.errors import Failure


@dataclass
class RetryPolicy:
    """All values are seconds."""

    budget: float = 120.0
    """Retries end after that time, for a server that has answered before."""
    first_answer: float = 10.0
    """The same for a server that has not: a wrong address should show soon."""
    first_pause: float = 0.1
    longest_pause: float = 5.0
    """Pauses double up to that, unless the server asks for longer ones."""

    def limit(self, server_known: bool) -> float:
        return self.budget if server_known else min(self.first_answer, self.budget)


class Retries:
    """The attempts of one request."""

    def __init__(self, policy: RetryPolicy):
        self._policy = policy
        self._began = time.monotonic()
        self._pause = policy.first_pause
        self.may_have_arrived = False
        """Whether an attempt was lost after the server may have carried it out."""
        self.renewed_credentials = False

    def pause_after(self, failure: Failure, server_known: bool, requested_pause: float = 0.0) -> float:
        """Return the seconds to wait before the next attempt. Raise `failure` if that would exceed the budget."""
        pause = max(self._pause, requested_pause)
        if self.elapsed + pause > self._policy.limit(server_known):
            raise failure
        jittered = max(self._pause * random.uniform(0.7, 1.3), requested_pause)
        self._pause = min(2 * self._pause, self._policy.longest_pause)
        return jittered

    @property
    def elapsed(self) -> float:
        return time.monotonic() - self._began
