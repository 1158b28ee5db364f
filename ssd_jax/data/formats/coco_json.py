"""One COCO annotation file: JSON -> categories, images and the numbers of their annotations."""

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from ssd_jax.data import files
from ssd_jax.data.messages import printable, shorten
from ssd_jax.data.scan import Scan
from ssd_jax.errors import DataError

_NOT_COCO = "not a COCO annotation file"
_BAD_ENTRY = "entries that are none of a COCO annotation file"
_BAD_BOX = "boxes or areas that are no such numbers"
Id = Any  # int or str, of one kind in a list


class Image(NamedTuple):
    """An entry of `images`."""

    file_name: str
    size: tuple[int, int] | None  # (H, W), None where the file does not say


class Annotations(NamedTuple):
    """All annotations of one image, as the file has them: nothing is dropped or clipped."""

    labels: Int[np.ndarray, " N"]  # 1 … C in the order of the file's categories
    xywh: Float[np.ndarray, "N 4"]  # pixels
    areas: Float[np.ndarray, " N"]  # of the segmentation; of the box where the file does not say
    iscrowd: Int[np.ndarray, " N"]  # 0 or 1


class Content(NamedTuple):
    """The lists of a file."""

    categories: dict[Id, str]  # id -> name
    images: dict[Id, Image]
    annotations: dict[Id, Annotations]  # of each image


def load(path: Path, scan: Scan) -> Content:
    """The lists of a file.

    Raises DataError where it is no COCO file. An entry that is not understood is an error of the
    `scan`, and its image is left out: one without id or name; an annotation of an unknown image or
    category, with a box or an area that is no such number, or an `iscrowd` other than 0 and 1.
    """
    try:
        content = json.loads(files.read_bytes(path, "the annotations"))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: not JSON ({error})") from error
    needed = ("images", "annotations", "categories")
    lists = content if isinstance(content, dict) else {}
    missing = [key for key in needed if not isinstance(lists.get(key), list)]
    if missing:
        raise DataError(f"{path}: no {', '.join(missing)}: {_NOT_COCO}")
    entries = _without_groups(content["categories"], content["annotations"])
    categories = _read_categories(entries, path)
    images = _read_images(content["images"], path, scan)
    rows = _group_rows(content["annotations"], images, path, scan)
    found = _parse_annotations(rows, images, categories, path, scan)
    return Content(categories, {key: images[key] for key in found}, found)


def _without_groups(categories: list, annotations: list) -> list:
    """The entries without those that only name a group of classes, as Roboflow writes them.

    The supercategory of such an entry is "none", that of another entry is its name, and no
    annotation has its id. It may have the same name as a class.
    """
    entries = [entry for entry in categories if isinstance(entry, dict)]
    groups = [each for entry in entries if (each := entry.get("supercategory")) != "none"]
    candidates = [
        entry
        for entry in entries
        if entry.get("supercategory") == "none" and entry.get("name") in groups
    ]
    if not candidates:
        return categories
    used = {_parse_id(row.get("category_id")) for row in annotations if isinstance(row, dict)}
    unused = [entry for entry in candidates if _parse_id(entry.get("id")) not in used]
    return [entry for entry in categories if not any(entry is each for each in unused)]


def _read_categories(entries: list, path: Path) -> dict[Id, str]:
    """Any error is raised: without classes nothing can be read."""
    names: dict[Id, str] = {}
    for number, entry in enumerate(entries, 1):
        here = f"{path}: category {number} of its list"
        key, name = _field(entry, "id", _parse_id, here), _field(entry, "name", _parse_text, here)
        if key in names:
            raise DataError(
                f"{path}: the categories {shorten(names[key])} and {shorten(name)} have the same "
                f"id {shorten(key)}; give each its own"
            )
        names[key] = name
    if len(set(names.values())) < len(names):
        raise DataError(f"{path}: two categories have the same name; join or rename them")
    _check_one_kind(names, "categories", path)
    return names


def _read_images(entries: list, path: Path, scan: Scan) -> dict[Id, Image]:
    images: dict[Id, Image] = {}
    errors = []
    for number, entry in enumerate(entries, 1):
        here = f"{path}: image {number} of its list"
        try:
            key = _field(entry, "id", _parse_id, here)
            image = Image(_field(entry, "file_name", _parse_text, here), _annotated_size(entry))
        except DataError as error:
            errors.append(error)
            continue
        if images.setdefault(key, image) is not image:
            both = f"{shorten(images[key].file_name)} and {shorten(image.file_name)}"
            text = f"{path}: the images {both} have the same id {shorten(key)}; give each its own"
            errors.append(DataError(text, _BAD_ENTRY))
    scan.collect(errors)
    _check_one_kind(images, "images", path)
    return images


def _check_one_kind(ids: Iterable[Id], what: str, path: Path) -> None:
    if len({type(key) for key in ids}) > 1:
        raise DataError(f"{path}: some ids of {what} are numbers and some texts; write one kind")


def _group_rows(
    annotations: list, image_ids: Iterable[Id], path: Path, scan: Scan
) -> dict[Id, list[dict]]:
    """The annotations of each image."""
    rows: dict[Id, list[dict]] = {key: [] for key in image_ids}
    strays: list = []
    for row in annotations:
        key = _parse_id(row.get("image_id")) if isinstance(row, dict) else None
        rows.get(key, strays).append(row)
    scan.collect([_describe_stray(row, path) for row in strays])
    return rows


def _describe_stray(row: object, path: Path) -> DataError:
    if not isinstance(row, dict):
        return DataError(f"{path}: annotation {shorten(row)}: {_NOT_COCO}", _BAD_ENTRY)
    return DataError(
        f"{path}: annotation {shorten(row.get('id'))} is of image {shorten(row.get('image_id'))}, "
        "which is not in the file",
        "annotations without image",
    )


def _parse_annotations(
    rows_of: Mapping[Id, list[dict]],
    images: Mapping[Id, Image],
    category_ids: Iterable[Id],
    path: Path,
    scan: Scan,
) -> dict[Id, Annotations]:
    label_of = {key: label for label, key in enumerate(category_ids, 1)}
    found, errors = {}, []
    for key, rows in rows_of.items():
        try:
            found[key] = _parse_rows(rows, label_of, images[key].file_name)
        except DataError as error:
            errors.append(DataError(f"{path}: {error}", error.reason))
    scan.collect(errors)
    return found


def _parse_rows(rows: Sequence[dict], label_of: Mapping[Id, int], name: str) -> Annotations:
    parsed = []
    for row in rows:
        try:
            parsed.append(_parse_row(row, label_of))
        except DataError as error:
            here = f"annotation {shorten(row.get('id'))} of {printable(name)}"
            raise DataError(f"{here}: {error}", error.reason) from error
    numbers = np.array(parsed, np.float64).reshape(-1, 7)
    labels, iscrowd = numbers[:, 0].astype(np.int32), numbers[:, 6].astype(np.int8)
    return Annotations(labels, numbers[:, 1:5], numbers[:, 5], iscrowd)


def _parse_row(row: dict, label_of: Mapping[Id, int]) -> tuple[int | float, ...]:
    """Label, x, y, width, height, area, and 1 for a crowd."""
    label = label_of.get(_parse_id(row.get("category_id")))
    if label is None:
        category = shorten(row.get("category_id"))
        raise DataError(f"unknown category {category}", "unknown categories")
    box = row.get("bbox")
    numbers = [_parse_number(value) for value in box] if isinstance(box, list) else []
    x, y, width, height = numbers if len(numbers) == 4 else [math.nan] * 4
    # Infinite or NaN where a number is, or where two are too large together.
    largest = abs(x + width) + abs(y + height) + width * height
    if not (width >= 0 and height >= 0 and largest < math.inf):
        raise DataError(f"bbox {shorten(box)} is not [x, y, width, height]", _BAD_BOX)
    area = _parse_number(row["area"]) if "area" in row else width * height
    if not 0 <= area < math.inf:
        raise DataError(f"area {shorten(row['area'])} is not a number of pixels", _BAD_BOX)
    is_crowd = row.get("iscrowd", 0)
    if is_crowd not in (0, 1):
        raise DataError(f"iscrowd {shorten(is_crowd)} is neither 0 nor 1", _BAD_ENTRY)
    return label, x, y, width, height, area, is_crowd


def _field(entry: object, key: str, parse: Callable[[object], Any], here: str) -> Any:
    """A field that every entry has. Raises DataError where it is absent or no such value."""
    value = entry.get(key) if isinstance(entry, dict) else None
    parsed = parse(value)
    if parsed is None:
        found = f"no {key}" if value is None else f"{shorten(value)} as {key}"
        raise DataError(f"{here} has {found}: {_NOT_COCO}", _BAD_ENTRY)
    return parsed


# `type` instead of `isinstance`, to which True and False are numbers; and it is fast.


def _parse_id(value: object) -> Id:
    """A whole number or a text; None for anything else."""
    return value if type(value) is str else _parse_whole_number(value)


def _parse_whole_number(value: object) -> int | None:
    if type(value) is float and value.is_integer():
        return int(value)
    return value if type(value) is int else None


def _parse_number(value: object) -> float:
    """A number; NaN for anything else, and infinity where it is too large for a float."""
    if type(value) is not int and type(value) is not float:
        return math.nan
    try:
        return float(value)
    except OverflowError:
        return math.inf


def _parse_text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _annotated_size(entry: dict) -> tuple[int, int] | None:
    """(H, W) as the file says, if it does: the image itself is what counts."""
    height, width = (_parse_whole_number(entry.get(key)) for key in ("height", "width"))
    return None if height is None or width is None else (height, width)
