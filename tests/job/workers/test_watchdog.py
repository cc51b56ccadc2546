"""How long a step may take, by a clock of the test's own."""

import pytest

from catsdogs.workers import watchdog
from catsdogs.workers.watchdog import StepWatchdog


class Clock:
    now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(watchdog, "time", clock)
    return clock


def test_first_step_and_later_ones(clock: Clock) -> None:
    watch = StepWatchdog(heartbeat_timeout=10.0)
    with watch.watching(first_step=300.0):
        clock.now += 300.0
        assert watch.overdue() is None
        clock.now += 0.1
        assert watch.overdue() == pytest.approx(300.1)
        clock.now -= 280.1
        watch.step_ended()
        # The longest so far took 20 s.
        clock.now += 10.0 + 2 * 20.0
        assert watch.overdue() is None
        clock.now += 0.1
        assert watch.overdue() == pytest.approx(50.1)


def test_nothing_is_due_outside_of_training(clock: Clock) -> None:
    watch = StepWatchdog(heartbeat_timeout=10.0)
    clock.now += 1e9
    assert watch.overdue() is None
    with pytest.raises(KeyError), watch.watching(first_step=1.0):
        raise KeyError
    clock.now += 1e9
    assert watch.overdue() is None
