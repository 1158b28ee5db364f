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

_MAX_BLOCK = 128  # boxes that are compared with all priors at once
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
    best = _compare_all(boxes, labels, priors, conflict_resolution)
    if matcher == "bipartite":
        forced_match = _force_bipartite(boxes, priors, best)  # [A]
    else:
        forced_match = best.forced_match  # [A]
    gt_index = jnp.where(forced_match >= 0, forced_match, best.match)  # [A]
    positive = (forced_match >= 0) | compare(best.overlap, threshold)
    ignored = compare(best.ignore_overlap, threshold) | (best.overlap >= negative_threshold)
    gt_labels, gt_boxes = _look_up(labels, gt_index), _look_up(boxes, gt_index)
    return Targets(
        labels=jnp.where(positive, gt_labels, jnp.where(ignored, IGNORED_LABEL, 0)),
        offsets=jnp.where(positive[:, None], box_ops.encode(gt_boxes, priors, variances), 0.0),
    )


def _look_up(table: Array, index: Int[Array, " A"]) -> Array:
    """Rows [A, …] of a table [M, …]; of a short one as sums, since a TPU gathers row by row."""
    if table.shape[0] > _MAX_BLOCK:
        return table[index]
    if table.ndim > 1:
        return jnp.stack([_look_up(column, index) for column in table.T], axis=-1)
    number = jnp.arange(table.shape[0], dtype=index.dtype)
    chosen = index[None, :] == number[:, None]  # [M, A]
    return jnp.where(chosen, table[:, None], 0).sum(0, dtype=table.dtype)


class _Comparison(NamedTuple):
    """What is known after the comparison of some boxes with all priors."""

    overlap: Float[Array, " A"]  # highest IoU of each prior with a box of a class; -1 for none
    match: Int[Array, " A"]  # the first box that has it
    forced_rank: Float[Array, " A"]  # of the box that forces a match, -inf where none does
    forced_match: Int[Array, " A"]  # that box, -1 for none: see `_force_best_prior`
    ignore_overlap: Float[Array, " A"]  # highest overlap with an ignored box or crowd
    best_prior: Int[Array, " m"]  # of each box that was compared
    best_prior_overlap: Float[Array, " m"]  # its IoU; -1 for boxes without class


def _compare_all(
    boxes: Float[Array, "M 4"],
    labels: Int[Array, " M"],
    priors: Float[Array, "A 4"],
    conflict_resolution: str,
) -> _Comparison:
    """The comparison of all boxes, in blocks, so that memory does not grow with their number.

    Blocks after the last box, which hold padding alone, are left out at run time.
    """
    total, blocks = labels.shape[0], -(-labels.shape[0] // _MAX_BLOCK)
    if blocks <= 1:
        return _compare(boxes, labels, priors, conflict_resolution, jnp.int32(0))
    size = -(-total // blocks)
    boxes = jnp.pad(boxes, ((0, blocks * size - total), (0, 0)))
    labels = jnp.pad(labels, (0, blocks * size - total))
    number = jnp.arange(1, blocks * size + 1, dtype=jnp.int32)
    used = (jnp.where(labels != 0, number, 0).max() + size - 1) // size

    def add_block(i, known: _Comparison) -> _Comparison:
        first = i * size
        block = _compare(
            lax.dynamic_slice_in_dim(boxes, first, size),
            lax.dynamic_slice_in_dim(labels, first, size),
            priors, conflict_resolution, first,
        )  # fmt: skip
        better = block.overlap > known.overlap
        forces = block.forced_rank > known.forced_rank
        return _Comparison(
            overlap=jnp.where(better, block.overlap, known.overlap),
            match=jnp.where(better, block.match, known.match),
            forced_rank=jnp.where(forces, block.forced_rank, known.forced_rank),
            forced_match=jnp.where(forces, block.forced_match, known.forced_match),
            ignore_overlap=jnp.maximum(block.ignore_overlap, known.ignore_overlap),
            best_prior=lax.dynamic_update_slice_in_dim(
                known.best_prior, block.best_prior, first, 0
            ),
            best_prior_overlap=lax.dynamic_update_slice_in_dim(
                known.best_prior_overlap, block.best_prior_overlap, first, 0
            ),
        )

    known = lax.fori_loop(0, used, add_block, _nothing_compared(priors.shape[0], blocks * size))
    return known._replace(
        best_prior=known.best_prior[:total], best_prior_overlap=known.best_prior_overlap[:total]
    )


def _nothing_compared(priors: int, boxes: int) -> _Comparison:
    return _Comparison(
        overlap=jnp.full(priors, -1.0),
        match=jnp.zeros(priors, jnp.int32),
        forced_rank=jnp.full(priors, -jnp.inf),
        forced_match=jnp.full(priors, -1, jnp.int32),
        ignore_overlap=jnp.full(priors, -1.0),
        best_prior=jnp.zeros(boxes, jnp.int32),
        best_prior_overlap=jnp.full(boxes, -1.0),
    )


def _compare(
    boxes: Float[Array, "m 4"],
    labels: Int[Array, " m"],
    priors: Float[Array, "A 4"],
    conflict_resolution: str,
    first: Int[Array, ""],
) -> _Comparison:
    """The comparison of boxes number `first`, `first` + 1, … with all priors."""
    all_overlap = box_ops.iou(boxes, priors)  # [m, A]
    overlap = jnp.where((labels > 0)[:, None], all_overlap, -1.0)  # [m, A]
    inside = box_ops.intersection(boxes, priors) / box_ops.area(priors)[None, :]  # [m, A]
    ignore_overlap = jnp.where((labels == CROWD_LABEL)[:, None], inside, all_overlap)
    ignore_overlap = jnp.where((labels < 0)[:, None], ignore_overlap, -1.0)  # [m, A]
    best_prior = overlap.argmax(1).astype(jnp.int32)  # [m]
    rank = _force_best_prior(overlap, best_prior, conflict_resolution, first)  # [m, A]
    forced_rank = rank.max(0)  # [A]
    return _Comparison(
        overlap=overlap.max(0),
        match=first + overlap.argmax(0).astype(jnp.int32),
        forced_rank=forced_rank,
        forced_match=jnp.where(
            forced_rank > -jnp.inf, first + rank.argmax(0).astype(jnp.int32), -1
        ),
        ignore_overlap=ignore_overlap.max(0),
        best_prior=best_prior,
        best_prior_overlap=overlap.max(1),
    )


def _force_best_prior(
    overlap: Float[Array, "m A"],
    best_prior: Int[Array, " m"],
    conflict_resolution: str,
    first: Int[Array, ""],
) -> Float[Array, "m A"]:
    """The rank of each box at its best prior, -inf elsewhere: the highest rank gets the prior.

    Where a prior is the best one of several boxes, the box with the highest IoU gets it ("best"),
    or the "first" (TensorFlow's API) or "last" one (torchvision, most ports) in their order.
    """
    forced = best_prior[:, None] == jnp.arange(overlap.shape[1], dtype=best_prior.dtype)[None, :]
    forced &= overlap > _MIN_OVERLAP  # [m, A]
    order = (first + jnp.arange(overlap.shape[0], dtype=jnp.int32)).astype(overlap.dtype)[:, None]
    rank = {"best": overlap, "first": -order, "last": order}[conflict_resolution]
    return jnp.where(forced, rank, -jnp.inf)


class _BipartiteState(NamedTuple):
    prior: Int[Array, " M"]  # best prior of each box, as last looked up
    overlap: Float[Array, " M"]  # its IoU; -1 once the box is matched
    match: Int[Array, " A"]  # box of each prior, -1 for none


def _force_bipartite(
    boxes: Float[Array, "M 4"],
    priors: Float[Array, "A 4"],
    best: _Comparison,
) -> Int[Array, " A"]:
    """Caffe's greedy bipartite matching: the pair of highest IoU first, each side used once.

    A box's best prior is looked up again only when the box is next and its prior is taken: the
    IoU that was looked up is an upper bound, so the order of assignments is the greedy one. The
    loop takes one trip for each box and one for each prior that was taken; a trip compares one box
    with all priors. Ties: lowest prior, then lowest box.
    """
    size = priors.shape[0]

    def assign(state: _BipartiteState) -> _BipartiteState:
        is_next = state.overlap == state.overlap.max()
        gt = jnp.where(is_next, state.prior, size).argmin()
        free = state.match < 0  # [A]
        assigned = free[state.prior[gt]]
        row = jnp.where(free, box_ops.iou(boxes[gt][None], priors)[0], -1.0)  # [A]
        return _BipartiteState(
            prior=state.prior.at[gt].set(row.argmax().astype(jnp.int32)),
            overlap=state.overlap.at[gt].set(jnp.where(assigned, -1.0, row.max())),
            match=state.match.at[state.prior[gt]].set(
                jnp.where(assigned, gt.astype(jnp.int32), state.match[state.prior[gt]])
            ),
        )

    start = _BipartiteState(best.best_prior, best.best_prior_overlap, jnp.full(size, -1, jnp.int32))
    return lax.while_loop(lambda state: state.overlap.max() > _MIN_OVERLAP, assign, start).match
