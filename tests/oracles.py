"""Independent oracles of SSD: slow, plain float64 loops, against which the package is tested.

Written from the paper (arXiv:1512.02325) and the published rules of the Caffe and TensorFlow
originals, and importing nothing of the package; priors, matching and augmentation have files of
their own. Boxes are corners [x_min, y_min, x_max, y_max],
normalized to [0, 1], except in the PASCAL VOC functions, which take 1-based inclusive pixels.
Variances are four numbers, for x, y, w and h.
"""

import math
from itertools import pairwise

import numpy as np


def _area(box):
    return max(box[2] - box[0], 0.0) * max(box[3] - box[1], 0.0)


def _iou(a, b):
    common = _area([max(a[0], b[0]), max(a[1], b[1]), min(a[2], b[2]), min(a[3], b[3])])
    union = _area(a) + _area(b) - common
    return common / union if union > 0 else 0.0


def _rows(boxes):
    return np.asarray(boxes, np.float64).reshape(-1, 4).tolist()


def iou(a, b):
    """Pairwise intersection over union [N, M]; 0 where the union has no area."""
    a, b = _rows(a), _rows(b)
    return np.array([[_iou(p, q) for q in b] for p in a], np.float64).reshape(len(a), len(b))


def _center(box):
    x_min, y_min, x_max, y_max = box
    return (x_min + x_max) / 2, (y_min + y_max) / 2, x_max - x_min, y_max - y_min


def encode(boxes, priors, variances):
    """Offsets [A, 4] (x, y, w, h) of boxes [A, 4], which must have an area, from priors [A, 4]."""
    offsets = []
    for box, prior in zip(_rows(boxes), _rows(priors), strict=True):
        (x, y, w, h), (px, py, pw, ph) = _center(box), _center(prior)
        offset = [(x - px) / pw, (y - py) / ph, math.log(w / pw), math.log(h / ph)]
        offsets.append([value / variance for value, variance in zip(offset, variances)])
    return np.array(offsets, np.float64).reshape(-1, 4)


def decode(offsets, priors, variances):
    """Boxes [A, 4], not clipped, of offsets [A, 4] from priors [A, 4]: the inverse of encode."""
    boxes = []
    for offset, prior in zip(_rows(offsets), _rows(priors), strict=True):
        tx, ty, tw, th = (value * variance for value, variance in zip(offset, variances))
        px, py, pw, ph = _center(prior)
        x, y, w, h = px + tx * pw, py + ty * ph, pw * math.exp(tw), ph * math.exp(th)
        boxes.append([x - w / 2, y - h / 2, x + w / 2, y + h / 2])
    return np.array(boxes, np.float64).reshape(-1, 4)


def _best_first(indices, scores):
    """Indices by score, highest first; equal scores stay in the order given."""
    scores = np.asarray(scores, np.float64).tolist()
    return sorted(indices, key=lambda i: -scores[i])


def hard_negatives(scores, eligible, k):
    """Mask [A] of the k eligible entries with the highest scores, or of all if they are fewer."""
    order = _best_first([a for a in range(len(scores)) if eligible[a]], scores)
    return np.isin(np.arange(len(scores)), order[:k])


def _log_softmax(logits):
    logs = []
    for row in np.asarray(logits, np.float64).tolist():
        total = math.log(sum(math.exp(logit - max(row)) for logit in row))
        logs.append([logit - max(row) - total for logit in row])
    return logs


def _focal(x, is_label, alpha, gamma):
    p = 1 / (1 + math.exp(-x))
    return (
        -alpha * (1 - p) ** gamma * math.log(p)
        if is_label
        else -(1 - alpha) * p**gamma * math.log(1 - p)
    )


def _class_costs(logits, classification, alpha=0.25, gamma=2.0):
    """Cost of each prior [A] were its label each of the classes [C]."""
    if classification == "softmax":
        return [[-log for log in row] for row in _log_softmax(logits)]
    costs = []
    for row in np.asarray(logits, np.float64).tolist():
        yes, no = [math.log1p(math.exp(-x)) for x in row], [math.log1p(math.exp(x)) for x in row]
        if classification == "focal":
            yes, no = ([_focal(x, is_label, alpha, gamma) for x in row] for is_label in (1, 0))
        if classification in ("sigmoid_classes", "focal"):
            yes[0] = no[0] = 0.0  # nobody asks about the background
        costs.append([sum(no) - no[c] + yes[c] for c in range(len(row))])
    return costs


def multibox_loss(
    logits, offsets, target_labels, target_offsets, negative_ratio, classification="softmax",
    draws=None, focal=(0.25, 2.0),
):  # fmt: skip
    """Undivided loss of one image: classification, localization, positives, negatives.

    Logits [A, C], offsets [A, 4], target labels [A] (0 = background, -1 = counts for nothing),
    target offsets [A, 4]. Takes int(negative_ratio * positives) negatives, those of the highest
    cost or of the highest draws [A]; all for None.
    """
    costs = _class_costs(logits, classification, *focal)
    labels = [int(label) for label in target_labels]
    positives = [a for a, label in enumerate(labels) if label > 0]
    background = [row[0] for row in costs]
    eligible = [label == 0 for label in labels]
    hardness = background if draws is None else draws
    count = len(labels) if negative_ratio is None else int(negative_ratio * len(positives))
    mined = hard_negatives(hardness, eligible, count)
    total = sum(costs[a][labels[a]] for a in positives)
    total += sum(background[a] for a in range(len(labels)) if mined[a])
    predicted, wanted = _rows(offsets), _rows(target_offsets)
    distances = [abs(p - t) for a in positives for p, t in zip(predicted[a], wanted[a])]
    return {
        "classification": total,
        "localization": sum(0.5 * d**2 if d < 1 else d - 0.5 for d in distances),
        "positives": len(positives),
        "negatives": int(mined.sum()),
    }


def nms(boxes, scores, iou_threshold):
    """Rows kept by greedy suppression of IoU > threshold, best first, ties by lower row."""
    boxes = _rows(boxes)
    kept = []
    for i in _best_first(range(len(boxes)), scores):
        if all(_iou(boxes[i], boxes[j]) <= iou_threshold for j in kept):
            kept.append(i)
    return np.array(kept, np.int64)


def detect(
    logits, offsets, priors, variances, score_threshold, iou_threshold, top_k_per_class, top_k,
    classification="softmax",
):  # fmt: skip
    """Boxes [K, 4] (not clipped), scores [K], labels [K] of one image, best first, no padding."""
    boxes = decode(offsets, priors, variances)
    if classification == "softmax":
        scores = [[math.exp(log) for log in row] for row in _log_softmax(logits)]
    else:
        scores = (1 / (1 + np.exp(-np.asarray(logits, np.float64)))).tolist()
    found = []
    for label in range(1, len(scores[0])):
        column = [row[label] for row in scores]
        candidates = [a for a in range(len(column)) if column[a] > score_threshold]
        best = _best_first(candidates, column)[:top_k_per_class]
        kept = nms(boxes[best], [column[a] for a in best], iou_threshold)
        found += [(column[best[i]], label, best[i]) for i in kept]
    found = sorted(found, key=lambda item: (-item[0], item[1], item[2]))[:top_k]
    return (
        np.array([boxes[a] for _, _, a in found], np.float64).reshape(-1, 4),
        np.array([score for score, _, _ in found], np.float64),
        np.array([label for _, label, _ in found], np.int64),
    )


def voc_ap(recall, precision, eleven_point):
    """Average precision of one class: VOC2007 (eleven points) or VOC2010 and later (area)."""
    recall, precision = list(map(float, recall)), list(map(float, precision))
    if eleven_point:
        # i / 10 is the double nearest to the point, as tp / truths is to the recall, so that a
        # recall of exactly 3 of 10 reaches the point 0.3. Matlab's 0:0.1:1 is an ulp above there.
        points = [i / 10 for i in range(11)]
        best = [max((p for r, p in zip(recall, precision) if r >= t), default=0.0) for t in points]
        return sum(best) / 11
    recall, precision = [0.0, *recall, 1.0], [0.0, *precision, 0.0]
    envelope = [max(precision[i:]) for i in range(len(precision))]
    return sum((r1 - r0) * p for (r0, r1), p in zip(pairwise(recall), envelope[1:]))


def _voc_iou(a, b):
    """Devkit IoU of inclusive pixels: a side from 3 to 5 is 3 long."""
    w = min(a[2], b[2]) - max(a[0], b[0]) + 1
    h = min(a[3], b[3]) - max(a[1], b[1]) + 1
    areas = [(x_max - x_min + 1) * (y_max - y_min + 1) for x_min, y_min, x_max, y_max in (a, b)]
    return w * h / (sum(areas) - w * h) if w > 0 and h > 0 else -math.inf


def voc_class_ap(truths, detections, iou_threshold, eleven_point):
    """Average precision of one class by VOCevaldet.m; NaN if no truth counts.

    `truths` {image_id: [(box, difficult)]}, `detections` [(image_id, score, box)].
    """
    counted = sum(not difficult for rows in truths.values() for _, difficult in rows)
    if counted == 0:
        return math.nan
    taken, positives, recall, precision = set(), [], [], []
    for image_id, _, box in sorted(detections, key=lambda detection: -detection[1]):
        rows = truths.get(image_id, [])
        overlaps = [_voc_iou(box, truth) for truth, _ in rows]
        best = overlaps.index(max(overlaps)) if overlaps else None
        # VOCevaldet.m: `if ovmax>=VOCopts.minoverlap`, and only the best truth is ever looked at.
        # The Python descendants (py-faster-rcnn and after) compare with > instead.
        matched = best is not None and overlaps[best] >= iou_threshold
        if matched and rows[best][1]:
            continue
        positives.append(matched and (image_id, best) not in taken)
        if matched:
            taken.add((image_id, best))
        recall.append(sum(positives) / counted)
        precision.append(sum(positives) / len(positives))
    return voc_ap(recall, precision, eleven_point)
