"""The convolutions that predict, at every prior, class logits and box offsets."""

import flax.linen as nn
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Float32

from ssd_jax.errors import ConfigError
from ssd_jax.models.conv import Conv
from ssd_jax.models.depthwise import DepthwiseConv

STYLES = ("conv", "lite")


class Heads(nn.Module):
    """Feature maps [B, h, w, N], fine to coarse -> logits [B, A, C] and offsets [B, A, 4].

    Priors are in the order level, row, column, prior of the cell, as in `priors.py`. Level i has
    one convolution `classification_i` of `priors_per_cell[i] * C` channels, class last, and one
    `localization_i` of `priors_per_cell[i] * 4`. With the style "lite" (SSDLite, arXiv:1801.04381
    section 6.2) they are 1 x 1 after a depthwise convolution, batch norm and ReLU6 as in
    torchvision. Outputs are float32 whatever `dtype`.
    """

    priors_per_cell: tuple[int, ...]
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
        if len(maps) != len(self.priors_per_cell):
            raise ConfigError(
                f"the backbone yields {len(maps)} feature maps, but priors are set for "
                f"{len(self.priors_per_cell)} levels: give the priors one level per map"
            )
        lite = self.style == "lite"
        # As in VGG: Caffe's "xavier", variance 1 / fan_in.
        init = nn.initializers.normal(0.03) if lite else nn.initializers.lecun_uniform()
        kernel = (1, 1) if lite else (self.kernel, self.kernel)

        def depthwise(x, name):
            pads = ((self.kernel // 2, self.kernel // 2),) * 2
            x = DepthwiseConv(self.kernel, 1, pads, self.dtype, init, name=name)(x)
            norm = nn.BatchNorm(
                momentum=self.norm_momentum,
                epsilon=1e-3,
                dtype=jnp.float32,
                axis_name=self.axis_name,
                name=f"{name}_norm",
            )
            x = norm(x.astype(jnp.float32), use_running_average=not train)
            return nn.relu6(x).astype(self.dtype)

        def predict(name, size):
            outputs = []
            for i, (x, priors) in enumerate(zip(maps, self.priors_per_cell)):
                x = depthwise(x, f"{name}_{i}_depthwise") if lite else x
                conv = Conv(priors * size, kernel, dtype=self.dtype, kernel_init=init,
                            name=f"{name}_{i}")  # fmt: skip
                y = conv(x)  # [B, h, w, priors * size]
                outputs.append(y.reshape(y.shape[0], -1, size).astype(jnp.float32))
            return jnp.concatenate(outputs, axis=1)

        return predict("classification", self.num_classes), predict("localization", 4)
