"""Best IoU of truths with the priors of a shape, from the geometry of the grid: no list of priors.

The priors of a shape on one map lie on a grid, and the IoU of a box with them falls on either side
of what fits best, so that two cells an axis decide (four where priors are clipped at their corners
and shrink towards the border). The work does not grow with the number of cells.
"""

from typing import NamedTuple

import numpy as np
from ml_collections import ConfigDict

from ssd_jax import priors
from ssd_jax.models import ssd


class Grid(NamedTuple):
    """The maps under a network's input, and how priors are laid on them."""

    image_size: tuple[int, int]  # (H, W)
    maps: tuple[tuple[int, int], ...]  # (rows, columns) of each level
    steps: tuple[tuple[float, float], ...]  # (down, across) in pixels
    clip: str  # priors.CLIPS


def grid(config: ConfigDict) -> Grid:
    """The grid of an experiment, whatever its sizes and aspect ratios."""
    maps = ssd.feature_sizes(config.model, config.image_size)
    steps = priors.cell_steps(config.priors, config.image_size, maps)
    return Grid(tuple(config.image_size), maps, steps, config.priors.clip)


def best_iou(boxes: np.ndarray, table: Grid, level: int, shape: tuple[float, float]) -> np.ndarray:
    """Best IoU [N] of boxes [N, 4] inside the image, normalized, with the priors of one shape.

    `shape` is the (width, height) in pixels of a prior of the level's cells. Equal to the largest
    of `boxes.iou` with all of them, but for rounding.
    """
    height, width = table.image_size
    (rows, columns), (down, across) = table.maps[level], table.steps[level]
    corners = boxes * np.array([width, height, width, height], boxes.dtype)  # pixels
    x, x_side = _axis(corners[:, 0], corners[:, 2], shape[0], across, columns, width, table.clip)
    y, y_side = _axis(corners[:, 1], corners[:, 3], shape[1], down, rows, height, table.clip)
    area = (corners[:, 2] - corners[:, 0]) * (corners[:, 3] - corners[:, 1])
    shared = x[:, None] * y[None]  # [cells across, cells down, N]
    union = area + x_side[:, None] * y_side[None] - shared
    tiny = np.finfo(boxes.dtype).tiny
    return (shared / np.maximum(union, tiny)).max(axis=(0, 1))


def _axis(
    low: np.ndarray, high: np.ndarray, side: float, step: float, count: int, limit: int, clip: str
) -> tuple[np.ndarray, np.ndarray]:
    """Of the cells that may be best, the length shared with [low, high] and that of the prior.

    Both [K, N] in pixels, K = 4 with clipped corners, where fitting best can mean another cell
    for another length across, else K = 1.
    """
    if clip in ("size", "center_size"):
        side = min(side, limit)
    middle = (low + high) / 2
    # Within this distance of the middle, the shorter of prior and truth lies inside the longer.
    slack = np.abs(side - (high - low)) / 2 if clip == "corners" else np.zeros_like(middle)
    ends = np.stack([middle - slack, middle + slack][: 2 if clip == "corners" else 1])
    below = np.floor(ends / step - 0.5)
    cells = np.concatenate([below, below + 1]).clip(0, count - 1)  # [K, N]
    center = (cells + 0.5) * step
    if clip == "center_size":
        center = center.clip(0, limit)
    first, last = center - side / 2, center + side / 2
    if clip == "corners":
        first, last = first.clip(0, limit), last.clip(0, limit)
    shared = np.maximum(np.minimum(last, high) - np.maximum(first, low), 0)
    if clip == "corners":
        return shared, last - first
    return shared.max(axis=0, keepdims=True), np.full_like(shared[:1], side)
