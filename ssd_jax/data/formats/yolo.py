"""YOLO label files as a source of examples, checked before the first step.

Beside each `images/…/NAME.jpg` lies `labels/…/NAME.txt`, or both lie in one folder. The file has a
box a line: `class x_center y_center width height`, the class counted from 0 and the rest as shares
of the image. The layouts are those of Ultralytics' data sets, of LabelImg, and of Darknet.
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
from ssd_jax.data.folder import is_foreign, is_image
from ssd_jax.data.messages import join_truncated, printable, shorten
from ssd_jax.data.scan import Scan
from ssd_jax.errors import ConfigError, DataError
from ssd_jax.multibox import boxes as box_ops
from ssd_jax.types import PLAIN

_LABELS = {"images": "labels", "Images": "Labels"}  # folder of images -> of their label files
_ROUNDING = 1e-5  # share of the image that six written digits can put a box across its border
_BAD_LINE = "lines that are no box"
_NULLS = ("", "null", "~")
_MAX_DIGITS = 4  # of the number of a class that has no name
_USAGE = "write yolo:DATA.yaml:SPLIT or yolo:FOLDER:CLASSES.txt"


class ImageSet(NamedTuple):
    """The images that a data set names, and the names of the classes 0, 1, 2 …"""

    names: tuple[str, ...]
    images: list[Path]


def read(
    place: str | os.PathLike, argument: str, classes: Sequence[str] = (), scan: Scan | None = None
) -> ImageFileSource:
    """Images of a split of a `data.yaml`, or of a folder and a file of class names.

    Args:
      place: `data.yaml`; or a folder, whose part `images` is read where it has one; or a list of
        images (.txt).
      argument: a key of `data.yaml` (train, val, test), which names one or several folders or
        lists of images. Of a folder or a list: a file with a class name a line, or a `data.yaml`
        that has the names; "" where no file has them.
      classes: label i + 1 is classes[i]. Left out, they are the names in the order of the file.
        Where no file has names, class i is classes[i]; left out, they are class0, class1 … up to
        the largest number in the label files.

    Relative paths start at `path` of `data.yaml`, that one at the file itself; those of a list at
    the list. Folders are read with all in them, sorted. An image without label file, or with an
    empty one, has no boxes; `summary()` counts the former, and boxes that are dropped or clipped.
    Raises DataError naming the file and the line, and ConfigError where it is not clear what to
    read.
    """
    place, scan = Path(place), scan or Scan()
    is_yaml = _is_yaml(place)
    found = find_images(place, argument, classes)
    where = place if is_yaml or not argument else Path(argument)
    if not found.names and not argument:
        raise DataError(f"{where}: no box in any label file, so no classes; name them")
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


def find_images(place: Path, argument: str, classes: Sequence[str] = ()) -> ImageSet:
    """The images and class names that `read` reads, without opening an image. Errors: the same."""
    if _is_yaml(place):
        return _from_yaml(place, argument)
    if argument and not os.path.isfile(argument):
        raise ConfigError(f"{argument}: no such file of class names; {_USAGE}")
    inner = place / "images"
    images = _list_images(inner if os.path.isdir(inner) else place)
    return ImageSet(_read_names(Path(argument)) if argument else _number(images, classes), images)


def label_file(image: Path) -> Path:
    """The label file of an image: the last folder `images` of the path is `labels`.

    Where there is no such file, it is the one beside the image, if that is there.
    """
    parts, beside = list(image.parts), image.parent / f"{image.stem}.txt"
    places = [i for i, part in enumerate(parts[:-1]) if part in _LABELS]
    if not places:
        return beside
    parts[places[-1]] = _LABELS[parts[places[-1]]]
    labels = Path(*parts).parent / beside.name
    return beside if not os.path.exists(labels) and os.path.exists(beside) else labels


def has_names(path: Path) -> bool:
    """Whether a `data.yaml` has names of classes."""
    try:
        return bool(_read_names(path))
    except DataError:
        return False


def _is_yaml(path: Path) -> bool:
    return path.suffix.lower() in (".yaml", ".yml")


def _read_names(path: Path) -> tuple[str, ...]:
    if _is_yaml(path):
        return _names(_load_yaml(path), path)
    return tuple(filter(None, files.read_lines(path, "it")))


def _number(images: list[Path], classes: Sequence[str]) -> tuple[str, ...]:
    """Names of classes that no file names."""
    if classes:
        return tuple(classes)
    labels = filter(os.path.exists, map(label_file, images))
    lines = (line.split() for path in labels for line in files.read_lines(path, "it"))
    numbers = {cells[0] for cells in lines if cells}
    whole = [int(text) for text in numbers if text.isdecimal() and len(text) <= _MAX_DIGITS]
    return tuple(f"class{number}" for number in range(max(whole, default=-1) + 1))


def _check_images(images: list[Path], where: str) -> None:
    """Refuse no images, and one that is listed twice."""
    if not images:
        raise DataError(f"{where}: no images")
    repeats = files.repeated_files(dict(enumerate(images)))
    if repeats:
        twice = [f"{images[i]} (as {images[first]})" for i, first in repeats.items()]
        raise DataError(f"{where}: images listed twice: {join_truncated(twice, ', ')}")


def _from_yaml(path: Path, split: str) -> ImageSet:
    content = _load_yaml(path)
    names = _names(content, path)
    places = _places(content, split, path)
    if not split or not places:
        known = ", ".join(key for key in ("train", "val", "test") if _places(content, key, path))
        raise ConfigError(f"{path} has no split {split!r}, there are: {known or 'none'}; {_USAGE}")
    root = _text(content.get("path", ""), "path", path)
    root = path.parent / ("" if root in _NULLS else root)
    images = [image for item in places for image in _list_images(_resolve_path(root, item))]
    return ImageSet(names, images)


def _load_yaml(path: Path) -> dict:
    """A file that has names. Raises DataError for any other."""
    try:
        # Every scalar is the text that stands there: a class may be called `no` or `2024-01-01`.
        content = yaml.load(files.read_text(path, "it"), yaml.BaseLoader)
    except (yaml.YAMLError, RecursionError) as error:
        raise DataError(f"{path}: not YAML ({error})") from error
    if not isinstance(content, dict) or not isinstance(content.get("names"), list | dict):
        raise DataError(f"{path}: no names: not a data.yaml")
    return content


def _names(content: dict, path: Path) -> tuple[str, ...]:
    names = content["names"]
    if isinstance(names, dict):
        if set(names) != set(map(str, range(len(names)))):
            raise DataError(f"{path}: names are not numbered 0, 1, 2 …")
        names = [names[str(number)] for number in range(len(names))]
    return tuple(_text(name, "names", path) for name in names)


def _places(content: dict, split: str, path: Path) -> list[str]:
    """The folders and lists of a split: one, several, or none where it is absent or null."""
    value = content.get(split, [])
    values = value if isinstance(value, list) else [value]
    return [text for each in values if (text := _text(each, split, path)) not in _NULLS]


def _text(value: object, key: str, path: Path) -> str:
    if not isinstance(value, str):
        raise DataError(f"{path}: {key} holds {shorten(value)}, which is not a text")
    return value


def _resolve_path(root: Path, item: str, prefix: str = "../") -> Path:
    """A place of a data.yaml or a list; some tools write one folder too high or too low.

    Roboflow writes "../train/images", and CVAT "data/obj_train_data/a.jpg".
    """
    inner = root / item.removeprefix(prefix)
    return inner if not os.path.exists(root / item) and os.path.exists(inner) else root / item


def _list_images(place: Path) -> list[Path]:
    """Images of a folder and all in it, sorted; or those of a list, in its order."""
    if place.suffix.lower() == ".txt":
        lines = filter(None, files.read_lines(place, "it"))
        return [_resolve_path(place.parent, line, "data/") for line in lines]
    if not os.path.isdir(place):
        raise DataError(f"{printable(place)}: no such folder of images")
    with files.named_errors(place, "the folder"):
        found = filter(is_image, place.rglob("*"))
        return sorted(
            path for path in found if not any(map(is_foreign, path.relative_to(place).parts))
        )


def _labels_without_image(images: list[Path]) -> str:
    """What to say of label files without an image, in the folders of those that have one."""
    wanted = {label_file(image) for image in images}
    folders = filter(os.path.isdir, {label.parent for label in wanted})
    there = {path for folder in folders for path in folder.glob("*.txt")}
    lone = sorted(path.name for path in there - wanted if path.stem != "classes")
    return f"{len(lone)} label files without image ({join_truncated(lone, ', ')})" if lone else ""


def _annotated_image(path: Path, label_of: np.ndarray, scan: Scan) -> AnnotatedImage:
    resolved, labels = scan.resolve_image_size(path), label_file(path)
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
