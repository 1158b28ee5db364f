"""Early stopping: the end of a training whose evaluations no longer improve."""

import math
from collections.abc import Mapping
from typing import Any


class EarlyStopping:
    """Counts evaluations since the best score, and ends a training after `patience` of them.

    0 never ends it. `saved` is what `to_json` gave, kept with each checkpoint: a resumed run ends
    where one without interruption does. Scores count with six digits, as `metrics.jsonl` has them.
    """

    def __init__(self, patience: int, saved: Mapping[str, Any] | None = None):
        self.patience = patience
        content = saved or {}
        self.best, self.since_best = content.get("best"), int(content.get("since_best", 0))

    def update(self, score: float) -> None:
        """An evaluation gave this score; one that is NaN is never better."""
        score = float(f"{score:.6g}")
        if not math.isnan(score) and (self.best is None or score > self.best):
            self.best, self.since_best = score, 0
        else:
            self.since_best += 1

    @property
    def is_over(self) -> bool:
        """Whether the training ends."""
        return 0 < self.patience <= self.since_best

    def to_json(self) -> dict[str, float | None]:
        return {"best": self.best, "since_best": self.since_best}
