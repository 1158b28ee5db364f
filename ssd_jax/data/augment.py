"""Geometric augmentation on the host: zoom-out, patch sampling and flips, then one warp.

The operations do not touch pixels. Each narrows, widens or mirrors a `View`, the window of the
image that the network will see, and `warp` resamples the uint8 image once. The boxes follow
through `boxes_in_view`. Outside the image everything is the mean color. Every operation has
the signature `(rng, view, boxes, **options) -> View`, with boxes [N, 4] of the image, and
defaults from the paper's code (Caffe: `ssd_pascal.py`, `sampler.cpp`, `im_transforms.cpp`).
"""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import Bool, Float, UInt8
from ml_collections import ConfigDict

from ssd_jax.types import Example

Fill = tuple[float, float, float]
Corners = tuple[float, float, float, float]  # plain numbers: NumPy is slow with four


class View(NamedTuple):
    """The part of an image that becomes the network's input: a window, then mirrored.

    `window` is x_min, y_min, x_max, y_max [4] in normalized coordinates of the image; it
    reaches beyond [0, 1] after zooming out.
    """

    window: Corners
    flip_x: bool = False
    flip_y: bool = False


FULL_IMAGE = View((0.0, 0.0, 1.0, 1.0))
Operation = Callable[[np.random.Generator, View, np.ndarray], View]


def to_view_coords(
    view: View, boxes: Float[np.ndarray, "*batch 4"]
) -> Float[np.ndarray, "*batch 4"]:
    """Boxes [..., 4] of the image -> the same in coordinates of the view, not clipped."""
    left, top, right, bottom = view.window
    width, height = right - left, bottom - top
    seen = (boxes - np.array([left, top, left, top])) / np.array([width, height, width, height])
    if view.flip_x:
        seen[..., [0, 2]] = 1 - seen[..., [2, 0]]
    if view.flip_y:
        seen[..., [1, 3]] = 1 - seen[..., [3, 1]]
    return seen


def crop(view: View, patch: Sequence[float]) -> View:
    """The view of a patch [4] of what `view` shows; a patch beyond [0, 1] zooms out."""
    x0, y0, x1, y1 = patch
    if view.flip_x:
        x0, x1 = 1 - x1, 1 - x0
    if view.flip_y:
        y0, y1 = 1 - y1, 1 - y0
    left, top, right, bottom = view.window
    width, height = right - left, bottom - top
    window = left + x0 * width, top + y0 * height, left + x1 * width, top + y1 * height
    return view._replace(window=window)


def boxes_in_view(
    view: View, boxes: Float[np.ndarray, "N 4"], crowds: Bool[np.ndarray, "N"] | bool = False
) -> tuple[Float[np.ndarray, "N 4"], Bool[np.ndarray, "N"]]:
    """Boxes [N, 4] of the image -> (boxes clipped to the view [N, 4], kept [N]).

    A box is kept when its center lies in the view (Caffe's emit constraint) and it has an area;
    of a crowd any visible part counts.
    """
    seen = to_view_coords(view, boxes)
    center = (seen[:, :2] + seen[:, 2:]) / 2
    inside = (center >= 0) & (center <= 1)
    clipped = seen.clip(0.0, 1.0).astype(np.float32)
    sides = clipped[:, 2:] - clipped[:, :2]
    return clipped, (inside[:, 0] & inside[:, 1] | crowds) & (sides[:, 0] * sides[:, 1] > 0)


def zoom_out(
    rng: np.random.Generator,
    view: View,
    boxes: Float[np.ndarray, "N 4"],
    *,
    probability: float = 0.5,
    max_ratio: float = 4.0,
) -> View:
    """With `probability`, puts the view anywhere in a canvas U(1, max_ratio) times its sides."""
    if rng.random() >= probability:
        return view
    ratio = rng.uniform(1.0, max_ratio)
    x, y = (-rng.uniform(0.0, ratio - 1.0, size=2)).tolist()
    return crop(view, (x, y, x + ratio, y + ratio))


def iou_crop(
    rng: np.random.Generator,
    view: View,
    boxes: Float[np.ndarray, "N 4"],
    *,
    min_ious: Sequence[float] = (0.1, 0.3, 0.5, 0.7, 0.9),
    scale: Sequence[float] = (0.3, 1.0),
    aspect_ratio: Sequence[float] = (0.5, 2.0),
    trials: int = 50,
    selection: str = "success",
    shape: str = "aspect",
    accept: str = "any",
) -> View:
    """Crops to one patch out of those that samplers accept, or to none (paper section 2.2).

    There are a sampler for each minimum IoU, one that only asks for an IoU of at most 1, and the
    whole view. A sampler proposes `trials` patches of a `shape` (see `propose_patches`) and
    accepts the first whose IoU with at least one box ("any"; or with "all") is in its range.

    By `selection` "success" (Caffe) all samplers try, and one of the accepted patches is chosen
    uniformly; by "mode" (torchvision, MLPerf) one sampler is, and again until it accepts, which
    here also takes the center of a box that is in range. Without boxes only the whole view is
    accepted.
    """
    thresholds = np.array([*min_ious, 0.0])  # an IoU is never above 1
    seen = to_view_coords(view, boxes)

    def accepted(asked: np.ndarray) -> np.ndarray:  # a jaxtyping here would cost as much as IoU
        patches = propose_patches(rng.random((4, len(asked), trials)), scale, aspect_ratio, shape)
        return first_accepted(patches, seen, asked, accept, centered=selection == "mode")

    if selection == "success":
        found = accepted(thresholds)
        choice = rng.integers(len(found) + 1)
        return view if choice == len(found) else crop(view, found[choice].tolist())
    while len(boxes) and (mode := rng.integers(len(thresholds) + 1)) < len(thresholds):
        if len(found := accepted(thresholds[mode : mode + 1])):
            return crop(view, found[0].tolist())
    return view


def flip(
    rng: np.random.Generator,
    view: View,
    boxes: Float[np.ndarray, "N 4"],
    *,
    horizontal: float = 0.5,
    vertical: float = 0.0,
) -> View:
    """Mirrors the view left to right and top to bottom with these probabilities."""
    return view._replace(
        flip_x=view.flip_x ^ (rng.random() < horizontal),
        flip_y=view.flip_y ^ (rng.random() < vertical),
    )


def propose_patches(
    uniform: Float[np.ndarray, "4 *batch"],
    scale: Sequence[float],
    aspect_ratio: Sequence[float],
    shape: str = "aspect",
) -> Float[np.ndarray, "4 *batch"]:
    """Uniform numbers [4, ...] in [0, 1) -> patches inside the unit square, their corners [4, ...].

    "aspect": the sides are scale·√ratio and scale/√ratio, with the aspect ratio held in
    [scale², 1/scale²] so that the patch fits (`sampler.cpp`, SampleBBox). "sides": each side is a
    scale of its own, and a patch whose aspect ratio is out of range is NaN (most ports).
    """
    size = scale[0] + uniform[0] * (scale[1] - scale[0])
    if shape == "sides":
        width, height = size, scale[0] + uniform[1] * (scale[1] - scale[0])
        fits = (aspect_ratio[0] <= width / height) & (width / height <= aspect_ratio[1])
        width = np.where(fits, width, np.nan)
    else:
        lowest = np.maximum(aspect_ratio[0], size**2)
        highest = np.minimum(aspect_ratio[1], size**-2)
        root = np.sqrt(lowest + uniform[1] * (highest - lowest))
        width, height = size * root, size / root
    x, y = uniform[2] * (1 - width), uniform[3] * (1 - height)
    return np.array([x, y, x + width, y + height])


def first_accepted(
    patches: Float[np.ndarray, "4 S T"],
    boxes: Float[np.ndarray, "N 4"],
    thresholds: Float[np.ndarray, "S"],
    accept: str = "any",
    centered: bool = False,
) -> Float[np.ndarray, "K 4"]:
    """The first patch of each of S rows whose IoU with a box reaches the row's threshold.

    With `accept` "all" every box must reach it. `centered`: the patch must also hold the center
    of such a box. Rows without such a patch are left out: K of the S rows remain, none where
    there is no box. A patch of NaN is never accepted.
    """
    # `boxes.iou` of one box after the other: NumPy lets go of the interpreter lock in each
    # operation on more than 500 numbers, and then threads wait longer than they compute.
    left, top, right, bottom = patches
    area, ious = (right - left) * (bottom - top), []
    for x0, y0, x1, y1 in boxes.tolist():
        width = np.minimum(right, x1) - np.maximum(left, x0)
        height = np.minimum(bottom, y1) - np.maximum(top, y0)
        shared = np.maximum(width, 0.0) * np.maximum(height, 0.0)
        ious.append(shared / (area + (x1 - x0) * (y1 - y0) - shared))
    reached = np.array(ious).reshape(-1, *area.shape) >= thresholds[:, None]  # [N, S, T]
    if accept == "all":
        reached &= reached.all(axis=0)
    if centered:
        center = ((boxes[:, :2] + boxes[:, 2:]) / 2)[:, :, None, None]
        reached &= ((patches[:2] < center) & (center < patches[2:])).all(axis=1)
    accepted: np.ndarray = reached.any(axis=0)  # [S, T]
    rows = accepted.any(axis=1)
    return patches[:, rows, accepted[rows].argmax(axis=1)].T


def warp(
    image: UInt8[np.ndarray, "h w 3"], view: View, size: tuple[int, int], fill: Fill
) -> UInt8[np.ndarray, "H W 3"]:
    """Image [h, w, 3] -> what the view shows of it, at size (H, W): the package's one resampler.

    Bilinear, by the convention that pixel i covers [i, i + 1]. On an axis where an output pixel
    covers more than two source pixels, the image is first averaged over as many, so that nothing
    aliases. Outside the image is `fill`, an RGB color in 0 ... 255.
    """
    x0, y0, x1, y1 = view.window
    columns, taps_x, step_x, offset_x = _resample_plan(x0, x1, view.flip_x, image.shape[1], size[1])
    rows, taps_y, step_y, offset_y = _resample_plan(y0, y1, view.flip_y, image.shape[0], size[0])
    part = image[rows, columns]
    if len(taps_x) > 1 or len(taps_y) > 1:
        part = cv2.sepFilter2D(part, -1, taps_x, taps_y, borderType=cv2.BORDER_REPLICATE)
    inside = min(x0, y0) > -1e-6 and max(x1, y1) < 1 + 1e-6
    # Four channels: OpenCV's warp of three takes twice the time.
    warped = cv2.warpAffine(
        cv2.cvtColor(part, cv2.COLOR_RGB2RGBA),
        np.array([[step_x, 0.0, offset_x], [0.0, step_y, offset_y]]),
        (size[1], size[0]),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REPLICATE if inside else cv2.BORDER_CONSTANT,
        borderValue=(*fill, 0.0),
    )
    return cv2.cvtColor(warped, cv2.COLOR_RGBA2RGB)


def read_operations(config: ConfigDict) -> list[Operation]:
    """What the `augment` block asks for: the operations that `geometric` names, in their order,
    each with the options of its block; none for a plain resize."""
    return [partial(OPERATIONS[name], **config[name]) for name in config.geometric]


def sample_view(
    rng: np.random.Generator, ground_truth: Example, operations: Sequence[Operation]
) -> tuple[View, dict[str, np.ndarray]]:
    """A random view of an image, and the boxes, labels and flags that are visible in it.

    No pixels are needed.
    """
    view = FULL_IMAGE
    for operation in operations:
        view = operation(rng, view, ground_truth["boxes"])
    boxes, kept = boxes_in_view(view, ground_truth["boxes"], crowds=ground_truth["labels"] < 0)
    rows = {name: ground_truth[name][kept] for name in ("labels", "flags")}
    return view, {"boxes": boxes[kept]} | rows


def resize(example: Example, size: tuple[int, int], fill: Fill) -> Example:
    """An example -> the example with its whole image at `size` (H, W), for evaluation.

    Normalized boxes do not change, and none is dropped.
    """
    return example | {"image": warp(example["image"], FULL_IMAGE, size, fill)}


OPERATIONS = {"zoom_out": zoom_out, "iou_crop": iou_crop, "flip": flip}


def _resample_plan(
    low: float, high: float, flipped: bool, source: int, target: int
) -> tuple[slice, Float[np.ndarray, "taps"], float, float]:
    """How `warp` maps one axis: the part of the source that it needs, the weights to average it
    with, and step and offset of the map from the index of an output pixel to one in that part.
    """
    first, last = low * source, high * source
    step = (last - first) / target
    reach = math.ceil((step - 1) / 2) if step > 2 else 0
    # how much of each pixel lies under an output pixel centered on the middle one
    covered = np.array([min(step / 2 + 0.5 - abs(i), 1.0) for i in range(-reach, reach + 1)])
    start = min(max(math.floor(first) - reach - 2, 0), source - 1)
    stop = max(min(math.ceil(last) + reach + 2, source), start + 1)
    if flipped:
        first, step = last, -step
    return slice(start, stop), covered / covered.sum(), step, first + step / 2 - 0.5 - start
