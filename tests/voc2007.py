"""Boxes of the 9,963 annotations of PASCAL VOC 2007, and how truths and priors meet on them."""

import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ssd_jax.data import voc_xml


class Annotated(NamedTuple):
    """An image's file name and its boxes [N, 4], difficult ones included."""

    name: str
    boxes: np.ndarray


def read(data: Path, every: int = 1) -> list[Annotated]:
    """Every n-th annotation of the archive in the folder of real data, read in memory."""
    with tarfile.open(data / "voc2007" / "voc2007_annotations_9963.tar.gz") as archive:
        files = [member for member in archive if member.name.endswith(".xml")][::every]
        return [_read(archive, member) for member in files]


def _read(archive: tarfile.TarFile, member: tarfile.TarInfo) -> Annotated:
    annotation = voc_xml.parse_annotation(archive.extractfile(member).read(), member.name)
    return Annotated(member.name, voc_xml.convert(annotation.pixels, annotation.size).boxes)


def batches(images: list[Annotated], rows: int) -> Iterator[tuple[list, np.ndarray, np.ndarray]]:
    """Images of like numbers of boxes, their padded boxes [rows, M, 4] and labels [rows, M].

    The label of a truth is its number in the image, from 1 on: two truths are never alike.
    """
    for least, most in ((0, 2), (2, 4), (4, 8), (8, 16), (16, 64)):
        alike = [image for image in images if least < len(image.boxes) <= most]
        for start in range(0, len(alike), rows):
            part = alike[start : start + rows]
            boxes, labels = np.zeros((rows, most, 4), np.float32), np.zeros((rows, most), np.int32)
            for row, image in enumerate(part):
                boxes[row, : len(image.boxes)] = image.boxes
                labels[row, : len(image.boxes)] = np.arange(1, len(image.boxes) + 1)
            yield part, boxes, labels
