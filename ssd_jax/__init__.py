"""Single Shot MultiBox Detector (Liu et al., ECCV 2016) in JAX and Flax.

Importing this package starts no JAX.
"""

from __future__ import annotations

import typing

if typing.TYPE_CHECKING:
    import os

    from ml_collections import ConfigDict

    from ssd_jax.predictor import Predictor

__version__ = "0.1.0"


def load(
    source: str | os.PathLike, checkpoint: str = "best", class_agnostic: bool | None = None
) -> Predictor:
    """The detector of a run folder or of named weights, ready for pictures.

    Args:
        source: a run folder, or a name that `ssd-jax weights` lists; its file is downloaded at the
            first call.
        checkpoint: "best", "latest" or a step, of a run.
        class_agnostic: whether of several classes in one place the surest alone is kept; by default
            what `config.postprocess.class_agnostic` says.

    Raises CheckpointError for a folder that is no run or is damaged, ConfigError for an unknown
    name, ResourceError where a file cannot be downloaded. Use: see `predictor.Predictor`.
    """
    from ssd_jax.predictor import Predictor
    from ssd_jax.runtime.compilation import configure_jax
    from ssd_jax.weights.import_run import load_detector

    configure_jax()
    return Predictor(load_detector(str(source), checkpoint), class_agnostic)


def train(config: ConfigDict | str | os.PathLike, workdir: str | os.PathLike) -> dict[str, float]:
    """Train a detector in the run folder `workdir`, or go on where a training was stopped.

    Args:
        config: an experiment; or its name, as "quickstart", or its file, as "my.py".
        workdir: the run folder; `load(workdir)` opens the result.

    Returns the last scores by name, as "voc/mAP50_area". Raises an `errors.SsdError` for what can
    be mended; `errors.Interrupted` after SIGINT or SIGTERM, when everything is saved.
    """
    from pathlib import Path

    from ml_collections import ConfigDict

    from ssd_jax.config.packaged import load_config
    from ssd_jax.runtime.compilation import configure_jax
    from ssd_jax.training import train_and_evaluate

    if not isinstance(config, ConfigDict):
        config = load_config(str(config))
    configure_jax(config.deterministic)
    return train_and_evaluate(config, Path(workdir).expanduser())
