"""Panels: boxes without names on an image, in the color of what they are, under a caption."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, UInt8

from ssd_jax.visualize.boxes import draw_boxes
from ssd_jax.visualize.palette import BLUE, ORANGE, PALETTE, PURPLE, VERMILION
from ssd_jax.visualize.text import add_caption

# Labels with these colors, for `draw_boxes`.
GROUND_TRUTH, POSITIVE, NEGATIVE, CENTER = (
    1 + PALETTE.index(color) for color in (ORANGE, BLUE, VERMILION, PURPLE)
)


def draw_panel(
    image: UInt8[np.ndarray, "H W 3"],
    layers: Sequence[tuple[Float[np.ndarray, "_ 4"], int]],
    caption: str,
) -> UInt8[np.ndarray, "_ W 3"]:
    """The image under its caption, with layers of (boxes, label); the first layer is on top.

    Boxes are normalized corners; the label gives their color.
    """
    boxes = np.concatenate([layer for layer, _ in layers])
    labels = np.repeat([label for _, label in layers], [len(layer) for layer, _ in layers])
    return add_caption(draw_boxes(image, boxes, labels, [""] * len(PALETTE)), caption)


def center_dots(
    boxes: Float[np.ndarray, "N 4"], image_size: tuple[int, int]
) -> Float[np.ndarray, "N 4"]:
    """Boxes of two pixels around the centers of boxes, on an image of `image_size` (H, W)."""
    height, width = image_size
    center = (boxes[:, :2] + boxes[:, 2:]) / 2
    return np.concatenate([center - (1 / width, 1 / height), center + (1 / width, 1 / height)], 1)
