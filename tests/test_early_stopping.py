"""Early stopping: counted by hand."""

import json
import math

import pytest

from ssd_jax.early_stopping import EarlyStopping


@pytest.mark.parametrize(
    ("patience", "scores", "ends_after"),
    [
        (2, [0.1, 0.2, 0.2, 0.15], 4),
        (2, [0.1, 0.2, 0.1, 0.3, 0.3], None),
        (1, [0.0, 0.0], 2),
        (1, [math.nan], 1),
        (3, [math.nan, 0.1, math.nan, math.nan, math.nan], 5),
        (0, [0.1] * 50, None),
        (1, [0.1, 0.10000004], 2),  # equal to six digits
    ],
)
@pytest.mark.parametrize("resumes", [False, True])
def test_when_a_training_ends(patience, scores, ends_after, resumes):
    stopping, ended = EarlyStopping(patience), None
    for number, score in enumerate(scores, 1):
        stopping.update(score)
        if resumes:
            stopping = EarlyStopping(patience, json.loads(json.dumps(stopping.to_json())))
        if stopping.is_over and ended is None:
            ended = number
    assert ended == ends_after
