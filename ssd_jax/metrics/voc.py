"""PASCAL VOC average precision by the rules of the challenge's devkit (`VOCevaldet.m`).

A detection is assigned to the ground-truth box of its class and image that it overlaps most. The
first one of a box, in order of score, is correct; a later one is a false positive. A difficult box
is not counted, and what is matched to it is left out. Overlaps are of 1-based inclusive pixels
(a side from 3 to 5 is 3 long) and match at `>=`, as the devkit compares; its Python descendants
use `>`, which differs only for an overlap of exactly the threshold.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

Sizes = Sequence | np.ndarray  # (H, W) of each image, original pixels


class Matches(NamedTuple):
    """What became of the detections of one class that count, in order of descending score."""

    scores: Float[np.ndarray, " E"]
    is_correct: Bool[np.ndarray, " E"]
    objects: int  # ground-truth boxes that count


def evaluate(
    ground_truth: list[dict],
    detections: list[dict],
    classes: tuple[str, ...],
    iou_threshold: float = 0.5,
) -> Iterator[tuple[str, float]]:
    """Average precision: the means over classes, then each class.

    Args:
      ground_truth: one dict an image: boxes [N, 4], labels [N], ignore [N], size (H, W).
      detections: one dict an image, in the same order: boxes [K, 4], scores [K], labels [K].
      classes: names without background; label i + 1 is classes[i], and label 0 an empty slot.
      iou_threshold: least overlap of a match; 0.5 is the "50" in the names.

    Yields (name, value). A class without a box that counts has NaN and is left out of the
    means; a class without detections has 0.

    Raises ValueError, with the index of the image, for what `concatenate_images` refuses.
    """
    matches = match_classes(ground_truth, detections, classes, iou_threshold)
    yield from average_precisions(matches, classes, iou_threshold)


def match_classes(
    ground_truth: list[dict],
    detections: list[dict],
    classes: tuple[str, ...],
    iou_threshold: float = 0.5,
) -> list[Matches]:
    """The matches of each class. Arguments and errors: `evaluate`."""
    if len(ground_truth) != len(detections):
        raise ValueError(
            f"{len(ground_truth)} images of ground truth, but {len(detections)} of detections"
        )
    sizes = [image["size"] for image in ground_truth]
    gt = concatenate_images(ground_truth, ("ignore",), sizes, len(classes))
    found = concatenate_images(detections, ("scores",), sizes, len(classes))
    return [_match_class(gt, found, label, iou_threshold) for label in range(1, len(classes) + 1)]


def average_precisions(
    matches: list[Matches], classes: tuple[str, ...], iou_threshold: float = 0.5
) -> Iterator[tuple[str, float]]:
    """What `evaluate` yields, from the matches of each class."""
    values = np.array([_average_precision(each) for each in matches]).reshape(-1, 2)  # [C - 1, 2]
    counted = ~np.isnan(values[:, 0])
    means = values[counted].mean(axis=0) if counted.any() else np.full(2, np.nan)
    percent = f"{100 * iou_threshold:.0f}"
    yield f"voc/mAP{percent}_area", float(means[0])
    yield f"voc/mAP{percent}_11point", float(means[1])
    for name, (area, eleven_point) in zip(classes, values):
        yield f"voc/AP{percent}_area/{name}", float(area)
        yield f"voc/AP{percent}_11point/{name}", float(eleven_point)


def average_precision(
    recall: Float[np.ndarray, " D"], precision: Float[np.ndarray, " D"], eleven_point: bool
) -> float:
    """Average precision of a curve in order of descending score; 0 if it is empty.

    VOC2007 averages the best precision at recalls of at least 0, 0.1 … 1; VOC2010 and later take
    the area under the best precision at any higher recall. The eleven points are multiples of the
    double 0.1, as in the Python ports of the devkit (`voc_eval.py` of py-faster-rcnn and its
    descendants): three lie an ulp above 0.3, 0.6 and 0.7, which a recall of exactly 3, 6 or 7
    tenths does not reach.
    """
    if eleven_point:
        points = np.arange(11) * 0.1
        best = [precision[recall >= point].max(initial=0.0) for point in points]
        return float(np.mean(best))
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    return float(np.sum(np.diff(recall, prepend=0.0) * envelope))


def match_detections(
    gt_boxes: Float[np.ndarray, "N 4"],
    gt_images: Int[np.ndarray, " N"],
    ignore: Bool[np.ndarray, " N"],
    boxes: Float[np.ndarray, "D 4"],
    images: Int[np.ndarray, " D"],
    scores: Float[np.ndarray, " D"],
    iou_threshold: float = 0.5,
) -> Matches:
    """The matches of one class.

    Boxes are corners in inclusive pixels; `gt_images` and `images` number the image of each.
    Equal scores keep their order.
    """
    order = np.argsort(-scores, kind="stable")
    overlap, best = _best_ground_truth(boxes[order], images[order], gt_boxes, gt_images)
    match = np.where(overlap >= iou_threshold, best, -1)  # [D], -1 where none
    counts = ~np.append(ignore, False)[match]
    match = match[counts]  # [E]
    claims = np.zeros(len(match), bool)
    claims[np.unique(match, return_index=True)[1]] = True
    return Matches(scores[order][counts], claims & (match >= 0), int(np.count_nonzero(~ignore)))


def precision_recall_curve(
    matches: Matches,
) -> tuple[Float[np.ndarray, " E"], Float[np.ndarray, " E"]]:
    """Recall and precision [E] of one class after each detection that counts, best first.

    Recall is 0 where no box counts.
    """
    correct = np.cumsum(matches.is_correct)
    return correct / max(matches.objects, 1), correct / np.arange(1, len(correct) + 1)


def concatenate_images(
    per_image: list[dict], names: tuple[str, ...], sizes: Sizes, classes: int
) -> dict[str, np.ndarray]:
    """The rows of all images under one another, without empty slots (label 0).

    Returns `image` [R] (index), `labels` [R], `boxes` float64 [R, 4] as corners in original
    pixels (edges, from 0), and each of `names` [R], which the dicts hold beside boxes and labels.

    Raises ValueError, with the index of the image, on a value that is not finite and on a label
    above `classes` or below 0.
    """
    columns = {
        name: np.concatenate([np.zeros(0), *(rows[name] for rows in per_image)]) for name in names
    }
    lengths = [len(rows["labels"]) for rows in per_image]
    columns["image"] = np.repeat(np.arange(len(per_image)), lengths)
    columns["labels"] = np.concatenate([np.zeros(0, int), *(rows["labels"] for rows in per_image)])
    columns["boxes"] = np.concatenate([np.zeros((0, 4)), *(rows["boxes"] for rows in per_image)])
    columns = {name: column[columns["labels"] != 0] for name, column in columns.items()}
    for name in ("boxes", *names):
        _raise_if_any(~np.isfinite(columns[name]), columns["image"], f"{name} that are not finite")
    labels = columns["labels"]
    _raise_if_any(
        (labels < 0) | (labels > classes), columns["image"], f"labels outside 0 … {classes}"
    )
    size_xy = np.reshape(np.asarray(sizes, float), (-1, 2))[:, ::-1]  # [images, 2] as W, H
    columns["boxes"] = columns["boxes"] * np.tile(size_xy, 2)[columns["image"]]
    return columns


def _raise_if_any(
    bad: Bool[np.ndarray, "R *columns"], images: Int[np.ndarray, " R"], what: str
) -> None:
    rows = bad.nonzero()[0]
    if rows.size:
        raise ValueError(f"image {images[rows[0]]} has {what}: it cannot be scored")


def _average_precision(matches: Matches) -> tuple[float, float]:
    """(area, 11-point) average precision of a class; NaN where no box counts."""
    if not matches.objects:
        return np.nan, np.nan
    curve = precision_recall_curve(matches)
    return average_precision(*curve, False), average_precision(*curve, True)


def _match_class(
    gt: dict[str, np.ndarray], found: dict[str, np.ndarray], label: int, iou_threshold: float
) -> Matches:
    is_gt_class, is_class = gt["labels"] == label, found["labels"] == label
    first_pixel = np.array([1.0, 1.0, 0.0, 0.0])
    return match_detections(
        gt["boxes"][is_gt_class] + first_pixel, gt["image"][is_gt_class],
        gt["ignore"][is_gt_class].astype(bool),
        found["boxes"][is_class] + first_pixel, found["image"][is_class], found["scores"][is_class],
        iou_threshold,
    )  # fmt: skip


def _best_ground_truth(
    boxes: Float[np.ndarray, "D 4"],
    images: Int[np.ndarray, " D"],
    gt_boxes: Float[np.ndarray, "N 4"],
    gt_images: Int[np.ndarray, " N"],
) -> tuple[Float[np.ndarray, " D"], Int[np.ndarray, " D"]]:
    """Overlap [D] with, and index [D] of, the best box in the same image; the first of equals.

    Loops over the first, second … ground-truth box of all images at once.
    """
    order = np.argsort(gt_images, kind="stable")
    start, end = (np.searchsorted(gt_images[order], images, side) for side in ("left", "right"))
    overlap, best = np.full(len(boxes), -np.inf), np.zeros(len(boxes), int)
    for slot in range((end - start).max(initial=0)):
        rows = np.flatnonzero(start + slot < end)
        gt = order[start[rows] + slot]
        overlaps = _pixel_iou(boxes[rows], gt_boxes[gt])
        better = overlaps > overlap[rows]
        overlap[rows[better]], best[rows[better]] = overlaps[better], gt[better]
    return overlap, best


def _pixel_iou(a: Float[np.ndarray, "R 4"], b: Float[np.ndarray, "R 4"]) -> Float[np.ndarray, " R"]:
    """IoU of inclusive pixels, row by row."""
    low, high = np.maximum(a[:, :2], b[:, :2]), np.minimum(a[:, 2:], b[:, 2:])
    shared = np.maximum(high - low + 1, 0).prod(axis=1)
    areas = [(box[:, 2:] - box[:, :2] + 1).prod(axis=1) for box in (a, b)]
    return shared / np.maximum(areas[0] + areas[1] - shared, np.finfo(float).tiny)
