"""A training batch as a picture: what the network is trained on."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int, UInt8

from ssd_jax.visualize.boxes import draw_boxes
from ssd_jax.visualize.images import image_grid

_COLUMNS = 4


def draw_batch(
    images: UInt8[np.ndarray, "B H W 3"],
    boxes: Float[np.ndarray, "B M 4"],
    labels: Int[np.ndarray, "B M"],
    classes: Sequence[str],
) -> UInt8[np.ndarray, "_ _ 3"]:
    """A grid of augmented images with their boxes; label 0 is padding."""
    return image_grid(
        [
            draw_boxes(
                image, image_boxes[image_labels != 0], image_labels[image_labels != 0], classes
            )
            for image, image_boxes, image_labels in zip(images, boxes, labels)
        ],
        _COLUMNS,
    )
