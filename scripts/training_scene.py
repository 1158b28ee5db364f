"""One image as training sees it: its targets, the negatives of its loss, its augmented samples.

No command: `scripts.visualize` draws it.
"""

from functools import partial
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict

from ssd_jax.data import augment, loader
from ssd_jax.data.sources import Source
from ssd_jax.detector import Detector, Variables, apply_network, jitter_colors, match_targets
from ssd_jax.errors import DataError
from ssd_jax.multibox import losses

_SHORTER_SIDE = 400  # pixels of a picture
_SAMPLES = 8  # augmented ones


class Scene(NamedTuple):
    """One image as a detector gets it without augmentation, and its ground truth."""

    detector: Detector
    source: Source
    index: int
    picture: np.ndarray  # uint8 [h, w, 3], to draw on
    image: np.ndarray  # uint8 [H, W, 3], the network's input
    boxes: np.ndarray  # [M, 4]
    labels: np.ndarray  # [M], 0 = padding, below 0 = ignored


def make_scene(detector: Detector, source: Source, index: int) -> Scene:
    """The scene of image `index` of a source."""
    config = ConfigDict(detector.config.to_dict())
    config.augment.geometric = ()
    example = loader.training_example(source, config, index, 0, loader.padded_box_count(source))
    scale = _SHORTER_SIDE / min(config.image_size)
    size = tuple(round(side * scale) for side in config.image_size)
    picture = augment.resize(source[index], size, config.model.mean)["image"]
    arrays = (example[name] for name in ("image", "boxes", "labels"))
    return Scene(detector, source, index, picture, *arrays)


def find_image(source: Source, text: str) -> int:
    """The index of an image by its number or its name, with or without folders and suffix."""
    if text.isdigit() and int(text) < len(source):
        return int(text)
    for index in range(len(source)):
        name = Path(source.name(index))
        if text in (str(name), name.name, name.stem):
            return index
    raise DataError(
        f"--image={text}: no such image; write a number below {len(source)}, "
        f"or a name as {source.name(0)}"
    )


def match_boxes(scene: Scene) -> np.ndarray:
    """The row of the box that each prior [A] is matched to, negative for none."""
    numbered = np.where(scene.labels > 0, np.arange(1, len(scene.labels) + 1), scene.labels)
    targets = jax.jit(partial(match_targets, scene.detector))(scene.boxes, numbered)
    return np.asarray(targets.labels) - 1


def positives_and_negatives(scene: Scene, variables: Variables) -> tuple[np.ndarray, np.ndarray]:
    """Rows of the positive priors, and of the negatives that the loss selects, hardest first."""
    detector, config = scene.detector, scene.detector.config.loss

    @jax.jit
    def select(variables, image, boxes, labels):
        target_labels = match_targets(detector, boxes, labels).labels
        logits, _ = apply_network(detector, variables, image[None])
        class_losses = losses.classification_losses(
            logits[0], target_labels, config.classification, losses.Focal(**config.focal)
        )
        scores = class_losses
        if config.negatives == "random":
            scores = jax.random.uniform(jax.random.key(0), target_labels.shape)
        ratio = None if config.negatives == "all" else config.negative_ratio
        return target_labels, class_losses, losses.select_negatives(scores, target_labels, ratio)

    outputs = select(variables, scene.image, scene.boxes, scene.labels)
    target_labels, class_losses, is_negative = map(np.asarray, outputs)
    negatives = np.flatnonzero(is_negative)
    hardest_first = np.argsort(-class_losses[negatives], kind="stable")
    return np.flatnonzero(target_labels > 0), negatives[hardest_first]


def augmented_batch(scene: Scene) -> dict[str, np.ndarray]:
    """The image as several training samples see it, colors included."""
    config, pad_to = scene.detector.config, loader.padded_box_count(scene.source)
    examples = [
        loader.training_example(scene.source, config, scene.index, sample, pad_to)
        for sample in range(_SAMPLES)
    ]
    batch = {name: np.stack([each[name] for each in examples]) for name in examples[0]}
    images = jax.jit(partial(jitter_colors, scene.detector))(batch)
    return batch | {"image": np.asarray(images).astype(np.uint8)}
