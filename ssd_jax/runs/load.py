"""Loading a run to predict, evaluate or fine-tune: what its folder holds is enough."""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import jax
import numpy as np

from ssd_jax.config.validation import validate
from ssd_jax.detector import Detector, Variables, abstract_variables, build_detector
from ssd_jax.errors import CheckpointError, ConfigError
from ssd_jax.runs import checkpoint
from ssd_jax.runs.folder import RunInfo, read_run_info
from ssd_jax.runs.metrics import read_metrics, values_of_step


class LoadedRun(NamedTuple):
    """A detector with trained weights."""

    detector: Detector
    variables: Variables
    classes: tuple[str, ...]  # without the background
    step: int  # of the checkpoint
    scores: Mapping[str, float] = MappingProxyType({})  # of the run's evaluation at this step


def load_run(folder: Path, which: str = "best") -> LoadedRun:
    """The detector and weights of a checkpoint: "best", "latest" or a step.

    Its priors are those that were saved with the run. Raises CheckpointError where the folder is
    no run, or its files are damaged or do not belong together.
    """
    return restore_run(folder, read_run_info(folder), which)


def restore_run(folder: Path, run: RunInfo, which: str = "best") -> LoadedRun:
    """`load_run` of a folder that was read before."""
    try:
        validate(run.config)
        detector = build_detector(run.config, len(run.classes) + 1)
    except ConfigError as error:
        raise CheckpointError(
            f"{folder / 'config.json'} is damaged, or of another version:\n{error}"
        ) from error
    if run.priors.shape != detector.priors.boxes.shape:
        raise CheckpointError(
            f"{folder / 'priors.npy'} holds {len(run.priors)} priors and the model has "
            f"{len(detector.priors.boxes)}: these files are of different runs"
        )
    detector = detector._replace(priors=detector.priors._replace(boxes=run.priors))
    with checkpoint.Checkpoints(folder / "checkpoints", create=False) as checkpoints:
        variables, step = restore_variables(checkpoints, which, detector)
    scores = values_of_step(read_metrics(folder / "metrics.jsonl"), step)
    return LoadedRun(detector, variables, run.classes, step, scores)


def restore_variables(
    checkpoints: checkpoint.Checkpoints, which: str, detector: Detector
) -> tuple[Variables, int]:
    """The weights to predict with, and their step: the averages where the run keeps them.

    No optimizer state is read.
    """
    variables = abstract_variables(detector)
    fields = {"ema": variables} if detector.config.optim.ema_decay else variables
    like = {"step": jax.ShapeDtypeStruct((), np.int32)} | fields
    state = checkpoints.restore(which, like, partial=True)
    return state.get("ema") or {name: state[name] for name in variables}, int(state["step"])
