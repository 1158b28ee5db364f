"""Parts of the compiled step against the plain way of writing them, in JAX on a CPU."""

from collections.abc import Callable, Iterator
from functools import partial

import jax
import numpy as np
from jax import lax
from jax import numpy as jnp

from configs import ssd300_vgg16_voc
from scripts.benchmarks import ours, timing
from scripts.benchmarks.report import Row, compared
from ssd_jax import boxes as box_ops
from ssd_jax import losses, matching, step
from ssd_jax.models import depthwise

_ROWS = 16
_AT_LEAST = 0.2  # seconds of one measurement


def all_of_them(rounds: int, quick: bool) -> Iterator[Row]:
    """Mining, matching, depthwise convolution."""
    yield mining(rounds)
    yield from matchers(rounds)
    shapes = ((150, 64, 2), (75, 128, 1), (19, 512, 1))
    for side, channels, stride in shapes[-1:] if quick else shapes:
        yield depthwise_layer(side, channels, stride, rounds)


def mining(rounds: int) -> Row:
    """Hard negatives by bisection against two sorts."""
    rng = np.random.default_rng(0)
    scores = rng.gamma(1.0, 1.0, (_ROWS, 8732)).astype(np.float32)
    eligible = rng.random(scores.shape) > 0.01
    count = rng.integers(20, 100, _ROWS).astype(np.int32)

    def by_sorting(scores, eligible, count):
        order = jnp.argsort(-jnp.where(eligible, scores, -jnp.inf))
        return jnp.argsort(order) < count

    return _same(
        f"hard negative mining, batch {_ROWS}, 8732 priors, against argsort of argsort",
        losses.hard_negatives, by_sorting, (scores, eligible, count), 10, rounds,
    )  # fmt: skip


def matchers(rounds: int) -> Iterator[Row]:
    """The assignment that ends with the truths that are there, against one step a padded truth."""
    config = ours.undistorted(ssd300_vgg16_voc.get_config(), _ROWS)
    priors = jnp.asarray(step.build(config, 21).priors.boxes)
    for padded_to in (16, 56):
        batch = ours.batch(config, 21, padded_to)
        yield _same(
            f"bipartite matching, batch {_ROWS}, {ours.TRUTHS} truths padded to {padded_to}, "
            "against a loop over the padding",
            partial(matching.match, priors=priors, matcher="bipartite"),
            partial(_match_padded, priors=priors), (batch["boxes"], batch["labels"]), None, rounds,
        )  # fmt: skip


def depthwise_layer(side: int, channels: int, stride: int, rounds: int) -> Row:
    """Output and gradients of a 3 x 3 layer: shifted sums against XLA's grouped convolution."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(4, side, side, channels)).astype(np.float32)
    kernel = rng.normal(size=(3, 3, 1, channels)).astype(np.float32)
    pads = tuple(lax.padtype_to_pads((side, side), (3, 3), (stride, stride), "SAME"))

    def gradients(convolution):
        def total(x, kernel):
            return jnp.sum(jnp.square(convolution(x, kernel, stride, pads)))

        return jax.jit(jax.grad(total, (0, 1)))

    return _compare(
        f"depthwise layer {side} x {side} x {channels}, stride {stride}, batch 4, with gradients, "
        "against lax",
        gradients(depthwise.shifted), gradients(depthwise.grouped), (x, kernel), None, rounds,
    )  # fmt: skip


def _same(what: str, mine: Callable, other: Callable, arguments, goal, rounds) -> Row:
    """Two functions of one image each, mapped over the batch and compiled."""
    mine, other = jax.jit(jax.vmap(mine)), jax.jit(jax.vmap(other))
    return _compare(what, mine, other, arguments, goal, rounds)


def _compare(what: str, mine: Callable, other: Callable, arguments, goal, rounds) -> Row:
    """Raises ValueError where the results differ."""
    arguments = jax.device_put(arguments)
    for left, right in zip(*(jax.tree.leaves(each(*arguments)) for each in (mine, other))):
        scale = max(float(jnp.abs(right).max()), 1.0)
        if float(jnp.abs(left.astype(float) - right.astype(float)).max()) > 1e-4 * scale:
            raise ValueError(f"{what}: the results differ")
    calls = [partial(_finished, function, arguments) for function in (mine, other)]
    return compared(what, timing.alternate(*calls, rounds, _AT_LEAST), goal)


def _finished(function: Callable, arguments):
    return jax.block_until_ready(function(*arguments))


def _match_padded(boxes, labels, priors) -> matching.Targets:
    """Caffe's bipartite matching as it is usually written: every row, the whole matrix each."""
    overlap = jnp.where((labels > 0)[:, None], box_ops.iou(boxes, priors), -1.0)  # [M, A]
    size = overlap.shape[1]

    def assign(_, state):
        left, claimant = state
        truth, prior = jnp.divmod(left.argmax(), size)
        good = left[truth, prior] > 1e-6
        claimed = claimant.at[prior].set(truth.astype(jnp.int32))
        rest = left.at[truth].set(-1.0).at[:, prior].set(-1.0)
        return jnp.where(good, rest, left), jnp.where(good, claimed, claimant)

    start = (overlap, jnp.full(size, -1, jnp.int32))
    _, claimant = lax.fori_loop(0, len(boxes), assign, start)
    chosen = jnp.where(claimant >= 0, claimant, overlap.argmax(0))
    positive = (claimant >= 0) | (overlap.max(0) >= 0.5)
    offsets = box_ops.encode(boxes[chosen], priors)
    return matching.Targets(
        jnp.where(positive, labels[chosen], 0), jnp.where(positive[:, None], offsets, 0.0)
    )
