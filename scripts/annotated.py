"""Annotated images without their pixels, and how many priors their truths get.

Shared by the reports on matching and on priors.
"""

import tarfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np

from ssd_jax import matching
from ssd_jax.data import voc_xml
from ssd_jax.errors import DataError

# COCO's limits, of the area in pixels of the network's input.
SIZES = {"small": (0, 32**2), "medium": (32**2, 96**2), "large": (96**2, np.inf)}
_ROWS = 16  # images that are matched together
_MOST = (3, 12, 64)  # truths of an image that one compiled program has room for

# boxes [M, 4] and labels [M] of one image -> its targets
Match = Callable[[jax.Array, jax.Array], matching.Targets]


class Annotated(NamedTuple):
    """An image's annotation: the file's name, and all its objects."""

    name: str
    boxes: np.ndarray  # [N, 4]
    classes: tuple[str, ...]  # N names
    difficult: np.ndarray  # [N]


def read(archive: Path, every: int = 1) -> list[Annotated]:
    """Every n-th XML file of an archive of PASCAL VOC annotations, read in memory."""
    try:
        with tarfile.open(archive) as files:
            members = [member for member in files if member.name.endswith(".xml")][::every]
            return [_annotated(files.extractfile(member).read(), member.name) for member in members]
    except (OSError, tarfile.TarError) as error:
        raise DataError(f"{archive}: not an archive that can be read ({error})") from error


def _annotated(data: bytes, name: str) -> Annotated:
    annotation = voc_xml.parse_annotation(data, name)
    if annotation.size is None or min(annotation.size) < 1:
        raise DataError(f"{name}: no size of the image, and without the image it is needed")
    fitted = voc_xml.convert(annotation.pixels, annotation.size)
    kept = np.flatnonzero(fitted.kept)
    classes = tuple(annotation.names[i] for i in kept)
    return Annotated(name, fitted.boxes, classes, annotation.difficult[kept])


def sides(boxes: np.ndarray, image_size: tuple[int, int]) -> np.ndarray:
    """Width and height [N, 2] in pixels of an image of `image_size` (H, W)."""
    return (boxes[:, 2:] - boxes[:, :2]) * image_size[::-1]


def within(areas: np.ndarray, size: str) -> np.ndarray:
    """Which areas [N] in pixels are those of a size of object."""
    low, high = SIZES[size]
    return (low <= areas) & (areas < high)


def matched(images: Sequence[np.ndarray], match: Match) -> Iterator[tuple[int, np.ndarray]]:
    """The row of each image that has a box, and the row of the truth of each prior [A], or -1.

    `images` are the boxes [N, 4] of each.
    """
    truths = jax.jit(lambda boxes, numbers: jax.vmap(match)(boxes, numbers).labels - 1)
    largest = max((len(boxes) for boxes in images), default=0)
    limits = (0, *(most for most in _MOST if most < largest), largest)
    for least, most in zip(limits, limits[1:]):
        alike = [row for row, boxes in enumerate(images) if least < len(boxes) <= most]
        for start in range(0, len(alike), _ROWS):
            part = alike[start : start + _ROWS]
            padded = np.zeros((_ROWS, most, 4), np.float32)
            numbers = np.zeros((_ROWS, most), np.int32)
            for place, row in enumerate(part):
                count = len(images[row])
                padded[place, :count] = images[row]
                numbers[place, :count] = np.arange(1, count + 1)
            yield from zip(part, np.asarray(truths(padded, numbers)))


def positives(images: Sequence[np.ndarray], match: Match) -> list[np.ndarray]:
    """Per image of boxes [N, 4], the number of priors of each truth [N]."""
    counts = [np.zeros(len(boxes), np.int64) for boxes in images]
    for row, truth in matched(images, match):
        # A prior that is left out of the loss has the truth -2.
        counts[row] = np.bincount(truth[truth >= 0], minlength=len(counts[row]))
    return counts
