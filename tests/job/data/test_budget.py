import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from catsdogs.data.budget import Budget


def test_threads_never_hold_more_than_there_is() -> None:
    budget, lock, held, most = Budget(100), threading.Lock(), [0], [0]

    def work(amount: int) -> None:
        with budget.reserve(amount):
            with lock:
                held[0] += amount
                most[0] = max(most[0], held[0])
            threading.Event().wait(0.0005)
            with lock:
                held[0] -= amount

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, np.random.default_rng(0).integers(1, 101, 300).tolist()))
    assert most[0] <= 100
    assert most[0] > 60, "several at once"


def test_more_than_there_is_waits_for_all_of_it() -> None:
    budget, order = Budget(100), list[str]()
    small, queued = threading.Event(), threading.Event()

    def large() -> None:
        queued.set()
        with budget.reserve(10**12):
            order.append("large")

    def next_small() -> None:
        with budget.reserve(1):
            order.append("small")

    with budget.reserve(1):
        threads = [threading.Thread(target=large)]
        threads[0].start()
        assert queued.wait(5)
        while not budget._queue:
            small.wait(0.001)
        # Whoever comes later waits, although there would be room: a large image must have its turn.
        threads.append(threading.Thread(target=next_small))
        threads[1].start()
        small.wait(0.05)
        assert order == []
    for thread in threads:
        thread.join(5)
    assert order == ["large", "small"]


def test_an_exception_gives_back_what_was_held() -> None:
    budget = Budget(10)
    for _ in range(3):
        with pytest.raises(KeyError), budget.reserve(10):
            raise KeyError
    with budget.reserve(10):
        pass
