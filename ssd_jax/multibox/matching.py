"""Matching: ground truth + priors -> the target of every prior, for one image; the caller vmaps.

Both matchers of the field: `best_prior` (every box forces a match with its best prior, as in most
ports) and `bipartite` (Caffe's greedy assignment over the whole image). After either, every prior
whose best IoU reaches the threshold is positive too.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int

from ssd_jax.multibox import boxes as box_ops
from ssd_jax.types import CROWD_LABEL, IGNORED_LABEL, Targets

_MIN_OVERLAP = 1e-6  # Caffe ignores smaller overlaps, so that a distant box forces no match.


def match(
    boxes: Float[Array, "M 4"],
    labels: Int[Array, " M"],
    priors: Float[Array, "A 4"],
    threshold: float = 0.5,
    matcher: str = "best_prior",
    variances: tuple[float, float, float, float] = box_ops.VARIANCES,
    negative_threshold: float = 1.0,
    conflict_resolution: str = "best",
    strict: bool = False,
) -> Targets:
    """Targets of one image (paper section 2.2, "Matching strategy").

    Args:
        boxes: padded ground truth, normalized corners.
        labels: class of each box, or 0 = padding; -1 = ignored: a prior that overlaps it by the
            threshold and is not positive is left out of the loss; -2 = crowd: the same, but the
            overlap is the share of the prior inside the crowd, as COCO's evaluation measures it.
        priors: normalized corners.
        threshold: IoU from which a prior is positive.
        matcher: "best_prior" or "bipartite".
        variances: of the encoding, see `boxes.encode`.
        negative_threshold: a prior below the threshold that overlaps a box by this IoU or more is
            left out of the loss (Caffe's neg_overlap); 1 leaves out none.
        conflict_resolution: which box gets a prior that is the best one of several: "best" (the
            highest IoU), "first" or "last" in the order of the boxes; for "best_prior" only.
        strict: an IoU must be above the threshold (MLPerf), not only reach it.

    The result does not depend on the padding nor, unless `conflict_resolution` is "first" or
    "last", on the order of the boxes, exact ties of IoU excepted.
    """
    compare = jnp.greater if strict else jnp.greater_equal
    all_overlap = box_ops.iou(boxes, priors)  # [M, A]
    overlap = jnp.where((labels > 0)[:, None], all_overlap, -1.0)  # [M, A]
    if matcher == "bipartite":
        forced_match = _force_bipartite(overlap)  # [A]
    else:
        forced_match = _force_best_prior(overlap, conflict_resolution)  # [A]
    best_gt, best_overlap = overlap.argmax(0), overlap.max(0)  # [A]
    gt_index = jnp.where(forced_match >= 0, forced_match, best_gt)  # [A]
    positive = (forced_match >= 0) | compare(best_overlap, threshold)
    inside = box_ops.intersection(boxes, priors) / box_ops.area(priors)[None, :]  # [M, A]
    ignore_overlap = jnp.where((labels == CROWD_LABEL)[:, None], inside, all_overlap)
    ignore_overlap = jnp.where((labels < 0)[:, None], ignore_overlap, -1.0).max(0)  # [A]
    ignored = compare(ignore_overlap, threshold) | (best_overlap >= negative_threshold)
    return Targets(
        labels=jnp.where(positive, labels[gt_index], jnp.where(ignored, IGNORED_LABEL, 0)),
        offsets=jnp.where(
            positive[:, None], box_ops.encode(boxes[gt_index], priors, variances), 0.0
        ),
    )


def _force_best_prior(overlap: Float[Array, "M A"], conflict_resolution: str) -> Int[Array, " A"]:
    """The box whose best prior each prior is, -1 where it is the best prior of no box.

    Where a prior is the best one of several boxes, the box with the highest IoU gets it ("best"),
    or the "first" (TensorFlow's API) or "last" one (torchvision, most ports) in their order.
    """
    best_prior = overlap.argmax(1)  # [M]
    forced = best_prior[:, None] == jnp.arange(overlap.shape[1], dtype=best_prior.dtype)[None, :]
    forced &= overlap > _MIN_OVERLAP  # [M, A]
    order = jnp.arange(overlap.shape[0], dtype=overlap.dtype)[:, None]
    rank = {"best": overlap, "first": -order, "last": order}[conflict_resolution]
    rank = jnp.where(forced, rank, -jnp.inf)
    return jnp.where(forced.any(0), rank.argmax(0), -1)


class _BipartiteState(NamedTuple):
    prior: Int[Array, " M"]  # best prior of each box, as last looked up
    overlap: Float[Array, " M"]  # its IoU; -1 once the box is matched
    match: Int[Array, " A"]  # box of each prior, -1 for none


def _force_bipartite(overlap: Float[Array, "M A"]) -> Int[Array, " A"]:
    """Caffe's greedy bipartite matching: the pair of highest IoU first, each side used once.

    A box's best prior is looked up again only when the box is next and its prior is taken: the
    IoU that was looked up is an upper bound, so the order of assignments is the greedy one. The
    loop takes one trip for each box and one for each prior that was taken; a trip costs one row.
    Ties: lowest prior, then lowest box.
    """
    size = overlap.shape[1]

    def assign(state: _BipartiteState) -> _BipartiteState:
        is_next = state.overlap == state.overlap.max()
        gt = jnp.where(is_next, state.prior, size).argmin()
        free = state.match < 0  # [A]
        assigned = free[state.prior[gt]]
        row = jnp.where(free, overlap[gt], -1.0)  # [A]
        return _BipartiteState(
            prior=state.prior.at[gt].set(row.argmax()),
            overlap=state.overlap.at[gt].set(jnp.where(assigned, -1.0, row.max())),
            match=state.match.at[state.prior[gt]].set(
                jnp.where(assigned, gt, state.match[state.prior[gt]])
            ),
        )

    start = _BipartiteState(overlap.argmax(1), overlap.max(1), jnp.full(size, -1, jnp.int32))
    return lax.while_loop(lambda state: state.overlap.max() > _MIN_OVERLAP, assign, start).match
