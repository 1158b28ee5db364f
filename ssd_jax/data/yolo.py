"""YOLO label files as a source of examples, checked before the first step.

Beside each `images/…/NAME.jpg` lies `labels/…/NAME.txt` (a path without a folder `images` has both
in one place), a box a line: `class x_center y_center width height`, the class counted from 0 and
the rest as shares of the image. The layout is that of Ultralytics' data sets.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import yaml

from ssd_jax import boxes as box_ops
from ssd_jax.data.records import Record, Records, checked_classes, fit
from ssd_jax.data.scan import Scan, some
from ssd_jax.data.voc_files import checked_list
from ssd_jax.errors import ConfigError, DataError

_SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
_ROUNDED = 1e-5  # share of the image that six written digits can put a box across its border
_LINE = "lines that are no box"
_USAGE = "write yolo:DATA.yaml:SPLIT or yolo:FOLDER:CLASSES.txt"


class _Set(NamedTuple):
    names: tuple[str, ...]
    images: list[Path]


def read(
    place: str | os.PathLike, argument: str, classes: Sequence[str] = (), scan: Scan | None = None
) -> Records:
    """Images of a split of a `data.yaml`, or of a folder and a file of class names.

    Args:
      place: `data.yaml`, or a folder, whose part `images` is read where it has one.
      argument: a key of `data.yaml` (train, val, test), which names one or several folders or
        lists of images; or a file with a class name a line.
      classes: label i + 1 is classes[i]. Left out, they are the names in the order of the file.

    Relative paths start at `path` of `data.yaml`, that one at the file itself. Folders are read
    with all in them, sorted. An image without label file, or with an empty one, has no boxes;
    `summary()` counts the former, and boxes that are dropped or clipped. Raises DataError naming
    the file and the line, and ConfigError where it is not clear what to read.
    """
    place, scan = Path(place), scan or Scan()
    is_yaml = place.suffix.lower() in (".yaml", ".yml")
    found = _from_yaml(place, argument) if is_yaml else _from_folder(place, Path(argument))
    where = place if is_yaml else Path(argument)
    if not found.names or len(set(found.names)) < len(found.names):
        raise DataError(f"{where}: no class names, or one occurs twice")
    checked_list(map(str, found.images), f"{place} {argument}")
    classes = checked_classes(classes, dict.fromkeys(found.names, where), found.names)
    label_of = np.array([classes.index(name) + 1 for name in found.names], np.int32)
    records = scan.gather(lambda path: _record(path, label_of, scan), found.images)
    title, split = (place.parent.name, argument) if is_yaml else (place.name, "")
    return Records(title, split, classes, list(records.values()), _orphans(found.images))


def _from_yaml(path: Path, split: str) -> _Set:
    try:
        content = yaml.safe_load(_text(path))
    except yaml.YAMLError as error:
        raise DataError(f"{path}: not YAML ({error})") from error
    if not isinstance(content, dict) or not isinstance(content.get("names"), list | dict):
        raise DataError(f"{path}: no names: not a data.yaml")
    names = content["names"]
    if isinstance(names, dict):
        if set(names) != set(range(len(names))):
            raise DataError(f"{path}: names are not numbered 0, 1, 2 …")
        names = [names[number] for number in range(len(names))]
    places = content.get(split)
    if not split or not places:
        known = ", ".join(key for key in ("train", "val", "test") if content.get(key))
        raise ConfigError(f"{path} has no split {split!r}, there are: {known or 'none'}; {_USAGE}")
    root = path.parent / str(content.get("path") or "")
    places = places if isinstance(places, list) else [places]
    images = [image for item in places for image in _images(_located(root, str(item)))]
    return _Set(tuple(map(str, names)), images)


def _located(root: Path, item: str) -> Path:
    """A place of a data.yaml; some tools write one folder too high ("../train/images")."""
    if not (root / item).exists() and (root / item.removeprefix("../")).exists():
        return root / item.removeprefix("../")
    return root / item


def _from_folder(folder: Path, names: Path) -> _Set:
    if not names.is_file():
        raise ConfigError(f"{names}: no such file of class names; {_USAGE}")
    lines = [line.strip() for line in _text(names).splitlines()]
    inner = folder / "images"
    return _Set(tuple(filter(None, lines)), _images(inner if inner.is_dir() else folder))


def _images(place: Path) -> list[Path]:
    """Images of a folder and all in it, sorted; or those of a list, in its order."""
    if place.suffix.lower() == ".txt":
        lines = (line.strip() for line in _text(place).splitlines())
        return [place.parent / line for line in lines if line]
    if not place.is_dir():
        raise DataError(f"{place}: no such folder of images")
    found = (path for path in place.rglob("*") if path.suffix.lower() in _SUFFIXES)
    return sorted(path for path in found if not path.name.startswith("."))


def _label_file(image: Path) -> Path:
    """The last folder `images` of the path is `labels`."""
    parts = list(image.parts)
    if "images" in parts[:-1]:
        parts[len(parts) - 2 - parts[-2::-1].index("images")] = "labels"
    return Path(*parts).with_suffix(".txt")


def _orphans(images: list[Path]) -> str:
    """What to say of label files without an image, in the folders of those that have one."""
    wanted = {_label_file(image) for image in images}
    there = {path for folder in {label.parent for label in wanted} for path in folder.glob("*.txt")}
    lone = sorted(path.name for path in there - wanted if path.stem != "classes")
    return f"{len(lone)} label files without image ({some(lone, ', ')})" if lone else ""


def _record(path: Path, label_of: np.ndarray, scan: Scan) -> Record:
    sized, labels = scan.look(path), _label_file(path)
    lines = _text(labels).splitlines() if labels.exists() else []
    rows = [
        _row(line.split(), f"{labels}, line {number}", len(label_of))
        for number, line in enumerate(lines, 1)
        if line.strip()
    ]
    numbers = np.array(rows, np.float64).reshape(-1, 5)
    corners = box_ops.to_corners(numbers[:, 1:])
    inside = box_ops.clip(corners)
    corners = np.where(np.abs(corners - inside) < _ROUNDED, inside, corners)
    fitted = fit(corners, (numbers[:, 3:] == 0).any(axis=1), numbers[:, 0].tolist())
    notes = (
        fitted.notes | sized.notes | ({} if labels.exists() else {"images without label file": 1})
    )
    kept = label_of[numbers[:, 0].astype(int)[fitted.kept]]
    ignore = np.zeros(len(kept), bool)
    return Record(path, sized.size, fitted.boxes, kept, ignore, notes)


def _row(cells: list[str], where: str, classes: int) -> list[float]:
    if len(cells) != 5:
        raise DataError(
            f"{where}: {len(cells)} numbers, not class, x, y, width and height of a box", _LINE
        )
    try:
        numbers = [float(cell) for cell in cells]
    except ValueError as error:
        raise DataError(f"{where}: {error}", _LINE) from error
    if numbers[0] not in range(classes):
        raise DataError(
            f"{where}: class {cells[0]}, but there are 0 … {classes - 1}", "unknown classes"
        )
    if not all(0 <= number <= 1 for number in numbers[1:]):
        text = f"{where}: {' '.join(cells[1:])} are not shares (0 … 1) of the image"
        raise DataError(text, "boxes that are no shares of the image")
    return numbers


def _text(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot read it ({error})") from error
