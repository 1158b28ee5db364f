"""The truths that priors are tuned on: of a config's training data, or of an archive.

Each image is seen as it is, and as a few samples of training see it: the loader's own choice of
patches, by the config's augmentation. Every fifth image is held out from the search.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np
from ml_collections import ConfigDict

from scripts import annotated
from ssd_jax.data import loader, sources
from ssd_jax.data.records import checked_classes
from ssd_jax.errors import DataError

HELD_OUT = 5  # every so many images
DRAWS = 4  # samples of training of each image


class Picture(NamedTuple):
    """What is seen of one image, whole or by a sample of training."""

    boxes: np.ndarray  # [N, 4] in what is seen
    labels: np.ndarray  # [N]
    held_out: bool
    augmented: bool


class Images(NamedTuple):
    """Boxes, labels and ignore of each image, and the names of the classes."""

    truths: list[dict]
    classes: tuple[str, ...]


def of_training_data(config: ConfigDict) -> Images:
    """The images of `config.data.train`; of files no pixel is read."""
    source = sources.make(config.data.train, config, tuple(config.data.classes))
    return Images([source.truths(i) for i in range(len(source))], source.classes)


def of_archive(path: Path, config: ConfigDict) -> Images:
    """The images of an archive of PASCAL VOC annotations, instead of the config's data."""
    images = annotated.read(path)
    found = {name: image.name for image in images for name in image.classes}
    classes = checked_classes(tuple(config.data.classes), found, sorted(found))
    index = {name: i + 1 for i, name in enumerate(classes)}
    return Images(
        [
            {
                "boxes": image.boxes,
                "labels": np.array([index[name] for name in image.classes], np.int32),
                "ignore": image.difficult,
            }
            for image in images
        ],
        classes,
    )


def pictures(images: Images, config: ConfigDict) -> list[Picture]:
    """Each image as it is and, if the config changes it, as `DRAWS` samples of training see it.

    Truths that the config ignores or drops are left out. Raises DataError where the images or
    those that the search may see have no truth.
    """
    plain = ConfigDict(config.to_dict())
    plain.augment.geometric = ()
    seen = []
    for number, truths in enumerate(images.truths):
        held_out = number % HELD_OUT == HELD_OUT - 1
        seen.append(_picture(truths, plain, 0, held_out, augmented=False))
        for draw in range(DRAWS if config.augment.geometric else 0):
            sample = draw * len(images.truths) + number
            seen.append(_picture(truths, config, sample, held_out, augmented=True))
    for augmented in {picture.augmented for picture in seen}:
        searched = [p for p in seen if p.augmented == augmented and not p.held_out]
        if not any(len(picture.labels) for picture in searched):
            raise DataError(
                f"{len(images.truths)} images and no truth to tune priors on: is config.data.train "
                "the right set?"
            )
    return seen


def _picture(
    truths: dict, config: ConfigDict, sample: int, held_out: bool, augmented: bool
) -> Picture:
    _, boxes, labels = loader.training_truths(truths, config, sample)
    kept = labels > 0
    return Picture(boxes[kept], labels[kept], held_out, augmented)
