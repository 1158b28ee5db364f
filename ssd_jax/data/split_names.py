"""What folders, lists and files of annotations call the splits of a data set."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

SPLIT_OF = {
    "train": "train", "training": "train", "trainval": "train",
    "val": "val", "valid": "val", "validation": "val",
    "test": "test", "testing": "test",
}  # fmt: skip
SPLITS = ("train", "val", "test")
Value = TypeVar("Value")


def is_split_name(name: str) -> bool:
    """Whether a folder or a list is called as a split is."""
    return name.lower() in SPLIT_OF


def split_word(path: Path) -> str:
    """The name of a split in a relative path: in the file's name, or a folder's; else "".

    A name is a word of its own: `train_labels.csv`, `instances_val2017.json`, `test/labels.csv`.
    """
    words = [each for each in re.findall("[a-z]+", path.stem.lower()) if each in SPLIT_OF]
    return words[0] if words else split_folder(path)


def split_folder(path: Path) -> str:
    """The last folder of a relative path that is called as a split is; else ""."""
    return next(filter(is_split_name, path.parts[-2::-1]), "")


def standard_splits(found: Mapping[str, Value]) -> dict[str, Value]:
    """{"train", "val", "test": what was found under one of its names}, where there is any.

    `trainval` counts where there is no `train`, and then `val` is a part of it.
    """
    lower = {name.lower(): value for name, value in found.items()}
    if "trainval" in lower and "train" not in lower:
        lower = {name: each for name, each in lower.items() if SPLIT_OF[name] != "val"}
    by_split: dict[str, Value] = {}
    for name, split in SPLIT_OF.items():
        if name in lower:
            by_split.setdefault(split, lower[name])
    return by_split
