"""Convolution; on CPUs with filter gradients as matrix products, and 1 x 1 as a matrix product.

XLA:CPU computes the gradient of a filter over a large map several times slower than matrix products
do; for small maps, and with strides or dilation, it is the faster one. For a 1 x 1 filter products
are faster throughout (`python -m scripts.benchmark --only=blocks`).
"""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

_DIMENSION_NUMBERS = ("NHWC", "HWIO", "NHWC")
Pads = tuple[tuple[int, int], tuple[int, int]]
Pair = tuple[int, int]
_STRIP_BYTES = 2_000_000  # of a strip's copies; at or near the best for VGG16's layers
_LARGE = 24  # rows of a map; XLA's own form is faster at 19, products at 24


@partial(jax.custom_vjp, nondiff_argnums=(2, 3, 4))
def convolve(
    x: Float[Array, "B H W N"], kernel: Float[Array, "R S N O"], strides: Pair, pads: Pads,
    dilation: Pair,
) -> Float[Array, "B h w O"]:  # fmt: skip
    """2-D convolution, zero-padded."""
    convolution = partial(_by_lax, strides=strides, pads=pads, dilation=dilation)
    if _is_product(kernel.shape[:2], strides, pads):
        convolution = _on_cpu(_product, convolution)
    return convolution(x, kernel)


def filter_gradient(
    x: Float[Array, "B H W N"], gradient: Float[Array, "B h w O"], size: Pair, pads: Pads
) -> Float[Array, "R S N O"]:
    """Gradient of the kernel, without strides or dilation, as matrix products.

    Sums over all pixels of x[y + row, column' + column] * gradient[y, column']. Per strip of rows,
    one product of the image, once for each column of the kernel, with the gradient, once for each
    of its rows: this copies 2 * S numbers a pixel, where patches would copy R * S.
    """
    (batch, height, width, outputs), channels = gradient.shape, x.shape[-1]
    halo = size[0] - 1
    inner, outer = size[1] * channels, size[0] * outputs
    strip = _strip_rows(height + halo, width, inner, outer)
    count = -(-(height + halo) // strip)
    reach = count * strip  # rows of the image, zeros after its own
    x = jnp.pad(x, ((0, 0), *pads, (0, 0)))
    x = jnp.pad(x, ((0, 0), (0, max(reach - x.shape[1], 0)), (0, 0), (0, 0)))
    gradient = jnp.pad(gradient, ((0, 0), (halo, reach - height), (0, 0), (0, 0)))

    def add_strip(number, total):
        image, row = number // count, number % count * strip
        below = lax.dynamic_slice(x, (image, row, 0, 0), (1, strip, *x.shape[2:]))[0]
        above = lax.dynamic_slice(
            gradient, (image, row, 0, 0), (1, strip + halo, *gradient.shape[2:])
        )[0]
        left = [below[:, column : column + width] for column in range(size[1])]
        right = [above[halo - shift : halo - shift + strip] for shift in range(size[0])]
        left = jnp.concatenate(left, axis=-1).reshape(strip * width, inner)
        right = jnp.concatenate(right, axis=-1).reshape(strip * width, outer)
        return total + (left.T @ right).astype(jnp.float32)

    total = lax.fori_loop(0, batch * count, add_strip, jnp.zeros((inner, outer), jnp.float32))
    total = total.reshape(size[1], channels, size[0], outputs).transpose(2, 0, 1, 3)
    return total.astype(x.dtype)


def _sum_of_products(x, gradient) -> Float[Array, "1 1 N O"]:
    """Image by image: a loop makes XLA write its operands down in the order that products want,
    where it would compute them a second time, column by column."""
    channels, outputs = x.shape[-1], gradient.shape[-1]

    def add_image(total, pair):
        image, image_gradient = pair
        product = image.reshape(-1, channels).T @ image_gradient.reshape(-1, outputs)
        return total + product.astype(jnp.float32), None

    start = jnp.zeros((channels, outputs), jnp.float32)
    return lax.scan(add_image, start, (x, gradient))[0][None, None].astype(x.dtype)


def _strip_rows(height: int, width: int, inner: int, outer: int) -> int:
    """Rows of a strip whose copies stay in a core's cache, or are half of the sum they add to."""
    room = max(_STRIP_BYTES, 4 * inner * outer // 2)
    return min(max(room // (4 * width * (inner + outer)), 1), height)


def _forward(x, kernel, strides, pads, dilation):
    return convolve(x, kernel, strides, pads, dilation), (x, kernel)


def _backward(strides, pads, dilation, saved, gradient):
    x, kernel = saved
    convolution = partial(_by_lax, strides=strides, pads=pads, dilation=dilation)
    size = kernel.shape[:2]

    def input_by_lax(kernel, gradient):
        return jax.linear_transpose(lambda x: convolution(x, kernel), x)(gradient)[0]

    def filter_by_lax(x, gradient):
        return jax.linear_transpose(lambda kernel: convolution(x, kernel), kernel)(gradient)[0]

    def input_by_product(kernel, gradient):
        return _product(gradient, kernel.swapaxes(2, 3))

    to_input, to_filter = input_by_lax, filter_by_lax
    if _is_product(size, strides, pads):
        to_input = _on_cpu(input_by_product, input_by_lax)
        to_filter = _on_cpu(_sum_of_products, filter_by_lax)
    elif (strides, dilation) == ((1, 1), (1, 1)) and min(gradient.shape[1:3]) >= _LARGE:
        to_filter = _on_cpu(partial(filter_gradient, size=size, pads=pads), filter_by_lax)
    return to_input(kernel, gradient), to_filter(x, gradient)


def _on_cpu(own: Callable, default: Callable) -> Callable:
    """`own` in a program for CPUs, `default` in others."""
    return partial(lax.platform_dependent, cpu=own, default=default)


def _is_product(size: Pair, strides: Pair, pads: Pads) -> bool:
    return size == (1, 1) and strides == (1, 1) and not any(map(any, pads))


def _product(x, kernel):
    return lax.dot_general(x, kernel[0, 0], (((3,), (0,)), ((), ())))


convolve.defvjp(_forward, _backward)


def _by_lax(x, kernel, strides, pads, dilation):
    return lax.conv_general_dilated(
        x, kernel, strides, pads, rhs_dilation=dilation, dimension_numbers=_DIMENSION_NUMBERS
    )


def conv_general_dilated(
    x, kernel, strides, padding, *, lhs_dilation, rhs_dilation, dimension_numbers,
    feature_group_count, precision,
):  # fmt: skip
    """`convolve` with the arguments with which Flax calls `lax.conv_general_dilated`."""
    if set(lhs_dilation) != {1} or feature_group_count != 1 or precision is not None:
        raise NotImplementedError("Conv has no input dilation, groups or precision: use nn.Conv")
    if isinstance(padding, str):
        reach = [(side - 1) * step + 1 for side, step in zip(kernel.shape[:2], rhs_dilation)]
        padding = lax.padtype_to_pads(x.shape[1:3], reach, strides, padding)
    pads = tuple((int(low), int(high)) for low, high in padding)
    return convolve(x, kernel, tuple(strides), pads, tuple(rhs_dilation))
