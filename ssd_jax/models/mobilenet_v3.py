"""MobileNetV3-Large with the extra layers of torchvision's `ssdlite320_mobilenet_v3_large`.

Block i is torchvision's `features.i`; its layers are `block{i}_expand`, `_depthwise`, `_squeeze`,
`_excite` and `_project`, each batch norm named after its convolution: `block1_project_norm`.
Sources: Howard et al., arXiv:1905.02244, table 1; pytorch/vision,
`torchvision/models/mobilenetv3.py` and `torchvision/models/detection/ssdlite.py`.
"""

import functools

import flax.linen as nn
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from ssd_jax.models.conv import Conv
from ssd_jax.models.depthwise import DepthwiseConv

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
        conv = functools.partial(Conv, dtype=self.dtype, kernel_init=init)
        norm = functools.partial(
            nn.BatchNorm,
            momentum=self.norm_momentum,
            epsilon=1e-3,
            dtype=jnp.float32,
            axis_name=self.axis_name,
        )

        def layer(x, convolution, activation):
            x = convolution(x).astype(jnp.float32)
            x = norm(name=f"{convolution.name}_norm")(x, use_running_average=not train)
            return activation(x).astype(self.dtype)

        def pointwise(x, channels, name, activation):
            return layer(x, conv(channels, (1, 1), use_bias=False, name=name), activation)

        def depthwise(x, kernel, stride, name, activation):
            pads = ((kernel // 2, kernel // 2),) * 2
            convolution = DepthwiseConv(kernel, stride, pads, self.dtype, init, name=name)
            return layer(x, convolution, activation)

        def excited(x, name):
            channels = x.shape[-1]
            y = x.mean((1, 2), keepdims=True)  # [B, 1, 1, N]
            y = nn.relu(conv(_squeezed(channels), (1, 1), name=f"{name}_squeeze")(y))
            return x * nn.hard_sigmoid(conv(channels, (1, 1), name=f"{name}_excite")(y))

        stem = conv(16, (3, 3), 2, padding=1, use_bias=False, name="stem")
        x = layer(images, stem, nn.hard_swish)
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
                y = excited(y, f"block{i}")
            y = pointwise(y, channels, f"block{i}_project", lambda x: x)
            x = x + y if x.shape == y.shape else y
        x = pointwise(x, 6 * x.shape[-1], "last", nn.hard_swish)
        maps.append(x)
        for i, channels in enumerate(EXTRAS, start=1):
            x = pointwise(x, channels // 2, f"extra{i}_squeeze", nn.relu6)
            x = depthwise(x, 3, 2, f"extra{i}_depthwise", nn.relu6)
            x = pointwise(x, channels, f"extra{i}_expand", nn.relu6)
            maps.append(x)
        return tuple(maps)


def _squeezed(channels: int) -> int:
    """A quarter of the channels, rounded to a multiple of 8 that is not below nine tenths of it."""
    quarter = channels // 4
    rounded = max(8, (quarter + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * quarter else rounded
