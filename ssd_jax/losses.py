"""Multibox loss on finished targets: negative mining, classification, localization.

Written for one image; sums and counts are returned and whoever holds the whole global batch
divides once, so that the mean is right on any number of devices.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int


class Loss(NamedTuple):
    """Sums and counts of one image, or [B] of a batch."""

    classification: Float[Array, "*B"]
    localization: Float[Array, "*B"]
    positives: Int[Array, "*B"]
    negatives: Int[Array, "*B"]


def multibox(
    logits: Float[Array, "A C"],
    offsets: Float[Array, "A 4"],
    target_labels: Int[Array, " A"],
    target_offsets: Float[Array, "A 4"],
    negative_ratio: float = 3.0,
    classification: str = "softmax",
    draws: Float[Array, " A"] | None = None,
) -> Loss:
    """Cross-entropy over positives and chosen negatives, smooth-L1 over positives.

    Paper equations 1-3 and section 2.2 "Hard negative mining": the `negative_ratio` × positives
    background priors of highest loss count, or of highest `draws` where those are given (random
    numbers of at least 0). `target_labels`: 0 background, -1 left out. Nothing is divided.
    """
    positive = target_labels > 0
    cross_entropy, negative = mine(logits, target_labels, negative_ratio, classification, draws)
    return Loss(
        classification=jnp.where(positive | negative, cross_entropy, 0.0).sum(),
        localization=jnp.where(positive[:, None], smooth_l1(offsets - target_offsets), 0.0).sum(),
        positives=positive.sum(dtype=jnp.int32),
        negatives=negative.sum(dtype=jnp.int32),
    )


def mine(
    logits: Float[Array, "A C"],
    target_labels: Int[Array, " A"],
    negative_ratio: float = 3.0,
    classification: str = "softmax",
    draws: Float[Array, " A"] | None = None,
) -> tuple[Float[Array, " A"], Bool[Array, " A"]]:
    """Cross-entropy of each prior, and which of them are the negatives of `multibox`."""
    cost = {"softmax": _softmax, "sigmoid": _sigmoid, "sigmoid_classes": _sigmoid_classes}
    cross_entropy = cost[classification](logits, jnp.maximum(target_labels, 0))  # [A]
    positives = (target_labels > 0).sum(dtype=jnp.int32)
    wanted = (negative_ratio * positives.astype(jnp.float32)).astype(jnp.int32)
    hardness = lax.stop_gradient(cross_entropy) if draws is None else draws
    return cross_entropy, hard_negatives(hardness, target_labels == 0, wanted)


def _softmax(logits: Float[Array, "A C"], labels: Int[Array, " A"]) -> Float[Array, " A"]:
    """-log p(own class)."""
    return -jnp.where(_is_own(logits, labels), jax.nn.log_softmax(logits), 0.0).sum(1)


def _sigmoid(logits: Float[Array, "A C"], labels: Int[Array, " A"]) -> Float[Array, " A"]:
    """Binary cross-entropy summed over all columns, the background's too (TensorFlow's API)."""
    signed = jnp.where(_is_own(logits, labels), -logits, logits)
    return jax.nn.softplus(signed).sum(1)


def _sigmoid_classes(logits: Float[Array, "A C"], labels: Int[Array, " A"]) -> Float[Array, " A"]:
    """Binary cross-entropy without the background's column (RetinaNet)."""
    return _sigmoid(logits[:, 1:], labels - 1)


def _is_own(logits: Float[Array, "A C"], labels: Int[Array, " A"]) -> Bool[Array, "A C"]:
    """Where the column is the label; it fuses into a sum, as a gather of [A] would not."""
    return labels[:, None] == jnp.arange(logits.shape[1], dtype=labels.dtype)[None, :]


def smooth_l1(error: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """0.5 x² where |x| < 1, else |x| - 0.5 (Fast R-CNN, as in Caffe's SSD)."""
    size = jnp.abs(error)
    return jnp.where(size < 1.0, 0.5 * size * size, size - 0.5)


@jax.named_scope("mine")
def hard_negatives(
    scores: Float[Array, " A"], eligible: Bool[Array, " A"], count: Int[Array, ""]
) -> Bool[Array, " A"]:
    """Mask of the `count` eligible entries of highest score, ties to the lower index.

    `scores` are at least 0, so that their bit patterns order as integers: the count-th highest
    is then found bit by bit, in 31 passes of counting instead of a sort. Exactly
    min(count, eligible) entries are chosen.
    """
    bits = lax.bitcast_convert_type(jnp.maximum(scores, 0.0).astype(jnp.float32), jnp.int32)
    bits = jnp.where(eligible, bits, -1)
    count = jnp.minimum(count, eligible.sum(dtype=jnp.int32))
    threshold = _largest(31, lambda bound: (bits >= bound).sum(dtype=jnp.int32) >= count)
    above, tied = bits > threshold, bits == threshold
    missing = count - above.sum(dtype=jnp.int32)
    index = jnp.arange(scores.shape[0], dtype=jnp.int32)
    index_bits = max(scores.shape[0].bit_length(), 1)
    # The largest bound below which at most `missing` ties lie admits exactly that many.
    bound = _largest(index_bits, lambda end: (tied & (index < end)).sum(dtype=jnp.int32) <= missing)
    return above | (tied & (index < bound))


def _largest(bits: int, holds) -> Int[Array, ""]:
    """The largest integer of `bits` bits for which `holds` (true at 0, then false for good)."""

    def step(i, value):
        candidate = value | (jnp.int32(1) << (bits - 1 - i))
        return jnp.where(holds(candidate), candidate, value)

    return lax.fori_loop(0, bits, step, jnp.int32(0))
