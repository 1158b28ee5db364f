"""Text on pictures. OpenCV's fonts have ASCII only."""

import unicodedata

import cv2
import numpy as np
from jaxtyping import UInt8

_FONT = cv2.FONT_HERSHEY_SIMPLEX
_MIN_SCALE = 0.3  # of the font's own size; smaller text cannot be read

Image = UInt8[np.ndarray, "H W 3"]


def draw_label(canvas: Image, text: str, corner: list[int], color: tuple[int, int, int]) -> None:
    """Text on a filled box above the corner (x, y), or where the image has room for it; in place.

    Text larger than the image is scaled down, and left out where it would be illegible.
    """
    text, (height, width) = to_ascii(text), canvas.shape[:2]
    scale = max(0.4, min(height, width) / 1000)
    box_width, box_height, _ = text_box_size(text, scale)
    scale *= min(1, width / box_width, height / box_height)
    box_width, box_height, baseline = text_box_size(text, scale)
    if scale < _MIN_SCALE or box_width > width or box_height > height:
        return
    left = max(0, min(corner[0], width - box_width))
    top = corner[1] - box_height
    if top < 0:
        top = max(0, min(corner[1], height - box_height))
    canvas[top : top + box_height, left : left + box_width] = color
    ink = (0, 0, 0) if np.dot(color, (0.299, 0.587, 0.114)) > 110 else (255, 255, 255)
    origin = (left + 2, top + box_height - baseline - 2)
    cv2.putText(canvas, text, origin, _FONT, scale, ink, _stroke_width(scale), cv2.LINE_AA)


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
