"""MobileNetV3-Large with the extra layers of torchvision's `ssdlite320_mobilenet_v3_large`.

Block i is torchvision's `features.i`; its layers are `block{i}_expand`, `_depthwise`, `_squeeze`,
`_excite` and `_project`, each batch norm named after its convolution: `block1_project_norm`.
Sources: Howard et al., arXiv:1905.02244, table 1; pytorch/vision,
`torchvision/models/mobilenetv3.py` and `torchvision/models/detection/ssdlite.py`.
"""

import flax.linen as nn
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from ssd_jax.models.layers import Conv, ConvNormActivation

# Of blocks 1 ... 15: kernel, expanded channels, channels, stride, squeeze-and-excitation.
BLOCKS = (
    (3, 16, 16, 1, False),
    (3, 64, 24, 2, False),
    (3, 72, 24, 1, False),
    (5, 72, 40, 2, True),
    (5, 120, 40, 1, True),
    (5, 120, 40, 1, True),
    (3, 240, 80, 2, False),
    (3, 200, 80, 1, False),
    (3, 184, 80, 1, False),
    (3, 184, 80, 1, False),
    (3, 480, 112, 1, True),
    (3, 672, 112, 1, True),
    (5, 672, 160, 2, True),
    (5, 960, 160, 1, True),
    (5, 960, 160, 1, True),
)
HARD_SWISH = 7  # first block with hard swish; those before it have ReLU
TAP = 13  # the block whose expansion is the finest map, and the first of the tail
EXTRAS = (512, 256, 256, 128)


class Backbone(nn.Module):
    """MobileNetV3-SSDLite: images [B, H, W, 3] -> 6 maps, fine to coarse.

    The expansion of block 13 (672 channels), the last layer (480, or 960 without `reduce_tail`),
    and extra layers of 512, 256, 256, 128: 20, 10, 5, 3, 2, 1 at 320 x 320. `reduce_tail` halves
    the channels after the first map, as for detectors that start from random weights; weights of
    classification want it off.
    """

    reduce_tail: bool = True
    norm_momentum: float = 0.97
    dtype: DTypeLike = jnp.float32
    axis_name: str | None = None

    @nn.compact
    def __call__(
        self, images: Float[Array, "B H W 3"], train: bool
    ) -> tuple[Float[Array, "B _ _ _"], ...]:
        init = nn.initializers.normal(0.03)
        layer = ConvNormActivation(
            train, self.dtype, self.axis_name, self.norm_momentum, norm_epsilon=1e-3,
            kernel_init=init,
        )  # fmt: skip

        def pointwise(x, channels, name, activation):
            return layer(x, channels, 1, name=name, activation=activation)

        def depthwise(x, kernel, stride, name, activation):
            pads = ((kernel // 2, kernel // 2),) * 2
            return layer.depthwise(x, kernel, stride, pads, name=name, activation=activation)

        def squeeze_excite(x, name):
            channels = x.shape[-1]

            def conv(features, part):
                return Conv(
                    features, (1, 1), dtype=self.dtype, kernel_init=init, name=f"{name}_{part}"
                )

            y = x.mean((1, 2), keepdims=True)  # [B, 1, 1, N]
            y = nn.relu(conv(_squeezed_channels(channels), "squeeze")(y))
            return x * nn.hard_sigmoid(conv(channels, "excite")(y))

        x = layer(images, 16, 3, 2, 1, name="stem", activation=nn.hard_swish)
        maps = []
        for i, (kernel, expanded, channels, stride, has_excitation) in enumerate(BLOCKS, start=1):
            activation = nn.hard_swish if i >= HARD_SWISH else nn.relu
            channels //= 2 if self.reduce_tail and i >= TAP else 1
            expanded //= 2 if self.reduce_tail and i > TAP else 1
            y = x
            if expanded != x.shape[-1]:
                y = pointwise(y, expanded, f"block{i}_expand", activation)
            if i == TAP:
                maps.append(y)
            y = depthwise(y, kernel, stride, f"block{i}_depthwise", activation)
            if has_excitation:
                y = squeeze_excite(y, f"block{i}")
            y = pointwise(y, channels, f"block{i}_project", None)
            x = x + y if x.shape == y.shape else y
        x = pointwise(x, 6 * x.shape[-1], "last", nn.hard_swish)
        maps.append(x)
        for i, channels in enumerate(EXTRAS, start=1):
            x = pointwise(x, channels // 2, f"extra{i}_squeeze", nn.relu6)
            x = depthwise(x, 3, 2, f"extra{i}_depthwise", nn.relu6)
            x = pointwise(x, channels, f"extra{i}_expand", nn.relu6)
            maps.append(x)
        return tuple(maps)


def _squeezed_channels(channels: int) -> int:
    """A quarter of the channels, rounded to a multiple of 8 that is not below nine tenths of it."""
    quarter = channels // 4
    rounded = max(8, (quarter + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * quarter else rounded
