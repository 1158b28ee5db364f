"""Priors (default boxes): the level table of a config -> boxes [A, 4], in *the* order.

A level is one feature map. Each of its cells carries, in this order: the square of the level's
size s, the square of side √(s·s′) that leans towards the next size s′, then for each aspect
ratio r the boxes r and 1/r (Caffe, `prior_box_layer.cpp`). Cells run row by row, levels from
fine to coarse; the heads flatten their outputs in the same order, and nothing else may.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from ml_collections import ConfigDict

from ssd_jax import boxes
from ssd_jax.errors import ConfigError

CLIPS = ("none", "corners", "size", "center_size")
Sizes = tuple[tuple[float, float], ...]


class Priors(NamedTuple):
    """All priors of a detector: corners, normalized, and how they spread over levels and cells."""

    boxes: Float[np.ndarray, "A 4"]
    per_cell: tuple[int, ...]
    maps: tuple[tuple[int, int], ...]


def make(
    config: ConfigDict, image_size: tuple[int, int], maps: Sequence[tuple[int, int]]
) -> Priors:
    """Priors for feature maps of `maps` (rows, columns) under an image of `image_size` (H, W).

    `config` is the `priors` block of an experiment; sizes are in pixels of the network's input.
    Raises ConfigError when the table does not fit the number of maps.
    """
    cells = cell_sizes(config, image_size, len(maps))
    steps = cell_steps(config, image_size, maps)
    levels = [_level(*level, image_size) for level in zip(maps, cells, steps)]
    all_boxes = _clipped(np.concatenate(levels), config.clip).astype(np.float32)
    return Priors(all_boxes, tuple(len(sizes) for sizes in cells), tuple(map(tuple, maps)))


def cell_sizes(config: ConfigDict, image_size: tuple[int, int], levels: int) -> tuple[Sizes, ...]:
    """Per level, the (width, height) in pixels of each prior of a cell, in order.

    The size after a level's own is s′ of its extra square, so there is one size more than
    levels. An explicit `config.first_level` replaces the boxes of the finest level (TensorFlow's
    "reduced lowest layer"). `config.truncate` cuts sizes to integers, as Caffe's layer does.
    """
    sizes = config.sizes or paper_sizes(config.formula, min(image_size), levels)
    if config.truncate:
        sizes = tuple(np.floor(sizes).tolist())
    if config.extra_square == "none":
        sizes = (*sizes[:levels], 0.0)
    _check_lengths(levels, aspect_ratios=config.aspect_ratios)
    _check_lengths(levels + 1, sizes=sizes)
    cells = [
        _cell(size, next_size, ratios, config.extra_square)
        for size, next_size, ratios in zip(sizes[:-1], sizes[1:], config.aspect_ratios)
    ]
    if config.first_level:
        cells[0] = tuple((float(width), float(height)) for width, height in config.first_level)
    return tuple(cells)


def cell_steps(
    config: ConfigDict, image_size: tuple[int, int], maps: Sequence[tuple[int, int]]
) -> tuple[tuple[float, float], ...]:
    """Per level, pixels (down, across) between the centers of neighboring cells.

    A map without a step in `config.steps` is an even grid over the image.
    """
    if config.steps:
        _check_lengths(len(maps), steps=config.steps)
        return tuple((step, step) for step in config.steps)
    return tuple((image_size[0] / rows, image_size[1] / columns) for rows, columns in maps)


def paper_sizes(formula: ConfigDict, side: int, levels: int) -> tuple[float, ...]:
    """Sizes s_k = s_min + (s_max - s_min)(k - 1)/(m - 1) in pixels of an image of `side`.

    Paper equation 4, k = 1 … m over the levels. A positive `formula.first` is the scale of an
    additional finest level below s_min, and m then counts the others (paper section 3.1:
    conv4_3 at 0.1). One size more than levels is returned: the next size of the last level.
    """
    count = levels - (formula.first > 0)
    step = (formula.s_max - formula.s_min) / max(count - 1, 1)
    scales = [formula.s_min + step * k for k in range(count + 1)]
    if formula.first > 0:
        scales.insert(0, formula.first)
    return tuple(scale * side for scale in scales)


def _cell(size: float, next_size: float, ratios: Sequence[float], extra_square: str) -> Sizes:
    """(width, height) of each prior of one cell."""
    square = (float(size), float(size))
    extra = (float(np.sqrt(size * next_size)),) * 2
    ratios = [value for ratio in ratios for value in (ratio, 1 / ratio)]
    stretched = [(size * np.sqrt(ratio), size / np.sqrt(ratio)) for ratio in ratios]
    orders = {
        "second": [square, extra, *stretched],
        "last": [square, *stretched, extra],
        "none": [square, *stretched],
    }
    if extra_square not in orders:
        raise ConfigError(f"config.priors.extra_square={extra_square!r}: one of {sorted(orders)}")
    return tuple((float(width), float(height)) for width, height in orders[extra_square])


def _level(
    cells: tuple[int, int], sizes: Sizes, step: tuple[float, float], image_size: tuple[int, int]
) -> Float[np.ndarray, "N 4"]:
    """Priors of one map of `cells` (rows, columns)."""
    (rows, columns), (height, width), (step_y, step_x) = cells, image_size, step
    y = (np.arange(rows) + 0.5) * step_y / height
    x = (np.arange(columns) + 0.5) * step_x / width
    y, x = np.meshgrid(y, x, indexing="ij")  # [rows, columns]
    center = np.stack([x, y], axis=-1)[:, :, None, :]  # [rows, columns, 1, 2]
    size = np.asarray(sizes, np.float64) / (width, height)  # [per cell, 2]
    center, size = np.broadcast_arrays(center, size)  # [rows, columns, per cell, 2]
    return boxes.to_corners(np.concatenate([center, size], axis=-1)).reshape(-1, 4)


def _clipped(all_boxes: Float[np.ndarray, "A 4"], clip: str) -> Float[np.ndarray, "A 4"]:
    """Priors held inside the image by their corners, their sizes, or centers and sizes.

    "corners" is amdegroot/ssd.pytorch's, "size" torchvision's, "center_size" MLPerf's and NVIDIA's.
    """
    if clip not in CLIPS:
        raise ConfigError(f"config.priors.clip={clip!r}: one of {', '.join(CLIPS)}")
    if clip == "none":
        return all_boxes
    if clip == "corners":
        return boxes.clip(all_boxes)
    boxes_cxcywh = boxes.to_cxcywh(all_boxes)
    held = slice(2, 4) if clip == "size" else slice(0, 4)
    boxes_cxcywh[:, held] = boxes_cxcywh[:, held].clip(0.0, 1.0)
    return boxes.to_corners(boxes_cxcywh)


def _check_lengths(wanted: int, **tables: Sequence) -> None:
    for name, table in tables.items():
        if len(table) != wanted:
            raise ConfigError(
                f"config.priors.{name} has {len(table)} entries and the model's maps ask for "
                f"{wanted} (one a map; of sizes one more, after the last)"
            )
