"""How many test truths a setting's priors can reach: known from annotations, before training."""

import json
from collections.abc import Iterator, Sequence

import numpy as np
from ml_collections import ConfigDict

from scripts.sweeping.record import Record
from ssd_jax import config as configs
from ssd_jax import step
from ssd_jax.data import check, sources
from ssd_jax.errors import DataError

RECALL = "priors/recall"  # truths with a prior of IoU .5
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
    boxes = np.concatenate([source.truths(i)["boxes"] for i in range(len(source))])
    if not len(boxes):
        return None
    return float((check.best_iou(boxes, step.build(config, 2).priors.boxes) >= _ENOUGH).mean())
