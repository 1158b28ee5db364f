"""Boxes: forms, area, IoU, clipping, and the SSD encoding against priors.

The package holds boxes as corners `[x_min, y_min, x_max, y_max]`, normalized to [0, 1]; another
form is named (`boxes_cxcywh`). Every function takes NumPy arrays and returns NumPy arrays, or
takes JAX arrays and returns JAX arrays, and leading axes may be anything that broadcasts.
"""

import numpy as np
from jaxtyping import Array, Float

Boxes = Float[Array | np.ndarray, "*batch 4"]
VARIANCES = (0.1, 0.1, 0.2, 0.2)


def area(boxes: Boxes) -> Float[Array | np.ndarray, "*batch"]:
    """Area of each box [..., 4] -> [...]; 0 where the corners are reversed."""
    xp = boxes.__array_namespace__()
    side = xp.maximum(boxes[..., 2:] - boxes[..., :2], 0.0)  # [..., 2]
    return side[..., 0] * side[..., 1]


def intersection(
    a: Float[Array | np.ndarray, "*batch N 4"], b: Float[Array | np.ndarray, "*batch M 4"]
) -> Float[Array | np.ndarray, "*batch N M"]:
    """Area that each box of `a` [..., N, 4] shares with each box of `b` [..., M, 4]."""
    xp = a.__array_namespace__()
    a, b = a[..., :, None, :], b[..., None, :, :]
    width = xp.minimum(a[..., 2], b[..., 2]) - xp.maximum(a[..., 0], b[..., 0])  # [..., N, M]
    height = xp.minimum(a[..., 3], b[..., 3]) - xp.maximum(a[..., 1], b[..., 1])
    return xp.maximum(width, 0.0) * xp.maximum(height, 0.0)


def iou(
    a: Float[Array | np.ndarray, "*batch N 4"], b: Float[Array | np.ndarray, "*batch M 4"]
) -> Float[Array | np.ndarray, "*batch N M"]:
    """Intersection over union (Jaccard overlap, paper section 2.2) of all pairs.

    `a` [..., N, 4] and `b` [..., M, 4] -> [..., N, M] in [0, 1]; 0 where both have no area.
    """
    xp = a.__array_namespace__()
    shared = intersection(a, b)
    union = area(a)[..., :, None] + area(b)[..., None, :] - shared
    tiny = xp.finfo(shared.dtype).tiny
    return shared / xp.maximum(union, tiny)


def clip(boxes: Boxes) -> Boxes:
    """Boxes [..., 4] cut at the borders of the image."""
    return boxes.__array_namespace__().clip(boxes, 0.0, 1.0)


def to_cxcywh(boxes: Boxes) -> Boxes:
    """Corners [..., 4] -> center and size [..., 4]."""
    low, high = boxes[..., :2], boxes[..., 2:]
    return boxes.__array_namespace__().concatenate([(low + high) / 2, high - low], axis=-1)


def to_corners(boxes_cxcywh: Boxes) -> Boxes:
    """Center and size [..., 4] -> corners [..., 4]."""
    center, half = boxes_cxcywh[..., :2], boxes_cxcywh[..., 2:] / 2
    return boxes_cxcywh.__array_namespace__().concatenate([center - half, center + half], axis=-1)


def encode(
    boxes: Boxes, priors: Boxes, variances: tuple[float, float, float, float] = VARIANCES
) -> Boxes:
    """Regression targets of boxes [..., 4] against priors [..., 4] (paper equation 2).

    Offsets are (cx, cy, w, h): the shift of the center in prior sizes and the logarithm of the
    ratio of sizes, each divided by its variance as in Caffe (`bbox_util.cpp`). A box without
    area is given the side 1e-6, so that no target is infinite.
    """
    xp = boxes.__array_namespace__()
    boxes_cxcywh, priors_cxcywh = to_cxcywh(boxes), to_cxcywh(priors)
    prior_size = priors_cxcywh[..., 2:]
    shift = (boxes_cxcywh[..., :2] - priors_cxcywh[..., :2]) / prior_size
    ratio = xp.log(xp.maximum(boxes_cxcywh[..., 2:], 1e-6) / prior_size)
    offsets = xp.concatenate([shift, ratio], axis=-1)
    return offsets / _broadcast_variances(variances, offsets)


def decode(
    offsets: Boxes, priors: Boxes, variances: tuple[float, float, float, float] = VARIANCES
) -> Boxes:
    """Inverse of `encode`: offsets [..., 4] at priors [..., 4] -> boxes [..., 4], not clipped.

    The log-size is held below log(1000 / 16), so that a wild prediction stays finite
    (torchvision's bound).
    """
    xp = offsets.__array_namespace__()
    offsets = offsets * _broadcast_variances(variances, offsets)
    priors_cxcywh = to_cxcywh(priors)
    prior_size = priors_cxcywh[..., 2:]
    center = priors_cxcywh[..., :2] + offsets[..., :2] * prior_size
    size = prior_size * xp.exp(xp.minimum(offsets[..., 2:], float(np.log(1000 / 16))))
    return to_corners(xp.concatenate([center, size], axis=-1))


def _broadcast_variances(variances: tuple[float, ...], like: Boxes) -> Boxes:
    """Variances in the dtype and rank of `like`, so that strict promotion holds."""
    xp = like.__array_namespace__()
    return xp.broadcast_to(xp.asarray(variances, dtype=like.dtype), like.shape)
