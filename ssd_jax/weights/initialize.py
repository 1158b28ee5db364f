"""The weights that a run starts from: random ones, those of a run, of a file, or of a name."""

import importlib
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from ssd_jax.detector import Detector
from ssd_jax.errors import CheckpointError, ConfigError
from ssd_jax.parameter_names import flatten_parameters, parameter_name
from ssd_jax.runs.folder import read_run_info
from ssd_jax.runs.load import restore_run
from ssd_jax.runtime.download import file_sha256
from ssd_jax.runtime.progress import log_line
from ssd_jax.train_step import TrainState, init_state, state_of_variables
from ssd_jax.weights import files, named
from ssd_jax.weights.class_names import match_class_names
from ssd_jax.weights.imported import ImportedWeights, check_normalization
from ssd_jax.weights.remap import FittedWeights, Tensors, fit_to_model

_BINARY_FORMATS = ("tflite", "caffe")  # a tensor format each; the others hold tensors by name


class InitialState(NamedTuple):
    """The state before the first step."""

    state: TrainState
    is_detector: bool  # of all classes: its scores before the first step mean something
    origin: dict[str, Any]  # of its weights, see `Source`; {} for random ones


class Source(NamedTuple):
    """Weights of a run, a file or a name, by our names, and where they come from.

    The origin has the name and address of named weights, or the name of a file, with its SHA-256;
    or the folder and step of a run, with the origin of the weights that the run started from.
    """

    weights: ImportedWeights
    origin: dict[str, Any]


def initial_state(detector: Detector, classes: tuple[str, ...]) -> InitialState:
    """The state before the first step, as `config.init` says; `classes` without the background.

    Raises CheckpointError for weights that cannot be read or do not fit, ResourceError for a name
    whose file cannot be downloaded.
    """
    state, options = init_state(detector), detector.config.init
    if not options.source:
        return InitialState(state, False, {})
    weights, origin = load_source(options.source, options.format, detector.config)
    fitted = fit_source(options.source, weights, state, classes, options.what)
    priors = weights.priors
    if priors is not None and not np.array_equal(priors, detector.priors.boxes):
        fitted.report.append("  priors       those of the config, not those of the source")
    log_line("\n".join([f"weights    {options.source}", *fitted.report]))
    matched = match_class_names(classes, fitted.file_classes)
    is_detector = options.what == "detector" and len(matched) == len(classes)
    return InitialState(with_weights(detector, state, fitted.tensors), is_detector, origin)


def check_source(config: ConfigDict) -> None:
    """Raise what can be said of `config.init` at once, without reading or downloading weights.

    ConfigError where source, format and part do not belong together, and CheckpointError for a
    source that is absent.
    """
    source, kind = config.init.source, config.init.format
    if not source:
        return
    if not named.is_name(source):
        _check_path(source, kind)
        return
    if config.init.what == "detector" and named.find(source).what == "backbone":
        raise ConfigError(
            f"{source} is a backbone without heads: set config.init.what=backbone, so that the "
            "rest starts from random weights"
        )
    _check_name(source, kind, config)


def _check_name(name: str, kind: str, config: ConfigDict) -> None:
    weights = named.find(name)
    if kind not in ("", weights.format):
        raise ConfigError(f"{name} has the format {weights.format}: leave out {kind}")
    check_normalization(config, *weights.pixels)


def _check_path(source: str, kind: str) -> Path:
    """The path of a source that is no name."""
    path = Path(source).expanduser()
    if not path.exists():
        raise CheckpointError(
            f"no weights at {source}: there is no such file or folder. A source of weights is a "
            "run folder, a weight file, or a name (ssd-jax weights lists them)"
        )
    if kind and path.is_dir():
        raise ConfigError(f"{source} is a folder: a run has no config.init.format")
    if not kind and path.is_file():
        raise ConfigError(f"{source} is a file: name its format in config.init.format")
    return path


def load_source(source: str, kind: str, config: ConfigDict) -> Source:
    """Weights of `config.init.source`: a run folder (`kind` ""), a file of a format, or a name.

    Raises CheckpointError for what is absent, cannot be read, or was trained on other pixels than
    `config.model` has, and ConfigError where source and format do not belong together.
    """
    if named.is_name(source):
        _check_name(source, kind, config)  # before it is downloaded
        file = named.fetch(source)
        return Source(_read_file(file.path, file.format, config), file.origin)
    path = _check_path(source, kind)
    if not kind:
        return _load_run(path)
    weights = _read_file(path, kind, config)
    return Source(weights, {"file": path.name, "sha256": file_sha256(path)})


def _load_run(folder: Path) -> Source:
    info = read_run_info(folder)
    run = restore_run(folder, info)
    params, batch_stats = (
        flatten_parameters(run.variables[name]) for name in ("params", "batch_stats")
    )
    weights = ImportedWeights(params, batch_stats, run.classes, run.detector.priors.boxes)
    origin = {"run": str(folder), "step": run.step}
    return Source(weights, origin | ({"weights": info.weights} if info.weights else {}))


def _read_file(path: Path, kind: str, config: ConfigDict) -> ImportedWeights:
    try:
        if kind == "npz":
            return files.parse_native(files.read_tensors(path))
        reader = importlib.import_module(f"ssd_jax.weights.{kind}")
        if kind in _BINARY_FORMATS:
            return reader.read(reader.tensors(path.read_bytes()), config)
        return reader.read(files.read_tensors(path), config)
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror})") from error
    except CheckpointError as error:
        raise CheckpointError(f"{error}\nin {path}, read as {kind}") from error


def fit_source(
    source: str,
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
