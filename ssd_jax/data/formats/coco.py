"""A COCO annotation file and its folder of images as a source, checked before the first step.

What is dropped or clipped for training is still there when COCO scores are computed: these come
from the file itself, with its ids, areas and crowds.
"""

import json
import math
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ssd_jax.data.annotated_image import (
    AnnotatedImage,
    ImageFileSource,
    clip_and_filter,
    resolve_classes,
)
from ssd_jax.data.scan import Scan
from ssd_jax.errors import DataError
from ssd_jax.types import CROWD, PLAIN

_BAD_BOX = "boxes or areas that are no such numbers"


def read(
    images: str | os.PathLike, annotations: str | os.PathLike, classes: Sequence[str] = (),
    scan: Scan | None = None,
) -> ImageFileSource:  # fmt: skip
    """Images of folder `images` with the boxes of the JSON file `annotations`.

    Labels follow the order of the file's categories, whatever their ids, or that of `classes`.
    A crowd has the flag CROWD. A box without area is dropped, one outside the image too, and one
    across the border is clipped; `summary()` counts them. Raises DataError naming the file, and
    the annotation, for anything that cannot be meant.
    """
    folder, path, scan = Path(images), Path(annotations), scan or Scan()
    content = _load(path)
    try:
        names = {category["id"]: category["name"] for category in content["categories"]}
        rows = {image["id"]: [] for image in content["images"]}
        orphans = []
        for row in content["annotations"]:
            rows.get(row["image_id"], orphans).append(row)
        files = [folder / image["file_name"] for image in content["images"]]
        sizes = [(image.get("height"), image.get("width")) for image in content["images"]]
    except (KeyError, TypeError) as error:
        raise DataError(f"{path}: an entry without {error}: not a COCO annotation file") from error
    scan.map_collecting_errors(lambda i: _raise_orphan(orphans[i], path), range(len(orphans)))
    if len(rows) < len(files):
        raise DataError(f"{path}: two images have the same id; the file is damaged")
    if len(set(names.values())) < len(names):
        raise DataError(f"{path}: two categories have the same name; join or rename them")
    classes = resolve_classes(classes, dict.fromkeys(names.values(), path), names.values())
    label_of = {key: classes.index(name) + 1 for key, name in names.items()}
    image_ids, of_image = list(rows), list(rows.values())
    annotated = scan.map_collecting_errors(
        lambda i: _annotated_image(files[i], of_image[i], sizes[i], str(path), label_of, scan),
        range(len(files)),
    )
    image_ids = [image_ids[i] for i in annotated]
    return ImageFileSource(
        path.stem, "", classes, list(annotated.values()),
        scoring_inputs=lambda: scoring_inputs(path, image_ids, classes),
    )  # fmt: skip


def scoring_inputs(path: Path, image_ids: list, classes: Sequence[str]) -> tuple[dict, list, list]:
    """Content of the file, the image ids as given, and the category id of each class.

    A class that the file does not have gets a new id and has no boxes.
    """
    content = _load(path)
    ids = {category["name"]: category["id"] for category in content["categories"]}
    for name in classes:
        if name not in ids:
            ids[name] = max(ids.values()) + 1
            content["categories"].append({"id": ids[name], "name": name})
    return content, image_ids, [ids[name] for name in classes]


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


def _annotated_image(
    file, rows, annotated_size, where: str, label_of: dict[int, int], scan: Scan
) -> AnnotatedImage:
    if not all(isinstance(side, int) for side in annotated_size):
        annotated_size = None
    size, upright, corrections = scan.resolve_image_size(file, annotated_size)
    height, width = size
    for row in rows:
        _check_row(row, f"{where}: annotation {row.get('id')} of {file.name}", label_of)
    xywh = np.array([row["bbox"] for row in rows], np.float64).reshape(-1, 4)
    corners = np.concatenate([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], axis=1)
    corners /= (width, height, width, height)
    labels = np.array([label_of[row["category_id"]] for row in rows], np.int32)
    clipped = clip_and_filter(corners, (xywh[:, 2:] == 0).any(axis=1), labels)
    flags = np.array([CROWD if row.get("iscrowd", 0) else PLAIN for row in rows], np.int8)
    return AnnotatedImage(
        file, size, clipped.boxes, labels[clipped.kept], flags[clipped.kept],
        clipped.corrections | corrections, upright,
    )  # fmt: skip


def _raise_orphan(row: dict, path: Path) -> None:
    raise DataError(
        f"{path}: annotation {row.get('id')} is of image {row['image_id']}, which is not in the "
        "file",
        "annotations without image",
    )


def _check_row(row: dict, where: str, label_of: dict[int, int]) -> None:
    if row.get("category_id") not in label_of:
        raise DataError(f"{where}: unknown category {row.get('category_id')}", "unknown categories")
    box = row.get("bbox")
    numbers = isinstance(box, list) and len(box) == 4 and all(map(_is_finite, box))
    if not numbers or box[2] < 0 or box[3] < 0:
        raise DataError(f"{where}: bbox {box} is not [x, y, width, height]", _BAD_BOX)
    if not _is_finite(row.get("area", 0)):
        raise DataError(f"{where}: area {row['area']} is not a number", _BAD_BOX)


def _is_finite(value: object) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)
