"""A direct search for sizes and aspect ratios that fit boxes better, by the exact best IoU.

The fields of `config.priors` are one row of logarithms: sizes, aspect ratios, and the sides of an
explicit finest level if the config has one. A move changes one number, or all sizes from a level
on; it is kept if the score rises and no number of the score falls below its start. When no move
helps, moves become half as long. The numbers of levels and of priors per location stay as they
are, so training and prediction cost the same.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from ml_collections import ConfigDict

from ssd_jax.multibox.priors import formula_sizes
from ssd_jax.prior_tuning.object_size import box_sides
from ssd_jax.prior_tuning.prior_grid import PriorGrid
from ssd_jax.prior_tuning.scorer import Scorer
from ssd_jax.runtime.progress import log_line

_STEPS = (0.32, 0.16, 0.08, 0.04, 0.02)  # lengths of moves, in logarithms of sides and ratios
_MIN_GAIN = 1e-5  # of the score
_MIN_SIZE_RATIO = 1.05  # of each size to the one before
_MAX_ASPECT_RATIO = 10.0
_MAX_BOXES = 20_000  # of each set that the search looks at


class PriorFields(NamedTuple):
    """The fields of `config.priors` that are tuned, as the config has them."""

    sizes: tuple[float, ...]
    aspect_ratios: tuple[tuple[float, ...], ...]
    first_level: tuple[tuple[float, float], ...]


def get_fields(config: ConfigDict, grid: PriorGrid) -> PriorFields:
    """The fields of an experiment; sizes of the paper's formula as numbers too."""
    levels = len(grid.feature_map_sizes)
    sizes = config.priors.sizes or formula_sizes(
        config.priors.formula, min(grid.image_size), levels
    )
    used = levels + (config.priors.extra_square != "none")
    return PriorFields(tuple(sizes[:used]), config.priors.aspect_ratios, config.priors.first_level)


def with_fields(config: ConfigDict, fields: PriorFields) -> ConfigDict:
    """A copy of an experiment with these fields."""
    changed = ConfigDict(config.to_dict())
    changed.priors = _block_with_fields(config.priors, fields)
    return changed.lock()


def search_fields(
    config: ConfigDict, box_sets: Sequence[Float[np.ndarray, "_ 4"]], grid: PriorGrid
) -> PriorFields:
    """Fields that fit boxes better than the config's, or the config's own.

    `box_sets` are normalized boxes as annotated and as augmented, all that the search may see. It
    starts from the config's fields and from quantiles of the boxes' sides, and uses an even sample
    of many boxes. Its result is taken only if no number of the score is lower on all of them.
    """
    sampled = [boxes[:: -(-len(boxes) // _MAX_BOXES)] for boxes in box_sets]
    before = get_fields(config, grid)
    limits = _make_limits(config, before, grid)
    starts = {
        "the config's priors": before,
        "quantiles": _quantile_fields(before, sampled, grid, limits),
    }
    candidates = [before]
    for name, start in starts.items():
        scorer = Scorer(sampled, grid)
        candidates.append(_climb(config.priors, start, scorer, limits, name))
    scorer = Scorer(box_sets, grid)
    floor = scorer(config.priors)

    def objective(fields: PriorFields) -> float:
        return scorer(_block_with_fields(config.priors, fields)).objective(floor)

    return max(candidates, key=objective)


def _climb(
    priors: ConfigDict, fields: PriorFields, scorer: Scorer, limits: "Limits", start_name: str
) -> PriorFields:
    """The fields that moves from `fields` lead to; no number falls below the block `priors`'."""
    floor = scorer(priors)
    best = scorer(_block_with_fields(priors, fields)).objective(floor)
    for step in _STEPS:
        improved = True
        while improved:
            improved = False
            for move in _moves(fields):
                for sign in (1, -1):
                    candidate = limits.round(_apply_move(fields, sign * step * move))
                    if candidate == fields or not limits.allow(candidate):
                        continue
                    score = scorer(_block_with_fields(priors, candidate)).objective(floor)
                    if score > best + _MIN_GAIN:
                        fields, best, improved = candidate, score, True
                        break
                scorer.keep_only(_block_with_fields(priors, fields))
        score = scorer(_block_with_fields(priors, fields))
        log_line(f"from {start_name}, step {step:g}: {score}")
    return fields


class Limits(NamedTuple):
    """What the search may propose."""

    min_sizes: Float[np.ndarray, " S"]
    min_size_ratio: float  # of each size to the one before
    integer_sizes: bool

    def round(self, fields: PriorFields) -> PriorFields:
        """Numbers with as many digits as a person would write; aspect ratios of at least 1."""
        digits = 0 if self.integer_sizes else 1
        return PriorFields(
            tuple(round(size, digits) for size in fields.sizes),
            tuple(
                tuple(sorted(round(max(ratio, 1 / ratio), 2) for ratio in ratios))
                for ratios in fields.aspect_ratios
            ),
            tuple((round(width, 1), round(height, 1)) for width, height in fields.first_level),
        )

    def allow(self, fields: PriorFields) -> bool:
        """Whether sizes ascend and reach their minima, and no ratio or side is extreme."""
        sizes = np.array(fields.sizes)
        ratios = [ratio for level in fields.aspect_ratios for ratio in level]
        return bool(
            (sizes >= self.min_sizes).all()
            and (sizes[1:] >= self.min_size_ratio * sizes[:-1]).all()
            and max(ratios, default=1) <= _MAX_ASPECT_RATIO
            and np.min(fields.first_level, initial=np.inf) >= 1
        )


def _make_limits(config: ConfigDict, before: PriorFields, grid: PriorGrid) -> Limits:
    """Sizes not below the stride of their map, unless the config's are; one location has none."""
    strides = [
        max((stride for stride, count in zip(strides, map_size) if count > 1), default=1.0)
        for strides, map_size in zip(grid.strides, grid.feature_map_sizes)
    ]
    sizes = np.array(before.sizes)
    min_sizes = np.minimum([*strides, 1.0][: len(sizes)], sizes)
    min_size_ratio = min(_MIN_SIZE_RATIO, float((sizes[1:] / sizes[:-1]).min(initial=2)))
    return Limits(min_sizes, min_size_ratio, config.priors.floor_sizes)


def _quantile_fields(
    before: PriorFields,
    box_sets: Sequence[Float[np.ndarray, "_ 4"]],
    grid: PriorGrid,
    limits: Limits,
) -> PriorFields:
    """The config's fields with sizes that split the sides of the boxes into equal parts."""
    sides = [np.sqrt(box_sides(boxes, grid.image_size).prod(axis=1)) for boxes in box_sets]
    quantiles = (np.arange(len(before.sizes)) + 0.5) / len(before.sizes)
    sizes = np.mean([np.quantile(each, quantiles) for each in sides], axis=0).tolist()
    for k in range(len(sizes)):
        previous = sizes[k - 1] * limits.min_size_ratio + 1 if k else 0
        sizes[k] = max(sizes[k], limits.min_sizes[k] + 1, previous)  # rounding must not undo it
    return limits.round(before._replace(sizes=tuple(sizes)))


def _block_with_fields(priors: ConfigDict, fields: PriorFields) -> ConfigDict:
    """A copy of a block `config.priors` with these fields."""
    return ConfigDict(priors.to_dict() | fields._asdict())


def _moves(fields: PriorFields) -> Float[np.ndarray, "K numbers"]:
    """Directions: each number alone, and all sizes from each level on."""
    count, sizes = len(_to_array(fields)), len(fields.sizes)
    tails = np.pad(np.triu(np.ones((sizes, sizes))), ((0, 0), (0, count - sizes)))
    return np.concatenate([np.eye(count), tails[:-1]])


def _apply_move(fields: PriorFields, move: Float[np.ndarray, " numbers"]) -> PriorFields:
    """Fields whose numbers are multiplied by exp(move)."""
    numbers = iter((_to_array(fields) * np.exp(move)).tolist())
    return PriorFields(
        tuple(next(numbers) for _ in fields.sizes),
        tuple(tuple(next(numbers) for _ in ratios) for ratios in fields.aspect_ratios),
        tuple((next(numbers), next(numbers)) for _ in fields.first_level),
    )


def _to_array(fields: PriorFields) -> Float[np.ndarray, " numbers"]:
    levels = (*fields.aspect_ratios, *fields.first_level)
    return np.array([*fields.sizes, *(number for level in levels for number in level)])
