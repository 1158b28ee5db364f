"""The weights that a run starts from: random ones, those of another run, or those of a file."""

import importlib
import os
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from ssd_jax.detector import Detector
from ssd_jax.errors import CheckpointError, ConfigError
from ssd_jax.parameter_names import flatten_parameters, parameter_name
from ssd_jax.runs.load import load_run
from ssd_jax.runtime.progress import log_line
from ssd_jax.train_step import TrainState, init_state, state_of_variables
from ssd_jax.weights import files
from ssd_jax.weights.class_names import match_class_names
from ssd_jax.weights.imported import ImportedWeights
from ssd_jax.weights.remap import FittedWeights, Tensors, fit_to_model

_BINARY_FORMATS = ("tflite", "caffe")  # a tensor format each; the others hold tensors by name


class InitialState(NamedTuple):
    """The state before the first step."""

    state: TrainState
    is_detector: bool  # of all classes: its scores before the first step mean something


def initial_state(detector: Detector, classes: tuple[str, ...]) -> InitialState:
    """The state before the first step, as `config.init` says; `classes` without the background.

    Raises CheckpointError for weights that cannot be read or do not fit.
    """
    state, options = init_state(detector), detector.config.init
    if not options.source:
        return InitialState(state, False)
    source = Path(options.source)
    weights = load_weights(source, options.format, detector.config)
    fitted = fit_source(source, weights, state, classes, options.what)
    priors = weights.priors
    if priors is not None and not np.array_equal(priors, detector.priors.boxes):
        fitted.report.append("  priors       those of the config, not those of the source")
    log_line("\n".join([f"weights    {source}", *fitted.report]))
    matched = match_class_names(classes, fitted.file_classes)
    is_detector = options.what == "detector" and len(matched) == len(classes)
    return InitialState(with_weights(detector, state, fitted.tensors), is_detector)


def load_weights(source: Path, kind: str, config: ConfigDict) -> ImportedWeights:
    """Weights of a run folder (`kind` "") or of a weight file of a format, by our names."""
    if not kind and os.path.isfile(source):
        raise ConfigError(f"{source} is a file: name its format in config.init.format")
    if not kind:
        run = load_run(source)
        params, batch_stats = (
            flatten_parameters(run.variables[name]) for name in ("params", "batch_stats")
        )
        return ImportedWeights(params, batch_stats, run.classes, run.detector.priors.boxes)
    try:
        if kind == "npz":
            return files.parse_native(files.read_tensors(source))
        reader = importlib.import_module(f"ssd_jax.weights.{kind}")
        if kind in _BINARY_FORMATS:
            return reader.read(reader.tensors(source.read_bytes()), config)
        return reader.read(files.read_tensors(source), config)
    except OSError as error:
        raise CheckpointError(f"{source}: cannot be read ({error.strerror})") from error
    except CheckpointError as error:
        raise CheckpointError(f"{error}\nin {source}, read as {kind}") from error


def fit_source(
    source: Path,
    weights: ImportedWeights,
    state: TrainState,
    classes: tuple[str, ...],
    what: str,
) -> FittedWeights:
    """`fit_to_model` for the model of a state; errors name the source."""
    like = flatten_parameters(state.params) | flatten_parameters(state.batch_stats)
    try:
        return fit_to_model(weights, like, classes, what)
    except CheckpointError as error:
        raise CheckpointError(f"{source}: {error}") from error


def with_weights(detector: Detector, state: TrainState, tensors: Tensors) -> TrainState:
    """The state before the first step with these tensors, in the shape of `state`."""

    def take(path, leaf):
        return jnp.asarray(tensors[parameter_name(path)], leaf.dtype)

    variables = {"params": state.params, "batch_stats": state.batch_stats}
    variables = {kind: jax.tree.map_with_path(take, tree) for kind, tree in variables.items()}
    return state_of_variables(detector, variables)
