"""PASCAL VOC annotations in an archive, read without their images and without unpacking."""

import tarfile
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from ssd_jax.data.formats import voc_xml
from ssd_jax.errors import DataError


class ArchivedAnnotation(NamedTuple):
    """The annotation of one image."""

    name: str  # of the file in the archive
    boxes: Float[np.ndarray, "N 4"]  # normalized corners
    classes: tuple[str, ...]  # N names
    difficult: Bool[np.ndarray, " N"]


def read_archive(archive: Path, every: int = 1) -> list[ArchivedAnnotation]:
    """Every `every`-th XML file of a tar archive of annotations.

    Raises DataError for an archive that cannot be read, an annotation that is not PASCAL VOC's,
    and one without the size of its image.
    """
    try:
        with tarfile.open(archive) as files:
            members = [member for member in files if member.name.endswith(".xml")][::every]
            return [_parse(files.extractfile(member).read(), member.name) for member in members]
    except (OSError, tarfile.TarError) as error:
        raise DataError(f"{archive}: not an archive that can be read ({error})") from error


def _parse(data: bytes, name: str) -> ArchivedAnnotation:
    annotation = voc_xml.parse_annotation(data, name)
    if annotation.size is None or min(annotation.size) < 1:
        raise DataError(f"{name}: no size of the image, and it is needed where no image is read")
    clipped = voc_xml.pixels_to_boxes(annotation.pixels, annotation.size)
    kept = np.flatnonzero(clipped.kept)
    classes = tuple(annotation.names[i] for i in kept)
    return ArchivedAnnotation(name, clipped.boxes, classes, annotation.difficult[kept])
