"""A weight file of another project as a run at step 0."""

import hashlib
import math
from pathlib import Path

import jax
import numpy as np
from ml_collections import ConfigDict

from ssd_jax.detector import abstract_variables, build_detector
from ssd_jax.errors import CheckpointError, ConfigError
from ssd_jax.parameter_names import parameter_name
from ssd_jax.runs import checkpoint
from ssd_jax.runs.folder import RunInfo, run_metadata, write_run_files
from ssd_jax.runs.lock import lock_run_folder
from ssd_jax.runtime.progress import log_line
from ssd_jax.train_step import abstract_state
from ssd_jax.weights.coco_classes import COCO_CLASSES
from ssd_jax.weights.imported import ImportedWeights
from ssd_jax.weights.initialize import fit_source, load_weights, with_weights
from ssd_jax.weights.remap import is_class_column

_MAX_PRIOR_DIFFERENCE = 0.05  # of the image, between the file's priors and the config's


def import_run(source: Path, kind: str, config: ConfigDict, folder: Path) -> None:
    """Make `folder` a run at step 0 with the detector of a weight file, and print a report.

    Where neither the file nor the config names the classes and there are 90, they are COCO's.
    Nothing is written before everything fits. Raises CheckpointError where something does not
    fit, and ConfigError for a folder that holds a run, or where the classes have no names.
    """
    if (folder / "run.json").exists():
        raise ConfigError(f"{folder} holds a run; choose another --workdir")
    weights = load_weights(source, kind, config)
    named = tuple(config.data.classes)
    classes = weights.classes or named or _coco_classes(weights, config)
    if not classes:
        raise ConfigError(f"{source} has no class names: give them as config.data.classes")
    if named and named != classes:
        raise CheckpointError(f"{source} has classes {classes}, config.data.classes {named}")
    detector = build_detector(config, len(classes) + 1)
    blank = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), abstract_state(detector))
    # With the classes that the run will have: another number of columns is then an error.
    fitted = fit_source(source, weights._replace(classes=classes), blank, classes, "detector")
    if not (weights.classes or named):
        fitted.report.append(f"  {'classes':13s}COCO's, by the number of columns")
    state, priors = with_weights(detector, blank, fitted.tensors), detector.priors.boxes
    if weights.priors is not None:
        _check_priors(source, weights.priors, priors)
        priors = weights.priors.astype(np.float32)
    with source.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    origin = f"none, the weights are of {source.name} ({digest[:16]})"
    metadata = run_metadata(config) | {"classes": classes, "data": origin}
    with (
        lock_run_folder(folder),
        checkpoint.Checkpoints(folder / "checkpoints", metadata=metadata) as checkpoints,
    ):
        write_run_files(folder, RunInfo(config, classes, origin, priors), metadata)
        checkpoints.save(state, 0)
    log_line("\n".join([f"weights    {source}", *fitted.report, f"run        {folder}"]))


def _coco_classes(weights: ImportedWeights, config: ConfigDict) -> tuple[str, ...]:
    """COCO's names where the heads have as many columns, else ()."""
    params = abstract_variables(build_detector(config, len(COCO_CLASSES) + 1))["params"]
    like = {parameter_name(path): leaf for path, leaf in jax.tree.leaves_with_path(params)}
    fits = all(
        name in weights.params and weights.params[name].shape == leaf.shape
        for name, leaf in like.items()
        if is_class_column(name)
    )
    return COCO_CLASSES if fits else ()


def _check_priors(source: Path, file_priors: np.ndarray, priors: np.ndarray) -> None:
    is_close = (
        file_priors.shape == priors.shape
        and math.isfinite(difference := np.abs(file_priors - priors).max())
        and difference <= _MAX_PRIOR_DIFFERENCE
    )
    if not is_close:
        raise CheckpointError(
            f"{source}: its priors {list(file_priors.shape)} are not those of the config "
            f"{list(priors.shape)}; correct config.priors"
        )
