"""A CSV list of boxes and its folder of images as a source, checked before the first step.

A row is a box: `filename,width,height,class,xmin,ymin,xmax,ymax`, corners in pixels as in PASCAL
VOC, 1-based and inclusive. Columns may come in any order, and width and height may be absent.
"""

import csv
import io
import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ssd_jax.data import files
from ssd_jax.data.annotated_image import AnnotatedImage, ImageFileSource, resolve_classes
from ssd_jax.data.formats.voc_xml import parse_corners, pixels_to_boxes
from ssd_jax.data.messages import printable, shorten
from ssd_jax.data.scan import Scan
from ssd_jax.errors import DataError
from ssd_jax.types import PLAIN

_CORNERS = ("xmin", "ymin", "xmax", "ymax")
_BAD_ROW = "rows that are no box"
_REQUIRED_COLUMNS = ("filename", "class", *_CORNERS)


class _Row(NamedTuple):
    name: str  # of the image
    label: str  # "" for an image without boxes
    corners: list[float]
    size: tuple[int, int] | None  # (H, W), None where the row does not say


def read(
    images: str | os.PathLike, lists: str | os.PathLike, classes: Sequence[str] = (),
    scan: Scan | None = None,
) -> ImageFileSource:  # fmt: skip
    """Images of folder `images` with the boxes of the CSV file `lists`.

    Images are in the order of their first rows; the rows of one file are those of one image,
    however they spell its path. A row whose class and corners are empty is an image without boxes.
    Labels follow the sorted names, or the order of `classes`. Boxes are dropped and clipped as in
    `voc.read`. Raises DataError naming the file and the line.
    """
    path, scan = Path(lists), scan or Scan()
    folder, rows = Path(images), dict(enumerate(_read_rows(path, scan)))
    keys = files.file_keys({i: folder / row.name for i, row in rows.items()})
    grouped: dict[str, list[_Row]] = {}
    for i, row in rows.items():
        grouped.setdefault(keys[i], []).append(row)
    seen = {row.label: path for rows in grouped.values() for row in rows if row.label}
    if not grouped:
        raise DataError(f"{path}: no rows below the header")
    if not classes and not seen:
        raise DataError(f"{path}: no box in any row, so no classes; name them")
    classes = resolve_classes(classes, seen, sorted(seen))
    index = {name: i + 1 for i, name in enumerate(classes)}
    annotated = scan.map_collecting_errors(
        lambda key: _annotated_image(folder / grouped[key][0].name, grouped[key], index, scan),
        grouped,
    )
    return ImageFileSource(path.stem, "", classes, list(annotated.values()))


def _annotated_image(
    path: Path, rows: list[_Row], index: dict[str, int], scan: Scan
) -> AnnotatedImage:
    sizes = {row.size for row in rows} - {None}
    if len(sizes) > 1:
        text = f"{printable(path)}: rows with different sizes: {shorten(sizes)}"
        raise DataError(text, _BAD_ROW)
    resolved = scan.resolve_image_size(path, *sizes)
    rows = [row for row in rows if row.label]
    pixels = np.array([row.corners for row in rows]).reshape(-1, 4)
    labels = np.array([index[row.label] for row in rows], np.int32)
    clipped = pixels_to_boxes(pixels, resolved.size, labels)
    labels = labels[clipped.kept]
    return AnnotatedImage(
        path, resolved.size, clipped.boxes, labels, np.full(len(labels), PLAIN, np.int8),
        clipped.corrections | resolved.corrections, resolved.upright,
    )  # fmt: skip


def _read_rows(path: Path, scan: Scan) -> list[_Row]:
    data = files.read_bytes(path, "the list")
    try:
        text = data.decode("utf-8-sig")
        reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
        missing = [name for name in _REQUIRED_COLUMNS if name not in (reader.fieldnames or ())]
        if missing:
            raise DataError(f"{path}: its header has no {', '.join(missing)}: not a list of boxes")
        lines = {}
        for row in reader:
            lines[reader.line_num] = row
        rows = scan.map_collecting_errors(
            lambda number: _parse_row(lines[number], f"{path}, line {number}"), lines
        )
        return list(rows.values())
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: not a CSV file ({error})") from error


def _parse_row(row: dict, where: str) -> _Row:
    if None in row or None in row.values():
        raise DataError(f"{where}: not as many cells as the header has", _BAD_ROW)
    name, label = row["filename"].strip(), row["class"].strip()
    if not name:
        raise DataError(f"{where}: no filename", _BAD_ROW)
    texts = {key: row[key].strip() for key in _CORNERS}
    if not label and not any(texts.values()):
        return _Row(name, "", [], _size(row))
    if not label:
        raise DataError(f"{where}: a box without class", _BAD_ROW)
    return _Row(name, label, parse_corners(texts, where), _size(row))


def _size(row: dict) -> tuple[int, int] | None:
    try:
        return int(row["height"]), int(row["width"])
    except (KeyError, ValueError):
        return None
