"""Matching of many images: which box each prior is matched to, and how many priors a box gets."""

from collections.abc import Callable, Iterator, Sequence

import jax
import numpy as np
from jaxtyping import Float, Int

from ssd_jax.types import Targets

_BATCH_SIZE = 16
_PADDED_COUNTS = (3, 12, 64)  # M of the compiled programs; a last one has that of the largest image

# boxes [M, 4] and labels [M] of one image -> its targets
Matcher = Callable[[jax.Array, jax.Array], Targets]


def match_images(
    images: Sequence[Float[np.ndarray, "_ 4"]], matcher: Matcher
) -> Iterator[tuple[int, Int[np.ndarray, " A"]]]:
    """Match the boxes of each image; images without a box are left out.

    Yields, in no order, the row of an image and the row of the box that each of its priors is
    matched to; -1 for background, -2 for a prior that is left out of the loss.
    """
    match = jax.jit(lambda boxes, labels: jax.vmap(matcher)(boxes, labels).labels - 1)
    largest = max((len(boxes) for boxes in images), default=0)
    limits = (0, *(count for count in _PADDED_COUNTS if count < largest), largest)
    for low, padded_count in zip(limits, limits[1:]):
        rows = [row for row, boxes in enumerate(images) if low < len(boxes) <= padded_count]
        for start in range(0, len(rows), _BATCH_SIZE):
            batch = rows[start : start + _BATCH_SIZE]
            boxes = np.zeros((_BATCH_SIZE, padded_count, 4), np.float32)
            labels = np.zeros((_BATCH_SIZE, padded_count), np.int32)
            for i, row in enumerate(batch):
                count = len(images[row])
                boxes[i, :count] = images[row]
                labels[i, :count] = np.arange(1, count + 1)  # each box a class of its own
            yield from zip(batch, np.asarray(match(boxes, labels)))


def count_positives(
    images: Sequence[Float[np.ndarray, "_ 4"]], matcher: Matcher
) -> list[Int[np.ndarray, "_"]]:
    """The number of positive priors of each box of each image."""
    counts = [np.zeros(len(boxes), np.int64) for boxes in images]
    for row, matched_box in match_images(images, matcher):
        counts[row] = np.bincount(matched_box[matched_box >= 0], minlength=len(counts[row]))
    return counts
