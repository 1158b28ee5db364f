"""The search for the largest batch, on memory that grows by known amounts."""

import pytest

from ssd_jax.ahead_of_time.analysis import parse_out_of_memory
from ssd_jax.ahead_of_time.fit import MULTIPLE, Try, search

GIB = 2**30


def bounds(tries):
    """The largest batch that fits and the smallest that does not, in multiples."""
    fits = [batch // MULTIPLE for batch, each in tries.items() if each.fits]
    misfits = [batch // MULTIPLE for batch, each in tries.items() if not each.fits]
    return max(fits), min(misfits)


@pytest.mark.parametrize("first", [1, 4, 8, 40])
@pytest.mark.parametrize("largest", [1, 2, 7, 13, 33, 200])
def test_it_ends_between_a_fit_and_a_misfit(first, largest):
    """Memory is 1 GiB and 1 GiB for each multiple, so that `largest` of them fill the device."""
    available = (largest + 1.5) * GIB

    def attempt(per_device):
        needed = (1 + per_device / MULTIPLE) * GIB
        return Try(needed <= available, needed, available)

    tries = search(attempt, first)
    good, bad = bounds(tries)
    assert good <= largest < bad and len(tries) <= 6
    assert bad - good <= max(bad // 16, 1)  # a 16th of a batch, or 8 images


def test_memory_that_does_not_grow_evenly_needs_more_tries():
    def attempt(per_device):
        needed = (per_device / MULTIPLE) ** 2 * GIB
        return Try(needed <= 30 * GIB, needed, 30.0 * GIB)

    assert bounds(search(attempt, 1)) == (5, 6)


def test_a_misfit_that_is_told_as_all_of_the_memory_is_one():
    """XLA rounds: 15.75 of 15.75 GiB may be too much."""
    tries = search(lambda n: Try(n < 1440, min(n / 1440, 1.0) * GIB, 1.0 * GIB), 64)
    good, bad = bounds(tries)
    assert good < 180 <= bad


def test_the_compilers_words_about_memory():
    message = (
        "RESOURCE_EXHAUSTED: Ran out of memory on HBM, the total memory required for HLO "
        "temporaries (45.64G) exceeds available HBM (15.75G)."
    )
    assert parse_out_of_memory(message) == (45.64 * GIB, 15.75 * GIB)
    message = (
        "RESOURCE_EXHAUSTED: Ran out of memory in memory space hbm. Used 800.5M of 512.0M hbm."
    )
    assert parse_out_of_memory(message) == (800.5 * 2**20, 512 * 2**20)
