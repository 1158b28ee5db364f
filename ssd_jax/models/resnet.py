"""ResNet-34 and ResNet-50 cut for SSD300, with their extra layers.

Of a classification network the first three stages remain, the third with stride 1. ResNet-34
continues as in MLPerf's reference, with biases and no batch norm, ResNet-50 as in NVIDIA's
DeepLearningExamples, with batch norm and no biases. Layers carry torchvision's names
(`layer1_0_conv1`), each batch norm named after its convolution: `layer1_0_conv1_norm`.
Sources: He et al., arXiv:1512.03385; mlcommons/training, `single_stage_detector/ssd/ssd300.py`;
NVIDIA/DeepLearningExamples, `PyTorch/Detection/SSD/ssd/model.py`.
"""

import functools

import flax.linen as nn
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from ssd_jax.errors import ConfigError
from ssd_jax.models.conv import Conv

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
        norm = functools.partial(
            nn.BatchNorm,
            momentum=0.9,
            epsilon=1e-5,
            dtype=jnp.float32,
            axis_name=self.axis_name,
        )
        kaiming = nn.initializers.variance_scaling(2.0, "fan_out", "normal")
        conv = functools.partial(Conv, dtype=self.dtype)

        def normed(x, channels, kernel, stride, padding, name, init=kaiming):
            size = (kernel, kernel)
            x = conv(
                channels, size, stride, padding, use_bias=False, kernel_init=init, name=name
            )(x)  # fmt: skip
            x = norm(name=f"{name}_norm")(x.astype(jnp.float32), use_running_average=not train)
            return x.astype(self.dtype)

        def block(x, convolutions, width, stride, name):
            y = x
            for i, (kernel, multiple) in enumerate(convolutions, start=1):
                own = stride if i == len(convolutions) - 1 else 1  # at the (first) 3x3
                y = nn.relu(y) if i > 1 else y
                y = normed(y, multiple * width, kernel, own, kernel // 2, f"{name}_conv{i}")
            if x.shape != y.shape:
                x = normed(x, y.shape[-1], 1, stride, 0, f"{name}_downsample")
            return nn.relu(x + y)

        x = nn.relu(normed(images, 64, 7, 2, 3, "conv1"))
        x = nn.max_pool(x, (3, 3), (2, 2), ((1, 1), (1, 1)))
        counts, convolutions = DEPTHS[self.depth]
        for stage, (count, stride) in enumerate(zip(counts, (1, 2, 1)), start=1):
            for i in range(count):
                name = f"layer{stage}_{i}"
                x = block(x, convolutions, 32 * 2**stage, stride if i == 0 else 1, name)
        maps = [x]

        xavier = nn.initializers.xavier_uniform()

        def extra(x, channels, kernel, stride, padding, name):
            if self.depth == 50:
                return nn.relu(normed(x, channels, kernel, stride, padding, name, xavier))
            size = (kernel, kernel)
            return nn.relu(
                conv(channels, size, stride, padding, kernel_init=xavier, name=name)(x)
            )  # fmt: skip

        for i, (squeeze, channels, stride, padding) in enumerate(EXTRAS, start=1):
            x = extra(x, squeeze, 1, 1, 0, f"extra{i}_squeeze")
            x = extra(x, channels, 3, stride, padding, f"extra{i}_expand")
            maps.append(x)
        return tuple(maps)
