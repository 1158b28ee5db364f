"""Positive priors and selected negatives on an image."""

import numpy as np
from jaxtyping import Float, Int, UInt8

from ssd_jax.visualize.images import image_grid
from ssd_jax.visualize.panels import GROUND_TRUTH, NEGATIVE, POSITIVE, center_dots, draw_panel

_MAX_HARDEST, _COLUMNS = 24, 2


def draw_negatives(
    image: UInt8[np.ndarray, "H W 3"],
    boxes: Float[np.ndarray, "N 4"],
    priors: Float[np.ndarray, "A 4"],
    positives: Int[np.ndarray, " P"],
    negatives: Int[np.ndarray, " K"],
    network: str,
) -> UInt8[np.ndarray, "_ _ 3"]:
    """Two panels with the ground truth: the centers of positives and negatives, and the hardest
    negatives themselves.

    `positives` and `negatives` are rows of `priors`, negatives by falling loss; `network` says
    whose losses these are.
    """
    dots, hardest = center_dots(priors, image.shape[:2]), negatives[:_MAX_HARDEST]
    ground_truth = (boxes, GROUND_TRUTH)
    centers = draw_panel(
        image,
        [ground_truth, (dots[positives], POSITIVE), (dots[negatives], NEGATIVE)],
        f"{len(positives)} positive priors (blue), {len(negatives)} negatives (red)\n"
        f"of {len(priors)}: their centers",
    )
    whole = draw_panel(
        image,
        [ground_truth, (priors[hardest], NEGATIVE)],
        f"the {len(hardest)} hardest negatives\n{network}",
    )
    return image_grid([centers, whole], _COLUMNS)
