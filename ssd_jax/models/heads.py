"""The convolutions that predict, at every prior, class logits and box offsets."""

import functools

import flax.linen as nn
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Float32

from ssd_jax.errors import ConfigError
from ssd_jax.models.conv import Conv


class Heads(nn.Module):
    """Feature maps [B, h, w, N], fine to coarse -> logits [B, A, C] and offsets [B, A, 4].

    Priors are in the order level, row, column, prior of the cell, as in `priors.py`. Level i has
    one convolution `classification_i` of `priors_per_cell[i] * C` channels, class last, and one
    `localization_i` of `priors_per_cell[i] * 4`. Outputs are float32 whatever `dtype`.
    """

    priors_per_cell: tuple[int, ...]
    num_classes: int
    kernel: int = 3
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self, maps: tuple[Float[Array, "B _ _ _"], ...]
    ) -> tuple[Float32[Array, "B A {self.num_classes}"], Float32[Array, "B A 4"]]:
        if len(maps) != len(self.priors_per_cell):
            raise ConfigError(
                f"the backbone yields {len(maps)} feature maps, but priors are set for "
                f"{len(self.priors_per_cell)} levels: give the priors one level per map"
            )
        # As in VGG: Caffe's "xavier", variance 1 / fan_in.
        conv = functools.partial(
            Conv,
            kernel_size=(self.kernel, self.kernel),
            dtype=self.dtype,
            kernel_init=nn.initializers.lecun_uniform(),
        )

        def predict(name, size):
            outputs = []
            for i, (x, priors) in enumerate(zip(maps, self.priors_per_cell)):
                y = conv(priors * size, name=f"{name}_{i}")(x)  # [B, h, w, priors * size]
                outputs.append(y.reshape(y.shape[0], -1, size).astype(jnp.float32))
            return jnp.concatenate(outputs, axis=1)

        return predict("classification", self.num_classes), predict("localization", 4)
