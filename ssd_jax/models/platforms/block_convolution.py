"""Convolution of maps whose positions are blocks of neighbors.

A TPU computes 128 channels at a time, and the first layers of a network have fewer. A block of
neighbors as one position of several times the channels fills them (TensorFlow's `space_to_depth`):
there are fewer positions, and each costs the same. The channels of a block are ordered (row,
column, channel). The wider filters have zeros, which cost less than empty lanes.
"""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float

from ssd_jax.models.platforms.convolution import convolve

Pair = tuple[int, int]


class _Axis(NamedTuple):
    """A convolution over blocks along rows, or along columns."""

    tap: Bool[np.ndarray, "D P Q R"]  # whether tap R joins position P of block D to position Q
    stride: int  # in blocks
    pads: Pair  # in blocks


def convolve_blocks(
    x: Float[Array, "B H W _"], kernel: Float[Array, "R S I O"], stride: int, inner: Pair,
    outer: Pair,
) -> Float[Array, "B h w _"]:  # fmt: skip
    """SAME convolution over positions: from blocks of `inner` to blocks of `outer` positions.

    `inner` and `outer` are rows and columns of a block; `outer` divides the map, and `inner`
    divides stride * outer. H, W, h and w count blocks; `stride` counts positions.
    """
    rows, columns = map(_axis, x.shape[1:3], kernel.shape[:2], (stride, stride), inner, outer)
    # Taps of blocks (d, e) from the positions (p, u) of a block to those (q, v) of the output's.
    kernel = jnp.einsum(
        "dpqr,euvs,rsio->depuiqvo",
        rows.tap.astype(np.float32), columns.tap.astype(np.float32), kernel,
        precision=lax.Precision.HIGHEST,
    )  # fmt: skip
    inputs, outputs = (np.prod(kernel.shape[start : start + 3]) for start in (2, 5))
    kernel = kernel.reshape(*kernel.shape[:2], inputs, outputs).astype(x.dtype)
    return convolve(x, kernel, (rows.stride, columns.stride), (rows.pads, columns.pads), (1, 1))


def _axis(blocks: int, taps: int, stride: int, inner: int, outer: int) -> _Axis:
    side = blocks * inner
    ((low, _),) = lax.padtype_to_pads((side,), (taps,), (stride,), "SAME")
    # Position q of an output's block reads stride * q - low ... + taps - 1 from the block's start.
    first, last = -low // inner, (stride * (outer - 1) - low + taps - 1) // inner
    d, p, q, tap = np.ogrid[first : last + 1, :inner, :outer, :taps]
    step = stride * outer // inner
    end = (-(-side // stride) // outer - 1) * step + last + 1  # of the last output's blocks
    return _Axis(inner * d + p == stride * q - low + tap, step, (-first, end - blocks))
