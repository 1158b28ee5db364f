"""Oracles of augmentation: loops in float64 over numbers that somebody else has drawn.

After the paper, Caffe's samplers and torchvision's reference transforms. Imports nothing of the
package. Boxes and patches are corners [x_min, y_min, x_max, y_max], normalized; colors are RGB in
0 ... 255.
"""

import colorsys
import math

import numpy as np


def _between(low, high, uniform):
    return low + (high - low) * uniform


def aspect_patch(uniform, scale, aspect_ratio):
    """Caffe: a scale, then an aspect ratio that fits it, then the place. Four uniform numbers."""
    s = _between(*scale, uniform[0])
    ratio = _between(max(aspect_ratio[0], s**2), min(aspect_ratio[1], s**-2), uniform[1])
    w, h = s * math.sqrt(ratio), s / math.sqrt(ratio)
    x, y = (1 - w) * uniform[2], (1 - h) * uniform[3]
    return [x, y, x + w, y + h]


def sides_patch(uniform, scale, aspect_ratio):
    """Most ports: width and height apart, then the place; None where the aspect ratio is out."""
    w, h = _between(*scale, uniform[0]), _between(*scale, uniform[1])
    if not aspect_ratio[0] <= w / h <= aspect_ratio[1]:
        return None
    x, y = (1 - w) * uniform[2], (1 - h) * uniform[3]
    return [x, y, x + w, y + h]


def _overlap(a, b):
    w = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
    h = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (a, b)]
    return w * h / (sum(areas) - w * h)


def holds_center(patch, box):
    """Whether the center of a box lies inside a patch."""
    x, y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
    return patch[0] < x < patch[2] and patch[1] < y < patch[3]


def success_crop(trials, boxes, min_ious, pick):
    """Caffe: the patches that samplers accept beside the whole image, and the pick of them.

    `trials` [S][T] are patches of the samplers with a minimum IoU and, last, of the one that asks
    for at most 1. A sampler accepts its first patch with which one box at least satisfies it.
    `pick` is a function from a number of choices to one of them.
    """
    accepted = [[0.0, 0.0, 1.0, 1.0]]
    for patches, least in zip(trials, [*min_ious, 0.0], strict=True):
        for patch in patches:
            if patch is not None and any(_overlap(patch, box) >= least for box in boxes):
                accepted.append(patch)
                break
    return accepted[pick(len(accepted))]


def mode_crop(rounds, boxes, min_ious, accept):
    """torchvision: a mode first, then trials of it; if all fail, the next round draws a mode.

    `rounds` are (mode, patches [T]): mode 0 is the whole image, then any IoU, then each minimum.
    A patch must hold the center of a box; of those boxes one must reach the minimum, or, when
    `accept` is "all", every box of the image must.
    """
    for mode, patches in rounds:
        if mode == 0:
            return [0.0, 0.0, 1.0, 1.0]
        least = [0.0, *min_ious][mode - 1]
        for patch in patches:
            if patch is None:
                continue
            inside = [box for box in boxes if holds_center(patch, box)]
            asked = inside if accept == "any" else boxes
            reached = [_overlap(patch, box) >= least for box in asked]
            if inside and (any(reached) if accept == "any" else all(reached)):
                return patch
    raise AssertionError("no round ended: draw more")


def zoomed(boxes, ratio, x, y):
    """Boxes on a canvas `ratio` times the sides, the image at parts x and y of what is free."""
    shift = np.array([x, y, x, y], np.float64) * (ratio - 1)
    return (np.asarray(boxes, np.float64) + shift) / ratio


def emitted(boxes, patch):
    """(boxes [N, 4] in the patch, clipped to it, which [N] are kept): those with the center in."""
    x, y, w, h = patch[0], patch[1], patch[2] - patch[0], patch[3] - patch[1]
    shifted = (np.asarray(boxes, np.float64) - [x, y, x, y]) / [w, h, w, h]
    return np.clip(shifted, 0, 1), np.array([holds_center(patch, box) for box in boxes], bool)


def _held(color):
    return [min(max(value, 0.0), 255.0) for value in color]


def _in_hsv(color, change):
    h, s, v = colorsys.rgb_to_hsv(*(value / 255 for value in color))
    return [255 * value for value in colorsys.hsv_to_rgb(*change(h, s, v))]


def distort(colors, brightness, contrast, saturation, hue, contrast_first):
    """Colors [N, 3] distorted in Caffe's order, each operation held within 0 ... 255.

    A shift, a factor, a factor and a part of a turn. Brightness, then contrast, saturation and
    hue, or saturation, hue and contrast.
    """
    found = []
    for color in np.asarray(colors, np.float64).tolist():
        color = _held([value + brightness for value in color])
        if contrast_first:
            color = _held([value * contrast for value in color])
        color = _in_hsv(color, lambda h, s, v: (h, min(s * saturation, 1.0), v))
        color = _in_hsv(color, lambda h, s, v: ((h + hue) % 1.0, s, v))
        if not contrast_first:
            color = _held([value * contrast for value in color])
        found.append(color)
    return np.array(found, np.float64)
