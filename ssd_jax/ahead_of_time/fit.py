"""The largest batch that a device holds, by the compiler's own refusals."""

from collections.abc import Callable
from typing import NamedTuple

from ssd_jax.ahead_of_time.analysis import MIB, Analysis, OutOfMemory, analyze
from ssd_jax.ahead_of_time.program import Request
from ssd_jax.ahead_of_time.topology import Topology

MULTIPLE = 8  # images: batches between two multiples are not tried
_TOLERANCE = 16  # the search ends with a misfit at most a 16th larger than a fit
_MAX_COMPILES = 8


class Try(NamedTuple):
    """A batch that was compiled; bytes of a device that it needs, and that there are."""

    fits: bool
    needed: float
    available: float


def largest_batch(request: Request, topology: Topology) -> tuple[Analysis, list[Analysis]]:
    """The analysis of the largest batch that fits, and of each try its batch and memory.

    Batches are multiples of `MULTIPLE` images a device. Raises OutOfMemory where none fits.
    """
    analyses: dict[int, Analysis] = {}

    def attempt(per_device: int) -> Try:
        try:
            analysis = analyze(request._replace(per_device=per_device), topology)
        except OutOfMemory as error:
            if per_device == MULTIPLE:
                raise
            return Try(False, error.used, error.available)
        analyses[per_device] = analysis
        return Try(True, analysis["peak_mb"] * MIB, topology.chip.device_hbm_bytes)

    tries = search(attempt, max(request.per_device // MULTIPLE, 1))
    described = [
        {"per_device": per_device, "fits": each.fits, "mb": round(each.needed / MIB, 1)}
        for per_device, each in tries.items()
    ]
    return analyses[max(analyses)], described


def search(attempt: Callable[[int], Try], first: int) -> dict[int, Try]:
    """The batches that were tried, from `first` multiples on, until a fit is next to a misfit.

    Memory grows by about the same amount with each image, so a line through what is known tells
    which multiple to try next.
    """
    tries: dict[int, Try] = {}
    multiple = first
    for _ in range(_MAX_COMPILES):
        tries[multiple] = attempt(multiple * MULTIPLE)
        good = max((each for each in tries if tries[each].fits), default=0)
        bad = min((each for each in tries if not tries[each].fits), default=None)
        if bad is not None and bad - good <= _step(bad):
            break
        guess = _on_the_line(tries)
        most = 4 * good if bad is None else bad - _step(bad)
        multiple = min(max(guess, good + 1), most)
    return {multiple * MULTIPLE: each for multiple, each in tries.items()}


def _step(multiple: int) -> int:
    return max(multiple // _TOLERANCE, 1)


def _on_the_line(tries: dict[int, Try]) -> int:
    """The multiple that would need all of the memory."""
    low, high = min(tries), max(tries)
    available = min(each.available for each in tries.values())
    if low == high:
        return int(available / tries[high].needed * high)
    slope = (tries[high].needed - tries[low].needed) / (high - low)
    return int(low + (available - tries[low].needed) / slope) if slope > 0 else 2 * high
