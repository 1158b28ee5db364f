"""VGG's first stage; on TPUs over pairs of columns.

A TPU computes 128 channels at a time, and the first stage has 64. Two neighboring columns as one
position of 128 channels fill them: half of the positions, and each costs the same.
"""

import flax.linen as nn
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from ssd_jax.models.layers import Filters
from ssd_jax.models.platforms.block_convolution import convolve_blocks
from ssd_jax.models.platforms.convolution import convolve
from ssd_jax.models.platforms.pooling import max_pool_2x2, maximum


def first_stage(
    images: Float[Array, "B H W 3"], first: Filters, second: Filters
) -> Float[Array, "B h w N"]:
    """Two 3 x 3 convolutions with ReLU, and a 2 x 2 max pooling, in the dtype of the images.

    The pooling comes before the second bias and ReLU: the same values, and a quarter to compute.
    """
    if images.shape[2] % 2:
        return by_columns(images, first, second)
    return lax.platform_dependent(images, first, second, tpu=by_column_pairs, default=by_columns)


def by_columns(
    images: Float[Array, "B H W 3"], first: Filters, second: Filters
) -> Float[Array, "B h w N"]:
    """The stage, column by column."""
    x = _bias_relu(_convolve(images, first.kernel), first.bias)
    return _bias_relu(max_pool_2x2(_convolve(x, second.kernel)), second.bias)


def by_column_pairs(
    images: Float[Array, "B H W 3"], first: Filters, second: Filters
) -> Float[Array, "B h w N"]:
    """The stage over pairs of columns; W is even."""
    batch, height, width, channels = images.shape
    x = images.reshape(batch, height, width // 2, 2 * channels)  # [B, H, W/2, 6]
    x = _bias_relu(_convolve_pairs(x, first.kernel), jnp.tile(first.bias, 2))
    x = _convolve_pairs(x, second.kernel)  # [B, H, W/2, 2 * N]
    x = nn.max_pool(x, window_shape=(2, 1), strides=(2, 1), padding="SAME")  # [B, h, W/2, 2 * N]
    left, right = jnp.split(x, 2, axis=-1)
    return _bias_relu(maximum(left, right), second.bias)


def _convolve(x: Float[Array, "B H W I"], kernel: Float[Array, "3 3 I O"]) -> Array:
    return convolve(x, kernel.astype(x.dtype), (1, 1), ((1, 1), (1, 1)), (1, 1))


def _convolve_pairs(x: Float[Array, "B H w _"], kernel: Float[Array, "3 3 I O"]) -> Array:
    return convolve_blocks(x, kernel, 1, inner=(1, 2), outer=(1, 2))


def _bias_relu(x: Float[Array, "B H W N"], bias: Float[Array, " N"]) -> Float[Array, "B H W N"]:
    return nn.relu(x + bias.astype(x.dtype)[None, None, None])
