"""Postprocess: (logits, offsets) + priors -> a fixed number of detections, in one compiled call.

Decode, score filter, top-k per class, non-maximum suppression per class, top-k in total
(paper section 2.2 "inference", numbers of `ssd_pascal.py`). Batched over images and classes.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from ssd_jax import boxes as box_ops

_TILE = 64


class Detections(NamedTuple):
    """Detections of one image, best first, or [B, …] of a batch; label 0 is an empty slot."""

    boxes: Float[Array, "*B K 4"]
    scores: Float[Array, "*B K"]
    labels: Int[Array, "*B K"]


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
    """Detections of one image; boxes are corners, normalized.

    They are cut at the borders of the image before suppression (`clip` "first", torchvision),
    after it ("last"), or not ("none", Caffe). `classification` says what turns logits into scores:
    softmax, or a sigmoid per class. Of each class the `top_k_per_class` priors that score above
    `score_threshold` enter suppression; the best `top_k` over all classes are kept. Ties go to the
    lower class, then to the lower prior.
    """
    probabilities = jax.nn.softmax if classification == "softmax" else jax.nn.sigmoid
    scores = probabilities(logits)[:, 1:].T  # [C-1, A]
    boxes = box_ops.decode(offsets, priors, variances)  # [A, 4]
    boxes = box_ops.clip(boxes) if clip == "first" else boxes
    scores = jnp.where(scores > score_threshold, scores, 0.0)
    scores, index = lax.top_k(scores, min(top_k_per_class, scores.shape[1]))  # [C-1, k]
    boxes = boxes[index]  # [C-1, k, 4]
    kept = jax.vmap(suppress, (0, 0, None))(boxes, scores > 0.0, iou_threshold)
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
def suppress(
    boxes: Float[Array, "K 4"], valid: Bool[Array, " K"], iou_threshold: float | Float[Array, ""]
) -> Bool[Array, " K"]:
    """Greedy non-maximum suppression of boxes sorted by descending score -> kept [K].

    A box falls when a kept better one overlaps it by more than the threshold. Goes tile by tile
    and ends after the last valid box, which is early for most classes. Within a tile it reaches
    the fixed point of the rule, which is the greedy result for any threshold: after n rounds the
    first n boxes are final, and a round settles a whole front.
    """
    count = boxes.shape[0]
    if count == 0:
        return valid
    tiles = -(-count // _TILE)
    boxes = jnp.pad(boxes, ((0, tiles * _TILE - count), (0, 0)))
    valid = jnp.pad(valid, (0, tiles * _TILE - count))
    order = jnp.arange(_TILE, dtype=jnp.int32)
    better = order[:, None] < order[None, :]

    def settle(state):
        tile, kept = state
        start = tile * _TILE
        own = lax.dynamic_slice_in_dim(boxes, start, _TILE)
        # What is at or after this tile is not kept yet, so it beats nobody.
        fallen = ((box_ops.iou(boxes, own) > iou_threshold) & kept[:, None]).any(0)
        alive = lax.dynamic_slice_in_dim(valid, start, _TILE) & ~fallen
        beats = (box_ops.iou(own, own) > iou_threshold) & better
        own_kept = _fixed_point(alive, beats)
        return tile + 1, lax.dynamic_update_slice_in_dim(kept, own_kept, start, 0)

    end = jnp.where(valid, jnp.arange(tiles * _TILE, dtype=jnp.int32) // _TILE + 1, 0).max()
    start = (jnp.int32(0), jnp.zeros_like(valid))
    return lax.while_loop(lambda state: state[0] < end, settle, start)[1][:count]


def _fixed_point(alive: Bool[Array, " T"], beats: Bool[Array, "T T"]) -> Bool[Array, " T"]:
    def step(state):
        kept, _ = state
        update = alive & ~(beats & kept[:, None]).any(0)
        return update, (update != kept).any()

    return lax.while_loop(lambda state: state[1], step, (alive, jnp.bool_(True)))[0]
