"""The mean loss of a set of images, divided as a training step divides that of its batch."""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Float, Int

NAME = "eval/loss"


def evaluate(
    classification: Float[np.ndarray, " N"],
    localization: Float[np.ndarray, " N"],
    positives: Int[np.ndarray, " N"],
    localization_weight: float,
    normalizer: str,
) -> Iterator[tuple[str, float]]:
    """The loss and its two parts, of the undivided losses of N images.

    "batch" divides the sums by all positives, as if the set were one batch; "image" divides each
    image's by its own, and takes the mean. Where there is no positive, the divisor is 1. Yields
    (name, value).
    """
    if normalizer == "batch":
        weight = np.full(len(positives), 1 / max(int(positives.sum()), 1))
    else:
        weight = 1 / (np.maximum(positives, 1) * len(positives))
    cls_loss = float((weight * classification).sum(dtype=np.float64))
    loc_loss = float((weight * localization).sum(dtype=np.float64))
    yield NAME, cls_loss + localization_weight * loc_loss
    yield "eval/cls_loss", cls_loss
    yield "eval/loc_loss", loc_loss
