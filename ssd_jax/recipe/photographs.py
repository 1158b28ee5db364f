"""The sets of a folder of photographs: what is trained on, what chooses, and what is scored."""

import re
from pathlib import Path
from typing import NamedTuple

from ssd_jax.data.messages import printable
from ssd_jax.data.readings.reading import ALL, Reading
from ssd_jax.data.recognize import recognize
from ssd_jax.errors import ConfigError, DataError
from ssd_jax.recipe.setting import Setting

_SPLIT = (0.7, 0.15, 0.15)  # of photographs that nobody divided
_FEW_SPLIT = (0.7, 0.3, 0.0)  # of so few that a test set would say nothing
_FEW = 10
_ARCHIVES = (".zip", ".tar", ".gz", ".tgz", ".rar", ".7z")
_NAMES_ABOVE, _LEVELS_ABOVE = ("data.yaml", "classes.txt", "obj.names"), 3
_VAL_SPLIT = (0.85, 0.15, 0.0)  # of a training set that has a test set and no validation set


class Photographs(NamedTuple):
    """A folder, and what its sets are for."""

    folder: Path  # absolute
    reading: Reading
    settings: tuple[Setting, ...]  # fields of `config.data`
    roles: str  # of the sets, for people


def read_photographs(folder: Path, number: int | None = None) -> Photographs:
    """What an absolute folder holds. `number` is that of a reading, from 1, where it has several.

    Raises DataError for a folder without a training set, and ConfigError where a number is needed
    or does not exist.
    """
    _check_folder(folder)
    reading = _choose_reading(folder, recognize(folder), number)
    _check_names(folder, reading)
    fields, reasons, roles = _divide(reading)
    fields |= {"bad": "skip", "classes": reading.classes}
    reasons |= {
        "bad": "files that cannot be read are left out and named",
        "classes": "labels 1, 2, …",
    }
    settings = tuple(
        Setting(f"data.{name}", value, reasons.get(name, "")) for name, value in fields.items()
    )
    return Photographs(folder, reading, settings, roles)


def _check_folder(folder: Path) -> None:
    what = "name the folder that holds photographs and annotations"
    if not folder.exists():
        raise DataError(f"there is no folder {printable(folder)}: {what}")
    if not folder.is_dir():
        unpack = "unpack it, and " if folder.suffix.lower() in _ARCHIVES else ""
        raise DataError(f"{printable(folder)} is a file: {unpack}{what}")


def _choose_reading(folder: Path, readings: list[Reading], number: int | None) -> Reading:
    if number is None and len(readings) == 1:
        return readings[0]
    if number is not None and 1 <= number <= len(readings):
        return readings[number - 1]
    lines = [f"  --reading={i}  {each.summary}" for i, each in enumerate(readings, 1)]
    problem = (
        f"{printable(folder)} can be read in {len(readings)} ways: add one of these to the command"
        if number is None
        else f"there is no --reading={number} of {printable(folder)}, only"
    )
    raise ConfigError("\n".join([problem, *lines]))


def _check_names(folder: Path, reading: Reading) -> None:
    """Raise ConfigError where label files have no names, and a folder above has them."""
    if reading.format != "yolo" or not all(re.fullmatch(r"class\d+", c) for c in reading.classes):
        return
    for above in list(folder.parents)[:_LEVELS_ABOVE]:
        for name in _NAMES_ABOVE:
            if (above / name).is_file():
                raise ConfigError(
                    f"the label files of {printable(folder)} have no class names, which "
                    f"{printable(above / name)} has: name the folder {printable(above)}"
                )


def _divide(reading: Reading) -> tuple[dict, dict[str, str], str]:
    """Sets of a config, reasons for some of them, and what each is for."""
    specs, counts = reading.specs, reading.counts
    sets: dict[str, tuple] = {"train": (), "val": (), "test": (), "split": ()}
    if ALL in specs:
        sets |= {"train": (specs[ALL],), "split": _SPLIT if counts[ALL] >= _FEW else _FEW_SPLIT}
        roles = f"{_format_split(sets['split'])} of {counts[ALL]}"
        return sets, {"split": "nobody divided these photographs"}, roles
    if "train" not in specs:
        raise DataError(
            f"no training set: {reading.summary}. Call the folder, or the list, of photographs to "
            "train on `train`"
        )
    sets |= {name: (spec,) for name, spec in specs.items()}
    roles = ", ".join(f"{name} {count}" for name, count in counts.items())
    if "val" in specs:
        return sets, {}, roles
    if counts["train"] < 2:
        return sets, {}, f"{roles}, which chooses the best checkpoint too"
    sets["split"] = _VAL_SPLIT
    roles = f"{_format_split(_VAL_SPLIT)} of {counts['train']}, test {counts['test']}"
    return sets, {"split": "the best checkpoint is not chosen by the test set"}, roles


def _format_split(fractions: tuple[float, ...]) -> str:
    parts = zip(("train", "val", "test"), fractions)
    return ", ".join(f"{name} {100 * fraction:g} %" for name, fraction in parts if fraction)
