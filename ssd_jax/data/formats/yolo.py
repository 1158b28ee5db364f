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

from ssd_jax.data import files
from ssd_jax.data.annotated_image import (
    AnnotatedImage,
    ImageFileSource,
    clip_and_filter,
    resolve_classes,
)
from ssd_jax.data.messages import join_truncated, printable, shorten
from ssd_jax.data.scan import Scan
from ssd_jax.errors import ConfigError, DataError
from ssd_jax.multibox import boxes as box_ops
from ssd_jax.types import PLAIN

_SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
_ROUNDING = 1e-5  # share of the image that six written digits can put a box across its border
_BAD_LINE = "lines that are no box"
_NULLS = ("", "null", "~")
_USAGE = "write yolo:DATA.yaml:SPLIT or yolo:FOLDER:CLASSES.txt"


class _Set(NamedTuple):
    names: tuple[str, ...]
    images: list[Path]


def read(
    place: str | os.PathLike, argument: str, classes: Sequence[str] = (), scan: Scan | None = None
) -> ImageFileSource:
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
    _check_images(found.images, f"{place} {argument}")
    classes = resolve_classes(classes, dict.fromkeys(found.names, where), found.names)
    label_of = np.array([classes.index(name) + 1 for name in found.names], np.int32)
    annotated = scan.map_collecting_errors(
        lambda path: _annotated_image(path, label_of, scan), found.images
    )
    title, split = (place.parent.name, argument) if is_yaml else (place.name, "")
    return ImageFileSource(
        title, split, classes, list(annotated.values()), _labels_without_image(found.images)
    )


def _check_images(images: list[Path], where: str) -> None:
    """Refuse no images, and one that is listed twice."""
    if not images:
        raise DataError(f"{where}: no images")
    repeats = files.repeated_files(dict(enumerate(images)))
    if repeats:
        twice = [f"{images[i]} (as {images[first]})" for i, first in repeats.items()]
        raise DataError(f"{where}: images listed twice: {join_truncated(twice, ', ')}")


def _from_yaml(path: Path, split: str) -> _Set:
    try:
        # Every scalar is the text that stands there: a class may be called `no` or `2024-01-01`.
        content = yaml.load(files.read_text(path, "it"), yaml.BaseLoader)
    except (yaml.YAMLError, RecursionError) as error:
        raise DataError(f"{path}: not YAML ({error})") from error
    if not isinstance(content, dict) or not isinstance(content.get("names"), list | dict):
        raise DataError(f"{path}: no names: not a data.yaml")
    names = content["names"]
    if isinstance(names, dict):
        if set(names) != set(map(str, range(len(names)))):
            raise DataError(f"{path}: names are not numbered 0, 1, 2 …")
        names = [names[str(number)] for number in range(len(names))]
    places = _places(content, split, path)
    if not split or not places:
        known = ", ".join(key for key in ("train", "val", "test") if _places(content, key, path))
        raise ConfigError(f"{path} has no split {split!r}, there are: {known or 'none'}; {_USAGE}")
    root = _text(content.get("path", ""), "path", path)
    root = path.parent / ("" if root in _NULLS else root)
    images = [image for item in places for image in _list_images(_resolve_path(root, item))]
    return _Set(tuple(_text(name, "names", path) for name in names), images)


def _places(content: dict, split: str, path: Path) -> list[str]:
    """The folders and lists of a split: one, several, or none where it is absent or null."""
    value = content.get(split, [])
    values = value if isinstance(value, list) else [value]
    return [text for each in values if (text := _text(each, split, path)) not in _NULLS]


def _text(value: object, key: str, path: Path) -> str:
    if not isinstance(value, str):
        raise DataError(f"{path}: {key} holds {shorten(value)}, which is not a text")
    return value


def _resolve_path(root: Path, item: str) -> Path:
    """A place of a data.yaml; some tools write one folder too high ("../train/images")."""
    inner = root / item.removeprefix("../")
    return inner if not os.path.exists(root / item) and os.path.exists(inner) else root / item


def _from_folder(folder: Path, names: Path) -> _Set:
    if not os.path.isfile(names):
        raise ConfigError(f"{names}: no such file of class names; {_USAGE}")
    inner = folder / "images"
    images = _list_images(inner if os.path.isdir(inner) else folder)
    return _Set(tuple(filter(None, files.read_lines(names, "it"))), images)


def _list_images(place: Path) -> list[Path]:
    """Images of a folder and all in it, sorted; or those of a list, in its order."""
    if place.suffix.lower() == ".txt":
        return [place.parent / line for line in files.read_lines(place, "it") if line]
    if not os.path.isdir(place):
        raise DataError(f"{printable(place)}: no such folder of images")
    with files.named_errors(place, "the folder"):
        found = [path for path in place.rglob("*") if path.suffix.lower() in _SUFFIXES]
    return sorted(path for path in found if not path.name.startswith("."))


def _label_file(image: Path) -> Path:
    """The last folder `images` of the path is `labels`."""
    parts = list(image.parts)
    if "images" in parts[:-1]:
        parts[len(parts) - 2 - parts[-2::-1].index("images")] = "labels"
    return Path(*parts).parent / f"{image.stem}.txt"


def _labels_without_image(images: list[Path]) -> str:
    """What to say of label files without an image, in the folders of those that have one."""
    wanted = {_label_file(image) for image in images}
    folders = filter(os.path.isdir, {label.parent for label in wanted})
    there = {path for folder in folders for path in folder.glob("*.txt")}
    lone = sorted(path.name for path in there - wanted if path.stem != "classes")
    return f"{len(lone)} label files without image ({join_truncated(lone, ', ')})" if lone else ""


def _annotated_image(path: Path, label_of: np.ndarray, scan: Scan) -> AnnotatedImage:
    resolved, labels = scan.resolve_image_size(path), _label_file(path)
    has_labels = os.path.exists(labels)
    rows = [
        _parse_row(line.split(), f"{printable(labels)}, line {number}", len(label_of))
        for number, line in enumerate(files.read_lines(labels, "it") if has_labels else [], 1)
        if line
    ]
    numbers = np.array(rows, np.float64).reshape(-1, 5)
    corners = box_ops.to_corners(numbers[:, 1:])
    inside = box_ops.clip(corners)
    corners = np.where(np.abs(corners - inside) < _ROUNDING, inside, corners)
    clipped = clip_and_filter(corners, (numbers[:, 3:] == 0).any(axis=1), numbers[:, 0].tolist())
    corrections = (
        clipped.corrections
        | resolved.corrections
        | ({} if has_labels else {"images without label file": 1})
    )
    kept = label_of[numbers[:, 0].astype(int)[clipped.kept]]
    flags = np.full(len(kept), PLAIN, np.int8)
    return AnnotatedImage(
        path, resolved.size, clipped.boxes, kept, flags, corrections, resolved.upright
    )


def _parse_row(cells: list[str], where: str, classes: int) -> list[float]:
    if len(cells) != 5:
        raise DataError(
            f"{where}: {len(cells)} numbers, not class, x, y, width and height of a box", _BAD_LINE
        )
    try:
        numbers = [float(cell) for cell in cells]
    except ValueError as error:
        raise DataError(
            f"{where}: {shorten(' '.join(cells))} are not numbers", _BAD_LINE
        ) from error
    if numbers[0] not in range(classes):
        raise DataError(
            f"{where}: class {printable(cells[0])}, but there are 0 … {classes - 1}",
            "unknown classes",
        )
    if not all(0 <= number <= 1 for number in numbers[1:]):
        text = f"{where}: {printable(' '.join(cells[1:]))} are not shares (0 … 1) of the image"
        raise DataError(text, "boxes that are no shares of the image")
    return numbers
