"""How well two tables of priors fit truths: figures by part, view, size of object and class."""

from collections.abc import Iterator
from functools import partial
from typing import NamedTuple

import numpy as np
from ml_collections import ConfigDict

from scripts import annotated
from scripts.prior_tuning.overlap import Grid
from scripts.prior_tuning.search import THRESHOLD, Scorer
from scripts.prior_tuning.truths import Picture
from ssd_jax import step

PARTS = {"searched": False, "held out": True}
VIEWS = {"plain": False, "augmented": True}
FIGURES = {"recall": "best IoU ≥ .5", "mean_iou": "mean best IoU", "positives": "priors a truth"}
_MATCHED = 2000  # pictures of each part and view whose priors are counted


class Measured(NamedTuple):
    """All truths of all pictures in a row, and what a table of priors does for each."""

    iou: np.ndarray  # [N], the best
    positives: np.ndarray  # [N], NaN where they were not counted


def measure(config: ConfigDict, pictures: list[Picture], table: Grid, classes: int) -> Measured:
    """The best IoU, and the number of priors by the config's matcher, of each truth.

    Priors are counted in at most `_MATCHED` pictures of a part and view, evenly spread.
    """
    boxes = np.concatenate([picture.boxes for picture in pictures])
    (iou,) = Scorer([boxes], table).best(config.priors)
    match = partial(step.matched, step.build(config, classes + 1))
    counts = [np.full(len(picture.boxes), np.nan) for picture in pictures]
    rows = [row for kind in _kinds(pictures) for row in kind[:: -(-len(kind) // _MATCHED)]]
    for row, count in zip(rows, annotated.positives([pictures[row].boxes for row in rows], match)):
        counts[row] = count
    return Measured(iou, np.concatenate(counts))


def _kinds(pictures: list[Picture]) -> list[list[int]]:
    """Rows of the pictures of each part and view."""
    kinds = {}
    for row, picture in enumerate(pictures):
        kinds.setdefault((picture.held_out, picture.augmented), []).append(row)
    return list(kinds.values())


def figures(
    pictures: list[Picture], measured: tuple[Measured, Measured], classes: tuple[str, ...],
    image_size: tuple[int, int],
) -> dict:  # fmt: skip
    """`[part][view][group]` -> number of truths, and each of `FIGURES` before and after.

    Groups are "all", the sizes of objects, and "class NAME"; a figure is None without truths.
    """
    lengths = [len(picture.labels) for picture in pictures]
    labels = np.concatenate([picture.labels for picture in pictures])
    boxes = np.concatenate([picture.boxes for picture in pictures])
    areas = annotated.sides(boxes, image_size).prod(axis=1)
    held_out = np.repeat([picture.held_out for picture in pictures], lengths)
    augmented = np.repeat([picture.augmented for picture in pictures], lengths)
    groups = {"all": np.ones(len(labels), bool)}
    groups |= {size: annotated.within(areas, size) for size in annotated.SIZES}
    groups |= {f"class {name}": labels == i for i, name in enumerate(classes, start=1)}
    return {
        part: {
            view: {
                group: _group(measured, members & (held_out == out) & (augmented == changed))
                for group, members in groups.items()
            }
            for view, changed in VIEWS.items()
            if (augmented == changed).any()
        }
        for part, out in PARTS.items()
    }


def _group(measured: tuple[Measured, Measured], members: np.ndarray) -> dict:
    pairs = {
        "recall": [_mean(each.iou[members] >= THRESHOLD) for each in measured],
        "mean_iou": [_mean(each.iou[members]) for each in measured],
        "positives": [_mean(each.positives[members]) for each in measured],
    }
    return {"truths": int(members.sum()), **pairs}


def _mean(values: np.ndarray) -> float | None:
    counted = values[~np.isnan(values)]
    return float(counted.mean()) if len(counted) else None


def tables(found: dict) -> str:
    """Markdown: a table by part, view and size of object, and one by class of held-out images."""
    sizes = [
        [part, view, group, found[part][view][group]]
        for part in found
        for view in found[part]
        for group in ("all", *annotated.SIZES)
    ]
    classes = [
        [group.removeprefix("class "), view, views[group]]
        for group in found["held out"]["plain"]
        if group.startswith("class ")
        for view, views in found["held out"].items()
    ]
    first = _table(["images", "seen", "objects"], sizes)
    return f"{first}\n\nHeld-out images by class:\n\n{_table(['class', 'seen'], classes)}"


def _table(head: list[str], rows: list[list]) -> str:
    """Rows end with a group's figures."""
    head = [*head, "truths", *FIGURES.values()]
    lines = [head, ["---"] * len(head)]
    lines += [[*names, str(group["truths"]), *_cells(group)] for *names, group in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cells(group: dict) -> Iterator[str]:
    for name in FIGURES:
        before, after = group[name]
        digits = 2 if name == "positives" else 3
        yield "–" if before is None else f"{before:.{digits}f} → {after:.{digits}f}"
