"""One way to read a folder: its format, and the name of the data set of each split."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from ssd_jax.data.messages import join_truncated, printable
from ssd_jax.data.split_names import standard_splits
from ssd_jax.errors import DataError

ALL = "all"  # the only split of a folder that has none


class Reading(NamedTuple):
    """A folder as one data set.

    `sources.make_source((specs[split],), config, classes)` opens a split.
    """

    format: str  # voc, yolo, coco or csv
    specs: dict[str, str]  # train, val, test, or only `all` -> name of a data set
    counts: dict[str, int]  # of the same splits: how many photographs
    classes: tuple[str, ...]  # of all splits together
    summary: str  # what was found, for people


class Part(NamedTuple):
    """What a folder has for one split: the data set `FORMAT:place:argument`."""

    place: Path
    argument: str
    images: list[Path]
    classes: Iterable[str]


def make_reading(format: str, found: str, parts: Mapping[str, Part]) -> Reading | None:
    """The reading of the parts that hold images: name of the split -> part; None without any.

    `found` begins the summary. A part that has the images of an earlier one is left out. Where one
    part remains the folder has no splits, whatever this one is called.
    """
    kept: dict[str, Part] = {}
    for split, part in (standard_splits(parts) or parts).items():
        images = set(part.images)
        if images and all(images != set(other.images) for other in kept.values()):
            kept[split] = part
    if not kept:
        return None
    if len(kept) == 1:
        kept = {ALL: kept.popitem()[1]}
    classes = tuple(dict.fromkeys(name for part in kept.values() for name in part.classes))
    counts = {split: len(part.images) for split, part in kept.items()}
    specs = {split: _name(format, part) for split, part in kept.items()}
    return Reading(format, specs, counts, classes, _summary(found, counts, classes))


def _summary(found: str, counts: Mapping[str, int], classes: tuple[str, ...]) -> str:
    splits = ", ".join(f"{split} {count}" for split, count in counts.items())
    names = join_truncated([printable(name) for name in classes], ", ")
    parts = [found] if ALL in counts else [found, splits]
    return "; ".join([*parts, f"classes ({len(classes)}): {names or 'none'}"])


def _name(format: str, part: Part) -> str:
    """The name of a data set, unless a colon would divide it elsewhere."""
    if ":" in part.argument:
        raise DataError(
            f"{printable(part.argument)}: a path with ':' cannot be in the name of a data set; "
            "rename or move the folder"
        )
    return f"{format}:{part.place}:{part.argument}"
