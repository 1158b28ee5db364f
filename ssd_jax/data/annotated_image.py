"""What readers of image files make: annotated images, and a source of examples over them."""

import hashlib
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from ssd_jax.data import decode
from ssd_jax.data.messages import join_truncated, printable, shorten
from ssd_jax.errors import ConfigError, DataError
from ssd_jax.multibox import boxes as box_ops
from ssd_jax.types import CROWD, DIFFICULT, PLAIN, Example

_NO_AREA, _OUTSIDE = "boxes without area dropped", "boxes outside the image dropped"
DROPPED, CLIPPED = (_NO_AREA, _OUTSIDE), "boxes clipped at the border"
# An area in float32 below the least normal number is none in training, and divides by zero.
_LEAST_AREA = np.finfo(np.float32).tiny
_UNPRINTABLE = ("Cc", "Cs")  # Unicode's categories of control characters and half characters


class AnnotatedImage(NamedTuple):
    """One image file and its boxes."""

    path: Path  # or only the name, where the image has no file of its own
    size: tuple[int, int]  # (H, W)
    boxes: Float[np.ndarray, "N 4"]  # normalized corners
    labels: Int[np.ndarray, " N"]
    flags: Int[np.ndarray, " N"]  # PLAIN, DIFFICULT or CROWD
    corrections: dict[str, int]  # what was corrected -> how often
    upright: bool = False  # the boxes refer to the picture as EXIF rotates it


class ImageFileSource:
    """A source of examples over annotated images; label i + 1 is classes[i].

    Args:
        title, split: its name in messages.
        classes: names without the background.
        images: the annotated images, in order.
        note: text of the reader for `summary`, beside the images' corrections.
        scoring_inputs: makes what COCO scores are computed from: ground truth in the form of a
            COCO file, its id of each image and its category id of each class. None: scores are
            computed from the boxes as read.
        load_pixels: the pixels of image i; by default those of its file.

    `fingerprint` changes with the classes, the names and sizes of the images, and all boxes.
    """

    def __init__(
        self,
        title: str,
        split: str,
        classes: tuple[str, ...],
        images: list[AnnotatedImage],
        note: str = "",
        scoring_inputs: Callable[[], tuple[dict, list, list]] | None = None,
        load_pixels: Callable[[int], np.ndarray] | None = None,
    ):
        if not images:
            raise DataError(f"{title} {split}: no images")
        self.classes, self.images, self._note = classes, images, note
        self.scoring_inputs = scoring_inputs
        self._load_pixels = load_pixels or (
            lambda i: decode.read_image(images[i].path, images[i].upright)
        )
        self._name, self._title = title, f"{title} {split or 'all'}"
        self.max_boxes = max(len(image.labels) for image in images)
        digest = hashlib.sha256(repr(classes).encode())
        for image in images:
            digest.update(repr((image.path.name, image.size)).encode())
            # Fingerprints of version 0.1 knew one bool for both kinds of flags.
            for rows in (image.boxes, image.labels, image.flags != PLAIN):
                digest.update(rows.tobytes())
        self.fingerprint = digest.hexdigest()[:16]

    def __len__(self) -> int:
        return len(self.images)

    def subset(self, indices: Sequence[int], split: str) -> "ImageFileSource":
        """The images of these indices as a source of their own, without the reader's note."""
        inputs = self.scoring_inputs
        return ImageFileSource(
            self._name, split, self.classes, [self.images[i] for i in indices],
            scoring_inputs=inputs and (lambda: _restrict(inputs(), indices)),
            load_pixels=lambda i: self._load_pixels(indices[i]),
        )  # fmt: skip

    def __getitem__(self, i: int) -> Example:
        """Example `i`: image, boxes, labels, flags, image_id, size."""
        if not 0 <= i < len(self):
            raise IndexError(i)
        annotated, pixels = self.images[i], self._load_pixels(i)
        if pixels.shape[:2] != annotated.size:
            raise DataError(
                f"{printable(annotated.path)}: the image changed while it was in use; start again"
            )
        return self.ground_truth(i) | {
            "image": pixels, "image_id": int(i), "size": annotated.size
        }  # fmt: skip

    def ground_truth(self, i: int) -> Example:
        """Boxes, labels and flags of example `i`, without its pixels."""
        image = self.images[i]
        return {name: getattr(image, name).copy() for name in ("boxes", "labels", "flags")}

    def name(self, i: int) -> str:
        """File name of image `i`, for messages."""
        return self.images[i].path.name

    def summary(self) -> str:
        """Images, boxes and classes in one line, and in a second one what was corrected."""
        labels, flags = (
            np.concatenate([getattr(image, name) for image in self.images])
            for name in ("labels", "flags")
        )
        kinds = {"difficult": DIFFICULT, "crowds": CROWD}
        flagged = [f"{n} {name}" for name, flag in kinds.items() if (n := (flags == flag).sum())]
        empty = sum(not len(image.labels) for image in self.images)
        counts = np.bincount(labels, minlength=len(self.classes) + 1)[1:]
        per_class = ", ".join(f"{name} {n}" for name, n in zip(self.classes, counts))
        first = (
            f"{self._title}: {len(self)} images, {len(labels)} boxes "
            f"({', '.join(flagged) or '0 difficult'}), {empty} images without boxes; {per_class}"
        )
        notes = [
            f"{count} {what} ({join_truncated([printable(path.stem) for path in paths], ', ')})"
            for what, (count, paths) in count_corrections(self.images).items()
        ]
        notes += [self._note] if self._note else []
        return "\n".join([first, "; ".join(notes)] if notes else [first])


def _restrict(inputs: tuple[dict, list, list], indices: Sequence[int]) -> tuple[dict, list, list]:
    """What COCO scores of some images are computed from, of that of all."""
    content, image_ids, category_ids = inputs
    image_ids = [image_ids[i] for i in indices]
    kept = set(image_ids)
    content = content | {
        "images": [each for each in content["images"] if each["id"] in kept],
        "annotations": [each for each in content["annotations"] if each["image_id"] in kept],
    }
    return content, image_ids, category_ids


def count_corrections(
    images: Sequence[AnnotatedImage],
) -> dict[str, tuple[int, list[Path]]]:
    """What was corrected -> (how often, in which files)."""
    counts, paths = Counter(), {}
    for image in images:
        counts.update(image.corrections)
        for what in image.corrections:
            paths.setdefault(what, []).append(image.path)
    return {what: (count, paths[what]) for what, count in counts.items()}


class ClippedBoxes(NamedTuple):
    """Boxes of one image after clipping and filtering."""

    boxes: Float[np.ndarray, "K 4"]  # normalized corners, float32
    kept: Bool[np.ndarray, " N"]  # which of the raw boxes
    corrections: dict[str, int]


def clip_and_filter(
    corners: Float[np.ndarray, "N 4"],
    has_no_area: Bool[np.ndarray, " N"],
    labels: Iterable | None = None,
) -> ClippedBoxes:
    """Drop boxes without area or outside the image; clip the others.

    `corners` are normalized. A box has no area where `has_no_area` says so, by the file's own
    numbers, or where float32 leaves nothing of what lies in the image. Of equal boxes with equal
    `labels`, where given, the first is kept.
    """
    inside = box_ops.clip(corners)
    boxes = inside.astype(np.float32)
    outside = ~has_no_area & (inside[:, :2] >= inside[:, 2:]).any(axis=1)
    has_no_area = has_no_area | ~outside & (box_ops.area(boxes) <= _LEAST_AREA)
    repeated = np.zeros(len(corners), bool)
    if labels is not None:
        first = {}
        rows = [
            first.setdefault((*box, label), i)
            for i, (box, label) in enumerate(zip(corners.tolist(), labels))
        ]
        repeated = ~has_no_area & ~outside & (np.array(rows, int) != np.arange(len(corners)))
    kept = ~has_no_area & ~outside & ~repeated
    dropped_or_clipped = {
        _NO_AREA: has_no_area,
        _OUTSIDE: outside,
        "boxes that occur twice dropped": repeated,
        CLIPPED: kept & (inside != corners).any(axis=1),
    }
    counts = {what: int(mask.sum()) for what, mask in dropped_or_clipped.items() if mask.any()}
    return ClippedBoxes(boxes[kept], kept, counts)


def resolve_classes(
    given: Sequence[str], found: Mapping[str, object], default: Iterable[str]
) -> tuple[str, ...]:
    """The `given` class names; `default` where none are given.

    `found` has a place where each name of the files occurs. Raises DataError for a name that is
    not given, ConfigError for one that is given twice, and the same for names that are empty or
    hold what no terminal shows.
    """
    for name, where in found.items():
        if problem := _name_problem(name):
            raise DataError(f"class name {shorten(name)} in {where} {problem}; rename the class")
    if not given:
        return tuple(default)
    for name in given:
        if problem := _name_problem(name):
            raise ConfigError(f"config.data.classes: the name {shorten(name)} {problem}")
    if len(set(given)) < len(given):
        raise ConfigError(f"classes: a name occurs twice in {', '.join(given)}")
    unknown = [f"{shorten(name)} in {found[name]}" for name in found if name not in given]
    if unknown:
        raise DataError(
            f"unknown class {join_truncated(unknown, ', ')}; known: {', '.join(given)}; add the "
            "name to the classes or correct the file"
        )
    return tuple(given)


def _name_problem(name: str) -> str:
    """What is wrong with a class name, if anything: it becomes part of lines and of file names."""
    if not name.strip():
        return "is empty"
    is_bad = any(unicodedata.category(character) in _UNPRINTABLE for character in name)
    return "has a control character or half a character" if is_bad else ""
