"""Sizes of objects in pixels of the network's input, and COCO's classes of size."""

import numpy as np
from jaxtyping import Bool, Float

# Areas from and below, in pixels. COCO measures them in the original image, tuning in the input.
SIZE_RANGES = {"small": (0, 32**2), "medium": (32**2, 96**2), "large": (96**2, np.inf)}


def box_sides(
    boxes: Float[np.ndarray, "N 4"], image_size: tuple[int, int]
) -> Float[np.ndarray, "N 2"]:
    """Width and height of normalized boxes, in pixels of an image of `image_size` (H, W)."""
    return (boxes[:, 2:] - boxes[:, :2]) * image_size[::-1]


def has_size(areas: Float[np.ndarray, " N"], size: str) -> Bool[np.ndarray, " N"]:
    """Which areas, in pixels, are of a size: "small", "medium" or "large"."""
    low, high = SIZE_RANGES[size]
    return (low <= areas) & (areas < high)
