"""Any folder with annotations of PASCAL VOC as a source, checked before the first step.

The layout: `JPEGImages/<id>.jpg` (or .jpeg, .png), `Annotations/<id>.xml` and
`ImageSets/Main/<split>.txt`; or images and annotations below any other folders, by their stems,
see `voc_layout.find_layout`.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ssd_jax.data import files
from ssd_jax.data.annotated_image import AnnotatedImage, ImageFileSource, resolve_classes
from ssd_jax.data.formats.voc_layout import (
    check_unique,
    find_layout,
    single_file,
)
from ssd_jax.data.formats.voc_xml import Annotation, parse_annotation, pixels_to_boxes
from ssd_jax.data.messages import join_truncated, printable
from ssd_jax.data.scan import Scan
from ssd_jax.errors import DataError
from ssd_jax.types import DIFFICULT, PLAIN


class _Read(NamedTuple):
    path: Path
    annotation: Annotation


def read(
    root: str | os.PathLike, split: str, classes: Sequence[str] = (), scan: Scan | None = None
) -> ImageFileSource:
    """Images and boxes of one split of a folder in PASCAL VOC layout.

    Args:
      root: the folder that holds JPEGImages and Annotations, or images and annotations anywhere
        below it.
      split: a list in ImageSets/Main, or several joined with "+" ("train+val"), in the order of
        the lists. "" takes every annotation file, sorted by name. Where there are no lists, it may
        be the name of folders, see `voc_layout.find_layout`; else see
        `voc_layout.split_image_ids`.
      classes: names without background; label i + 1 is classes[i]. Left out, they are the sorted
        names in all annotations, whatever the split, so that every split agrees.

    Reads the annotations, and the header and end of every image, and raises a DataError that
    names up to five bad files. An object marked difficult has the flag DIFFICULT. A box without
    area in the file's own numbers, or outside the image, is dropped; one across the border is
    clipped. `summary()` counts them and, without lists, the images that have no annotation. The
    size of an image is that of its file, whatever the annotation says.
    """
    root, scan = Path(root), scan or Scan()
    layout = find_layout(root, split)
    xmls, images = layout.xmls, layout.images
    image_ids = check_unique(layout.image_ids, f"{root}, split {split!r}")
    needed = image_ids if classes else sorted({*xmls, *image_ids})
    found = scan.map_collecting_errors(lambda key: _read_annotation(key, xmls, root), needed)
    others = scan.map_collecting_errors(_parse_file, [] if classes else layout.other_xmls)
    classes = _class_names(classes, [*found.values(), *others.values()], root)
    index = {name: i + 1 for i, name in enumerate(classes)}
    annotated = scan.map_collecting_errors(
        lambda key: _annotated_image(
            single_file(key, images, root, "image"), found[key].annotation, index, scan
        ),
        [key for key in image_ids if key in found],
    )
    has_lists = os.path.isdir(root / "ImageSets" / "Main") or layout.other_xmls
    without = [] if has_lists else sorted(images.keys() - xmls.keys())
    note = f"{len(without)} images without annotation left out ({join_truncated(without, ', ')})"
    return ImageFileSource(
        root.name, split, classes, list(annotated.values()), note if without else ""
    )


def _read_annotation(key: str, xmls: dict[str, list[Path]], root: Path) -> _Read:
    return _parse_file(single_file(key, xmls, root, "annotation"))


def _parse_file(path: Path) -> _Read:
    data = files.read_bytes(path, "the annotation")
    return _Read(path, parse_annotation(data, printable(path)))


def _class_names(classes: Sequence[str], found, root: Path) -> tuple[str, ...]:
    """The given names if they cover what was found, or the sorted names found."""
    first_file = {}
    for item in found:
        for name in item.annotation.names:
            first_file.setdefault(name, item.path)
    if not classes and not first_file:
        raise DataError(f"{root}: no object in any annotation, so no classes; name them")
    return resolve_classes(classes, first_file, sorted(first_file))


def _annotated_image(
    path: Path, annotation: Annotation, index: dict[str, int], scan: Scan
) -> AnnotatedImage:
    """Boxes and labels of one image whose header and end are sound."""
    resolved = scan.resolve_image_size(path, annotation.size)
    clipped = pixels_to_boxes(annotation.pixels, resolved.size, annotation.names)
    return AnnotatedImage(
        path,
        resolved.size,
        clipped.boxes,
        np.array([index[name] for name in annotation.names], np.int32)[clipped.kept],
        np.where(annotation.difficult, DIFFICULT, PLAIN).astype(np.int8)[clipped.kept],
        clipped.corrections | resolved.corrections,
        resolved.upright,
    )
