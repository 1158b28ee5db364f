"""Whether priors fit the boxes of a training set, and those that fit better."""

from typing import NamedTuple

import numpy as np
from ml_collections import ConfigDict

from ssd_jax.data.sources import Source
from ssd_jax.detector import build_detector
from ssd_jax.errors import DataError
from ssd_jax.multibox.priors import best_iou, recall
from ssd_jax.prior_tuning import search
from ssd_jax.prior_tuning.ground_truth import AnnotatedSet, sample_boxes
from ssd_jax.prior_tuning.prior_grid import make_prior_grid
from ssd_jax.recipe.setting import Setting

MIN_RECALL = 0.9  # below it the data check warns too
_MAX_MEASURED = 1000  # boxes that are compared with all priors
_MAX_SEARCHED = 1000  # boxes of each view that the search sees: it takes seconds, not minutes


class PriorFit(NamedTuple):
    """The share of boxes that have a prior with an IoU of at least 0.5, and fields that raise it.

    NaN and no settings where there is no box.
    """

    before: float
    after: float
    settings: tuple[Setting, ...]


def measure_recall(config: ConfigDict, source: Source) -> float:
    """Prior recall of a training set; NaN without boxes."""
    boxes = np.concatenate(
        [source.ground_truth(i)["boxes"] for i in range(len(source))] or [np.zeros((0, 4))]
    )
    if not len(boxes):
        return float("nan")
    priors = build_detector(config, len(source.classes) + 1).priors.boxes
    return recall(best_iou(_even_sample(boxes, _MAX_MEASURED), priors))


def fit_priors(config: ConfigDict, source: Source) -> PriorFit:
    """Fit sizes and aspect ratios to a training set, where less than `MIN_RECALL` is reached."""
    before = measure_recall(config, source)
    if not before < MIN_RECALL:
        return PriorFit(before, before, ())
    try:
        box_sets = _box_sets(config, source)
    except DataError:  # all boxes are in images that the search may not see
        return PriorFit(before, before, ())
    fields = search.search_fields(config, box_sets, make_prior_grid(config))
    fitted = search.with_fields(config, fields)
    after = measure_recall(fitted, source)
    if not after > before:
        return PriorFit(before, before, ())
    reason = f"fitted: {after:.1%} of the boxes have a prior with IoU ≥ 0.5, before {before:.1%}"
    settings = [
        Setting(f"priors.{name}", value)
        for name, value in fields._asdict().items()
        if value != config.priors[name]
    ]
    settings[:1] = [each._replace(reason=reason) for each in settings[:1]]
    return PriorFit(before, after, tuple(settings))


def _box_sets(config: ConfigDict, source: Source) -> list[np.ndarray]:
    """Boxes as annotated, and as training sees them."""
    dataset = AnnotatedSet([source.ground_truth(i) for i in range(len(source))], source.classes)
    images = sample_boxes(dataset, config)
    views = sorted({image.augmented for image in images})
    boxes = [np.concatenate([i.boxes for i in images if i.augmented == view]) for view in views]
    return [_even_sample(each, _MAX_SEARCHED) for each in boxes]


def _even_sample(boxes: np.ndarray, most: int) -> np.ndarray:
    """At most so many boxes, the same that the data check takes."""
    return boxes[np.linspace(0, len(boxes) - 1, min(len(boxes), most)).astype(int)]
