"""Text on pictures. OpenCV's fonts have ASCII only."""

import unicodedata
from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import UInt8

from ssd_jax.visualize.palette import Color, ink_color

_FONT = cv2.FONT_HERSHEY_SIMPLEX
_SCALE = 0.45  # of the font's own size, on a picture whose shorter side has 450 pixels or less
_MIN_SCALE = 0.3  # smaller text cannot be read

Image = UInt8[np.ndarray, "H W 3"]


class Plate(NamedTuple):
    """Text on a filled box, not yet placed; sizes in pixels."""

    text: str  # ASCII
    scale: float  # of the font
    width: int
    height: int
    baseline: int  # how far letters reach below it


def make_plate(text: str, image_size: tuple[int, int]) -> Plate | None:
    """A plate for an image of `image_size` (H, W); the text grows with the image.

    Text larger than the image is scaled down; None where it would be illegible.
    """
    text, (height, width) = to_ascii(text), image_size
    scale = max(_SCALE, min(height, width) / 1000)
    box_width, box_height, _ = text_box_size(text, scale)
    scale *= min(1, width / box_width, height / box_height)
    box_width, box_height, baseline = text_box_size(text, scale)
    if scale < _MIN_SCALE or box_width > width or box_height > height:
        return None
    return Plate(text, scale, box_width, box_height, baseline)


def draw_plate(canvas: Image, plate: Plate, left: int, top: int, color: Color) -> None:
    """Draw a plate of this color, in place; it must lie inside the canvas."""
    canvas[top : top + plate.height, left : left + plate.width] = color
    origin = (left + 2, top + plate.height - plate.baseline - 2)
    cv2.putText(
        canvas, plate.text, origin, _FONT, plate.scale, ink_color(color),
        _stroke_width(plate.scale), cv2.LINE_AA,
    )  # fmt: skip


def add_caption(image: Image, text: str) -> UInt8[np.ndarray, "_ W 3"]:
    """The image below lines of text on white; each line is scaled to fit the width."""
    lines = [to_ascii(line) for line in text.splitlines()]
    scale = max(0.4, image.shape[1] / 1200)
    scale *= min(1, *(image.shape[1] / text_box_size(line, scale)[0] for line in lines))
    _, line_height, baseline = text_box_size("A", scale)
    strip = np.full((line_height * len(lines), image.shape[1], 3), 255, np.uint8)
    for row, line in enumerate(lines, start=1):
        origin = (2, row * line_height - baseline - 2)
        cv2.putText(strip, line, origin, _FONT, scale, (0, 0, 0), _stroke_width(scale), cv2.LINE_AA)
    return np.concatenate([strip, image])


def to_ascii(text: str) -> str:
    """Accents are dropped; any other character that is not ASCII becomes `?`."""
    plain = [c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c)]
    return "".join(c if " " <= c <= "~" else "?" for c in plain)


def text_box_size(text: str, scale: float) -> tuple[int, int, int]:
    """Width and height of the box around a text, and how far letters reach below its baseline."""
    (width, height), baseline = cv2.getTextSize(text, _FONT, scale, _stroke_width(scale))
    return width + 4, height + baseline + 4, baseline


def _stroke_width(scale: float) -> int:
    return max(1, round(1.5 * scale))
