"""Layers that backbones and heads share."""

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import flax.linen as nn
import jax.numpy as jnp
from jax import lax
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from ssd_jax.models.platforms.convolution import conv_general_dilated
from ssd_jax.models.platforms.depthwise import depthwise_convolve

Pads = tuple[tuple[int, int], tuple[int, int]]

Conv = partial(nn.Conv, conv_general_dilated=conv_general_dilated)


class Filters(NamedTuple):
    """Parameters of a convolution."""

    kernel: Float[Array, "R S I O"]
    bias: Float[Array, " O"]


class ConvParameters(nn.Module):
    """Float32 parameters as `nn.Conv` names and initializes them, for a caller that convolves."""

    shape: tuple[int, int, int, int]  # of the kernel
    kernel_init: Callable

    @nn.compact
    def __call__(self) -> Filters:
        return Filters(
            self.param("kernel", self.kernel_init, self.shape, jnp.float32),
            self.param("bias", nn.initializers.zeros, self.shape[-1:], jnp.float32),
        )


class Kernel(nn.Module):
    """The float32 kernel of a convolution without bias, for a caller that convolves."""

    shape: tuple[int, int, int, int]
    kernel_init: Callable

    @nn.compact
    def __call__(self) -> Float[Array, "R S I O"]:
        return self.param("kernel", self.kernel_init, self.shape, jnp.float32)


class DepthwiseConv(nn.Module):
    """One `size` x `size` filter per channel, without bias: [B, H, W, N] -> [B, h, w, N].

    `padding` is "SAME" (TensorFlow's, the odd pixel at the bottom and the right), "VALID", or
    ((top, bottom), (left, right)). The parameter is `kernel` [size, size, 1, N].
    """

    size: int = 3
    stride: int = 1
    padding: str | Pads = "SAME"
    dtype: DTypeLike = jnp.float32
    kernel_init: Callable = nn.initializers.lecun_normal()

    @nn.compact
    def __call__(self, x: Float[Array, "B H W N"]) -> Float[Array, "B h w N"]:
        shape = (self.size, self.size, 1, x.shape[-1])
        kernel = self.param("kernel", self.kernel_init, shape, jnp.float32)
        pads = self.padding
        if isinstance(pads, str):
            window, strides = (self.size, self.size), (self.stride, self.stride)
            pads = tuple(lax.padtype_to_pads(x.shape[1:3], window, strides, pads))
        return depthwise_convolve(
            x.astype(self.dtype), kernel.astype(self.dtype), self.stride, pads
        )


@dataclasses.dataclass(frozen=True)
class ConvNormActivation:
    """Convolution without bias, batch norm in float32, activation; named as torchvision's.

    Called inside a compact method, with values for the fields that all layers of a network share.
    The parameters belong to the calling module: `NAME/kernel`, and those of `NAME` + `norm_suffix`.
    `axis_name` is the mapped axis over which batch norm averages.
    """

    train: bool
    dtype: DTypeLike
    axis_name: str | None
    norm_momentum: float
    norm_epsilon: float = 1e-5
    norm_suffix: str = "_norm"
    kernel_init: Callable = nn.initializers.lecun_normal()

    def __call__(
        self,
        x: Float[Array, "B H W _"],
        features: int,
        kernel: int,
        stride: int = 1,
        padding: str | int = "SAME",
        *,
        name: str,
        activation: Callable | None = nn.relu,
        kernel_init: Callable | None = None,
    ) -> Float[Array, "B h w N"]:
        """[B, H, W, …] -> [B, h, w, features]."""
        conv = Conv(
            features, (kernel, kernel), stride, padding, use_bias=False, dtype=self.dtype,
            kernel_init=kernel_init or self.kernel_init, name=name,
        )  # fmt: skip
        return self._norm_activation(conv(x), name, activation)

    def depthwise(
        self,
        x: Float[Array, "B H W N"],
        kernel: int,
        stride: int = 1,
        padding: str | Pads = "SAME",
        *,
        name: str,
        activation: Callable | None = nn.relu,
    ) -> Float[Array, "B h w N"]:
        """The same with a depthwise convolution."""
        conv = DepthwiseConv(kernel, stride, padding, self.dtype, self.kernel_init, name=name)
        return self._norm_activation(conv(x), name, activation)

    def _norm_activation(
        self, x: Float[Array, "B H W N"], name: str, activation: Callable | None
    ) -> Float[Array, "B H W N"]:
        norm = nn.BatchNorm(
            momentum=self.norm_momentum, epsilon=self.norm_epsilon, dtype=jnp.float32,
            axis_name=self.axis_name, name=name + self.norm_suffix,
        )  # fmt: skip
        x = norm(x.astype(jnp.float32), use_running_average=not self.train)
        return (activation(x) if activation else x).astype(self.dtype)
