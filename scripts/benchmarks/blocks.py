"""Parts of the compiled step against the usual way of writing them, in JAX on a CPU."""

from collections.abc import Callable, Iterator
from functools import partial

import jax
import numpy as np
from jax import lax
from jax import numpy as jnp

from configs import ssd300_vgg16_voc
from scripts.benchmarks import subject, timing
from scripts.benchmarks.report import Row, comparison_row
from ssd_jax.detector import build_detector
from ssd_jax.models.platforms import depthwise
from ssd_jax.models.platforms.convolution import convolve
from ssd_jax.multibox import boxes as box_ops
from ssd_jax.multibox import losses, matching
from ssd_jax.types import Targets

_ROWS = 16
_MIN_SECONDS = 0.2  # of one measurement


def all_blocks(rounds: int, quick: bool) -> Iterator[Row]:
    """Hard negatives, matching, depthwise and usual convolution."""
    yield hard_negatives(rounds)
    yield from bipartite_matching(rounds)
    shapes = ((150, 64, 2), (75, 128, 1), (19, 512, 1))
    for side, channels, stride in shapes[-1:] if quick else shapes:
        yield depthwise_layer(side, channels, stride, rounds)
    layers = ((150, 128, 3), (75, 256, 3), (38, 512, 3), (38, 256, 1), (19, 512, 1), (10, 1024, 1))
    for side, channels, kernel in layers[-1:] if quick else layers:
        yield filter_gradient(side, channels, kernel, rounds)


def hard_negatives(rounds: int) -> Row:
    """Hard negatives by bisection against two sorts."""
    rng = np.random.default_rng(0)
    scores = rng.gamma(1.0, 1.0, (_ROWS, 8732)).astype(np.float32)
    eligible = rng.random(scores.shape) > 0.01
    count = rng.integers(20, 100, _ROWS).astype(np.int32)

    def by_sorting(scores, eligible, count):
        order = jnp.argsort(-jnp.where(eligible, scores, -jnp.inf))
        return jnp.argsort(order) < count

    return _compare_vmapped(
        f"hard negative mining, batch {_ROWS}, 8732 priors, against argsort of argsort",
        losses.hard_negatives, by_sorting, (scores, eligible, count), 10, rounds,
    )  # fmt: skip


def bipartite_matching(rounds: int) -> Iterator[Row]:
    """The loop that ends after the real boxes, against one step for each padded box."""
    config = subject.without_jitter(ssd300_vgg16_voc.get_config(), _ROWS)
    priors = jnp.asarray(build_detector(config, 21).priors.boxes)
    for padded_to in (16, 56):
        batch = subject.synthetic_batch(config, 21, padded_to)
        yield _compare_vmapped(
            f"bipartite matching, batch {_ROWS}, {subject.BOXES_PER_IMAGE} boxes padded to "
            f"{padded_to}, against a loop over the padding",
            partial(matching.match, priors=priors, matcher="bipartite"),
            partial(_match_padded, priors=priors), (batch["boxes"], batch["labels"]), None, rounds,
        )  # fmt: skip


def depthwise_layer(side: int, channels: int, stride: int, rounds: int) -> Row:
    """Gradients of a 3 x 3 layer: a sum over taps against XLA's grouped convolution."""
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
        gradients(depthwise.depthwise_by_taps), gradients(depthwise.depthwise_by_groups),
        (x, kernel), None, rounds,
    )  # fmt: skip


def filter_gradient(side: int, channels: int, size: int, rounds: int) -> Row:
    """Gradient of the filter of a dense layer: matrix products against XLA's own."""
    rng = np.random.default_rng(0)
    x, weight = (rng.normal(size=(2, side, side, channels)).astype(np.float32) for _ in range(2))
    kernel = np.zeros((size, size, channels, channels), np.float32)
    pads = ((size // 2, size // 2),) * 2

    def by_products(kernel, x, weight):
        return jnp.sum(convolve(x, kernel, (1, 1), pads, (1, 1)) * weight)

    def by_lax(kernel, x, weight):
        numbers = ("NHWC", "HWIO", "NHWC")
        y = lax.conv_general_dilated(x, kernel, (1, 1), pads, dimension_numbers=numbers)
        return jnp.sum(y * weight)

    return _compare(
        f"gradient of a {size} x {size} filter, {side} x {side} x {channels}, batch 2, against lax",
        jax.jit(jax.grad(by_products)), jax.jit(jax.grad(by_lax)), (kernel, x, weight), None,
        rounds,
    )  # fmt: skip


def _compare_vmapped(
    what: str, ours: Callable, baseline: Callable, arguments, goal, rounds: int
) -> Row:
    """The row of two functions of one image, mapped over the batch and compiled."""
    ours, baseline = jax.jit(jax.vmap(ours)), jax.jit(jax.vmap(baseline))
    return _compare(what, ours, baseline, arguments, goal, rounds)


def _compare(what: str, ours: Callable, baseline: Callable, arguments, goal, rounds: int) -> Row:
    """The row of two compiled functions. Raises ValueError where their results differ."""
    arguments = jax.device_put(arguments)
    for left, right in zip(*(jax.tree.leaves(each(*arguments)) for each in (ours, baseline))):
        scale = max(float(jnp.abs(right).max()), 1.0)
        if float(jnp.abs(left.astype(float) - right.astype(float)).max()) > 1e-4 * scale:
            raise ValueError(f"{what}: the results differ")
    calls = [partial(_call_and_wait, function, arguments) for function in (ours, baseline)]
    return comparison_row(what, timing.alternate(*calls, rounds, _MIN_SECONDS), goal)


def _call_and_wait(function: Callable, arguments):
    return jax.block_until_ready(function(*arguments))


def _match_padded(boxes, labels, priors) -> Targets:
    """Caffe's bipartite matching as usually written: a pass over the matrix for each padded box."""
    overlap = jnp.where((labels > 0)[:, None], box_ops.iou(boxes, priors), -1.0)  # [M, A]
    size = overlap.shape[1]

    def assign(_, state):
        remaining, matched_box = state
        box, prior = jnp.divmod(remaining.argmax(), size)
        overlaps = remaining[box, prior] > 1e-6
        matched = matched_box.at[prior].set(box.astype(jnp.int32))
        rest = remaining.at[box].set(-1.0).at[:, prior].set(-1.0)
        return jnp.where(overlaps, rest, remaining), jnp.where(overlaps, matched, matched_box)

    start = (overlap, jnp.full(size, -1, jnp.int32))
    _, matched_box = lax.fori_loop(0, len(boxes), assign, start)
    box = jnp.where(matched_box >= 0, matched_box, overlap.argmax(0))
    positive = (matched_box >= 0) | (overlap.max(0) >= 0.5)
    offsets = box_ops.encode(boxes[box], priors)
    return Targets(jnp.where(positive, labels[box], 0), jnp.where(positive[:, None], offsets, 0.0))
