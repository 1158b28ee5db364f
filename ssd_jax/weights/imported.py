"""What the reader of every weight file returns, and what all of them check."""

from typing import NamedTuple

import numpy as np
from ml_collections import ConfigDict

from ssd_jax.errors import CheckpointError


class ImportedWeights(NamedTuple):
    """Weights of a file by our names: "backbone/conv1_1/kernel" -> float32 array in our layout."""

    params: dict[str, np.ndarray]
    batch_stats: dict[str, np.ndarray]
    classes: tuple[str, ...] = ()  # () where the file does not say
    priors: np.ndarray | None = None  # corners, normalized [A, 4], where the file has its own
    has_rounded_priors: bool = False  # in 8 bits, so that those of the config are nearer the truth
    prior_sizes: tuple[float, ...] = ()  # as `config.priors.sizes`, where the file has those alone
    unused: dict[str, str] = {}  # tensor of the file that is not used -> reason


def check_normalization(
    config: ConfigDict, mean: tuple[float, ...], std: tuple[float, ...]
) -> None:
    """Raise CheckpointError when the weights were trained on other pixels than `config.model`'s."""
    have = tuple(config.model.mean), tuple(config.model.std)
    if have != (mean, std):
        raise CheckpointError(
            f"these weights expect config.model.mean={mean} and config.model.std={std}, not "
            f"{have[0]} and {have[1]}: start from the config that is theirs"
        )
