"""Matching: truths + priors -> the target of every prior, for one image; the caller vmaps.

Both matchers of the field: `best_prior` (every truth claims its best prior, as in most ports)
and `bipartite` (Caffe's greedy assignment over the whole image). After either, every prior
whose best IoU reaches the threshold is positive too.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int

from ssd_jax import boxes as box_ops

IGNORED = -1
CROWD = -2
_MIN_OVERLAP = 1e-6  # Caffe ignores smaller overlaps, so that a far truth claims nothing.


class Targets(NamedTuple):
    """What each prior should predict."""

    labels: Int[Array, "*B A"]  # class; 0 background; -1 neither positive nor negative
    offsets: Float[Array, "*B A 4"]


def match(
    boxes: Float[Array, "M 4"],
    labels: Int[Array, " M"],
    priors: Float[Array, "A 4"],
    threshold: float = 0.5,
    matcher: str = "best_prior",
    variances: tuple[float, float, float, float] = box_ops.VARIANCES,
    negative_threshold: float = 1.0,
    contested: str = "best",
    strict: bool = False,
) -> Targets:
    """Targets of one image (paper section 2.2, "Matching strategy").

    `boxes` [M, 4] are padded truths with `labels` [M]: 0 = padding, -1 = ignored (a prior that
    overlaps it by the threshold and is not positive is left out of the loss), -2 = crowd (the same,
    by the share of the prior that lies in it, as COCO's evaluation measures a detection there).
    Left out too is a prior below the threshold that overlaps a truth by `negative_threshold`
    (Caffe's neg_overlap) or more. `strict` asks for more than the threshold (MLPerf), else it is
    enough to reach it. The result does not depend on the padding nor, unless `contested` is "first"
    or "last" (see `_claim_best_prior`), on the order of truths, exact ties of IoU excepted.
    """
    reaches = jnp.greater if strict else jnp.greater_equal
    overlap = box_ops.iou(boxes, priors)  # [M, A]
    truth = jnp.where((labels > 0)[:, None], overlap, -1.0)
    if matcher == "bipartite":
        claimant = _claim_bipartite(truth)  # [A]
    else:
        claimant = _claim_best_prior(truth, contested)
    best_truth, best_overlap = truth.argmax(0), truth.max(0)  # [A]
    chosen = jnp.where(claimant >= 0, claimant, best_truth)
    positive = (claimant >= 0) | reaches(best_overlap, threshold)
    covered = box_ops.intersection(boxes, priors) / box_ops.area(priors)[None, :]  # [M, A]
    unclear = jnp.where((labels == CROWD)[:, None], covered, overlap)
    unclear = jnp.where((labels < 0)[:, None], unclear, -1.0).max(0)
    ignored = reaches(unclear, threshold) | (best_overlap >= negative_threshold)
    return Targets(
        labels=jnp.where(positive, labels[chosen], jnp.where(ignored, IGNORED, 0)),
        offsets=jnp.where(positive[:, None], box_ops.encode(boxes[chosen], priors, variances), 0.0),
    )


def _claim_best_prior(overlap: Float[Array, "M A"], contested: str) -> Int[Array, " A"]:
    """The truth that claims each prior as its best one, -1 where none does.

    Of several claimants of a `contested` prior the one with the highest IoU wins ("best"), or the
    "first" (TensorFlow's API) or "last" one (torchvision, most ports) in the order of the file.
    """
    best = overlap.argmax(1)  # [M]
    claims = best[:, None] == jnp.arange(overlap.shape[1], dtype=best.dtype)[None, :]
    claims &= overlap > _MIN_OVERLAP  # [M, A]
    place = jnp.arange(overlap.shape[0], dtype=overlap.dtype)[:, None]
    rank = {"best": overlap, "first": -place, "last": place}[contested]
    strength = jnp.where(claims, rank, -jnp.inf)
    return jnp.where(claims.any(0), strength.argmax(0), -1)


class _Bipartite(NamedTuple):
    prior: Int[Array, " M"]  # best prior of each truth, as last looked up
    overlap: Float[Array, " M"]  # its IoU; -1 once the truth is matched
    claimant: Int[Array, " A"]


def _claim_bipartite(overlap: Float[Array, "M A"]) -> Int[Array, " A"]:
    """Caffe's greedy bipartite matching: the pair of highest IoU first, each side used once.

    A truth's best prior is looked up again only when it reaches the top and finds that prior
    taken: what it remembers is an upper bound, so the order of assignments is the greedy one.
    The loop ends after the truths that are really there and the lookups that found a prior
    taken; each costs one row. Ties: lowest prior, then lowest truth.
    """
    size = overlap.shape[1]

    def step(state: _Bipartite) -> _Bipartite:
        top = state.overlap == state.overlap.max()
        truth = jnp.where(top, state.prior, size).argmin()
        free = state.claimant < 0  # [A]
        won = free[state.prior[truth]]
        row = jnp.where(free, overlap[truth], -1.0)  # [A]
        return _Bipartite(
            prior=state.prior.at[truth].set(row.argmax()),
            overlap=state.overlap.at[truth].set(jnp.where(won, -1.0, row.max())),
            claimant=state.claimant.at[state.prior[truth]].set(
                jnp.where(won, truth, state.claimant[state.prior[truth]])
            ),
        )

    start = _Bipartite(overlap.argmax(1), overlap.max(1), jnp.full(size, -1, jnp.int32))
    return lax.while_loop(lambda state: state.overlap.max() > _MIN_OVERLAP, step, start).claimant
