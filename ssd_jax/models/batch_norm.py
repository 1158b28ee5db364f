"""Batch norm as a function, for networks that choose how they compute a layer.

The numbers and the variables are those of `flax.linen.BatchNorm`.
"""

from typing import NamedTuple

import flax.linen as nn
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Float32


class Statistics(NamedTuple):
    """Mean and variance of each channel."""

    mean: Float32[Array, " N"]
    var: Float32[Array, " N"]


class Norm(NamedTuple):
    """Parameters of a batch norm, and its running statistics."""

    scale: Float32[Array, " N"]
    bias: Float32[Array, " N"]
    running: Statistics


class BatchNormVariables(nn.Module):
    """Variables as `nn.BatchNorm` names and initializes them, for a caller that normalizes."""

    momentum: float

    @nn.compact
    def __call__(self, channels: int, use_running_average: bool) -> tuple[Norm, bool]:
        """The variables, and whether the running statistics are used, as `optim.frozen` may say."""
        zeros, ones = jnp.zeros(channels), jnp.ones(channels)
        norm = Norm(
            self.param("scale", nn.initializers.ones, (channels,), jnp.float32),
            self.param("bias", nn.initializers.zeros, (channels,), jnp.float32),
            Statistics(
                self.variable("batch_stats", "mean", lambda: zeros).value,
                self.variable("batch_stats", "var", lambda: ones).value,
            ),
        )
        return norm, use_running_average

    def update(self, batch: Statistics) -> None:
        """Move the running statistics toward those of a batch; not while variables are made."""
        if self.is_initializing():
            return
        for name, new in batch._asdict().items():
            running = self.get_variable("batch_stats", name)
            moved = self.momentum * running + (1 - self.momentum) * new
            self.put_variable("batch_stats", name, moved)


def batch_norm(
    x: Float[Array, "B H W _"], norm: Norm, *, train: bool, epsilon: float, axis_name: str | None
) -> tuple[Float32[Array, "B H W _"], Statistics]:
    """Normalize, and the statistics used: of the batch in training, the running ones otherwise.

    A map may have a multiple of the N channels of `norm`: its positions are then blocks of
    neighbors, and the channels of one neighbor stand together. `axis_name` is the mapped axis over
    which the statistics average.
    """
    channels = norm.scale.shape[0]
    repeats = x.shape[-1] // channels
    x = x.astype(jnp.float32)
    used = norm.running
    if train:
        moments = jnp.stack([x.mean((0, 1, 2)), jnp.square(x).mean((0, 1, 2))])
        moments = moments.reshape(2, repeats, channels).mean(1)
        if axis_name is not None:
            moments = lax.pmean(moments, axis_name)
        mean, square = moments
        used = Statistics(mean, jnp.maximum(square - jnp.square(mean), 0.0))
    factor = lax.rsqrt(used.var + epsilon) * norm.scale
    mean, factor, bias = (
        jnp.tile(each, repeats)[None, None, None] for each in (used.mean, factor, norm.bias)
    )
    return (x - mean) * factor + bias, used
