import itertools
import threading
import time

import numpy as np
import pytest

from tasks import feed


def test_steps_in_order_from_the_start():
    made = feed.Feed(lambda step: {"step": np.array([step])}, start=7)
    assert [int(batch["step"][0]) for batch in itertools.islice(made, 20)] == list(range(7, 27))
    assert made.step == 27
    made.close()


def test_a_slow_batch_does_not_change_the_order():
    def make(step):
        time.sleep(0.02 * (step % 2 == 0))
        return {"step": np.array([step])}

    made = feed.Feed(make, start=0, threads=3)
    assert [int(next(made)["step"][0]) for _ in range(12)] == list(range(12))
    made.close()


def test_batches_are_made_ahead_on_other_threads():
    threads, ready = set(), threading.Event()

    def make(step):
        threads.add(threading.current_thread().name)
        if step == 3:
            ready.set()
        return {}

    made = feed.Feed(make, start=0)
    # Nobody has asked for a batch yet.
    assert ready.wait(10)
    next(made)
    assert threading.current_thread().name not in threads
    made.close()


def test_an_error_reaches_the_caller():
    def make(step):
        if step == 2:
            raise ValueError("store x is damaged")
        return {}

    made = feed.Feed(make, start=0)
    next(made), next(made)
    with pytest.raises(ValueError, match="store x is damaged"):
        next(made)
    made.close()


def test_share_of_each_process():
    assert [feed.share(12, process_index=i, process_count=3) for i in range(3)] == [
        slice(0, 4),
        slice(4, 8),
        slice(8, 12),
    ]
    for index, count in ((0, 5), (3, 3), (-1, 3)):
        with pytest.raises(ValueError, match=f"batch 12 cannot be shared by {count} processes"):
            feed.share(12, process_index=index, process_count=count)
