"""A small network with batch norm that learns in minutes on a few CPU cores."""

import flax.linen as nn
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from ssd_jax.models.layers import ConvNormActivation


class Backbone(nn.Module):
    """Images [B, H, W, 3] -> `levels` maps, fine to coarse, the first of side ceil(side / 8).

    Each of the first five levels halves the one before, rounding up; those after it divide by 3,
    rounding up. Sides for 6 levels:

        input 160: 20, 10, 5, 3, 2, 1
        input 300: 38, 19, 10, 5, 3, 1    (the maps of SSD300)
        input 512: 64, 32, 16, 8, 4, 2

    `widths` are the channels of the stem and of each level; the last one serves all further
    levels. The stem divides by 4 at once, and only then come the 3x3 convolutions, since XLA:CPU
    is slow at the filter gradients of large maps.
    """

    widths: tuple[int, ...] = (32, 64, 128)
    levels: int = 6
    dtype: DTypeLike = jnp.float32
    axis_name: str | None = None

    @nn.compact
    def __call__(
        self, images: Float[Array, "B H W 3"], train: bool
    ) -> tuple[Float[Array, "B _ _ _"], ...]:
        layer = ConvNormActivation(train, self.dtype, self.axis_name, norm_momentum=0.9)
        x = layer(_space_to_depth(images), self.widths[0], 3, 2, name="stem")  # [B, H/4, W/4, N]
        maps = []
        for level in range(self.levels):
            channels = self.widths[min(level + 1, len(self.widths) - 1)]
            x = layer(x, channels, 3, 2 if level < 5 else 3, name=f"level{level}_down")
            if level < 3:
                x = layer(x, channels, 3, name=f"level{level}_conv")
            maps.append(x)
        return tuple(maps)


def _space_to_depth(images: Float[Array, "B H W 3"]) -> Float[Array, "B h w 12"]:
    """Each block of 2 x 2 pixels becomes one position of 12 channels; odd sides gain a zero."""
    batch, height, width, _ = images.shape
    padded = jnp.pad(images, ((0, 0), (0, height % 2), (0, width % 2), (0, 0)))
    h, w = padded.shape[1] // 2, padded.shape[2] // 2
    blocks = padded.reshape(batch, h, 2, w, 2, 3).transpose(0, 1, 3, 2, 4, 5)
    return blocks.reshape(batch, h, w, 12)
