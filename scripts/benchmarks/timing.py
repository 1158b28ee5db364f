"""Times of two functions that are called in turn, so that what slows the machine slows both."""

import os
import statistics
import time
from collections.abc import Callable
from typing import NamedTuple

Call = Callable[[], object]


class Comparison(NamedTuple):
    """Seconds per call in each round."""

    ours: tuple[float, ...]
    baseline: tuple[float, ...]

    @property
    def ratio(self) -> float:
        """How many times faster ours is: the median over the rounds of baseline / ours."""
        return statistics.median(self._ratios())

    @property
    def spread(self) -> tuple[float, float]:
        """Lowest and highest ratio of a round."""
        return min(self._ratios()), max(self._ratios())

    def _ratios(self) -> list[float]:
        return [baseline / ours for ours, baseline in zip(self.ours, self.baseline)]


def alternate(
    ours: Call,
    baseline: Call,
    rounds: int,
    min_seconds: float = 0.0,
    clock: Callable[[], float] = time.perf_counter,
) -> Comparison:
    """Measure A, B, A, B, …, `rounds` times each; calls must wait for their result.

    The first call of each is discarded: it compiles. A function that takes less than `min_seconds`
    is called as often in a row as fills them, and its time is the mean.
    """
    for function in (ours, baseline):
        function()
    counts = [_calls_per_round(function, min_seconds, clock) for function in (ours, baseline)]
    pairs = [
        [_seconds(function, count, clock) for function, count in zip((ours, baseline), counts)]
        for _ in range(rounds)
    ]
    return Comparison(*zip(*pairs))


def time_once(function: Call, clock: Callable[[], float] = time.perf_counter) -> float:
    """Seconds of one call."""
    return _seconds(function, 1, clock)


def load_average() -> float:
    """The load average of the last minute, which includes the benchmark itself."""
    return os.getloadavg()[0]


def _calls_per_round(function: Call, min_seconds: float, clock: Callable[[], float]) -> int:
    if not min_seconds:
        return 1
    return max(1, round(min_seconds / max(_seconds(function, 1, clock), 1e-9)))


def _seconds(function: Call, count: int, clock: Callable[[], float]) -> float:
    start = clock()
    for _ in range(count):
        function()
    return (clock() - start) / count
