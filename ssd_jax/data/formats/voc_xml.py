"""One PASCAL VOC annotation file: XML -> raw numbers -> normalized boxes."""

import math
import xml.etree.ElementTree as ET
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from ssd_jax.data.annotated_image import ClippedBoxes, clip_and_filter
from ssd_jax.data.messages import printable, shorten
from ssd_jax.errors import DataError

_BAD_XML = "annotations that are no XML of PASCAL VOC"
_MISSING_FIELD = "objects without name or box"
_BAD_NUMBER = "values that are no such numbers"


class Annotation(NamedTuple):
    """What one file says: its own numbers, nothing converted."""

    size: tuple[int, int] | None  # (H, W), None where the file has none
    names: tuple[str, ...]
    pixels: Float[np.ndarray, "N 4"]  # x_min, y_min, x_max, y_max, 1-based and inclusive
    difficult: Bool[np.ndarray, " N"]


class _NoDoctype(ET.TreeBuilder):
    """Refuses a DOCTYPE before any entity that it declares can be expanded."""

    def doctype(self, name, pubid, system):
        raise DataError("a DOCTYPE or ENTITY declaration is not accepted; remove it")


def parse_annotation(data: bytes, where: str) -> Annotation:
    """The objects of one VOC annotation; `where` names the file in errors.

    Raises DataError for XML that does not parse (with the line), a DOCTYPE, another root than
    `annotation`, an object without name or box, a coordinate that is not a finite number, and
    reversed corners. The parts of an object (`<part>`) are not objects.
    """
    parser = ET.XMLParser(target=_NoDoctype())
    try:
        parser.feed(data)
        root = parser.close()
    except ET.ParseError as error:
        raise DataError(
            f"{where}, line {error.position[0]}: bad XML ({error})", _BAD_XML
        ) from error
    except (DataError, ValueError, LookupError) as error:
        raise DataError(f"{where}: {error}", _BAD_XML) from error
    if root.tag != "annotation":
        raise DataError(f"{where}: root <{root.tag}>, not the <annotation> of PASCAL VOC", _BAD_XML)
    names, pixels, difficult = [], [], []
    for number, node in enumerate(root.findall("object"), start=1):
        name = (node.findtext("name") or "").strip()
        if not name:
            raise DataError(f"{where}: object {number} has no name", _MISSING_FIELD)
        here = f"{where}: object {number} ({printable(name)})"
        names.append(name)
        pixels.append(_object_corners(node, here))
        difficult.append(_parse_flag(node, "difficult", here))
    return Annotation(
        _annotated_size(root),
        tuple(names),
        np.array(pixels, np.float64).reshape(-1, 4),
        np.array(difficult, bool),
    )


def pixels_to_boxes(
    pixels: Float[np.ndarray, "N 4"],
    size: tuple[int, int],
    kinds: Iterable | None = None,
    first: int = 1,
) -> ClippedBoxes:
    """Corners in pixels [N, 4] of an image of `size` (H, W) -> normalized corners.

    With `first` 1 pixels count from 1 and both corners are inside the box. With 0 the corners are
    the edges of the box, counted from 0.
    """
    height, width = size
    corners = (pixels - np.array([first, first, 0.0, 0.0])) / (width, height, width, height)
    return clip_and_filter(corners, (pixels[:, :2] == pixels[:, 2:]).any(axis=-1), kinds)


def parse_corners(texts: Mapping[str, str], here: str) -> list[float]:
    """x_min, y_min, x_max, y_max as written; `here` says where in errors."""
    values = parse_numbers(texts, here)
    check_corners(values, here)
    return values


def parse_numbers(texts: Mapping[str, str], here: str) -> list[float]:
    """Finite numbers as written; `here` says where in errors."""
    values = []
    for key, text in texts.items():
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            raise DataError(f"{here}: {key} is {shorten(text.strip())}, not a number", _BAD_NUMBER)
        values.append(value)
    return values


def check_corners(values: Sequence[float], here: str) -> None:
    """Refuse corners (x_min, y_min, x_max, y_max) that are reversed."""
    if values[0] > values[2] or values[1] > values[3]:
        raise DataError(
            f"{here}: reversed corners (xmin, ymin, xmax, ymax) = {tuple(values)}",
            "reversed corners",
        )


def _object_corners(node: ET.Element, here: str) -> list[float]:
    texts = {key: node.findtext(f"bndbox/{key}") for key in ("xmin", "ymin", "xmax", "ymax")}
    for key, text in texts.items():
        if text is None:
            raise DataError(f"{here} has no bndbox/{key}", _MISSING_FIELD)
    return parse_corners(texts, here)


def _parse_flag(node: ET.Element, key: str, here: str) -> bool:
    """A 0 or 1 that may be absent."""
    text = (node.findtext(key) or "0").strip()
    if text not in ("", "0", "1"):
        raise DataError(f"{here}: {key} is {shorten(text)}, not 0 or 1", _BAD_NUMBER)
    return text == "1"


def _annotated_size(root: ET.Element) -> tuple[int, int] | None:
    """(H, W) as the file says, if it does: the image itself is what counts."""
    try:
        return int(root.findtext("size/height", "")), int(root.findtext("size/width", ""))
    except ValueError:
        return None
