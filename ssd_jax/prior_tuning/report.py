"""How well priors before and after tuning fit boxes: by part, view, size of object and class."""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float
from ml_collections import ConfigDict

from ssd_jax.detector import build_detector, match_targets
from ssd_jax.multibox.priors import recall
from ssd_jax.prior_tuning.ground_truth import ImageBoxes
from ssd_jax.prior_tuning.object_size import SIZE_RANGES, box_sides, has_size
from ssd_jax.prior_tuning.positives import count_positives
from ssd_jax.prior_tuning.prior_grid import PriorGrid
from ssd_jax.prior_tuning.scorer import Scorer

PARTS = {"searched": False, "held out": True}
VIEWS = {"plain": False, "augmented": True}
STATISTICS = {
    "recall": "prior recall",
    "mean_iou": "mean best IoU",
    "positives": "priors per box",
}
_MAX_MATCHED = 2000  # images of each part and view whose positive priors are counted


class BoxFit(NamedTuple):
    """How well priors fit each box, for all boxes of all images in a row."""

    best_iou: Float[np.ndarray, " N"]
    positives: Float[np.ndarray, " N"]  # number of priors; NaN where they were not counted


def measure_fit(
    config: ConfigDict, images: Sequence[ImageBoxes], grid: PriorGrid, num_classes: int
) -> BoxFit:
    """The best IoU of each box, and its number of positive priors by the config's matcher.

    Priors are counted in at most `_MAX_MATCHED` images of each part and view, evenly spread.
    `num_classes` is without the background.
    """
    boxes = np.concatenate([image.boxes for image in images])
    (best_iou,) = Scorer([boxes], grid).best_iou(config.priors)
    matcher = partial(match_targets, build_detector(config, num_classes + 1))
    counts = [np.full(len(image.boxes), np.nan) for image in images]
    rows = [row for group in _rows_by_kind(images) for row in _even_sample(group)]
    positives = count_positives([images[row].boxes for row in rows], matcher)
    for row, count in zip(rows, positives):
        counts[row] = count.astype(float)
    return BoxFit(best_iou, np.concatenate(counts))


def _rows_by_kind(images: Sequence[ImageBoxes]) -> list[list[int]]:
    """Rows of the images of each part and view."""
    rows: dict[tuple[bool, bool], list[int]] = {}
    for row, image in enumerate(images):
        rows.setdefault((image.held_out, image.augmented), []).append(row)
    return list(rows.values())


def _even_sample(rows: list[int]) -> list[int]:
    return rows[:: -(-len(rows) // _MAX_MATCHED)]


def summarize_fit(
    images: Sequence[ImageBoxes],
    fits: tuple[BoxFit, BoxFit],
    classes: tuple[str, ...],
    image_size: tuple[int, int],
) -> dict:
    """`[part][view][group]` -> number of boxes, and [before, after] of each of `STATISTICS`.

    Groups are "all", the sizes of objects, and "class NAME". A statistic without boxes is None.
    """
    counts = [len(image.labels) for image in images]
    labels = np.concatenate([image.labels for image in images])
    boxes = np.concatenate([image.boxes for image in images])
    areas = box_sides(boxes, image_size).prod(axis=1)
    held_out = np.repeat([image.held_out for image in images], counts)
    augmented = np.repeat([image.augmented for image in images], counts)
    groups = {"all": np.ones(len(labels), bool)}
    groups |= {size: has_size(areas, size) for size in SIZE_RANGES}
    groups |= {f"class {name}": labels == i for i, name in enumerate(classes, start=1)}
    return {
        part: {
            view: {
                group: _summarize_group(
                    fits, rows & (held_out == is_held_out) & (augmented == is_augmented)
                )
                for group, rows in groups.items()
            }
            for view, is_augmented in VIEWS.items()
            if (augmented == is_augmented).any()
        }
        for part, is_held_out in PARTS.items()
    }


def _summarize_group(fits: tuple[BoxFit, BoxFit], rows: Bool[np.ndarray, " N"]) -> dict:
    return {
        "boxes": int(rows.sum()),
        "recall": [recall(fit.best_iou[rows]) if rows.any() else None for fit in fits],
        "mean_iou": [_mean(fit.best_iou[rows]) for fit in fits],
        "positives": [_mean(fit.positives[rows]) for fit in fits],
    }


def _mean(values: Float[np.ndarray, " N"]) -> float | None:
    """The mean of the values that are not NaN; None without any."""
    counted = values[~np.isnan(values)]
    return float(counted.mean()) if len(counted) else None


def format_tables(summary: Mapping) -> str:
    """Markdown: a table by part, view and size of object, and one by class of held-out images."""
    by_size = [
        [part, view, group, summary[part][view][group]]
        for part in summary
        for view in summary[part]
        for group in ("all", *SIZE_RANGES)
    ]
    by_class = [
        [group.removeprefix("class "), view, groups[group]]
        for group in summary["held out"]["plain"]
        if group.startswith("class ")
        for view, groups in summary["held out"].items()
    ]
    first = _format_table(["images", "view", "objects"], by_size)
    second = _format_table(["class", "view"], by_class)
    return f"{first}\n\nHeld-out images by class:\n\n{second}"


def _format_table(head: list[str], rows: list[list]) -> str:
    """`rows` are [name, …, statistics of the group]."""
    head = [*head, "boxes", *STATISTICS.values()]
    lines = [head, ["---"] * len(head)]
    lines += [[*names, str(group["boxes"]), *_format_statistics(group)] for *names, group in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _format_statistics(group: Mapping) -> Iterator[str]:
    for name in STATISTICS:
        before, after = group[name]
        digits = 2 if name == "positives" else 3
        yield "–" if before is None else f"{before:.{digits}f} → {after:.{digits}f}"
