"""A COCO annotation file and its folder of images as a source, checked before the first step.

What is dropped or clipped for training is still there when COCO scores are computed: these come
from all numbers of the file, its areas and crowds, as the reader of the boxes understood them.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from ssd_jax.data import files
from ssd_jax.data.annotated_image import (
    AnnotatedImage,
    ImageFileSource,
    clip_and_filter,
    resolve_classes,
)
from ssd_jax.data.folder import locate_images
from ssd_jax.data.formats import coco_json
from ssd_jax.data.formats.coco_json import Annotations, Content, Id, Image
from ssd_jax.data.messages import shorten
from ssd_jax.data.scan import Scan
from ssd_jax.errors import DataError
from ssd_jax.types import CROWD, PLAIN


def read(
    images: str | os.PathLike, annotations: str | os.PathLike, classes: Sequence[str] = (),
    scan: Scan | None = None,
) -> ImageFileSource:  # fmt: skip
    """Images of folder `images` with the boxes of the JSON file `annotations`.

    Labels follow the order of the file's categories, whatever their ids, or that of `classes`.
    A crowd has the flag CROWD. A box without area is dropped, one outside the image too, and one
    across the border is clipped; `summary()` counts them. An image whose path does not exist is
    found by its name, see `folder.locate_images`. Raises DataError naming the file, and the entry,
    for anything that cannot be meant.
    """
    folder, path, scan = Path(images), Path(annotations), scan or Scan()
    content, classes = _load(path, classes, scan)
    names = {key: image.file_name for key, image in content.images.items()}
    paths = locate_images(folder, names)
    if not paths:
        raise DataError(f"{path}: no images")
    repeats = files.repeated_files(paths)
    scan.collect([_describe_repeat(first, key, content, path) for key, first in repeats.items()])
    annotated = scan.map_collecting_errors(
        lambda key: _annotated_image(
            paths[key], content.images[key], content.annotations[key], scan
        ),
        [key for key in paths if key not in repeats],
    )
    used = {key: content.annotations[key] for key in annotated}
    return ImageFileSource(
        path.stem, "", classes, list(annotated.values()),
        scoring_inputs=partial(_scoring_inputs, used, list(used), classes),
    )  # fmt: skip


def read_scoring_inputs(
    path: Path, image_ids: Sequence[Id], classes: Sequence[str], scan: Scan
) -> Callable[[], tuple[dict, list, list]]:
    """`scoring_inputs` of a source whose images lie elsewhere, from an annotation file.

    `image_ids` are the file's ids of the source's images. Raises DataError as `read` does, and for
    an image that the file lacks.
    """
    content, classes = _load(path, classes, scan)
    missing = [key for key in image_ids if key not in content.annotations]
    scan.collect([DataError(f"{path}: no image has the id {shorten(key)}") for key in missing])
    return partial(_scoring_inputs, content.annotations, image_ids, classes)


def _scoring_inputs(
    found: Mapping[Id, Annotations], image_ids: Sequence[Id], classes: Sequence[str]
) -> tuple[dict, list, list]:
    """Ground truth in the form of a COCO file, its id of each image and its id of each class.

    Ids count from 1; those of images keep their order, by which pycocotools breaks ties.
    """
    new_id = {key: number for number, key in enumerate(sorted(found), 1)}
    names = ("category_id", "bbox", "area", "iscrowd")
    content = {
        "images": [{"id": number} for number in new_id.values()],
        "categories": [{"id": label, "name": name} for label, name in enumerate(classes, 1)],
        "annotations": [
            {"image_id": number} | dict(zip(names, row))
            for key, number in new_id.items()
            for row in zip(*(column.tolist() for column in found[key]))
        ],
    }
    return content, [new_id[key] for key in image_ids], list(range(1, len(classes) + 1))


def _load(path: Path, classes: Sequence[str], scan: Scan) -> tuple[Content, tuple[str, ...]]:
    """A file, whose labels follow the class names that are returned with it."""
    content = coco_json.load(path, scan)
    names = content.categories.values()
    classes = resolve_classes(classes, dict.fromkeys(names, path), names)
    label_of = np.array([0, *(classes.index(name) + 1 for name in names)], np.int32)
    labeled = {
        key: found._replace(labels=label_of[found.labels])
        for key, found in content.annotations.items()
    }
    return content._replace(annotations=labeled), classes


def _annotated_image(path: Path, image: Image, found: Annotations, scan: Scan) -> AnnotatedImage:
    resolved = scan.resolve_image_size(path, image.size)
    height, width = resolved.size
    corners = np.concatenate([found.xywh[:, :2], found.xywh[:, :2] + found.xywh[:, 2:]], axis=1)
    corners /= (width, height, width, height)
    clipped = clip_and_filter(corners, (found.xywh[:, 2:] == 0).any(axis=1), found.labels)
    flags = np.where(found.iscrowd, CROWD, PLAIN).astype(np.int8)
    return AnnotatedImage(
        path, resolved.size, clipped.boxes, found.labels[clipped.kept], flags[clipped.kept],
        clipped.corrections | resolved.corrections, resolved.upright,
    )  # fmt: skip


def _describe_repeat(first: Id, again: Id, content: Content, path: Path) -> DataError:
    names = [shorten(content.images[key].file_name) for key in (first, again)]
    return DataError(
        f"{path}: the images with the ids {shorten(first)} and {shorten(again)} are one file, "
        f"{' and '.join(names)}; join them",
        "images listed twice",
    )
