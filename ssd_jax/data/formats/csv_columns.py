"""Which columns of a CSV list say what: the image, the class, the box and the size of the image."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from ssd_jax.data.folder import IMAGE_SUFFIXES
from ssd_jax.errors import DataError

# The first name of a column is taken where there are several.
_IMAGE = ("filename", "image", "image_id", "image_name", "path", "file", "file_name")
_LABEL = ("class", "label", "name", "class_name", "label_name")
_WIDTH, _HEIGHT = ("width", "image_width"), ("height", "image_height")
_CORNERS = ("xmin", "ymin", "xmax", "ymax")
_UNDERSCORED = ("x_min", "y_min", "x_max", "y_max")
_EDGES = ("x1", "y1", "x2", "y2")
_SIDES = ("bbox_x", "bbox_y", "bbox_width", "bbox_height")
_BOXES = (_CORNERS, _UNDERSCORED, _EDGES, _SIDES)
_BARE = 6  # cells of a row in a list without header: path, x1, y1, x2, y2, class


class Columns(NamedTuple):
    """The places of what a list says, counted from 0."""

    count: int
    image: int
    label: int
    box: dict[str, int]  # name of the column -> its place
    height: int | None
    width: int | None
    first: int  # 1: pixels count from 1, as in PASCAL VOC; 0: edges count from 0
    is_corners: bool  # the box is two corners; otherwise a corner, width and height
    has_header: bool


def find_columns(row: Sequence[str], path: Path) -> Columns:
    """The columns that the first row of a list names, or those of a list without header.

    Letters of names may be small or capital. Raises DataError where a column is missing, and where
    two may be meant.
    """
    if _is_bare(row):
        places = dict(zip(_EDGES, range(1, 5)))
        return Columns(_BARE, 0, 5, places, None, None, 0, True, False)
    names = [name.strip().lower() for name in row]
    boxes = [box for box in _BOXES if set(box) <= set(names)]
    image, label = _find(names, _IMAGE, path), _find(names, _LABEL, path)
    missing = [] if image is not None else [_IMAGE[0]]
    missing += [] if label is not None else [_LABEL[0]]
    missing += [] if boxes else [name for name in _CORNERS if name not in names]
    if missing:
        raise DataError(f"{path}: its header has no {', '.join(missing)}: not a list of boxes")
    if len(boxes) > 1 and boxes[0] != _CORNERS:
        _refuse([*boxes[0], *boxes[1]], path)
    box = boxes[0]
    return Columns(
        len(names), image, label, {name: names.index(name) for name in box},
        _find(names, _HEIGHT, path), _find(names, _WIDTH, path),
        int(box in (_CORNERS, _UNDERSCORED)), box != _SIDES, True,
    )  # fmt: skip


def _find(names: list[str], choices: tuple[str, ...], path: Path) -> int | None:
    """The place of the one column that has one of the names."""
    found = [name for name in choices if name in names]
    if len(found) > 1 and found[0] != choices[0]:
        _refuse(found, path)
    return names.index(found[0]) if found else None


def _refuse(found: Sequence[str], path: Path) -> None:
    raise DataError(
        f"{path}: its header has {', '.join(found)}, and it is not clear which is meant; keep one, "
        f"or name the columns filename, class, {', '.join(_CORNERS)}"
    )


def _is_bare(row: Sequence[str]) -> bool:
    """Whether a first row is a box already, or an image without boxes: `path,,,,,`."""
    if len(row) != _BARE:
        return False
    is_empty = not any(cell.strip() for cell in row[1:])
    return (
        is_empty
        and row[0].lower().strip().endswith(IMAGE_SUFFIXES)
        or all(_is_number(cell) for cell in row[1:5])
    )


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True
