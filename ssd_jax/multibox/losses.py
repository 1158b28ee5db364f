"""Multibox loss on finished targets: negative mining, classification, localization.

For one image; the caller vmaps. Sums and counts are returned, and the step divides once by those of
the whole global batch, so that the mean is right on any number of devices.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax
from jaxtyping import Array, Bool, Float, Int


class MultiboxLoss(NamedTuple):
    """Sums and counts of one image, or [B] of a batch."""

    classification: Float[Array, "*B"]
    localization: Float[Array, "*B"]
    positives: Int[Array, "*B"]
    negatives: Int[Array, "*B"]


def multibox_loss(
    logits: Float[Array, "A C"],
    offsets: Float[Array, "A 4"],
    target_labels: Int[Array, " A"],
    target_offsets: Float[Array, "A 4"],
    negative_ratio: float = 3.0,
    classification: str = "softmax",
    random_scores: Float[Array, " A"] | None = None,
) -> MultiboxLoss:
    """Cross-entropy over positives and selected negatives, smooth-L1 over positives.

    Paper equations 1 to 3 and section 2.2, "Hard negative mining".

    Args:
        logits: class scores; column 0 is the background.
        offsets: predicted offsets, encoded against the priors.
        target_labels: class; 0 = background; -1 = neither positive nor negative.
        target_offsets: encoded offsets; only those of positives count.
        negative_ratio: negatives for each positive of the image.
        classification: "softmax", "sigmoid" (binary cross-entropy of all columns) or
            "sigmoid_classes" (without the background column).
        random_scores: numbers of at least 0; the negatives are those of the highest numbers
            instead of those of the highest loss.
    """
    positive = target_labels > 0
    cross_entropy, negative = select_negatives(
        logits, target_labels, negative_ratio, classification, random_scores
    )
    smooth_l1 = optax.losses.huber_loss(offsets, target_offsets)  # [A, 4], Fast R-CNN's, as Caffe
    return MultiboxLoss(
        classification=jnp.where(positive | negative, cross_entropy, 0.0).sum(),
        localization=jnp.where(positive[:, None], smooth_l1, 0.0).sum(),
        positives=positive.sum(dtype=jnp.int32),
        negatives=negative.sum(dtype=jnp.int32),
    )


def select_negatives(
    logits: Float[Array, "A C"],
    target_labels: Int[Array, " A"],
    negative_ratio: float = 3.0,
    classification: str = "softmax",
    random_scores: Float[Array, " A"] | None = None,
) -> tuple[Float[Array, " A"], Bool[Array, " A"]]:
    """Cross-entropy of each prior, and the mask of the negatives. Arguments: `multibox_loss`."""
    cross_entropy = _CROSS_ENTROPY[classification](logits, jnp.maximum(target_labels, 0))  # [A]
    positives = (target_labels > 0).sum(dtype=jnp.int32)
    count = (negative_ratio * positives.astype(jnp.float32)).astype(jnp.int32)
    scores = lax.stop_gradient(cross_entropy) if random_scores is None else random_scores
    return cross_entropy, hard_negatives(scores, target_labels == 0, count)


def _softmax_cross_entropy(
    logits: Float[Array, "A C"], labels: Int[Array, " A"]
) -> Float[Array, " A"]:
    """-log p(label). With one-hot labels, which fuse into a sum; a gather of [A] would not."""
    return optax.losses.softmax_cross_entropy(logits, jax.nn.one_hot(labels, logits.shape[1]))


def _sigmoid_cross_entropy(
    logits: Float[Array, "A C"], labels: Int[Array, " A"]
) -> Float[Array, " A"]:
    """Binary cross-entropy summed over all columns, background included (TensorFlow's API).

    One softplus a number, where `optax.losses.sigmoid_binary_cross_entropy` takes two logarithms.
    """
    is_label = jax.nn.one_hot(labels, logits.shape[1], dtype=bool)
    return jax.nn.softplus(jnp.where(is_label, -logits, logits)).sum(1)


def _sigmoid_cross_entropy_of_classes(
    logits: Float[Array, "A C"], labels: Int[Array, " A"]
) -> Float[Array, " A"]:
    """Binary cross-entropy summed over all columns but the background (RetinaNet)."""
    return _sigmoid_cross_entropy(logits[:, 1:], labels - 1)


_CROSS_ENTROPY = {
    "softmax": _softmax_cross_entropy,
    "sigmoid": _sigmoid_cross_entropy,
    "sigmoid_classes": _sigmoid_cross_entropy_of_classes,
}


@jax.named_scope("mine")
def hard_negatives(
    scores: Float[Array, " A"], eligible: Bool[Array, " A"], count: Int[Array, ""]
) -> Bool[Array, " A"]:
    """Mask of the `count` eligible entries of highest score, ties to the lower index.

    `scores` are at least 0, so that their bit patterns order as integers: the count-th highest
    is found bit by bit, in 31 passes of counting instead of a sort. Exactly
    min(count, number of eligible entries) are selected.
    """
    bits = lax.bitcast_convert_type(jnp.maximum(scores, 0.0).astype(jnp.float32), jnp.int32)
    bits = jnp.where(eligible, bits, -1)
    count = jnp.minimum(count, eligible.sum(dtype=jnp.int32))
    threshold = _bisect_max(31, lambda bound: (bits >= bound).sum(dtype=jnp.int32) >= count)
    above, tied = bits > threshold, bits == threshold
    missing = count - above.sum(dtype=jnp.int32)
    index = jnp.arange(scores.shape[0], dtype=jnp.int32)
    index_bits = max(scores.shape[0].bit_length(), 1)
    # The largest bound below which at most `missing` ties lie selects exactly that many.
    bound = _bisect_max(
        index_bits, lambda end: (tied & (index < end)).sum(dtype=jnp.int32) <= missing
    )
    return above | (tied & (index < bound))


def _bisect_max(bits: int, condition) -> Int[Array, ""]:
    """The largest integer of `bits` bits that meets a condition: true up to it, false above."""

    def set_bit(i, value):
        candidate = value | (jnp.int32(1) << (bits - 1 - i))
        return jnp.where(condition(candidate), candidate, value)

    return lax.fori_loop(0, bits, set_bit, jnp.int32(0))
