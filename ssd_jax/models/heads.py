"""The convolutions that predict, at every prior, class logits and box offsets."""

from collections.abc import Sequence

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Float32

from ssd_jax.errors import ConfigError
from ssd_jax.models.layers import Conv, ConvNormActivation, ConvParameters
from ssd_jax.models.platforms.convolution import convolve


class Heads(nn.Module):
    """Feature maps [B, h, w, N], fine to coarse -> logits [B, A, C] and offsets [B, A, 4].

    Priors are in the order level, row, column, prior of the location, as in `multibox/priors.py`.
    Level i has one convolution `classification_i` of `priors_per_location[i] * C` channels, class
    last, and one `localization_i` of `priors_per_location[i] * 4`. With the style "lite"
    (SSDLite, arXiv:1801.04381 section 6.2) they are 1 x 1 after a depthwise convolution, batch
    norm and ReLU6 as in torchvision. Outputs are float32 whatever `dtype`.
    """

    priors_per_location: tuple[int, ...]
    num_classes: int
    kernel: int = 3
    style: str = "conv"
    norm_momentum: float = 0.97
    dtype: DTypeLike = jnp.float32
    axis_name: str | None = None

    @nn.compact
    def __call__(
        self, maps: tuple[Float[Array, "B _ _ _"], ...], train: bool = False
    ) -> tuple[Float32[Array, "B A {self.num_classes}"], Float32[Array, "B A 4"]]:
        if len(maps) != len(self.priors_per_location):
            raise ConfigError(
                f"the backbone yields {len(maps)} feature maps, but priors are set for "
                f"{len(self.priors_per_location)} levels: give the priors one level per map"
            )
        predict = self._predict_lite if self.style == "lite" else self._predict
        logits, offsets = predict(maps, train)
        return logits.astype(jnp.float32), offsets.astype(jnp.float32)

    def _predict(
        self, maps: tuple[Float[Array, "B _ _ _"], ...], train: bool
    ) -> tuple[Float[Array, "B A C"], Float[Array, "B A 4"]]:
        """Both by one convolution a level, of `priors` * (C + 4) channels.

        A TPU computes multiples of 128 channels, and the offsets alone have few.
        """
        # As in VGG: Caffe's "xavier", variance 1 / fan_in.
        init = nn.initializers.lecun_uniform()
        size, levels = (self.kernel, self.kernel), []
        for i, (x, priors) in enumerate(zip(maps, self.priors_per_location)):
            filters = [
                ConvParameters((*size, x.shape[-1], priors * columns), init, name=f"{name}_{i}")()
                for name, columns in self._columns()
            ]
            kernel, bias = (_join(arrays, priors).astype(self.dtype) for arrays in zip(*filters))
            pads = tuple(lax.padtype_to_pads(x.shape[1:3], size, (1, 1), "SAME"))
            y = convolve(x.astype(self.dtype), kernel, (1, 1), pads, (1, 1))
            y += bias[None, None, None]
            levels.append(y.reshape(y.shape[0], -1, self.num_classes + 4))
        outputs = jnp.concatenate(levels, axis=1)  # [B, A, C + 4]
        return outputs[..., : self.num_classes], outputs[..., self.num_classes :]

    def _predict_lite(
        self, maps: tuple[Float[Array, "B _ _ _"], ...], train: bool
    ) -> tuple[Float[Array, "B A C"], Float[Array, "B A 4"]]:
        """Each by a depthwise and a 1 x 1 convolution a level."""
        init = nn.initializers.normal(0.03)
        layer = ConvNormActivation(
            train, self.dtype, self.axis_name, self.norm_momentum, norm_epsilon=1e-3,
            kernel_init=init,
        )  # fmt: skip
        pads = ((self.kernel // 2, self.kernel // 2),) * 2
        outputs = []
        for name, columns in self._columns():
            levels = []
            for i, (x, priors) in enumerate(zip(maps, self.priors_per_location)):
                depthwise = f"{name}_{i}_depthwise"
                x = layer.depthwise(x, self.kernel, 1, pads, name=depthwise, activation=nn.relu6)
                conv = Conv(
                    priors * columns, (1, 1), dtype=self.dtype, kernel_init=init,
                    name=f"{name}_{i}",
                )  # fmt: skip
                y = conv(x)
                levels.append(y.reshape(y.shape[0], -1, columns))
            outputs.append(jnp.concatenate(levels, axis=1))
        return tuple(outputs)

    def _columns(self) -> tuple[tuple[str, int], ...]:
        """Name and columns, for each prior, of the two outputs."""
        return ("classification", self.num_classes), ("localization", 4)


def _join(arrays: Sequence[Array | np.ndarray], priors: int) -> Array:
    """Arrays [..., priors * columns] -> one that has all columns of each prior in turn."""
    by_prior = [array.reshape(*array.shape[:-1], priors, -1) for array in arrays]
    joint = jnp.concatenate(by_prior, axis=-1)
    return joint.reshape(*joint.shape[:-2], -1)
