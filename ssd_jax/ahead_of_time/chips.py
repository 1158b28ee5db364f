"""Published facts of TPU chips, and the clock that turns the compiler's cycles into seconds."""

from typing import NamedTuple

GIB = 2**30


class Chip(NamedTuple):
    """One chip; `cores` of them are devices of JAX, and share memory and arithmetic equally.

    `flop_per_cycle` is of one device: twice the cells of its matrix units, as XLA:TPU schedules
    them. A bfloat16 convolution of 256 channels on 75 x 75 pixels and 32 images, compiled for each
    chip, does 128,126 (v4), 128,779 (v5e), 255,353 (v5p) and 477,803 (v6e) a cycle.
    """

    name: str
    peak_flops: float  # bfloat16, of the chip, in a second
    hbm_gib: float
    hbm_bandwidth: float  # bytes in a second
    flop_per_cycle: int
    cores: int
    source: str

    @property
    def clock_hz(self) -> float:
        """Cycles in a second: the published peak by what a cycle does."""
        return self.peak_flops / self.cores / self.flop_per_cycle

    @property
    def device_hbm_bytes(self) -> float:
        """Memory of one device of JAX."""
        return self.hbm_gib * GIB / self.cores


_DOCS = "https://docs.cloud.google.com/tpu/docs"
# The prefix of a topology's name. Clocks: 1.05, 1.50, 1.75 and 1.75 GHz. The page of v6e names two
# units of 256 x 256, with which the clock would be 3.5 GHz; the compiler counts on four.
CHIPS = {
    "v4": Chip("TPU v4", 275e12, 32, 1228e9, 2 * 4 * 128 * 128, 2, f"{_DOCS}/v4"),
    "v5e": Chip("TPU v5e", 197e12, 16, 819e9, 2 * 4 * 128 * 128, 1, f"{_DOCS}/v5e"),
    "v5p": Chip("TPU v5p", 459e12, 95, 2765e9, 2 * 8 * 128 * 128, 1, f"{_DOCS}/v5p"),
    "v6e": Chip("TPU v6e", 918e12, 32, 1638e9, 2 * 4 * 256 * 256, 1, f"{_DOCS}/v6e"),
}
