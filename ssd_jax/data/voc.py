"""Any folder in PASCAL VOC layout as a source of examples, checked before the first step.

The layout: `JPEGImages/<id>.jpg` (or .jpeg, .png), `Annotations/<id>.xml` and
`ImageSets/Main/<split>.txt`.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ssd_jax.data.records import Record, Records, checked_classes
from ssd_jax.data.scan import Scan, some
from ssd_jax.data.voc_files import SUFFIXES, checked_list, files_in, listed, single
from ssd_jax.data.voc_xml import Annotation, convert, parse_annotation
from ssd_jax.errors import DataError


class _Read(NamedTuple):
    path: Path
    annotation: Annotation


def read(
    root: str | os.PathLike, split: str, classes: Sequence[str] = (), scan: Scan | None = None
) -> Records:
    """Images and boxes of one split of a folder in PASCAL VOC layout.

    Args:
      root: the folder that holds JPEGImages and Annotations.
      split: a list in ImageSets/Main, or several joined with "+" ("train+val"), in the order of
        the lists. "" takes every annotation file, sorted by name. Where there are no lists, see
        `voc_files.listed`.
      classes: names without background; label i + 1 is classes[i]. Left out, they are the sorted
        names in all of Annotations, whatever the split, so that every split agrees.

    Reads the annotations, and the header and end of every image, and raises a DataError that
    names up to five bad files. An object marked difficult has `ignore`. A box without area in
    the file's own numbers is dropped, one outside the image too, and one across the border is
    clipped; `summary()` counts them, and without lists the photographs that have no annotation
    and are left out. The size that counts is the image file's. Nothing is ever
    written.
    """
    root, scan = Path(root), scan or Scan()
    xmls = files_in(root / "Annotations", (".xml",))
    images = files_in(root / "JPEGImages", SUFFIXES)
    image_ids = checked_list(
        listed(root, split, xmls) if split else sorted(xmls), f"{root}, split {split!r}"
    )
    needed = image_ids if classes else sorted({*xmls, *image_ids})
    found = scan.gather(lambda key: _annotation(key, xmls, root), needed)
    classes = _class_names(classes, found.values(), root)
    index = {name: i + 1 for i, name in enumerate(classes)}
    records = scan.gather(
        lambda key: _record(single(key, images, root, "image"), found[key].annotation, index, scan),
        [key for key in image_ids if key in found],
    )
    without = [] if (root / "ImageSets" / "Main").is_dir() else sorted(images.keys() - xmls.keys())
    note = f"{len(without)} photographs without annotation left out ({some(without, ', ')})"
    return Records(root.name, split, classes, list(records.values()), note if without else "")


def _annotation(key: str, xmls: dict[str, list[Path]], root: Path) -> _Read:
    path = single(key, xmls, root, "annotation")
    try:
        return _Read(path, parse_annotation(path.read_bytes(), str(path)))
    except OSError as error:
        raise DataError(f"{path}: cannot read the annotation ({error.strerror})") from error


def _class_names(classes: Sequence[str], found, root: Path) -> tuple[str, ...]:
    """The given names if they cover what was found, or the sorted names found."""
    first_file = {}
    for item in found:
        for name in item.annotation.names:
            first_file.setdefault(name, item.path)
    if not classes and not first_file:
        raise DataError(f"{root}: no object in any annotation, so no classes; name them")
    return checked_classes(classes, first_file, sorted(first_file))


def _record(path: Path, annotation: Annotation, index: dict[str, int], scan: Scan) -> Record:
    """Boxes and labels of one image whose header and end are sound."""
    sized = scan.look(path, annotation.size)
    converted = convert(annotation.pixels, sized.size, annotation.names)
    return Record(
        path,
        sized.size,
        converted.boxes,
        np.array([index[name] for name in annotation.names], np.int32)[converted.kept],
        annotation.difficult[converted.kept],
        converted.notes | sized.notes,
        sized.upright,
    )
