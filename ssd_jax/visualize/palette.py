"""The palette of Okabe and Ito, whose colors differ for any kind of color vision."""

import numpy as np

ORANGE, SKY_BLUE, GREEN, YELLOW, BLUE, VERMILION, PURPLE = PALETTE = (
    (230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66), (0, 114, 178), (213, 94, 0),
    (204, 121, 167),
)  # fmt: skip
GRAY = (128, 128, 128)


def to_hex(color: tuple[int, int, int]) -> str:
    """(230, 159, 0) -> "#e69f00", as Matplotlib and HTML write it."""
    return "#" + "".join(f"{value:02x}" for value in color)


def label_color(label: int | np.integer) -> tuple[int, int, int]:
    """The color of class `label`, from 1; seven colors in turn."""
    return PALETTE[(int(label) - 1) % len(PALETTE)]
