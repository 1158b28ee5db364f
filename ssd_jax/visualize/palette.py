"""Colors of classes. The first are those of Okabe and Ito, which differ for any color vision."""

from functools import cache

import cv2
import numpy as np
from jaxtyping import Float, UInt8

Color = tuple[int, int, int]

ORANGE, SKY_BLUE, GREEN, YELLOW, BLUE, VERMILION, PURPLE = PALETTE = (
    (230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66), (0, 114, 178), (213, 94, 0),
    (204, 121, 167),
)  # fmt: skip
GRAY = (128, 128, 128)
BLACK, WHITE = (0, 0, 0), (255, 255, 255)

_COLORS = 90  # as many as COCO has numbers of categories
_GRID = 32  # between the candidates, in each of red, green and blue
_LIGHTNESS = 30, 92  # neither black nor white
_MIN_CHROMA = 25  # nor gray
_NEIGHBORS, _NEIGHBOR_WEIGHT = 3, 1 / 3


def to_hex(color: Color) -> str:
    """(230, 159, 0) -> "#e69f00", as Matplotlib and HTML write it."""
    return "#" + "".join(f"{value:02x}" for value in color)


def label_color(label: int | np.integer) -> Color:
    """The color of class `label`, from 1; ninety colors in turn."""
    index = (int(label) - 1) % _COLORS
    return PALETTE[index] if index < len(PALETTE) else _all_colors()[index]


def ink_color(color: Color) -> Color:
    """Black or white: that of the higher contrast on a ground of `color`, by WCAG 2, above 4.5."""
    linear = [
        value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4
        for value in (value / 255 for value in color)
    ]
    luminance = np.dot(linear, (0.2126, 0.7152, 0.0722))
    return BLACK if (luminance + 0.05) / 0.05 > 1.05 / (luminance + 0.05) else WHITE


@cache
def _all_colors() -> tuple[Color, ...]:
    """The palette, then again and again the color that is farthest from all before it.

    Distances are those of CIELAB. Those to the last few count a third: names of a class list that
    stand together are often of one kind, and in one picture.
    """
    values = np.arange(0, 256, _GRID, dtype=np.uint8)
    candidates = np.stack(np.meshgrid(values, values, values), -1).reshape(-1, 3)
    lab = _to_lab(candidates)
    chroma, (darkest, lightest) = np.hypot(lab[:, 1], lab[:, 2]), _LIGHTNESS
    usable = (darkest < lab[:, 0]) & (lab[:, 0] < lightest) & (chroma > _MIN_CHROMA)
    candidates, lab = candidates[usable], lab[usable]
    chosen, chosen_lab = list(PALETTE), list(_to_lab(np.array(PALETTE, np.uint8)))
    while len(chosen) < _COLORS:
        # Candidates in rows, chosen colors in columns.
        distances = np.linalg.norm(lab[:, None] - np.stack(chosen_lab), axis=-1)
        to_last = distances[:, -_NEIGHBORS:].min(1) * _NEIGHBOR_WEIGHT
        best = np.minimum(distances.min(1), to_last).argmax()
        red, green, blue = candidates[best].tolist()
        chosen.append((red, green, blue))
        chosen_lab.append(lab[best])
    return tuple(chosen)


def _to_lab(colors: UInt8[np.ndarray, "N 3"]) -> Float[np.ndarray, "N 3"]:
    """RGB -> CIELAB. OpenCV rounds to 8 bits, so that no machine chooses another color."""
    lab = cv2.cvtColor(colors[None], cv2.COLOR_RGB2LAB)[0].astype(float)
    return (lab - (0, 128, 128)) * (100 / 255, 1, 1)
