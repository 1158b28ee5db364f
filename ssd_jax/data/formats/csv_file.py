"""A CSV list of boxes and its folder of images as a source, checked before the first step.

A row is a box: `filename,width,height,class,xmin,ymin,xmax,ymax`, corners in pixels as in PASCAL
VOC, 1-based and inclusive. Columns may come in any order, and width and height may be absent.
`csv_columns` has the other names that columns may have. `x1,y1,x2,y2` and
`bbox_x,bbox_y,bbox_width,bbox_height` are edges of the box, counted from 0, and so are the corners
of a list without header: `path,x1,y1,x2,y2,class`.
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
from ssd_jax.data.folder import locate_images
from ssd_jax.data.formats.csv_columns import Columns, find_columns
from ssd_jax.data.formats.voc_xml import check_corners, parse_numbers, pixels_to_boxes
from ssd_jax.data.messages import printable, shorten
from ssd_jax.data.scan import Scan
from ssd_jax.errors import DataError
from ssd_jax.types import PLAIN

_BAD_ROW = "rows that are no box"


class _Row(NamedTuple):
    name: str  # of the image
    label: str  # "" for an image without boxes
    corners: list[float]
    size: tuple[int, int] | None  # (H, W), None where the row does not say


class _List(NamedTuple):
    rows: list[_Row]
    first: int  # 1: pixels count from 1; 0: edges count from 0


def read(
    images: str | os.PathLike, lists: str | os.PathLike, classes: Sequence[str] = (),
    scan: Scan | None = None,
) -> ImageFileSource:  # fmt: skip
    """Images of folder `images` with the boxes of the CSV file `lists`.

    Images are in the order of their first rows; the rows of one file are those of one image,
    however they spell its path. A path that does not exist is found by its name, see
    `folder.locate_images`. A row whose class and corners are empty is an image without boxes.
    Labels follow the sorted names, or the order of `classes`. Boxes are dropped and clipped as in
    `voc.read`. Raises DataError naming the file and the line.
    """
    path, scan = Path(lists), scan or Scan()
    found = _read_rows(path, scan)
    rows = dict(enumerate(found.rows))
    paths = locate_images(Path(images), {i: row.name for i, row in rows.items()})
    keys = files.file_keys(paths)
    path_of = {key: paths[i] for i, key in reversed(keys.items())}  # as the first row spells it
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
        lambda key: _annotated_image(path_of[key], grouped[key], found.first, index, scan), grouped
    )
    return ImageFileSource(path.stem, "", classes, list(annotated.values()))


def list_names(path: Path) -> tuple[list[str], list[str]]:
    """The images of a list, each once, and its sorted class names. Raises DataError for no list.

    Rows that are no box are left out.
    """
    rows = _read_rows(path, Scan(collect_errors=True)).rows
    names = list(dict.fromkeys(row.name for row in rows))
    return names, sorted({row.label for row in rows if row.label})


def _annotated_image(
    path: Path, rows: list[_Row], first: int, index: dict[str, int], scan: Scan
) -> AnnotatedImage:
    sizes = {row.size for row in rows} - {None}
    if len(sizes) > 1:
        text = f"{printable(path)}: rows with different sizes: {shorten(sizes)}"
        raise DataError(text, _BAD_ROW)
    resolved = scan.resolve_image_size(path, *sizes)
    rows = [row for row in rows if row.label]
    pixels = np.array([row.corners for row in rows]).reshape(-1, 4)
    labels = np.array([index[row.label] for row in rows], np.int32)
    clipped = pixels_to_boxes(pixels, resolved.size, labels, first)
    labels = labels[clipped.kept]
    return AnnotatedImage(
        path, resolved.size, clipped.boxes, labels, np.full(len(labels), PLAIN, np.int8),
        clipped.corrections | resolved.corrections, resolved.upright,
    )  # fmt: skip


def _read_rows(path: Path, scan: Scan) -> _List:
    data = files.read_bytes(path, "the list")
    try:
        text = data.decode("utf-8-sig")
        reader = csv.reader(io.StringIO(text, newline=""), strict=True)
        lines = {}
        for row in filter(None, reader):
            lines[reader.line_num] = row
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: not a CSV file ({error})") from error
    columns = find_columns(next(iter(lines.values()), []), path)
    numbers = list(lines)[1:] if columns.has_header else list(lines)
    rows = scan.map_collecting_errors(
        lambda number: _parse_row(lines[number], columns, f"{path}, line {number}"), numbers
    )
    return _List(list(rows.values()), columns.first)


def _parse_row(row: list[str], columns: Columns, where: str) -> _Row:
    if len(row) != columns.count:
        expected = "the header has" if columns.has_header else "a box: path, corners and class"
        raise DataError(f"{where}: not as many cells as {expected}", _BAD_ROW)
    name, label = row[columns.image].strip(), row[columns.label].strip()
    if not name:
        raise DataError(f"{where}: no filename", _BAD_ROW)
    texts = {key: row[place].strip() for key, place in columns.box.items()}
    if not label and not any(texts.values()):
        return _Row(name, "", [], _size(row, columns))
    if not label:
        raise DataError(f"{where}: a box without class", _BAD_ROW)
    corners = parse_numbers(texts, where)
    if not columns.is_corners:
        x, y, width, height = corners
        corners = [x, y, x + width, y + height]
    check_corners(corners, where)
    return _Row(name, label, corners, _size(row, columns))


def _size(row: list[str], columns: Columns) -> tuple[int, int] | None:
    if columns.height is None or columns.width is None:
        return None
    try:
        return int(row[columns.height]), int(row[columns.width])
    except ValueError:
        return None
