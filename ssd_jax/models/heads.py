"""The convolutions that predict, at every prior, class logits and box offsets."""

import flax.linen as nn
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Float32

from ssd_jax.errors import ConfigError
from ssd_jax.models.layers import Conv, ConvNormActivation


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
        lite = self.style == "lite"
        # As in VGG: Caffe's "xavier", variance 1 / fan_in.
        init = nn.initializers.normal(0.03) if lite else nn.initializers.lecun_uniform()
        kernel = (1, 1) if lite else (self.kernel, self.kernel)

        layer = ConvNormActivation(
            train, self.dtype, self.axis_name, self.norm_momentum, norm_epsilon=1e-3,
            kernel_init=init,
        )  # fmt: skip
        pads = ((self.kernel // 2, self.kernel // 2),) * 2

        def predict(name, size):
            outputs = []
            for i, (x, priors) in enumerate(zip(maps, self.priors_per_location)):
                if lite:
                    depthwise = f"{name}_{i}_depthwise"
                    x = layer.depthwise(
                        x, self.kernel, 1, pads, name=depthwise, activation=nn.relu6
                    )
                conv = Conv(priors * size, kernel, dtype=self.dtype, kernel_init=init,
                            name=f"{name}_{i}")  # fmt: skip
                y = conv(x)  # [B, h, w, priors * size]
                outputs.append(y.reshape(y.shape[0], -1, size))
            return jnp.concatenate(outputs, axis=1).astype(jnp.float32)

        return predict("classification", self.num_classes), predict("localization", 4)
