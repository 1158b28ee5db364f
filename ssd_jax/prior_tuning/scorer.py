"""The score that a search of priors raises: prior recall and mean best IoU of boxes."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from ml_collections import ConfigDict

from ssd_jax.multibox.priors import prior_shapes, recall
from ssd_jax.prior_tuning.prior_grid import PriorGrid, best_iou_on_grid

_PENALTY = 10.0  # for each unit by which a number is below its floor


class Score(NamedTuple):
    """Prior recall and mean best IoU of each set of boxes: as annotated, and augmented."""

    recall: Float[np.ndarray, " V"]
    mean_iou: Float[np.ndarray, " V"]

    def objective(self, floor: "Score") -> float:
        """The sum of all numbers, less a penalty for those that are below their floor."""
        values, floors = np.concatenate(self), np.concatenate(floor)
        return float(values.sum() - _PENALTY * np.maximum(floors - values, 0).sum())

    def __str__(self) -> str:
        return f"recall {self.recall.mean():.4f}, mean IoU {self.mean_iou.mean():.4f}"


class Scorer:
    """Scores blocks `config.priors` on sets of boxes, each [N, 4], normalized.

    Blocks that a search tries differ in a few shapes, so the IoU with each shape is cached.
    """

    def __init__(self, box_sets: Sequence[Float[np.ndarray, "_ 4"]], grid: PriorGrid):
        self._box_sets, self._grid = box_sets, grid
        self._cache: dict[tuple, list[np.ndarray]] = {}  # (level, shape) -> IoU by set of boxes

    def __call__(self, priors: ConfigDict) -> Score:
        ious = self.best_iou(priors)
        return Score(
            np.array([recall(iou) for iou in ious]), np.array([np.mean(iou) for iou in ious])
        )

    def best_iou(self, priors: ConfigDict) -> list[Float[np.ndarray, "_"]]:
        """The best IoU of each box of each set with all priors of a block."""
        shapes = self._shapes(priors)
        for level, shape in shapes - self._cache.keys():
            self._cache[level, shape] = [
                best_iou_on_grid(boxes, self._grid, level, shape) for boxes in self._box_sets
            ]
        by_shape = [self._cache[key] for key in shapes]
        return [np.maximum.reduce(ious) for ious in zip(*by_shape)]

    def keep_only(self, priors: ConfigDict) -> None:
        """Drop shapes from the cache that a block does not have."""
        self._cache = {key: self._cache[key] for key in self._shapes(priors)}

    def _shapes(self, priors: ConfigDict) -> set[tuple]:
        """All (level, shape) of a block."""
        levels = len(self._grid.feature_map_sizes)
        shapes = prior_shapes(priors, self._grid.image_size, levels)
        return {(level, shape) for level in range(levels) for shape in shapes[level]}
