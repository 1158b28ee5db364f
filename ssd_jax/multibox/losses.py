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


class Focal(NamedTuple):
    """Weights of the focal loss; the defaults are those of RetinaNet."""

    alpha: float = 0.25  # of a column that is the label; the others have 1 - alpha
    gamma: float = 2.0  # power of the probability of the wrong answer


RETINANET = Focal()


def multibox_loss(
    logits: Float[Array, "A C"],
    offsets: Float[Array, "A 4"],
    target_labels: Int[Array, " A"],
    target_offsets: Float[Array, "A 4"],
    negative_ratio: float | None = 3.0,
    classification: str = "softmax",
    focal: Focal = RETINANET,
    random_scores: Float[Array, " A"] | None = None,
) -> MultiboxLoss:
    """Classification loss of positives and selected negatives, smooth-L1 of positives.

    Paper equations 1 to 3 and section 2.2, "Hard negative mining".

    Args:
        logits: class scores; column 0 is the background.
        offsets: predicted offsets, encoded against the priors.
        target_labels: class; 0 = background; -1 = neither positive nor negative.
        target_offsets: encoded offsets; only those of positives count.
        negative_ratio: negatives for each positive of the image; None takes all there are.
        classification: as for `classification_losses`.
        focal: likewise.
        random_scores: numbers of at least 0; the negatives are those of the highest numbers
            instead of those of the highest loss.
    """
    positive = target_labels > 0
    class_losses = classification_losses(logits, target_labels, classification, focal)
    scores = class_losses if random_scores is None else random_scores
    negative = select_negatives(scores, target_labels, negative_ratio)
    smooth_l1 = optax.losses.huber_loss(offsets, target_offsets)  # [A, 4], Fast R-CNN's, as Caffe
    return MultiboxLoss(
        classification=jnp.where(positive | negative, class_losses, 0.0).sum(),
        localization=jnp.where(positive[:, None], smooth_l1, 0.0).sum(),
        positives=positive.sum(dtype=jnp.int32),
        negatives=negative.sum(dtype=jnp.int32),
    )


def classification_losses(
    logits: Float[Array, "A C"],
    target_labels: Int[Array, " A"],
    classification: str = "softmax",
    focal: Focal = RETINANET,
) -> Float[Array, " A"]:
    """Classification loss of each prior; one of label -1 has that of the background.

    `classification` is "softmax" (cross-entropy), "sigmoid" (binary cross-entropy of all columns),
    "sigmoid_classes" (without the background column) or "focal" (that, with `focal`'s weights).
    """
    labels = jnp.maximum(target_labels, 0)
    if classification == "focal":
        return _focal_loss(logits, labels, focal)
    return _CROSS_ENTROPY[classification](logits, labels)


def select_negatives(
    scores: Float[Array, " A"],
    target_labels: Int[Array, " A"],
    negative_ratio: float | None = 3.0,
) -> Bool[Array, " A"]:
    """Mask of the negatives of highest score, `negative_ratio` for each positive; None: all."""
    eligible = target_labels == 0
    if negative_ratio is None:
        return eligible
    positives = (target_labels > 0).sum(dtype=jnp.int32)
    count = (negative_ratio * positives.astype(jnp.float32)).astype(jnp.int32)
    return hard_negatives(lax.stop_gradient(scores), eligible, count)


def _softmax_cross_entropy(
    logits: Float[Array, "A C"], labels: Int[Array, " A"]
) -> Float[Array, " A"]:
    """-log p(label).

    As the logarithm of a sum less one logit: the gradient of `optax.losses.softmax_cross_entropy`
    sums over the classes once more. The logit is a sum too, which XLA fuses; a gather it does not.
    """
    is_label = jax.nn.one_hot(labels, logits.shape[1], dtype=bool)
    logits -= lax.stop_gradient(logits.max(1, keepdims=True))
    return jnp.log(jnp.exp(logits).sum(1)) - jnp.where(is_label, logits, 0.0).sum(1)


def _sigmoid_cross_entropy(
    logits: Float[Array, "A C"], labels: Int[Array, " A"]
) -> Float[Array, " A"]:
    """Binary cross-entropy summed over all columns, background included (TensorFlow's API).

    One softplus a number, where `optax.losses.sigmoid_binary_cross_entropy` takes two logarithms.
    """
    return jax.nn.softplus(_wrong_logits(logits, labels)).sum(1)


def _sigmoid_cross_entropy_of_classes(
    logits: Float[Array, "A C"], labels: Int[Array, " A"]
) -> Float[Array, " A"]:
    """Binary cross-entropy summed over all columns but the background (RetinaNet)."""
    return _sigmoid_cross_entropy(logits[:, 1:], labels - 1)


def _focal_loss(
    logits: Float[Array, "A C"], labels: Int[Array, " A"], focal: Focal
) -> Float[Array, " A"]:
    """Focal loss summed over all columns but the background (Lin et al., arXiv:1708.02002, eq. 5).

    The power is taken of a logarithm: its gradient is finite where a column is surely right.
    """
    logits, labels = logits[:, 1:], labels - 1
    wrong = _wrong_logits(logits, labels)
    cross_entropy = jax.nn.softplus(wrong)
    error = jnp.exp(focal.gamma * (wrong - cross_entropy))  # p(wrong) ** gamma
    is_label = jax.nn.one_hot(labels, logits.shape[1], dtype=bool)
    return (jnp.where(is_label, focal.alpha, 1 - focal.alpha) * error * cross_entropy).sum(1)


def _wrong_logits(logits: Float[Array, "A C"], labels: Int[Array, " A"]) -> Float[Array, "A C"]:
    """Of each column's question "is it the label?", the logit of the wrong answer."""
    is_label = jax.nn.one_hot(labels, logits.shape[1], dtype=bool)
    return jnp.where(is_label, -logits, logits)


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
