"""Depthwise convolution; on CPUs as a sum over the taps of the kernel.

XLA:CPU runs a grouped convolution, and its gradients most of all, many times slower than the same
sum written as one multiply-add for each tap.
"""

from collections.abc import Iterator
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

Pads = tuple[tuple[int, int], tuple[int, int]]


@partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def depthwise_by_taps(
    x: Float[Array, "B H W N"], kernel: Float[Array, "K K 1 N"], stride: int, pads: Pads
) -> Float[Array, "B h w N"]:
    """Depthwise convolution as a sum over the K * K taps: each a strided slice times its weight.

    Sums in float32, as accelerators do, and returns the dtype of `x`.
    """
    total: Any = 0.0
    for (i, j), tap in _taps(jnp.pad(x, ((0, 0), *pads, (0, 0))), kernel.shape[0], stride):
        weight = kernel[i, j][None, None]  # [1, 1, 1, N]
        total += tap.astype(jnp.float32) * weight.astype(jnp.float32)
    return total.astype(x.dtype)


def _taps(padded: Float[Array, "B H W N"], size: int, stride: int) -> Iterator[tuple[tuple, Array]]:
    """(row, column) of each tap of the kernel, and the inputs that it multiplies [B, h, w, N]."""
    batch, height, width, channels = padded.shape
    span_y, span_x = height - size + 1, width - size + 1  # rows and columns that a tap multiplies
    for i in range(size):
        for j in range(size):
            start, stop = (0, i, j, 0), (batch, i + span_y, j + span_x, channels)
            yield (i, j), lax.slice(padded, start, stop, (1, stride, stride, 1))


def _forward(x, kernel, stride, pads):
    return depthwise_by_taps(x, kernel, stride, pads), (x, kernel)


def _backward(stride, pads, saved, gradient):
    x, kernel = saved
    return (
        _input_gradient(gradient, kernel, stride, pads, x.shape),
        _kernel_gradient(x, gradient, kernel.shape[0], stride, pads).astype(kernel.dtype),
    )


def _input_gradient(gradient, kernel, stride, pads, shape):
    """The gradient with zeros between its rows and columns, convolved with the turned kernel."""
    size = kernel.shape[0]
    borders = []
    for side, (low, _), span in zip(shape[1:3], pads, gradient.shape[1:3]):
        before = size - 1 - low
        borders.append((before, side + size - 1 - before - (span - 1) * stride - 1, stride - 1))
    zero = jnp.zeros((), gradient.dtype)
    spread = lax.pad(gradient, zero, ((0, 0, 0), *borders, (0, 0, 0)))
    return depthwise_by_taps(spread, kernel[::-1, ::-1], 1, ((0, 0), (0, 0)))


def _kernel_gradient(x, gradient, size, stride, pads):
    """Image by image, so that an image stays in the cache while its taps run over it."""

    def add_image(total, pair):
        image, image_gradient = (each.astype(jnp.float32)[None] for each in pair)
        taps = _taps(jnp.pad(image, ((0, 0), *pads, (0, 0))), size, stride)
        sums = [(tap * image_gradient).sum((0, 1, 2)) for _, tap in taps]
        return total + jnp.stack(sums).reshape(total.shape), None

    start = jnp.zeros((size, size, 1, x.shape[-1]), jnp.float32)
    return lax.scan(add_image, start, (x, gradient))[0]


depthwise_by_taps.defvjp(_forward, _backward)


def depthwise_by_groups(
    x: Float[Array, "B H W N"], kernel: Float[Array, "K K 1 N"], stride: int, pads: Pads
) -> Float[Array, "B h w N"]:
    """Depthwise convolution as XLA's convolution with one group per channel."""
    return lax.conv_general_dilated(
        x,
        kernel,
        (stride, stride),
        pads,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=x.shape[-1],
    )


def depthwise_convolve(
    x: Float[Array, "B H W N"], kernel: Float[Array, "K K 1 N"], stride: int, pads: Pads
) -> Float[Array, "B h w N"]:
    """Depthwise convolution, zero-padded."""
    return lax.platform_dependent(
        x, kernel,
        cpu=lambda x, kernel: depthwise_by_taps(x, kernel, stride, pads),
        default=lambda x, kernel: depthwise_by_groups(x, kernel, stride, pads),
    )  # fmt: skip
