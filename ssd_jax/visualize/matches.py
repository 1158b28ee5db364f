"""Matches on an image: the priors that are trained to find each ground-truth box."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int, UInt8

from ssd_jax.multibox import boxes as box_ops
from ssd_jax.visualize.images import image_grid
from ssd_jax.visualize.panels import GROUND_TRUTH, POSITIVE, draw_panel
from ssd_jax.visualize.text import add_caption

_MAX_BOXES, _COLUMNS = 12, 4


def draw_matches(
    image: UInt8[np.ndarray, "H W 3"],
    boxes: Float[np.ndarray, "M 4"],
    labels: Int[np.ndarray, " M"],
    priors: Float[np.ndarray, "A 4"],
    matched_box: Int[np.ndarray, " A"],
    classes: Sequence[str],
) -> UInt8[np.ndarray, "_ _ 3"]:
    """A panel for each of the first boxes of a class: the box and the priors matched to it.

    Labels are those of a batch: a label below 1 is padding or ignored. `matched_box` is the row of
    the box that each prior is matched to, negative for none.
    """
    of_a_class = np.flatnonzero(labels > 0)
    panels = []
    for row in of_a_class[:_MAX_BOXES]:
        matched = priors[matched_box == row]
        best_iou = box_ops.iou(boxes[row : row + 1], priors).max()
        caption = (
            f"{classes[labels[row] - 1]} ({row + 1} of {len(of_a_class)}): "
            f"{len(matched)} priors, best IoU {best_iou:.2f}"
        )
        layers = [(boxes[row : row + 1], GROUND_TRUTH), (matched, POSITIVE)]
        panels.append(draw_panel(image, layers, caption))
    return image_grid(panels or [add_caption(image, "no box to match")], _COLUMNS)
