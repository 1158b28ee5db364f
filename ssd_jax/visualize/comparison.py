"""Ground truth beside detections."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from ssd_jax.visualize.boxes import draw_boxes
from ssd_jax.visualize.images import image_grid, scale_to_fit
from ssd_jax.visualize.text import add_caption

_HEIGHT, _WIDTH = 360, 480  # at most, in pixels
_MAX_ENLARGEMENT = 3
_GAP = 2


def draw_comparison(
    image: UInt8[np.ndarray, "H W 3"],
    truth: tuple[Float[np.ndarray, "N 4"], Int[np.ndarray, " N"]],
    ignore: Bool[np.ndarray, " N"],
    found: tuple[Float[np.ndarray, "K 4"], Int[np.ndarray, " K"]],
    scores: Float[np.ndarray, " K"],
    classes: Sequence[str],
    captions: tuple[str, str],
) -> UInt8[np.ndarray, "_ _ 3"]:
    """The image twice, each under its caption: left with ground truth, right with detections.

    `truth` and `found` are boxes and labels. Ignored ground truth is gray. The image is scaled to
    fit 360 by 480 pixels, its aspect kept; it is not enlarged by more than 3.
    """
    height, width = (_MAX_ENLARGEMENT * side for side in image.shape[:2])
    scaled = scale_to_fit(image, min(height, _HEIGHT), min(width, _WIDTH))
    left = draw_boxes(scaled, *truth, classes, ignore=ignore)
    right = draw_boxes(scaled, *found, classes, scores=scores)
    panels = [add_caption(panel, text) for panel, text in zip((left, right), captions)]
    return image_grid(panels, 2, _GAP)
