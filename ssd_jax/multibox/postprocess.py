"""Postprocess: (logits, offsets) + priors -> a fixed number of detections, in one compiled call.

Decode, score filter, top-k per class, non-maximum suppression per class, top-k in total
(paper section 2.2 "inference", numbers of `ssd_pascal.py`), for images [*B] without `vmap`: under
it every image and class would count its own tiles, and XLA:TPU updates their slices one by one.
"""

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from ssd_jax.multibox import boxes as box_ops
from ssd_jax.types import Detections

_TILE = 64


@jax.named_scope("postprocess")
def detect(
    logits: Float[Array, "*B A C"],
    offsets: Float[Array, "*B A 4"],
    priors: Float[Array, "A 4"],
    score_threshold: float = 0.01,
    iou_threshold: float = 0.45,
    top_k_per_class: int = 400,
    top_k: int = 200,
    clip: str = "last",
    class_agnostic: bool = False,
    variances: tuple[float, float, float, float] = box_ops.VARIANCES,
    classification: str = "softmax",
) -> Detections:
    """Detections of each image [*B]; boxes are normalized corners.

    Args:
        logits: class scores; column 0 is the background.
        offsets: encoded against the priors.
        priors: normalized corners.
        score_threshold: a score must be above it.
        iou_threshold: of suppression within a class.
        top_k_per_class: boxes of each class that enter suppression.
        top_k: boxes of all classes that are kept, K.
        clip: boxes are clipped to the image before suppression ("first", torchvision), after it
            ("last"), or not ("none", Caffe).
        class_agnostic: a prior has its best class alone, and suppression knows one class: of
            objects of several classes in one place, the surest is left.
        variances: of the encoding, see `boxes.encode`.
        classification: "softmax", or a sigmoid per class for any other loss.

    Ties go to the lower class, then to the lower prior.
    """
    probabilities = jax.nn.softmax if classification == "softmax" else jax.nn.sigmoid
    scores = jnp.moveaxis(probabilities(logits)[..., 1:], -1, -2)  # [*B, C-1, A]
    priors = jnp.broadcast_to(priors, offsets.shape)
    boxes = box_ops.decode(offsets, priors, variances)  # [*B, A, 4]
    boxes = box_ops.clip(boxes) if clip == "first" else boxes
    if class_agnostic:
        best = scores.argmax(-2).astype(jnp.int32)  # [*B, A]
        scores = scores.max(-2, keepdims=True)
    scores = jnp.where(scores > score_threshold, scores, 0.0)
    scores, prior = lax.top_k(scores, min(top_k_per_class, scores.shape[-1]))  # [*B, C-1, k]
    kept = nms(_take(boxes[..., None, :, :], prior), scores > 0.0, iou_threshold)
    *batch, classes, k = scores.shape
    scores = jnp.where(kept, scores, 0.0).reshape(*batch, classes * k)
    scores, index = lax.top_k(scores, min(top_k, classes * k))  # [*B, K]
    prior = jnp.take_along_axis(prior.reshape(*batch, classes * k), index, axis=-1)
    boxes = _take(boxes, prior)  # [*B, K, 4]
    label = jnp.take_along_axis(best, prior, axis=-1) if class_agnostic else index // k
    return Detections(
        boxes=box_ops.clip(boxes) if clip == "last" else boxes,
        scores=scores,
        labels=jnp.where(scores > 0.0, label + 1, 0),
    )


def _take(boxes: Float[Array, "*#B N 4"], index: Int[Array, "*#B k"]) -> Float[Array, "*#B k 4"]:
    """The boxes of an index, which is never out of range."""
    return jnp.take_along_axis(boxes, index[..., None], axis=-2, mode="promise_in_bounds")


@jax.named_scope("nms")
def nms(
    boxes: Float[Array, "*N K 4"],
    valid: Bool[Array, "*N K"],
    iou_threshold: float | Float[Array, ""],
) -> Bool[Array, "*N K"]:
    """Greedy non-maximum suppression of boxes sorted by descending score, in each set of [*N].

    A box is suppressed when a kept box of a higher score overlaps it by more than the threshold.
    Works tile by tile, all sets at once, and ends after the last valid box of any set. Within a
    tile the rule is repeated until nothing changes, which gives the greedy result for any
    threshold: after n rounds the first n boxes are final.
    """
    count = boxes.shape[-2]
    if count == 0:
        return valid
    tiles = -(-count // _TILE)
    padding = tiles * _TILE - count
    sets = ((0, 0),) * (valid.ndim - 1)
    boxes = jnp.pad(boxes, (*sets, (0, padding), (0, 0)))
    valid = jnp.pad(valid, (*sets, (0, padding)))
    order = jnp.arange(_TILE, dtype=jnp.int32)
    better = jnp.broadcast_to(order[:, None] < order[None, :], (*boxes.shape[:-2], _TILE, _TILE))

    def suppress_tile(state):
        tile, kept = state
        start = tile * _TILE
        own = lax.dynamic_slice_in_dim(boxes, start, _TILE, axis=-2)  # [*N, T, 4]
        # No box of this tile or a later one is kept yet, so none of them suppresses.
        overlaps = box_ops.iou(own, boxes) > iou_threshold  # [*N, T, K]
        suppressed = (overlaps & kept[..., None, :]).any(-1)
        alive = lax.dynamic_slice_in_dim(valid, start, _TILE, axis=-1) & ~suppressed
        suppresses = (box_ops.iou(own, own) > iou_threshold) & better  # [*N, T, T]
        own_kept = _fixed_point(alive, suppresses)
        return tile + 1, lax.dynamic_update_slice_in_dim(kept, own_kept, start, axis=-1)

    is_valid = valid.reshape(-1, tiles * _TILE).any(0)
    end = jnp.where(is_valid, jnp.arange(tiles * _TILE, dtype=jnp.int32) // _TILE + 1, 0).max()
    start = (jnp.int32(0), jnp.zeros_like(valid))
    return lax.while_loop(lambda state: state[0] < end, suppress_tile, start)[1][..., :count]


def _fixed_point(
    alive: Bool[Array, "*N T"], suppresses: Bool[Array, "*N T T"]
) -> Bool[Array, "*N T"]:
    def step(state):
        kept, _ = state
        update = alive & ~(suppresses & kept[..., None]).any(-2)
        return update, (update != kept).any()

    return lax.while_loop(lambda state: state[1], step, (alive, jnp.bool_(True)))[0]
