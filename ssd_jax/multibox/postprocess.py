"""Postprocess: (logits, offsets) + priors -> a fixed number of detections, in one compiled call.

Decode, score filter, top-k per class, non-maximum suppression per class, top-k in total
(paper section 2.2 "inference", numbers of `ssd_pascal.py`), for one image; the caller vmaps.
"""

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float

from ssd_jax.multibox import boxes as box_ops
from ssd_jax.types import Detections

_TILE = 64


def detect(
    logits: Float[Array, "A C"],
    offsets: Float[Array, "A 4"],
    priors: Float[Array, "A 4"],
    score_threshold: float = 0.01,
    iou_threshold: float = 0.45,
    top_k_per_class: int = 400,
    top_k: int = 200,
    clip: str = "last",
    variances: tuple[float, float, float, float] = box_ops.VARIANCES,
    classification: str = "softmax",
) -> Detections:
    """Detections of one image; boxes are normalized corners.

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
        variances: of the encoding, see `boxes.encode`.
        classification: "softmax", or a sigmoid per class for any other loss.

    Ties go to the lower class, then to the lower prior.
    """
    probabilities = jax.nn.softmax if classification == "softmax" else jax.nn.sigmoid
    scores = probabilities(logits)[:, 1:].T  # [C-1, A]
    boxes = box_ops.decode(offsets, priors, variances)  # [A, 4]
    boxes = box_ops.clip(boxes) if clip == "first" else boxes
    scores = jnp.where(scores > score_threshold, scores, 0.0)
    scores, index = lax.top_k(scores, min(top_k_per_class, scores.shape[1]))  # [C-1, k]
    boxes = boxes[index]  # [C-1, k, 4]
    kept = jax.vmap(nms, (0, 0, None))(boxes, scores > 0.0, iou_threshold)
    classes, k = scores.shape
    scores = jnp.where(kept, scores, 0.0).reshape(-1)
    scores, index = lax.top_k(scores, min(top_k, scores.shape[0]))  # [K]
    boxes = boxes.reshape(-1, 4)[index]
    return Detections(
        boxes=box_ops.clip(boxes) if clip == "last" else boxes,
        scores=scores,
        labels=jnp.where(scores > 0.0, index // k + 1, 0),
    )


@jax.named_scope("nms")
def nms(
    boxes: Float[Array, "K 4"], valid: Bool[Array, " K"], iou_threshold: float | Float[Array, ""]
) -> Bool[Array, " K"]:
    """Greedy non-maximum suppression of boxes sorted by descending score -> kept [K].

    A box is suppressed when a kept box of a higher score overlaps it by more than the threshold.
    Works tile by tile and ends after the last valid box, which is early for most classes. Within
    a tile the rule is repeated until nothing changes, which gives the greedy result for any
    threshold: after n rounds the first n boxes are final.
    """
    count = boxes.shape[0]
    if count == 0:
        return valid
    tiles = -(-count // _TILE)
    boxes = jnp.pad(boxes, ((0, tiles * _TILE - count), (0, 0)))
    valid = jnp.pad(valid, (0, tiles * _TILE - count))
    order = jnp.arange(_TILE, dtype=jnp.int32)
    better = order[:, None] < order[None, :]

    def suppress_tile(state):
        tile, kept = state
        start = tile * _TILE
        own = lax.dynamic_slice_in_dim(boxes, start, _TILE)
        # No box of this tile or a later one is kept yet, so none of them suppresses.
        suppressed = ((box_ops.iou(boxes, own) > iou_threshold) & kept[:, None]).any(0)
        alive = lax.dynamic_slice_in_dim(valid, start, _TILE) & ~suppressed
        suppresses = (box_ops.iou(own, own) > iou_threshold) & better
        own_kept = _fixed_point(alive, suppresses)
        return tile + 1, lax.dynamic_update_slice_in_dim(kept, own_kept, start, 0)

    end = jnp.where(valid, jnp.arange(tiles * _TILE, dtype=jnp.int32) // _TILE + 1, 0).max()
    start = (jnp.int32(0), jnp.zeros_like(valid))
    return lax.while_loop(lambda state: state[0] < end, suppress_tile, start)[1][:count]


def _fixed_point(alive: Bool[Array, " T"], suppresses: Bool[Array, "T T"]) -> Bool[Array, " T"]:
    def step(state):
        kept, _ = state
        update = alive & ~(suppresses & kept[:, None]).any(0)
        return update, (update != kept).any()

    return lax.while_loop(lambda state: state[1], step, (alive, jnp.bool_(True)))[0]
