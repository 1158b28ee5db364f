"""Color jitter and normalization on the device, inside the compiled step.

Caffe's distortion (`im_transforms.cpp`, `ssd_pascal.py`): each operation is applied with a
probability and its result is clipped to [0, 255]; contrast comes before or after saturation and
hue with equal chance. An operation that is not applied gets its neutral amount, so that there is
no branch and one pass over the pixels. Unlike Caffe's, it comes after the warp, so that the fill
around a zoomed-out image changes too; nothing is rounded to integers; and hue shifts both ways
everywhere (Caffe's 8-bit hue cannot go below red).
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int, Key, Num, UInt32
from ml_collections import ConfigDict

Rgb = tuple[Float[Array, "H W"], Float[Array, "H W"], Float[Array, "H W"]]
Amount = Float[Array, ""]
OPERATIONS = ("brightness", "contrast", "saturation", "hue", "channel_order")
_DRAWS = 6  # one for each of these operations and one for the place of contrast
CHANNEL_ORDERS = np.array(
    [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]], np.int32
)


def jitter(
    keys: Key[Array, "B"] | UInt32[Array, "B 2"],
    images: Float[Array, "B H W 3"],
    config: ConfigDict,
) -> Float[Array, "B H W 3"]:
    """Images [B, H, W, 3], RGB in 0 ... 255, after color jitter, with one random key [B] each.

    `config.operations` lists which of `OPERATIONS` are used (their order is Caffe's), each with
    `config.probability`: a shift within ±`brightness`, factors in the ranges `contrast` and
    `saturation`, a shift of the hue within ±`hue` of the circle, and, with the probability
    `channel_order`, one of the six orders of the channels.
    """
    return jax.vmap(partial(_jitter_one, config=config))(keys, images)


def normalize(
    images: Num[Array, "*batch H W 3"],
    mean: tuple[float, float, float],
    std: tuple[float, float, float],
    dtype: DTypeLike = jnp.float32,
) -> Float[Array, "*batch H W 3"]:
    """(images - mean) / std in float32, then cast; all three in units of 0 ... 255."""
    images = images.astype(jnp.float32)
    mean_row, std_row = (
        jnp.broadcast_to(jnp.asarray(row, jnp.float32), images.shape) for row in (mean, std)
    )
    return ((images - mean_row) / std_row).astype(dtype)


def brightness(rgb: Rgb, shift: Amount) -> Rgb:
    """Adds `shift` to every channel."""
    return tuple(jnp.clip(channel + shift, 0.0, 255.0) for channel in rgb)


def contrast(rgb: Rgb, factor: Amount) -> Rgb:
    """Multiplies every channel by `factor`: about black, as in Caffe, not about the mean."""
    return tuple(jnp.clip(channel * factor, 0.0, 255.0) for channel in rgb)


def saturation(rgb: Rgb, factor: Amount) -> Rgb:
    """Multiplies the saturation of HSV by `factor`, at most up to 1; hue and value stay."""
    value, chroma = _value_and_chroma(rgb)
    factor = jnp.minimum(factor, value / jnp.maximum(chroma, 1e-6))
    return tuple(jnp.maximum(value - (value - channel) * factor, 0.0) for channel in rgb)


def hue(rgb: Rgb, shift: Amount) -> Rgb:
    """Shifts the hue of HSV by `shift` of a full circle; saturation and value stay."""
    red, green, blue = rgb
    value, chroma = _value_and_chroma(rgb)
    scale = 1.0 / jnp.maximum(chroma, 1e-6)
    from_green_or_blue = jnp.where(
        value == green, 2.0 + (blue - red) * scale, 4.0 + (red - green) * scale
    )
    sector = jnp.where(value == red, (green - blue) * scale, from_green_or_blue)  # -1 ... 5
    circle = sector / 6.0 + shift
    sector = 6.0 * (circle - jnp.floor(circle))  # 0 ... 6, red at 0 and 6
    below_value = (
        2.0 - jnp.abs(sector - 3.0),  # in units of chroma, before clipping to [0, 1]
        jnp.abs(sector - 2.0) - 1.0,
        jnp.abs(sector - 4.0) - 1.0,
    )
    return tuple(value - chroma * jnp.clip(below, 0.0, 1.0) for below in below_value)


def channel_order(rgb: Rgb, order: Int[Array, "3"]) -> Rgb:
    """Channel i of the result is channel `order[i]`."""
    return tuple(jax.lax.select_n(source, *rgb) for source in order)


def _jitter_one(
    key: Key[Array, ""] | UInt32[Array, "2"], image: Float[Array, "H W 3"], config: ConfigDict
) -> Float[Array, "H W 3"]:
    # The numbers of an operation do not depend on which others the config lists. Another operation
    # must draw its own from `jax.random.fold_in(key, 2)`, so that these stay and old runs resume.
    chance, position = jax.random.uniform(key, (2, _DRAWS), jnp.float32)

    def draw(name: str, limits: tuple[float, float], neutral: float, probability: float) -> Amount:
        index, (low, high) = OPERATIONS.index(name), limits
        amount = low + (high - low) * position[index]
        return jnp.where(chance[index] < probability, amount, neutral)

    names, probability = config.operations, config.probability
    factor = draw("contrast", config.contrast, 1.0, probability)
    contrast_first = chance[-1] < 0.5
    rgb = tuple(image[..., channel] for channel in range(3))
    if "brightness" in names:
        rgb = brightness(
            rgb, draw("brightness", (-config.brightness, config.brightness), 0.0, probability)
        )
    if "contrast" in names:
        rgb = contrast(rgb, jnp.where(contrast_first, factor, 1.0))
    if "saturation" in names:
        rgb = saturation(rgb, draw("saturation", config.saturation, 1.0, probability))
    if "hue" in names:
        rgb = hue(rgb, draw("hue", (-config.hue, config.hue), 0.0, probability))
    if "contrast" in names:
        rgb = contrast(rgb, jnp.where(contrast_first, 1.0, factor))
    if "channel_order" in names:
        index = draw("channel_order", (0.0, float(len(CHANNEL_ORDERS))), 0.0, config.channel_order)
        rgb = channel_order(rgb, jnp.asarray(CHANNEL_ORDERS)[index.astype(jnp.int32)])
    return jnp.stack(rgb, axis=-1)


def _value_and_chroma(rgb: Rgb) -> tuple[Float[Array, "H W"], Float[Array, "H W"]]:
    """The value of HSV, and the distance between the largest and the smallest channel."""
    red, green, blue = rgb
    value = jnp.maximum(jnp.maximum(red, green), blue)
    return value, value - jnp.minimum(jnp.minimum(red, green), blue)
