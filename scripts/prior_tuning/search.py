"""Sizes and aspect ratios that fit truths better: a direct search on the exact best IoU.

A table of priors is a row of logarithms: sizes, aspect ratios, and the sides of an explicit finest
level if the config has one. A step changes one of them, or all sizes together, and stays if the
score rises and nothing that is reported falls below where it started. When no step helps, steps
become half as long. Numbers of maps and of priors a cell stay as they are, so the cost does too.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from ml_collections import ConfigDict

from scripts import annotated
from scripts.prior_tuning.overlap import Grid, best_iou
from ssd_jax import priors

THRESHOLD = 0.5  # IoU from which a truth counts as reached
_STEPS = (0.32, 0.16, 0.08, 0.04, 0.02)  # in logarithms of sides and ratios
_LEAST_GAIN = 1e-5
_APART = 1.05  # each size is at least so many times the one before
_LARGEST_RATIO = 10.0
_MOST = 20_000  # truths of each kind that the search looks at
_PENALTY = 10.0  # for a figure below its floor


class Fields(NamedTuple):
    """The fields of `config.priors` that are tuned, as the config has them."""

    sizes: tuple[float, ...]
    aspect_ratios: tuple[tuple[float, ...], ...]
    first_level: tuple[tuple[float, float], ...]


def fields_of(config: ConfigDict, table: Grid) -> Fields:
    """The fields as numbers, sizes of the paper's formula too."""
    sizes = config.priors.sizes or priors.paper_sizes(
        config.priors.formula, min(table.image_size), len(table.maps)
    )
    used = len(table.maps) + (config.priors.extra_square != "none")
    return Fields(tuple(sizes[:used]), config.priors.aspect_ratios, config.priors.first_level)


def with_fields(config: ConfigDict, fields: Fields) -> ConfigDict:
    """A copy of the config with these fields."""
    changed = ConfigDict(config.to_dict())
    changed.priors = block(config.priors, fields)
    return changed.lock()


def block(config: ConfigDict, fields: Fields) -> ConfigDict:
    """A copy of `config.priors` with these fields."""
    return ConfigDict(config.to_dict() | fields._asdict())


class Score(NamedTuple):
    """What is reported of all truths: as they are, and augmented if they are."""

    recall: np.ndarray  # [1 or 2]
    mean_iou: np.ndarray  # [1 or 2]

    def against(self, floor: "Score") -> float:
        """What the search raises: recall and mean IoU, where none is below its floor."""
        figures, least = np.concatenate(self), np.concatenate(floor)
        return float(figures.sum() - _PENALTY * np.maximum(least - figures, 0).sum())

    def __str__(self) -> str:
        return f"recall {self.recall.mean():.4f}, mean IoU {self.mean_iou.mean():.4f}"


class Scorer:
    """Scores of blocks `config.priors`, on boxes [N, 4] as they are and augmented.

    Tables that are tried differ in a few shapes, so the IoU with each shape is kept while in use.
    """

    def __init__(self, kinds: list[np.ndarray], table: Grid):
        self._kinds, self._table = kinds, table
        self._known: dict[tuple, list[np.ndarray]] = {}  # (level, shape) -> IoU of each kind

    def __call__(self, config: ConfigDict) -> Score:
        ious = self.best(config)
        recall = [np.mean(iou >= THRESHOLD) for iou in ious]
        return Score(np.array(recall), np.array([np.mean(iou) for iou in ious]))

    def best(self, config: ConfigDict) -> list[np.ndarray]:
        """Best IoU [N] of each kind with all priors of a block."""
        for level, shape in self._shapes(config) - self._known.keys():
            ious = [best_iou(boxes, self._table, level, shape) for boxes in self._kinds]
            self._known[level, shape] = ious
        used = [self._known[key] for key in self._shapes(config)]
        return [np.maximum.reduce(ious) for ious in zip(*used)]

    def keep_only(self, config: ConfigDict) -> None:
        """Forget the shapes that a block does not have."""
        self._known = {key: self._known[key] for key in self._shapes(config)}

    def _shapes(self, config: ConfigDict) -> set[tuple]:
        size, levels = self._table.image_size, len(self._table.maps)
        cells = priors.cell_sizes(config, size, levels)
        return {(level, shape) for level in range(levels) for shape in cells[level]}


def tune(
    config: ConfigDict, kinds: list[np.ndarray], table: Grid, tell: Callable[[str], None]
) -> Fields:
    """Fields that reach the truths better than the config's, or the config's own.

    `kinds` are the boxes [N, 4] as they are and augmented, all that the search may see. It starts
    from the config's fields and from quantiles of the truths' sides, and looks at an even sample
    of many truths; what it finds is taken only if no figure is lower on all of them.
    """
    some = [boxes[:: -(-len(boxes) // _MOST)] for boxes in kinds]
    before = fields_of(config, table)
    limits = _limits(config, before, table)
    starts = {"the config's priors": before, "quantiles": _quantiles(before, some, table, limits)}
    found = [before]
    for name, start in starts.items():
        score = Scorer(some, table)
        found.append(_climb(config.priors, start, score, score(config.priors), limits, name, tell))
    everything = Scorer(kinds, table)
    floor = everything(config.priors)
    return max(found, key=lambda fields: everything(block(config.priors, fields)).against(floor))


def _climb(
    config: ConfigDict, at: Fields, score: Scorer, floor: Score, limits: "Limits", name: str,
    tell: Callable[[str], None],
) -> Fields:  # fmt: skip
    """The fields that steps from `at` lead to."""
    best = score(block(config, at)).against(floor)
    for step in _STEPS:
        improved = True
        while improved:
            improved = False
            for move in _moves(at):
                for sign in (1, -1):
                    tried = limits.rounded(_moved(at, sign * step * move))
                    if tried == at or not limits.allow(tried):
                        continue
                    total = score(block(config, tried)).against(floor)
                    if total > best + _LEAST_GAIN:
                        at, best, improved = tried, total, True
                        break
                score.keep_only(block(config, at))
            tell(f"from {name}, step {step:g}: {score(block(config, at))}")
    return at


class Limits(NamedTuple):
    """What the search may propose."""

    least: np.ndarray  # of each size: the stride of its map, of the last nothing
    apart: float  # ratio of each size to the one before, at least
    whole: bool  # sizes are cut to integers

    def rounded(self, fields: Fields) -> Fields:
        """Numbers as a person would write them."""
        digits = 0 if self.whole else 1
        return Fields(
            tuple(round(size, digits) for size in fields.sizes),
            tuple(
                tuple(sorted(round(max(ratio, 1 / ratio), 2) for ratio in ratios))
                for ratios in fields.aspect_ratios
            ),
            tuple((round(width, 1), round(height, 1)) for width, height in fields.first_level),
        )

    def allow(self, fields: Fields) -> bool:
        """Whether sizes ascend and are not below the strides, and no ratio is extreme."""
        sizes = np.array(fields.sizes)
        ratios = [ratio for level in fields.aspect_ratios for ratio in level]
        return bool(
            (sizes >= self.least).all()
            and (sizes[1:] >= self.apart * sizes[:-1]).all()
            and max(ratios, default=1) <= _LARGEST_RATIO
            and np.min(fields.first_level, initial=np.inf) >= 1
        )


def _limits(config: ConfigDict, before: Fields, table: Grid) -> Limits:
    """Strides of the maps, where the config does not begin below; a single cell has none."""
    strides = [
        max((step for step, cells in zip(steps, shape) if cells > 1), default=1.0)
        for steps, shape in zip(table.steps, table.maps)
    ]
    sizes = np.array(before.sizes)
    least = np.minimum([*strides, 1.0][: len(sizes)], sizes)
    return Limits(
        least, min(_APART, (sizes[1:] / sizes[:-1]).min(initial=2)), config.priors.truncate
    )


def _quantiles(before: Fields, kinds: list[np.ndarray], table: Grid, limits: Limits) -> Fields:
    """The config's fields with sizes that split the truths' sides into equal parts."""
    sides = [np.sqrt(annotated.sides(boxes, table.image_size).prod(axis=1)) for boxes in kinds]
    parts = (np.arange(len(before.sizes)) + 0.5) / len(before.sizes)
    sizes = np.mean([np.quantile(each, parts) for each in sides], axis=0).tolist()
    for k in range(len(sizes)):
        previous = sizes[k - 1] * limits.apart + 1 if k else 0
        sizes[k] = max(sizes[k], limits.least[k] + 1, previous)  # rounding must not undo it
    return limits.rounded(before._replace(sizes=tuple(sizes)))


def _moves(fields: Fields) -> np.ndarray:
    """Directions [K, numbers]: each number alone, and all sizes from each level on."""
    count, sizes = len(_numbers(fields)), len(fields.sizes)
    tails = np.pad(np.triu(np.ones((sizes, sizes))), ((0, 0), (0, count - sizes)))
    return np.concatenate([np.eye(count), tails[:-1]])


def _moved(fields: Fields, change: np.ndarray) -> Fields:
    """Fields whose numbers are multiplied by exp(change)."""
    numbers = iter((_numbers(fields) * np.exp(change)).tolist())
    return Fields(
        tuple(next(numbers) for _ in fields.sizes),
        tuple(tuple(next(numbers) for _ in ratios) for ratios in fields.aspect_ratios),
        tuple((next(numbers), next(numbers)) for _ in fields.first_level),
    )


def _numbers(fields: Fields) -> np.ndarray:
    levels = (*fields.aspect_ratios, *fields.first_level)
    return np.array([*fields.sizes, *(number for level in levels for number in level)])
