"""Times of two things that are called in turn, so that what slows the machine slows both."""

import os
import statistics
import time
from collections.abc import Callable
from typing import NamedTuple

Call = Callable[[], object]


class Comparison(NamedTuple):
    """Seconds a call, a round each."""

    ours: tuple[float, ...]
    other: tuple[float, ...]

    @property
    def ratio(self) -> float:
        """How many times faster ours is: the median over the rounds of other / ours."""
        return statistics.median(self._ratios())

    @property
    def spread(self) -> tuple[float, float]:
        """Lowest and highest ratio of a round."""
        return min(self._ratios()), max(self._ratios())

    def _ratios(self) -> list[float]:
        return [other / ours for ours, other in zip(self.ours, self.other)]


def alternate(
    ours: Call,
    other: Call,
    rounds: int,
    at_least: float = 0.0,
    clock: Callable[[], float] = time.perf_counter,
) -> Comparison:
    """Measure A, B, A, B, …, `rounds` times each; calls must wait for their result.

    The first call of each is discarded: it compiles. A function that takes less than `at_least`
    seconds is called as often in a row as fills them, and the mean counts.
    """
    for function in (ours, other):
        function()
    counts = [_fill(function, at_least, clock) for function in (ours, other)]
    pairs = [
        [_seconds(function, count, clock) for function, count in zip((ours, other), counts)]
        for _ in range(rounds)
    ]
    return Comparison(*zip(*pairs))


def once(function: Call, clock: Callable[[], float] = time.perf_counter) -> float:
    """Seconds of one call."""
    return _seconds(function, 1, clock)


def cores() -> int:
    """Cores that this process may use: XLA takes as many threads, and PyTorch is given them."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def load() -> float:
    """Programs that ran at the same time, averaged over the last minute, ours among them."""
    return os.getloadavg()[0]


def _fill(function: Call, at_least: float, clock: Callable[[], float]) -> int:
    if not at_least:
        return 1
    return max(1, round(at_least / max(_seconds(function, 1, clock), 1e-9)))


def _seconds(function: Call, count: int, clock: Callable[[], float]) -> float:
    start = clock()
    for _ in range(count):
        function()
    return (clock() - start) / count
