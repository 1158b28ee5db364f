"""Prior recall of a run's config on the set that is scored, as one more score beside mAP.

Nothing needs to be trained for it. It is a mean over classes, as mAP is: many large objects must
not hide a class of small ones.
"""

import json
from collections.abc import Iterator, Sequence

import numpy as np
from ml_collections import ConfigDict

from ssd_jax.config.serialization import to_dict
from ssd_jax.data.sets import open_set, scored_set
from ssd_jax.detector import build_detector
from ssd_jax.errors import DataError
from ssd_jax.multibox.priors import best_iou, recall
from ssd_jax.sweeps.run_status import RunStatus

PRIOR_RECALL = "priors/recall"  # name of the score
_RELEVANT_FIELDS = ("image_size", "model", "priors", "data")


def with_prior_recall(statuses: Sequence[RunStatus]) -> Iterator[RunStatus]:
    """The statuses with prior recall among their scores; without it where there are no data."""
    cache: dict[str, float | None] = {}
    for status in statuses:
        fields = to_dict(status.run.config)
        key = json.dumps([fields[name] for name in _RELEVANT_FIELDS])
        if status.scores and key not in cache:
            cache[key] = _prior_recall(status.run.config)
        if status.scores and cache[key] is not None:
            status = status._replace(scores=status.scores | {PRIOR_RECALL: cache[key]})
        yield status


def _prior_recall(config: ConfigDict) -> float | None:
    """Mean over classes on the scored set; None where it cannot be read or has no box."""
    try:
        source = open_set(config, scored_set(config))
    except DataError:
        return None
    ground_truth = [source.ground_truth(i) for i in range(len(source))]
    boxes, labels = (
        np.concatenate([gt[name] for gt in ground_truth]) for name in ("boxes", "labels")
    )
    if not len(boxes):
        return None
    return recall(best_iou(boxes, build_detector(config, 2).priors.boxes), labels)
