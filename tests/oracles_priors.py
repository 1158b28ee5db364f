"""Oracle of the priors: plain float64 loops, after the published rules of the originals.

Imports nothing of the package. Boxes are corners [x_min, y_min, x_max, y_max], normalized.
"""

import math
from itertools import pairwise

import numpy as np

# One row a level: cells along a side, step (pixels), aspect ratios beside 1.
SSD300 = [(38, 8, [2]), (19, 16, [2, 3]), (10, 32, [2, 3]), (5, 64, [2, 3])]
SSD300 += [(3, 100, [2]), (1, 300, [2])]
SSD512 = [(64, 8, [2]), (32, 16, [2, 3]), (16, 32, [2, 3]), (8, 64, [2, 3]), (4, 128, [2, 3])]
SSD512 += [(2, 256, [2]), (1, 512, [2])]

VOC300 = [30, 60, 111, 162, 213, 264, 315]
COCO300 = [21, 45, 99, 153, 207, 261, 315]
# The scripts write parts of 512 in percent: 7, 15, 30, 45, 60, 75, 90, 105 for VOC, and
# 4, 10, 26, 42, 58, 74, 90, 106 for COCO.
VOC512 = [35.84, 76.8, 153.6, 230.4, 307.2, 384.0, 460.8, 537.6]
COCO512 = [20.48, 51.2, 133.12, 215.04, 296.96, 378.88, 460.8, 542.72]


def cell(small, large, ratios, extra_square="second"):
    """(width, height) of each box of a cell: squares of both sizes, then r and 1/r of a ratio."""
    between = [(math.sqrt(small * large), math.sqrt(small * large))]
    ratio_boxes = []
    for ratio in ratios:
        root = math.sqrt(ratio)
        ratio_boxes += [(small * root, small / root), (small / root, small * root)]
    if extra_square == "second":
        return [(small, small), *between, *ratio_boxes]
    return [(small, small), *ratio_boxes, *(between if extra_square == "last" else [])]


def _held(low, value, high):
    return min(max(value, low), high)


def _clipped(x, y, w, h, clip):
    """Corners of a box by its center and size, all in parts of the image."""
    if clip == "center_size":
        x, y = _held(0, x, 1), _held(0, y, 1)
    if clip in ("center_size", "size"):
        w, h = _held(0, w, 1), _held(0, h, 1)
    corners = [x - w / 2, y - h / 2, x + w / 2, y + h / 2]
    return [_held(0, corner, 1) for corner in corners] if clip == "corners" else corners


def priors(levels, sizes, image_size, floor_sizes=False, extra_square="second", clip="none"):
    """Priors [A, 4] of a square image: rows of a map, columns of a row, then boxes of a cell.

    A level's sizes are neighbors in `sizes`, in pixels; Caffe has integers (`floor_sizes`).
    A level without a step is an even grid.
    """
    if floor_sizes:
        sizes = [math.floor(size) for size in sizes]
    found = []
    for (cells, step, ratios), (small, large) in zip(levels, pairwise(sizes), strict=True):
        step = image_size / cells if step is None else step
        for row in range(cells):
            for column in range(cells):
                x, y = (column + 0.5) * step / image_size, (row + 0.5) * step / image_size
                for w, h in cell(small, large, ratios, extra_square):
                    found.append(_clipped(x, y, w / image_size, h / image_size, clip))
    return np.array(found, np.float64)


def ssd300_voc_priors(**rules):
    """Priors [8732, 4] of ssd_pascal.py."""
    return priors(SSD300, VOC300, 300, **rules)


def ssd300_coco_priors(**rules):
    """Priors [8732, 4] of ssd_coco.py."""
    return priors(SSD300, COCO300, 300, **rules)


def ssd512_voc_priors(floor_sizes=True, **rules):
    """Priors [24564, 4]; Caffe cuts sizes to integers, 35.84 to 35, 76.8 to 76 ..."""
    return priors(SSD512, VOC512, 512, floor_sizes, **rules)


def mobilenet_v1_coco_priors():
    """Priors [1917, 4] of the TensorFlow Object Detection API's ssd_mobilenet_v1_coco."""
    scales = [0.2, 0.35, 0.5, 0.65, 0.8, 0.95, 1.0]
    found = []
    for level, cells in enumerate([19, 10, 5, 3, 2, 1]):
        if level == 0:
            pairs = [(0.1, 1), (0.2, 2), (0.2, 1 / 2)]
        else:
            pairs = [(scales[level], ratio) for ratio in [1, 2, 1 / 2, 3, 1 / 3]]
            pairs.append((math.sqrt(scales[level] * scales[level + 1]), 1))
        shapes = [(s * math.sqrt(ratio), s / math.sqrt(ratio)) for s, ratio in pairs]
        for row in range(cells):
            for column in range(cells):
                x, y = (column + 0.5) / cells, (row + 0.5) / cells
                found += [_clipped(x, y, w, h, "none") for w, h in shapes]
    return np.array(found, np.float64)
