"""VGG16 with the extra layers of SSD, layer for layer as in the authors' Caffe code.

Layers carry Caffe's names (`conv1_1` ... `fc7`, `conv6_1` ..., `conv4_3_norm`), so that weights
load by key. Source: weiliu89/caffe, branch ssd, `examples/ssd/ssd_pascal.py` and
`python/caffe/model_libs.py`.
"""

import functools

import flax.linen as nn
import jax.numpy as jnp
from jax import lax
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from ssd_jax.errors import ConfigError
from ssd_jax.models.layers import Conv, ConvParameters
from ssd_jax.models.platforms.column_pairs import first_stage
from ssd_jax.models.platforms.convolution import conv_general_dilated
from ssd_jax.models.platforms.pooling import max_pool_2x2

# Convolutions and channels of VGG16's stages conv1 ... conv5.
STAGES = ((2, 64), (2, 128), (3, 256), (3, 512), (3, 512))
# Extra layers conv6 ...: (channels of the 1x1, channels, kernel, stride, padding).
EXTRAS = {
    300: ((256, 512, 3, 2, 1), (128, 256, 3, 2, 1), (128, 256, 3, 1, 0), (128, 256, 3, 1, 0)),
    512: ((256, 512, 3, 2, 1), *[(128, 256, 3, 2, 1)] * 3, (128, 256, 4, 1, 1)),
}
# Caffe's "xavier" has variance 1 / fan_in, which JAX calls lecun.
KERNEL_INIT = nn.initializers.lecun_uniform()


def _convolve_and_pool(*arguments, **options):
    return max_pool_2x2(conv_general_dilated(*arguments, **options))


# The pooling before bias and ReLU: the same values, and a quarter to add, mask and keep.
ConvPool = functools.partial(nn.Conv, conv_general_dilated=_convolve_and_pool)


class L2Norm(nn.Module):
    """Divide each position by its norm over channels, then scale each channel (ParseNet).

    [B, H, W, N] -> [B, H, W, N], computed in float32 and returned in the dtype of `x`.
    """

    @nn.compact
    def __call__(self, x: Float[Array, "B H W N"]) -> Float[Array, "B H W N"]:
        scale = self.param("scale", nn.initializers.constant(20.0), x.shape[-1:], jnp.float32)
        y = x.astype(jnp.float32)
        y *= lax.rsqrt(jnp.sum(jnp.square(y), axis=-1, keepdims=True) + 1e-10)
        return (y * scale[None, None, None]).astype(x.dtype)


class Backbone(nn.Module):
    """VGG16-reduced: images [B, H, W, 3] -> 6 maps (`input_size` 300) or 7 (512), fine to coarse.

    conv4_3 (L2-normalized, 512 channels), fc7 (1024), conv6_2 (512), and conv7_2 ... (256):
    38, 19, 10, 5, 3, 1 at 300 x 300 and 64, 32, 16, 8, 4, 2, 1 at 512 x 512. `input_size` picks
    the extra layers; the images may have another size, as long as no map vanishes.
    The network has no batch norm, so `axis_name` and `train` change nothing.

    Ablations of the paper: `levels` keeps that many maps, two at least, and leaves out the layers
    of the coarser ones (Table 3). Without `atrous` pool5 halves, fc6 and fc7 are VGG16's own (7 x 7
    and 1 x 1, 4096 channels), and conv5_3 is a map too (section 3.1, Table 2); the last extra
    layer is left out then, so that the maps have the sizes above.
    """

    input_size: int = 300
    levels: int = 7  # at most
    atrous: bool = True
    dtype: DTypeLike = jnp.float32
    axis_name: str | None = None

    @nn.compact
    def __call__(
        self, images: Float[Array, "B H W 3"], train: bool
    ) -> tuple[Float[Array, "B _ _ _"], ...]:
        if self.input_size not in EXTRAS:
            raise ConfigError(
                f"model.backbone.input_size is {self.input_size}: vgg is defined for "
                f"{' and '.join(map(str, EXTRAS))}"
            )
        settings = {"dtype": self.dtype, "kernel_init": KERNEL_INIT}
        conv = functools.partial(Conv, **settings)
        if self.levels < 2:
            raise ConfigError(f"model.backbone.levels is {self.levels}: vgg has 2 maps at least")
        filters = [
            ConvParameters((3, 3, inputs, 64), KERNEL_INIT, name=f"conv1_{i}")()
            for i, inputs in ((1, 3), (2, 64))
        ]
        x = first_stage(images.astype(self.dtype), *filters)
        for stage, (depth, channels) in enumerate(STAGES[1:], start=2):
            for i in range(1, depth + 1):
                layer = ConvPool if stage < 4 and i == depth else Conv
                x = nn.relu(layer(channels, (3, 3), **settings, name=f"conv{stage}_{i}")(x))
            if stage == 4:
                maps = [L2Norm(name="conv4_3_norm")(x)]
                x = max_pool_2x2(x)
        extras = EXTRAS[self.input_size]
        if self.atrous:
            x = nn.max_pool(x, window_shape=(3, 3), strides=(1, 1), padding="SAME")  # pool5
            x = nn.relu(conv(1024, (3, 3), padding=6, kernel_dilation=6, name="fc6")(x))
            x = nn.relu(conv(1024, (1, 1), name="fc7")(x))
        else:
            maps.append(x)
            x = nn.relu(conv(4096, (7, 7), padding=3, name="fc6")(max_pool_2x2(x)))
            x = nn.relu(conv(4096, (1, 1), name="fc7")(x))
            extras = extras[:-1]
        maps.append(x)

        extras = extras[: max(0, self.levels - len(maps))]
        for stage, (squeeze, channels, kernel, stride, padding) in enumerate(extras, start=6):
            x = nn.relu(conv(squeeze, (1, 1), name=f"conv{stage}_1")(x))
            grow = conv(channels, (kernel, kernel), stride, padding=padding, name=f"conv{stage}_2")
            x = nn.relu(grow(x))
            maps.append(x)
        return tuple(maps[: self.levels])
