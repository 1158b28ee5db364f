"""How many test truths a setting's priors can reach: known from annotations, before training.

A mean over classes, as mAP is: many large objects must not hide a class of small ones.
"""

import json
from collections.abc import Iterator, Sequence

import numpy as np
from ml_collections import ConfigDict

from scripts.sweeping.record import Record
from ssd_jax import config as configs
from ssd_jax import step
from ssd_jax.data import check, sources
from ssd_jax.errors import DataError

RECALL = "priors/recall"  # share of truths with a prior of IoU .5, mean over classes
_ENOUGH = 0.5
_DEPENDS = ("image_size", "model", "priors", "data")


def added(records: Sequence[Record]) -> Iterator[Record]:
    """The records, with the recall beside the scores; without it where the data are elsewhere."""
    known: dict[str, float | None] = {}
    for record in records:
        plain = configs.to_dict(record.run.config)
        key = json.dumps([plain[name] for name in _DEPENDS])
        if record.scores and key not in known:
            known[key] = _recall(record.run.config)
        if record.scores and known[key] is not None:
            record = record._replace(scores=record.scores | {RECALL: known[key]})
        yield record


def _recall(config: ConfigDict) -> float | None:
    try:
        source = sources.make(config.data.test, config, config.data.classes)
    except DataError:
        return None
    truths = [source.truths(i) for i in range(len(source))]
    boxes, labels = (
        np.concatenate([each[name] for each in truths]) for name in ("boxes", "labels")
    )
    if not len(boxes):
        return None
    reached = check.best_iou(boxes, step.build(config, 2).priors.boxes) >= _ENOUGH
    return float(np.mean([reached[labels == label].mean() for label in np.unique(labels)]))
