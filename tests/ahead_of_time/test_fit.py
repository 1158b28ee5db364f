"""The search for the largest batch, on memory that grows by known amounts."""

import pytest

from ssd_jax.ahead_of_time.analysis import parse_out_of_memory
from ssd_jax.ahead_of_time.fit import MULTIPLE, search

GIB = 2**30


@pytest.mark.parametrize("first", [1, 4, 8, 40])
@pytest.mark.parametrize("largest", [1, 2, 7, 13, 33])
def test_it_ends_between_a_fit_and_a_misfit(first, largest):
    """Memory is 1 GiB and 1 GiB for each multiple, so that `largest` of them fill the device."""
    available = (largest + 1.5) * GIB

    def needed(per_device):
        return (1 + per_device / MULTIPLE) * GIB, available

    tried = list(search(needed, first))
    assert largest in tried and largest + 1 in tried and len(tried) <= 6


def test_memory_that_does_not_grow_evenly_needs_more_tries():
    tried = list(search(lambda n: ((n / MULTIPLE) ** 2 * GIB, 30.0 * GIB), 1))
    assert 5 in tried and 6 in tried


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
