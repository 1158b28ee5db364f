"""ResNet-34 and ResNet-50 cut for SSD300, with their extra layers.

Of a classification network the first three stages remain, the third with stride 1. ResNet-34
continues as in MLPerf's reference, with biases and no batch norm, ResNet-50 as in NVIDIA's
DeepLearningExamples, with batch norm and no biases. Layers carry torchvision's names
(`layer1_0_conv1`), each batch norm named after its convolution: `layer1_0_conv1_norm`.
Sources: He et al., arXiv:1512.03385; mlcommons/training, `single_stage_detector/ssd/ssd300.py`;
NVIDIA/DeepLearningExamples, `PyTorch/Detection/SSD/ssd/model.py`.
"""

import flax.linen as nn
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from ssd_jax.errors import ConfigError
from ssd_jax.models.layers import Conv, ConvNormActivation

# Blocks of stages 1 ... 3, and of a block the (kernel, multiple of the width) of its convolutions.
DEPTHS = {
    34: ((3, 4, 6), ((3, 1), (3, 1))),
    50: ((3, 4, 6), ((1, 1), (3, 1), (1, 4))),
}
# Extra layers: (channels of the 1x1, channels, stride, padding).
EXTRAS = ((256, 512, 2, 1), (256, 512, 2, 1), (128, 256, 2, 1), (128, 256, 1, 0), (128, 256, 1, 0))


class Backbone(nn.Module):
    """ResNet-SSD300: images [B, H, W, 3] -> 6 maps, fine to coarse.

    The third stage (256 channels at `depth` 34, 1024 at 50), and extra layers of 512, 512, 256,
    256, 256: 38, 19, 10, 5, 3, 1 at 300 x 300.
    """

    depth: int = 50
    dtype: DTypeLike = jnp.float32
    axis_name: str | None = None

    @nn.compact
    def __call__(
        self, images: Float[Array, "B H W 3"], train: bool
    ) -> tuple[Float[Array, "B _ _ _"], ...]:
        if self.depth not in DEPTHS:
            raise ConfigError(
                f"model.backbone.depth is {self.depth}: resnet is defined for "
                f"{' and '.join(map(str, DEPTHS))}"
            )
        layer = ConvNormActivation(
            train, self.dtype, self.axis_name, norm_momentum=0.9,
            kernel_init=nn.initializers.variance_scaling(2.0, "fan_out", "normal"),  # Kaiming
        )  # fmt: skip

        def block(x, convolutions, width, stride, name):
            y, last = x, len(convolutions)
            for i, (kernel, multiple) in enumerate(convolutions, start=1):
                y = layer(
                    y, multiple * width, kernel,
                    stride if i == last - 1 else 1,  # at the (first) 3x3
                    kernel // 2, name=f"{name}_conv{i}", activation=nn.relu if i < last else None,
                )  # fmt: skip
            if x.shape != y.shape:
                name = f"{name}_downsample"
                x = layer(x, y.shape[-1], 1, stride, 0, name=name, activation=None)
            return nn.relu(x + y)

        x = layer(images, 64, 7, 2, 3, name="conv1", activation=None)
        x = nn.relu(nn.max_pool(x, (3, 3), (2, 2), ((1, 1), (1, 1))))  # a quarter to mask
        counts, convolutions = DEPTHS[self.depth]
        for stage, (count, stride) in enumerate(zip(counts, (1, 2, 1)), start=1):
            for i in range(count):
                name = f"layer{stage}_{i}"
                x = block(x, convolutions, 32 * 2**stage, stride if i == 0 else 1, name)
        maps = [x]

        xavier = nn.initializers.xavier_uniform()

        def extra(x, channels, kernel, stride, padding, name):
            if self.depth == 50:
                return layer(x, channels, kernel, stride, padding, name=name, kernel_init=xavier)
            conv = Conv(
                channels, (kernel, kernel), stride, padding, dtype=self.dtype, kernel_init=xavier,
                name=name,
            )  # fmt: skip
            return nn.relu(conv(x))

        for i, (squeeze, channels, stride, padding) in enumerate(EXTRAS, start=1):
            x = extra(x, squeeze, 1, 1, 0, f"extra{i}_squeeze")
            x = extra(x, channels, 3, stride, padding, f"extra{i}_expand")
            maps.append(x)
        return tuple(maps)
