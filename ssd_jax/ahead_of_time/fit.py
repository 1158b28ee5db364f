"""The largest batch that a device holds, by the compiler's own refusals."""

from collections.abc import Callable, Iterator

from ssd_jax.ahead_of_time.analysis import MIB, Analysis, OutOfMemory, analyze
from ssd_jax.ahead_of_time.program import Request
from ssd_jax.ahead_of_time.topology import Topology

MULTIPLE = 8  # images: batches between two multiples are not tried
_MAX_COMPILES = 8


def largest_batch(request: Request, topology: Topology) -> tuple[Analysis, list[Analysis]]:
    """The analysis of the largest batch that fits, and of each try its batch and memory.

    Batches are multiples of `MULTIPLE` images a device. Raises OutOfMemory where none fits.
    """
    tries, fitting = [], {}

    def needed(per_device: int) -> tuple[float, float]:
        """Bytes that the program needs, and those that a device has."""
        try:
            analysis = analyze(request._replace(per_device=per_device), topology)
        except OutOfMemory as error:
            if per_device == MULTIPLE:
                raise
            used, available = error.used, error.available
        else:
            fitting[per_device] = analysis
            used, available = analysis["peak_mb"] * MIB, topology.chip.device_hbm_bytes
        fits = per_device in fitting
        tries.append({"per_device": per_device, "fits": fits, "mb": round(used / MIB, 1)})
        return used, available

    for _ in search(needed, max(request.per_device // MULTIPLE, 1)):
        pass
    return fitting[max(fitting)], tries


def search(needed: Callable[[int], tuple[float, float]], first: int) -> Iterator[int]:
    """Multiples that are tried until two neighbors are a fit and a misfit.

    Memory grows by about the same amount with each image, so a line through what is known tells
    which multiple to try next.
    """
    known: dict[int, float] = {}
    multiple, good, bad = first, 0, None
    for _ in range(_MAX_COMPILES):
        yield multiple
        used, available = needed(multiple * MULTIPLE)
        known[multiple] = used
        if used <= available:
            good = max(good, multiple)
        else:
            bad = multiple if bad is None else min(bad, multiple)
        if bad is not None and bad - good <= 1:
            return
        multiple = _next(known, available, good, bad)


def _next(known: dict[int, float], available: float, good: int, bad: int | None) -> int:
    (low, low_used), (high, high_used) = sorted(known.items())[0], sorted(known.items())[-1]
    if len(known) == 1:
        slope, low, low_used = high_used / high, 0, 0.0
    else:
        slope = (high_used - low_used) / (high - low)
    guess = int(low + (available - low_used) / slope) if slope > 0 else 2 * high
    most = 4 * max(good, 1) if bad is None else bad - 1
    return min(max(guess, good + 1), most)
