"""Single Shot MultiBox Detector (Liu et al., ECCV 2016) in JAX and Flax.

Importing this package starts no JAX.
"""

from __future__ import annotations

import typing

if typing.TYPE_CHECKING:
    import os

    from ssd_jax.predictor import Predictor

__version__ = "0.1.0"


def load(folder: str | os.PathLike, checkpoint: str = "best") -> Predictor:
    """The detector of a run folder, ready for pictures; see `predictor.Predictor`.

    `checkpoint` is "best", "latest" or a step. Raises CheckpointError for a folder that is no run.
    """
    from pathlib import Path

    from ssd_jax.predictor import Predictor

    return Predictor(Path(folder), checkpoint)
