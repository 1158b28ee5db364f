"""The boxes that priors are tuned on: of a config's training data, or of an archive.

Each image gives its boxes as annotated, and as a few training samples see them: with the loader's
own choice of patches, by the config's augmentation. Every fifth image is held out from the search.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from ml_collections import ConfigDict

from ssd_jax.data import loader
from ssd_jax.data.annotated_image import resolve_classes
from ssd_jax.data.sets import open_set
from ssd_jax.errors import DataError
from ssd_jax.prior_tuning.voc_archive import read_archive
from ssd_jax.types import DIFFICULT, PLAIN, Example

HELD_OUT_EVERY = 5  # images
SAMPLES_PER_IMAGE = 4  # training samples of each image, where the config augments


class AnnotatedSet(NamedTuple):
    """The ground truth of a set of images."""

    ground_truth: list[Example]  # boxes, labels and flags of each image
    classes: tuple[str, ...]  # without the background


class ImageBoxes(NamedTuple):
    """The boxes of one image, as annotated or as one training sample sees them."""

    boxes: Float[np.ndarray, "N 4"]  # normalized corners
    labels: Int[np.ndarray, " N"]
    held_out: bool
    augmented: bool


def read_training_set(config: ConfigDict) -> AnnotatedSet:
    """The ground truth of the training set; no pixels are read."""
    source = open_set(config, "train")
    return AnnotatedSet([source.ground_truth(i) for i in range(len(source))], source.classes)


def read_voc_archive(path: Path, config: ConfigDict) -> AnnotatedSet:
    """The ground truth of an archive of PASCAL VOC annotations, instead of the config's data.

    Classes are `config.data.classes` or, where that is (), those of the archive. Raises DataError
    for an archive that cannot be read, and for a class that the config lacks.
    """
    annotations = read_archive(path)
    found = {name: image.name for image in annotations for name in image.classes}
    classes = resolve_classes(tuple(config.data.classes), found, sorted(found))
    label = {name: i for i, name in enumerate(classes, start=1)}
    ground_truth = [
        {
            "boxes": image.boxes,
            "labels": np.array([label[name] for name in image.classes], np.int32),
            "flags": np.where(image.difficult, DIFFICULT, PLAIN).astype(np.int8),
        }
        for image in annotations
    ]
    return AnnotatedSet(ground_truth, classes)


def sample_boxes(dataset: AnnotatedSet, config: ConfigDict) -> list[ImageBoxes]:
    """The boxes of each image as annotated and, if the config augments, of its training samples.

    Boxes that the config ignores or drops are left out. Raises DataError where the images that the
    search may use have no box.
    """
    without_augmentation = ConfigDict(config.to_dict())
    without_augmentation.augment.geometric = ()
    samples = []
    for i, ground_truth in enumerate(dataset.ground_truth):
        held_out = i % HELD_OUT_EVERY == HELD_OUT_EVERY - 1
        boxes, labels = _training_boxes(ground_truth, without_augmentation, 0)
        samples.append(ImageBoxes(boxes, labels, held_out, augmented=False))
        for epoch in range(SAMPLES_PER_IMAGE if config.augment.geometric else 0):
            number = epoch * len(dataset.ground_truth) + i
            boxes, labels = _training_boxes(ground_truth, config, number)
            samples.append(ImageBoxes(boxes, labels, held_out, augmented=True))
    for augmented in {sample.augmented for sample in samples}:
        searched = [s for s in samples if s.augmented == augmented and not s.held_out]
        if not any(len(sample.labels) for sample in searched):
            raise DataError(
                f"{len(dataset.ground_truth)} images without a box to tune priors on: does "
                "config.data.train name the right set?"
            )
    return samples


def _training_boxes(
    ground_truth: Example, config: ConfigDict, sample: int
) -> tuple[Float[np.ndarray, "N 4"], Int[np.ndarray, " N"]]:
    """Boxes and labels of training sample number `sample`, without ignored ones and crowds."""
    _, boxes, labels = loader.training_ground_truth(ground_truth, config, sample)
    return boxes[labels > 0], labels[labels > 0]
