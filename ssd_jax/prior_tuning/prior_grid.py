"""The grid that priors lie on, and the best IoU with it from geometry, without a list of priors.

The priors of one shape on one feature map lie on a grid, and their IoU with a box falls on either
side of the best fit. Two locations on each axis therefore decide; four where priors are clipped by
their corners and shrink towards the border. The work does not grow with the number of locations.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from ml_collections import ConfigDict

from ssd_jax.models import ssd
from ssd_jax.multibox.priors import level_strides


class PriorGrid(NamedTuple):
    """The feature maps of a network, and how priors lie on them."""

    image_size: tuple[int, int]  # (H, W) of the network's input
    feature_map_sizes: tuple[tuple[int, int], ...]  # (rows, columns) by level
    strides: tuple[tuple[float, float], ...]  # (down, across) in pixels, by level
    clip: str  # config.priors.clip


def make_prior_grid(config: ConfigDict) -> PriorGrid:
    """The grid of an experiment; sizes and aspect ratios of its priors do not matter."""
    map_sizes = ssd.feature_map_sizes(config.model, config.image_size)
    strides = level_strides(config.priors, config.image_size, map_sizes)
    return PriorGrid(tuple(config.image_size), map_sizes, strides, config.priors.clip)


def best_iou_on_grid(
    boxes: Float[np.ndarray, "N 4"], grid: PriorGrid, level: int, shape: tuple[float, float]
) -> Float[np.ndarray, " N"]:
    """Best IoU of normalized boxes inside the image with the priors of one shape on one level.

    `shape` is (width, height) in pixels. Equal to the largest of `boxes.iou` with all of these
    priors, but for rounding.
    """
    height, width = grid.image_size
    rows, columns = grid.feature_map_sizes[level]
    stride_y, stride_x = grid.strides[level]
    corners = boxes * np.array([width, height, width, height], boxes.dtype)  # pixels
    x_min, y_min, x_max, y_max = corners.T
    shared_x, side_x = _overlap_on_axis(x_min, x_max, shape[0], stride_x, columns, width, grid.clip)
    shared_y, side_y = _overlap_on_axis(y_min, y_max, shape[1], stride_y, rows, height, grid.clip)
    area = (x_max - x_min) * (y_max - y_min)
    intersection = shared_x[:, None] * shared_y[None]  # [K across, K down, N]
    union = area + side_x[:, None] * side_y[None] - intersection
    tiny = np.finfo(boxes.dtype).tiny
    return (intersection / np.maximum(union, tiny)).max(axis=(0, 1))


def _overlap_on_axis(
    low: Float[np.ndarray, " N"],
    high: Float[np.ndarray, " N"],
    side: float,
    stride: float,
    count: int,
    image_side: int,
    clip: str,
) -> tuple[Float[np.ndarray, "K N"], Float[np.ndarray, "K N"]]:
    """For the locations that may be best: the length shared with [low, high], and the prior's.

    Lengths are in pixels. K is 1, and 4 for priors clipped by their corners, where the best
    location on one axis depends on the length on the other.
    """
    if clip in ("size", "center_size"):
        side = min(side, image_side)
    middle = (low + high) / 2
    # Within this distance of the middle, the shorter of prior and box lies inside the longer.
    slack = np.abs(side - (high - low)) / 2 if clip == "corners" else np.zeros_like(middle)
    ends = np.stack([middle - slack, middle + slack][: 2 if clip == "corners" else 1])
    below = np.floor(ends / stride - 0.5)
    locations = np.concatenate([below, below + 1]).clip(0, count - 1)  # [K, N]
    center = (locations + 0.5) * stride
    if clip == "center_size":
        center = center.clip(0, image_side)
    first, last = center - side / 2, center + side / 2
    if clip == "corners":
        first, last = first.clip(0, image_side), last.clip(0, image_side)
    shared = np.maximum(np.minimum(last, high) - np.maximum(first, low), 0)
    if clip == "corners":
        return shared, last - first
    return shared.max(axis=0, keepdims=True), np.full_like(shared[:1], side)
