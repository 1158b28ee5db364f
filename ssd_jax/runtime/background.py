"""Work in background threads, whose results come in order."""

import os
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import ThreadPoolExecutor
from itertools import islice, repeat
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


def usable_cores() -> int:
    """Cores that this process may use: a scheduler or a container may leave it less than all."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


_THREADS = min(usable_cores(), 32)


def prefetch(items: Iterable[T]) -> Generator[T, None, None]:
    """The same items; while one is used, the next is made in a background thread.

    An error while an item is made is raised in its place. Close the iterator, or use it to the end:
    the thread ends then.
    """
    iterator, end = iter(items), object()
    for item in parallel_map(lambda _: next(iterator, end), repeat(None), ahead=1, threads=1):
        if item is end:
            return
        yield item  # type: ignore[misc]


def parallel_map(
    function: Callable[[T], R],
    items: Iterable[T],
    ahead: int = 2 * _THREADS,
    threads: int = _THREADS,
) -> Generator[R, None, None]:
    """`map(function, items)` in background threads: while a result is used, `ahead` are made.

    Results come in the order of `items`, which are iterated in the thread of the caller. An error
    of `function` is raised in place of its result.
    """
    iterator, pool = iter(items), ThreadPoolExecutor(threads)
    try:
        pending = deque(pool.submit(function, item) for item in islice(iterator, ahead))
        while pending:
            result = pending.popleft().result()
            pending.extend(pool.submit(function, item) for item in islice(iterator, 1))
            yield result
    finally:
        pool.shutdown(cancel_futures=True)
