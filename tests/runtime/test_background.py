import os
import threading
from contextlib import closing

import pytest

from ssd_jax.runtime.background import parallel_map, prefetch, usable_cores


def test_prefetched_items_are_the_same_in_order():
    assert list(prefetch(range(50))) == list(range(50))
    assert list(prefetch([])) == [] and list(prefetch([None, 1])) == [None, 1]


def test_one_item_is_made_while_one_is_used_and_no_more():
    made, second = [], threading.Event()

    def items():
        for number in range(5):
            made.append(number)
            if number == 1:
                second.set()
            yield number

    for number in prefetch(items()):
        if number == 0:
            assert second.wait(60)
        assert max(made) <= number + 1


def test_an_error_comes_in_the_place_of_its_item():
    def items():
        yield from (1, 2)
        raise ValueError("the third")

    seen = []
    with pytest.raises(ValueError, match="the third"):
        for item in prefetch(items()):
            seen.append(item)
    assert seen == [1, 2]


def test_results_come_in_order_whoever_is_done_first():
    """The first waits for the second."""
    second = threading.Event()

    def wait_or_tell(number):
        if number == 0:
            assert second.wait(60)
        if number == 1:
            second.set()
        return number * number

    assert list(parallel_map(wait_or_tell, range(9), ahead=3, threads=2)) == [
        number * number for number in range(9)
    ]


def test_so_many_are_begun_before_they_are_asked_for():
    taken = []
    items = (taken.append(number) or number for number in range(20))
    with closing(parallel_map(str, items, ahead=4, threads=2)) as results:
        assert next(results) == "0" and taken == [0, 1, 2, 3, 4]
        assert next(results) == "1" and taken[-1] == 5


def test_what_is_left_behind_leaves_no_thread():
    before = threading.active_count()
    results = parallel_map(str, range(100), ahead=4, threads=3)
    assert next(results) == "0" and threading.active_count() > before
    results.close()
    batches = prefetch(range(3))
    next(batches)
    batches.close()
    assert threading.active_count() == before


def test_threads_are_those_that_the_process_may_use(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0, 3, 5}, raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    assert usable_cores() == 3
    monkeypatch.delattr(os, "sched_getaffinity")  # no such function but on Linux
    assert usable_cores() == 64
