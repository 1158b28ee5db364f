"""2 x 2 max pooling; on TPUs by windows, else as maxima of four slices."""

from functools import partial

import flax.linen as nn
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float


def max_pool_2x2(x: Float[Array, "B H W N"]) -> Float[Array, "B h w N"]:
    """Maxima of 2 x 2 with stride 2, odd sides rounded up (Caffe's ceil mode: 75 -> 38)."""
    return lax.platform_dependent(x, tpu=pool_by_window, default=pool_by_slices)


pool_by_window = partial(nn.max_pool, window_shape=(2, 2), strides=(2, 2), padding="SAME")


def pool_by_slices(x: Float[Array, "B H W N"]) -> Float[Array, "B h w N"]:
    """The same from four slices.

    XLA:CPU computes the gradient of a pooling many times slower; XLA:GPU keeps for it a number in
    float32 and an index for each number of the input.
    """
    odd = ((0, 0), (0, x.shape[1] % 2), (0, x.shape[2] % 2), (0, 0))
    x = jnp.pad(x, odd, constant_values=-jnp.inf)
    rows = maximum(x[:, ::2], x[:, 1::2])
    return maximum(rows[:, :, ::2], rows[:, :, 1::2])


def maximum(a: Float[Array, "B H W N"], b: Float[Array, "B H W N"]) -> Float[Array, "B H W N"]:
    """Maximum whose gradient goes to the first of two equals, as a pooling's does."""
    return jnp.where(a >= b, a, b)
