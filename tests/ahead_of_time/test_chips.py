"""Facts of chips that follow from each other."""

import pytest

from ssd_jax.ahead_of_time.chips import CHIPS


@pytest.mark.parametrize(
    ("name", "gigahertz"), [("v4", 1.05), ("v5e", 1.50), ("v5p", 1.75), ("v6e", 1.75)]
)
def test_clock_of_a_chip(name, gigahertz):
    assert CHIPS[name].clock_hz / 1e9 == pytest.approx(gigahertz, abs=0.005)


def test_the_cores_of_v4_are_devices_that_share_its_memory():
    assert CHIPS["v4"].device_hbm_bytes == 16 * 2**30
