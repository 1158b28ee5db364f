"""The score from which detections are best kept: where F1 is highest.

F1 is 2 TP / (2 TP + FP + FN), with matches by the rules of PASCAL VOC.
"""

import math
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np

from ssd_jax.metrics.voc import Matches

NAME = "threshold"  # of all classes together; of a class, `threshold/CLASS`
PRECISION, RECALL, F1 = "precision", "recall", "f1"  # of all classes together, at the threshold
_LEAST_OBJECTS = 20  # of a class, below which a threshold of its own means little


class OperatingPoint(NamedTuple):
    """A threshold, and what the detections of this score or more have."""

    threshold: float
    precision: float
    recall: float
    f1: float


def evaluate(
    matches: list[Matches], classes: tuple[str, ...], given: Mapping[str, float] | None = None
) -> Iterator[tuple[str, float]]:
    """Thresholds of all classes together, and of each class with at least 20 objects.

    Of all classes together also precision, recall and F1 at that threshold: each object and each
    detection counts once, whatever its class. `matches` are those of each class, see
    `voc.match_classes`. Yields (name, value), and nothing for a class, or for all, of which no
    detection is correct.

    With `given` thresholds of another set, by name, these are yielded, and precision, recall and F1
    of the detections that they keep.
    """
    if given is not None:
        yield from given.items()
        yield from _measure(matches, select(given, classes, 0.0)) if NAME in given else ()
        return
    together = Matches(
        np.concatenate([np.zeros(0), *(each.scores for each in matches)]),
        np.concatenate([np.zeros(0, bool), *(each.is_correct for each in matches)]),
        sum(each.objects for each in matches),
    )
    if (point := best_point(together)) is not None:
        yield from zip((NAME, PRECISION, RECALL, F1), point)
    for name, each in zip(classes, matches):
        if each.objects >= _LEAST_OBJECTS and (value := best_threshold(each)) is not None:
            yield f"{NAME}/{name}", value


def _measure(matches: list[Matches], thresholds: list[float]) -> Iterator[tuple[str, float]]:
    """Precision, recall and F1 where each class has a threshold."""
    kept = [each.scores >= least for each, least in zip(matches, thresholds)]
    count = sum(int(rows.sum()) for rows in kept)
    correct = sum(int(each.is_correct[rows].sum()) for each, rows in zip(matches, kept))
    objects = sum(each.objects for each in matches)
    for name, total in ((PRECISION, count), (RECALL, objects), (F1, (count + objects) / 2)):
        yield name, correct / total if total else math.nan


def best_threshold(matches: Matches) -> float | None:
    """The threshold of `best_point`."""
    point = best_point(matches)
    return point and point.threshold


def best_point(matches: Matches) -> OperatingPoint | None:
    """The point of the highest F1; of equals, that of the highest threshold.

    None where nothing is correct. The threshold lies halfway to the next lower score: new
    images have other scores than these.
    """
    order = np.argsort(-matches.scores, kind="stable")
    scores, correct = matches.scores[order], np.cumsum(matches.is_correct[order])
    if not len(scores) or not correct[-1]:
        return None
    next_scores = np.append(scores[1:], 0.0)
    kept = np.arange(1, len(scores) + 1)
    f1 = 2 * correct / (kept + matches.objects)  # 2 TP + FP + FN: all detections and objects
    f1[scores == next_scores] = -1.0  # no threshold parts equal scores
    best = int(f1.argmax())
    return OperatingPoint(
        threshold=float((scores[best] + next_scores[best]) / 2),
        precision=float(correct[best] / kept[best]),
        recall=float(correct[best] / matches.objects),
        f1=float(f1[best]),
    )


def among(scores: Mapping[str, float]) -> dict[str, float]:
    """The thresholds among named scores."""
    return {name: value for name, value in scores.items() if name.partition("/")[0] == NAME}


def select(scores: Mapping[str, float], classes: tuple[str, ...], default: float) -> list[float]:
    """The threshold of each class among named scores: its own, or that of all, or the default."""
    of_all = scores.get(NAME, default)
    return [scores.get(f"{NAME}/{name}", of_all) for name in classes]
