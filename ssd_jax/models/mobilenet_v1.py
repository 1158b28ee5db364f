"""MobileNetV1 with the extra layers of TensorFlow's `ssd_mobilenet_v1`.

Layers carry TensorFlow's names with the batch norm beside its convolution: `Conv2d_0` and
`Conv2d_0_BatchNorm`, `Conv2d_1_depthwise`, `Conv2d_1_pointwise`, and for the extra layers
`Conv2d_13_pointwise_1_Conv2d_2_1x1_256`, `Conv2d_13_pointwise_2_Conv2d_2_3x3_s2_512`.
Sources: tensorflow/models, `research/slim/nets/mobilenet_v1.py`,
`research/object_detection/models/feature_map_generators.py`.
"""

from collections.abc import Callable
from functools import partial

import flax.linen as nn
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from ssd_jax.models.batch_norm import BatchNormVariables, batch_norm
from ssd_jax.models.layers import ConvNormActivation, Kernel
from ssd_jax.models.platforms.position_blocks import ConvNorm, first_layers

# Channels and stride of the separable layers Conv2d_1 ... Conv2d_13.
SEPARABLE = (
    (64, 1),
    *((128, 2), (128, 1)),
    *((256, 2), (256, 1)),
    *((512, 2), (512, 1), (512, 1), (512, 1), (512, 1), (512, 1)),
    *((1024, 2), (1024, 1)),
)
EXTRAS = (512, 256, 256, 128)
MIN_DEPTH = 16  # `min_depth` of the published ssd_mobilenet_v1 configurations
KERNEL_INIT = nn.initializers.truncated_normal(0.03)
NORM_EPSILON = 1e-3
NORM_SUFFIX = "_BatchNorm"


class Backbone(nn.Module):
    """MobileNetV1-SSD: images [B, H, W, 3] -> 6 maps, fine to coarse.

    Conv2d_11_pointwise (512 channels), Conv2d_13_pointwise (1024), and extra layers of 512, 256,
    256, 128: 19, 10, 5, 3, 2, 1 at 300 x 300. `width` multiplies every number of channels, down
    to 16. Convolutions have no bias, padding is TensorFlow's SAME, activations are ReLU6. With
    TensorFlow's `norm_momentum` the statistics of norms are ready after some ten thousand steps.
    """

    width: float = 1.0
    norm_momentum: float = 0.9997
    dtype: DTypeLike = jnp.float32
    axis_name: str | None = None

    @nn.compact
    def __call__(
        self, images: Float[Array, "B H W 3"], train: bool
    ) -> tuple[Float[Array, "B _ _ _"], ...]:
        layer = ConvNormActivation(
            train, self.dtype, self.axis_name, self.norm_momentum, NORM_EPSILON, NORM_SUFFIX,
            KERNEL_INIT,
        )  # fmt: skip

        def depth(channels):
            return max(int(channels * self.width), MIN_DEPTH)

        x = self._first_layers(images.astype(self.dtype), train, depth)
        second = depth(SEPARABLE[1][0])
        x = layer(x, second, 1, name="Conv2d_2_pointwise", activation=nn.relu6)
        maps = []
        for i, (channels, stride) in enumerate(SEPARABLE[2:], start=3):
            name = f"Conv2d_{i}_depthwise"
            x = layer.depthwise(x, 3, stride, name=name, activation=nn.relu6)
            name = f"Conv2d_{i}_pointwise"
            x = layer(x, depth(channels), 1, name=name, activation=nn.relu6)
            if i in (11, 13):
                maps.append(x)
        for i, channels in enumerate(EXTRAS, start=2):
            half, full = depth(channels // 2), depth(channels)
            name = f"Conv2d_13_pointwise_1_Conv2d_{i}_1x1_{half}"
            x = layer(x, half, 1, name=name, activation=nn.relu6)
            name = f"Conv2d_13_pointwise_2_Conv2d_{i}_3x3_s2_{full}"
            x = layer(x, full, 3, 2, name=name, activation=nn.relu6)
            maps.append(x)
        return tuple(maps)

    def _first_layers(
        self, images: Float[Array, "B H W 3"], train: bool, depth: Callable[[int], int]
    ) -> Float[Array, "B h w _"]:
        """Conv2d_0 to Conv2d_2_depthwise."""
        shapes = {
            "Conv2d_0": (3, 3, 3, depth(32)),
            "Conv2d_1_depthwise": (3, 3, 1, depth(32)),
            "Conv2d_1_pointwise": (1, 1, depth(32), depth(64)),
            "Conv2d_2_depthwise": (3, 3, 1, depth(64)),
        }
        norms = [BatchNormVariables(self.norm_momentum, name=name + NORM_SUFFIX) for name in shapes]
        kernels = [Kernel(shape, KERNEL_INIT, name=name)() for name, shape in shapes.items()]
        variables, evaluated = zip(
            *(
                norm(shape[-1], use_running_average=not train)
                for norm, shape in zip(norms, shapes.values())
            )
        )
        axis_name = None if self.is_initializing() else self.axis_name
        normalize = partial(batch_norm, epsilon=NORM_EPSILON, axis_name=axis_name)
        x, statistics = first_layers(
            images,
            [ConvNorm(kernel, norm) for kernel, norm in zip(kernels, variables)],
            [partial(normalize, train=not is_evaluated) for is_evaluated in evaluated],
        )
        for norm, batch, is_evaluated in zip(norms, statistics, evaluated):
            if not is_evaluated:
                norm.update(batch)
        return x
