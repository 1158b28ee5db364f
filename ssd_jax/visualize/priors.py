"""Priors on an image, a panel for each feature map."""

import cv2
import numpy as np
from jaxtyping import UInt8

from ssd_jax.multibox.priors import Priors
from ssd_jax.visualize.images import image_grid
from ssd_jax.visualize.panels import CENTER, center_dots, draw_panel

_MARGIN = 0.15  # white around the image, of its sides, since priors reach beyond it
_COLUMNS = 3


def draw_priors(
    image: UInt8[np.ndarray, "H W 3"], priors: Priors, input_size: tuple[int, int]
) -> UInt8[np.ndarray, "_ _ 3"]:
    """A panel for each feature map: the centers of all locations, and the priors of the middle one.

    Captions give the priors' sides in pixels of the network's input, of `input_size` (H, W).
    """
    canvas = _add_margin(image)
    panels, start = [], 0
    levels = zip(priors.feature_map_sizes, priors.priors_per_location)
    for level, ((rows, columns), count) in enumerate(levels, start=1):
        stop = start + rows * columns * count
        boxes = priors.boxes[start:stop].reshape(-1, count, 4)
        sides = (boxes[0, :, 2:] - boxes[0, :, :2]) * input_size[::-1]
        boxes = (boxes + _MARGIN) / (1 + 2 * _MARGIN)
        middle = boxes[rows // 2 * columns + columns // 2]
        layers = [(middle[i : i + 1], i + 1) for i in range(count)]
        layers.append((center_dots(boxes[:, 0], canvas.shape[:2]), CENTER))
        text = ", ".join(f"{width:.0f}x{height:.0f}" for width, height in sides)
        caption = f"level {level}: {rows} x {columns} locations, {count} priors each\n{text} px"
        panels.append(draw_panel(canvas, layers, caption))
        start = stop
    return image_grid(panels, _COLUMNS)


def _add_margin(image: UInt8[np.ndarray, "H W 3"]) -> UInt8[np.ndarray, "H W 3"]:
    """The image, scaled down, in the middle of white of the same size."""
    canvas = np.full_like(image, 255)
    height, width = (round(side / (1 + 2 * _MARGIN)) for side in image.shape[:2])
    top, left = (canvas.shape[0] - height) // 2, (canvas.shape[1] - width) // 2
    scaled = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
    canvas[top : top + height, left : left + width] = scaled
    return canvas
