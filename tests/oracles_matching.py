"""Oracles of matching: vectorized NumPy in float64, after the paper and the published rules.

Imports nothing of the package. Boxes are corners [x_min, y_min, x_max, y_max]. Labels of truths
[M]: 0 = padding, -1 = ignored; of priors: 0 = background, -1 = neither positive nor negative.
"""

import numpy as np

TINY = 1e-6  # Caffe's MatchBBox does not see an overlap up to here


def iou(a, b):
    """Pairwise intersection over union [N, M]; 0 where the union has no area."""
    a, b = (np.asarray(boxes, np.float64).reshape(-1, 4).T.copy() for boxes in (a, b))
    shared = np.ones((a.shape[1], b.shape[1]))
    for low, high in ((0, 2), (1, 3)):
        start = np.maximum(a[low][:, None], b[low][None, :])
        shared *= np.maximum(np.minimum(a[high][:, None], b[high][None, :]) - start, 0)
    areas = [np.maximum(c[2] - c[0], 0) * np.maximum(c[3] - c[1], 0) for c in (a, b)]
    union = areas[0][:, None] + areas[1][None, :] - shared
    return np.divide(shared, union, out=np.zeros_like(union), where=union > 0)


def best_prior_claims(overlaps, labels, conflict_resolution="best"):
    """{prior: truth}: every truth claims the prior that it overlaps best, the lowest of equals.

    Of several truths that claim one prior, that with the highest IoU has it ("best"), or the one
    named first or last in the file; the others do not claim again. Overlaps are [A, M].
    """
    claims = {}
    for m, label in enumerate(labels):
        column = overlaps[:, m]
        a = int(column.argmax())
        if label <= 0 or column[a] <= TINY:
            continue
        wins = conflict_resolution == "best" and a in claims and column[a] > overlaps[a, claims[a]]
        if a not in claims or conflict_resolution == "last" or wins:
            claims[a] = m
    return claims


def bipartite_claims(overlaps, labels):
    """{prior: truth}: the best pair of a free prior and a free truth, again and again (Caffe).

    Equal pairs go by the lowest prior, then by the lowest truth. Overlaps are [A, M].
    """
    free = overlaps.copy()
    free[:, [label <= 0 for label in labels]] = 0
    claims = {}
    while free.size:
        a, m = divmod(int(free.argmax()), free.shape[1])
        if free[a, m] <= TINY:
            break
        claims[a] = m
        free[a, :], free[:, m] = 0, 0
    return claims


def assign(overlaps, labels, claims, threshold, negative_threshold=1.0, strict=False):
    """Labels [A] and truth rows [A] (-1 = none) of priors by claims and then by the threshold.

    A prior without a claim takes its best truth, the first of equals, from the threshold on, or
    above it when `strict`. What is left is neither positive nor negative if it overlaps an ignored
    truth as much, or a truth by the negative threshold.
    """
    labels = np.asarray(labels, np.int64)
    reaches = np.greater if strict else np.greater_equal
    truths = np.full(len(overlaps), -1)
    real = np.flatnonzero(labels > 0)
    best = np.zeros(len(overlaps))
    if real.size:
        row = overlaps[:, real].argmax(axis=1)
        best = overlaps[np.arange(len(overlaps)), real[row]]
        truths = np.where(reaches(best, threshold), real[row], -1)
    for a, m in claims.items():
        truths[a] = m
    neutral = reaches(overlaps[:, labels == -1], threshold).any(axis=1)
    if real.size:
        neutral |= best >= negative_threshold
    found = np.where(neutral, -1, 0)
    found[truths >= 0] = labels[truths[truths >= 0]]
    return found, truths


def match_best_prior(
    boxes,
    labels,
    priors,
    threshold,
    negative_threshold=1.0,
    strict=False,
    conflict_resolution="best",
):
    """Labels [A] and truth rows [A]: independent claims, then the threshold."""
    overlaps = iou(boxes, priors).T
    claims = best_prior_claims(overlaps, labels, conflict_resolution)
    return assign(overlaps, labels, claims, threshold, negative_threshold, strict)


def match_bipartite(boxes, labels, priors, threshold, negative_threshold=1.0, strict=False):
    """Labels [A] and truth rows [A]: Caffe's MatchBBox, per prediction."""
    overlaps = iou(boxes, priors).T
    claims = bipartite_claims(overlaps, labels)
    return assign(overlaps, labels, claims, threshold, negative_threshold, strict)
