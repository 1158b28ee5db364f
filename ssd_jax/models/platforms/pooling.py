"""2 x 2 max pooling; on CPUs as maxima of four slices."""

from functools import partial

import flax.linen as nn
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float


def max_pool_2x2(x: Float[Array, "B H W N"]) -> Float[Array, "B h w N"]:
    """Maxima of 2 x 2 with stride 2, odd sides rounded up (Caffe's ceil mode: 75 -> 38)."""
    return lax.platform_dependent(x, cpu=pool_by_slices, default=pool_by_window)


pool_by_window = partial(nn.max_pool, window_shape=(2, 2), strides=(2, 2), padding="SAME")


def pool_by_slices(x: Float[Array, "B H W N"]) -> Float[Array, "B h w N"]:
    """The same from four slices; on a CPU its gradient is many times faster than a pooling's."""
    odd = ((0, 0), (0, x.shape[1] % 2), (0, x.shape[2] % 2), (0, 0))
    x = jnp.pad(x, odd, constant_values=-jnp.inf)
    rows = _maximum(x[:, ::2], x[:, 1::2])
    return _maximum(rows[:, :, ::2], rows[:, :, 1::2])


def _maximum(a: Float[Array, "B H W N"], b: Float[Array, "B H W N"]) -> Float[Array, "B H W N"]:
    """Maximum whose gradient goes to the first of two equals, as a pooling's does."""
    return jnp.where(a >= b, a, b)
