"""MobileNetV1's first layers; on TPUs over blocks of 2 x 2 positions.

The layers have 32 and 64 channels: blocks fill the 128 lanes of a TPU. A depthwise filter becomes a
dense one there.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import flax.linen as nn
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Float32

from ssd_jax.models.batch_norm import Norm, Statistics
from ssd_jax.models.platforms.block_convolution import convolve_blocks
from ssd_jax.models.platforms.convolution import convolve
from ssd_jax.models.platforms.depthwise import depthwise_convolve

STRIDES = (2, 1, 1, 2)  # of Conv2d_0, Conv2d_1_depthwise, Conv2d_1_pointwise, Conv2d_2_depthwise
_BLOCKS = (1, 2, 2, 2, 1)  # side of a block in the images, and in each layer's map

Normalize = Callable[[Array, Norm], tuple[Array, Statistics]]
Maps = tuple[Float[Array, "B h w _"], list[Statistics]]


class ConvNorm(NamedTuple):
    """Parameters of a convolution without bias and of its batch norm; depthwise with I = 1."""

    kernel: Float32[Array, "R S I O"]
    norm: Norm


def first_layers(
    images: Float[Array, "B H W 3"], layers: Sequence[ConvNorm], normalizers: Sequence[Normalize]
) -> Maps:
    """Convolution, norm and ReLU6 of the four layers of `STRIDES`, in the dtype of the images.

    `normalizers` are `batch_norm` with its settings, of each layer. Also returns the statistics of
    each norm.
    """
    if any(-(-side // 2) % 2 for side in images.shape[1:3]):  # the map of Conv2d_0 has no blocks
        return by_positions(images, layers, normalizers)
    return lax.platform_dependent(
        images, list(layers),
        tpu=partial(by_blocks, normalizers=normalizers),
        default=partial(by_positions, normalizers=normalizers),
    )  # fmt: skip


def by_positions(
    images: Float[Array, "B H W 3"], layers: Sequence[ConvNorm], normalizers: Sequence[Normalize]
) -> Maps:
    """The layers, position by position."""
    x, statistics = images, []
    for (kernel, norm), normalize, stride in zip(layers, normalizers, STRIDES):
        kernel, strides = kernel.astype(x.dtype), (stride, stride)
        pads = tuple(lax.padtype_to_pads(x.shape[1:3], kernel.shape[:2], strides, "SAME"))
        if kernel.shape[2] == 1:
            x = depthwise_convolve(x, kernel, stride, pads)
        else:
            x = convolve(x, kernel, strides, pads, (1, 1))
        x = _norm_relu6(x, norm, normalize, statistics)
    return x, statistics


def by_blocks(
    images: Float[Array, "B H W 3"], layers: Sequence[ConvNorm], normalizers: Sequence[Normalize]
) -> Maps:
    """The layers over blocks; the map of the first has even sides."""
    x, statistics = images, []
    for (kernel, norm), normalize, stride, inner, outer in zip(
        layers, normalizers, STRIDES, _BLOCKS, _BLOCKS[1:]
    ):
        if kernel.shape[2] == 1:
            kernel = kernel * jnp.eye(kernel.shape[3])[None, None]
        x = convolve_blocks(x, kernel, stride, (inner, inner), (outer, outer))
        x = _norm_relu6(x, norm, normalize, statistics)
    return x, statistics


def _norm_relu6(x, norm, normalize, statistics):
    dtype = x.dtype
    x, used = normalize(x, norm)
    statistics.append(used)
    return nn.relu6(x).astype(dtype)
