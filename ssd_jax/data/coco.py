"""A COCO annotation file and its folder of images as a source, checked before the first step."""

import json
import math
import os
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ssd_jax import boxes as box_ops
from ssd_jax import decode
from ssd_jax.data.records import Record, Records, checked_classes, gather
from ssd_jax.errors import DataError


def read(
    images: str | os.PathLike, annotations: str | os.PathLike, classes: Sequence[str] = ()
) -> Records:
    """Images of folder `images` with the boxes of the JSON file `annotations`.

    Labels follow the order of the file's categories, whatever their ids, or that of `classes`.
    A crowd has `ignore`. A box without area is dropped, one outside the image too, and one
    across the border is clipped; `summary()` counts them. Raises DataError naming the file, and
    the annotation, for anything that cannot be meant.
    """
    folder, path = Path(images), Path(annotations)
    content = _load(path)
    names = {category["id"]: category["name"] for category in content["categories"]}
    found = {name: path for name in names.values()}
    classes = checked_classes(classes, found, names.values())
    label_of = {key: classes.index(name) + 1 for key, name in names.items()}
    rows = defaultdict(list)
    for row in content["annotations"]:
        rows[row["image_id"]].append(row)
    unknown = rows.keys() - {image["id"] for image in content["images"]}
    if unknown:
        raise DataError(f"{path}: annotations of image {min(unknown)}, which is not in the file")
    records = gather(
        lambda image: _record(folder, path, image, rows[image["id"]], label_of), content["images"]
    )
    return Records(path.stem, "", classes, records)


def _load(path: Path) -> dict:
    try:
        content = json.loads(path.read_bytes())
    except OSError as error:
        raise DataError(f"{path}: cannot read the annotations ({error.strerror})") from error
    except ValueError as error:
        raise DataError(f"{path}: not JSON ({error})") from error
    needed = ("images", "annotations", "categories")
    missing = [key for key in needed if not isinstance(content, dict) or key not in content]
    if missing:
        raise DataError(f"{path}: no {', '.join(missing)}: not a COCO annotation file")
    return content


def _record(
    folder: Path, path: Path, image: dict, rows: list[dict], label_of: dict[int, int]
) -> Record:
    file = folder / image["file_name"]
    height, width = size = decode.size(file)
    for row in rows:
        _check(row, f"{path}: annotation {row.get('id')} of {file.name}", label_of)
    xywh = np.array([row["bbox"] for row in rows], np.float64).reshape(-1, 4)
    corners = np.concatenate([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], axis=1)
    corners /= (width, height, width, height)
    inside = box_ops.clip(corners)
    flat = (xywh[:, 2:] == 0).any(axis=1)
    outside = ~flat & (inside[:, :2] >= inside[:, 2:]).any(axis=1)
    kept = ~flat & ~outside
    notes = {
        "boxes without area dropped": flat,
        "boxes outside the image dropped": outside,
        "boxes clipped at the border": kept & (inside != corners).any(axis=1),
    }
    return Record(
        file,
        size,
        inside[kept].astype(np.float32),
        np.array([label_of[row["category_id"]] for row in rows], np.int32)[kept],
        np.array([bool(row.get("iscrowd", 0)) for row in rows], bool)[kept],
        {note: int(which.sum()) for note, which in notes.items() if which.any()},
    )


def _check(row: dict, where: str, label_of: dict[int, int]) -> None:
    if row.get("category_id") not in label_of:
        raise DataError(f"{where}: unknown category {row.get('category_id')}")
    box = row.get("bbox")
    numbers = isinstance(box, list) and len(box) == 4 and all(map(_is_finite, box))
    if not numbers or box[2] < 0 or box[3] < 0:
        raise DataError(f"{where}: bbox {box} is not [x, y, width, height]")


def _is_finite(value: object) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)
