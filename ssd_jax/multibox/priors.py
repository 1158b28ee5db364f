"""Priors (default boxes): the level table of a config -> boxes [A, 4], in *the* order.

A level is one feature map. Each of its locations has these priors, in this order: the square of
the level's size s; the extra square of side √(s·s′), where s′ is the size of the next level; then
for each aspect ratio r one box of ratio r and one of 1/r (Caffe, `prior_box_layer.cpp`). Locations
run row by row, levels from fine to coarse. The heads flatten their outputs in the same order.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from ml_collections import ConfigDict

from ssd_jax.errors import ConfigError
from ssd_jax.multibox import boxes as box_ops

RECALL_IOU = 0.5  # from which a prior counts as matching a box
_BOXES_AT_ONCE = 50  # compared with all priors, so that memory stays small

Shapes = tuple[tuple[float, float], ...]  # (width, height) of each prior of a location, in pixels


class Priors(NamedTuple):
    """All priors of a detector, and how they spread over levels and locations."""

    boxes: Float[np.ndarray, "A 4"]  # normalized corners
    priors_per_location: tuple[int, ...]  # by level
    feature_map_sizes: tuple[tuple[int, int], ...]  # (rows, columns) by level


def make_priors(
    config: ConfigDict, image_size: tuple[int, int], feature_map_sizes: Sequence[tuple[int, int]]
) -> Priors:
    """Priors for feature maps of these (rows, columns) under an image of `image_size` (H, W).

    `config` is the `priors` block of an experiment; its sizes are in pixels of the network's
    input. Raises ConfigError when its tables do not fit the number of maps.
    """
    shapes = prior_shapes(config, image_size, len(feature_map_sizes))
    strides = level_strides(config, image_size, feature_map_sizes)
    levels = [_level_boxes(*level, image_size) for level in zip(feature_map_sizes, shapes, strides)]
    boxes = _clip_priors(np.concatenate(levels), config.clip).astype(np.float32)
    return Priors(boxes, tuple(map(len, shapes)), tuple(map(tuple, feature_map_sizes)))


def best_iou(
    boxes: Float[np.ndarray, "N 4"], priors: Float[np.ndarray, "A 4"]
) -> Float[np.ndarray, " N"]:
    """IoU of each box with the prior that overlaps it most."""
    parts = np.split(boxes, range(_BOXES_AT_ONCE, len(boxes), _BOXES_AT_ONCE))
    return np.concatenate([box_ops.iou(part, priors).max(1) for part in parts])


def recall(
    best_ious: Float[np.ndarray, " N"], labels: Int[np.ndarray, " N"] | None = None
) -> float:
    """Prior recall: the share of boxes whose best prior has an IoU of at least 0.5.

    With `labels` it is a mean over classes, as mAP is, so that a class of many large boxes does
    not hide one of few small ones. NaN without boxes.
    """
    if not len(best_ious):
        return float("nan")
    reached = best_ious >= RECALL_IOU
    if labels is None:
        return float(reached.mean())
    return float(np.mean([reached[labels == label].mean() for label in np.unique(labels)]))


def prior_shapes(
    config: ConfigDict, image_size: tuple[int, int], levels: int
) -> tuple[Shapes, ...]:
    """Per level, the (width, height) in pixels of each prior of a location, in order.

    There is one size more than levels: the size after a level's own is s′ of its extra square. An
    explicit `config.first_level` replaces the shapes of the finest level (TensorFlow's "reduced
    lowest layer"). `config.floor_sizes` rounds sizes down to integers, as Caffe's layer does.
    """
    sizes = config.sizes or formula_sizes(config.formula, min(image_size), levels)
    if config.floor_sizes:
        sizes = tuple(np.floor(sizes).tolist())
    if config.extra_square == "none":
        sizes = (*sizes[:levels], 0.0)
    _check_length("aspect_ratios", config.aspect_ratios, levels)
    _check_length("sizes", sizes, levels + 1)
    shapes = [
        _shapes_at_location(size, next_size, ratios, config.extra_square)
        for size, next_size, ratios in zip(sizes[:-1], sizes[1:], config.aspect_ratios)
    ]
    if config.first_level:
        shapes[0] = tuple((float(width), float(height)) for width, height in config.first_level)
    return tuple(shapes)


def level_strides(
    config: ConfigDict, image_size: tuple[int, int], feature_map_sizes: Sequence[tuple[int, int]]
) -> tuple[tuple[float, float], ...]:
    """Per level, pixels (down, across) between the centers of neighboring locations.

    Without `config.strides` the locations of each map are an even grid over the image.
    """
    if config.strides:
        _check_length("strides", config.strides, len(feature_map_sizes))
        return tuple((stride, stride) for stride in config.strides)
    height, width = image_size
    return tuple((height / rows, width / columns) for rows, columns in feature_map_sizes)


def formula_sizes(formula: ConfigDict, side: int, levels: int) -> tuple[float, ...]:
    """Sizes s_k = s_min + (s_max - s_min)(k - 1)/(m - 1) in pixels of an image of `side`.

    Paper equation 4, k = 1 … m over the levels. A positive `formula.first` is the scale of an
    additional finest level below s_min, and m then counts the other levels (paper section 3.1:
    conv4_3 at 0.1). One size more than levels is returned: the next size of the last level.
    """
    count = levels - (formula.first > 0)
    step = (formula.s_max - formula.s_min) / max(count - 1, 1)
    scales = [formula.s_min + step * k for k in range(count + 1)]
    if formula.first > 0:
        scales.insert(0, formula.first)
    return tuple(scale * side for scale in scales)


def _shapes_at_location(
    size: float, next_size: float, aspect_ratios: Sequence[float], extra_square: str
) -> Shapes:
    square = (size, size)
    extra = (np.sqrt(size * next_size),) * 2
    ratios = [value for ratio in aspect_ratios for value in (ratio, 1 / ratio)]
    rectangles = [(size * np.sqrt(ratio), size / np.sqrt(ratio)) for ratio in ratios]
    shapes = {
        "second": [square, extra, *rectangles],
        "last": [square, *rectangles, extra],
        "none": [square, *rectangles],
    }[extra_square]
    return tuple((float(width), float(height)) for width, height in shapes)


def _level_boxes(
    map_size: tuple[int, int],
    shapes: Shapes,
    stride: tuple[float, float],
    image_size: tuple[int, int],
) -> Float[np.ndarray, "N 4"]:
    """Priors of one level, normalized corners."""
    (rows, columns), (height, width), (stride_y, stride_x) = map_size, image_size, stride
    y = (np.arange(rows) + 0.5) * stride_y / height
    x = (np.arange(columns) + 0.5) * stride_x / width
    y, x = np.meshgrid(y, x, indexing="ij")  # [rows, columns]
    center = np.stack([x, y], axis=-1)[:, :, None, :]  # [rows, columns, 1, 2]
    size = np.asarray(shapes, np.float64) / (width, height)  # [per location, 2]
    center, size = np.broadcast_arrays(center, size)  # [rows, columns, per location, 2]
    return box_ops.to_corners(np.concatenate([center, size], axis=-1)).reshape(-1, 4)


def _clip_priors(boxes: Float[np.ndarray, "A 4"], clip: str) -> Float[np.ndarray, "A 4"]:
    """Priors clipped to the image by their corners, their sizes, or centers and sizes.

    "corners" is amdegroot/ssd.pytorch's, "size" torchvision's, "center_size" MLPerf's and NVIDIA's.
    """
    if clip == "none":
        return boxes
    if clip == "corners":
        return box_ops.clip(boxes)
    boxes_cxcywh = box_ops.to_cxcywh(boxes)
    clipped = slice(2, 4) if clip == "size" else slice(0, 4)
    boxes_cxcywh[:, clipped] = boxes_cxcywh[:, clipped].clip(0.0, 1.0)
    return box_ops.to_corners(boxes_cxcywh)


def _check_length(field: str, table: Sequence, expected: int) -> None:
    if len(table) != expected:
        raise ConfigError(
            f"config.priors.{field} has {len(table)} entries and the model's feature maps need "
            f"{expected} (one a map; of sizes one more, after the last)"
        )
