"""The detector of a weight file of another project, in memory, or as a run at step 0."""

from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict

from ssd_jax.config import packaged
from ssd_jax.detector import Detector, abstract_variables, build_detector
from ssd_jax.errors import CheckpointError, ConfigError
from ssd_jax.multibox.priors import formula_sizes
from ssd_jax.parameter_names import parameter_name
from ssd_jax.runs import checkpoint
from ssd_jax.runs.folder import RunInfo, run_metadata, write_run_files
from ssd_jax.runs.load import LoadedRun, load_run
from ssd_jax.runs.lock import lock_run_folder
from ssd_jax.runtime.progress import log_line
from ssd_jax.train_step import TrainState, abstract_state
from ssd_jax.weights import named
from ssd_jax.weights.coco_classes import COCO_CLASSES
from ssd_jax.weights.imported import ImportedWeights
from ssd_jax.weights.initialize import fit_source, load_source, with_weights
from ssd_jax.weights.remap import is_class_column

# Of the image, between the file's priors and the config's: TensorFlow's differ by .005 from the
# formula, and those of COCO from those of PASCAL VOC by .015.
_MAX_PRIOR_DIFFERENCE = 0.01
_MAX_SIZE_DIFFERENCE = 1.5  # pixels: some rules round sizes down


class ImportedDetector(NamedTuple):
    """The detector of a weight file."""

    detector: Detector  # with the file's priors, where it has exact ones
    state: TrainState  # at step 0
    classes: tuple[str, ...]
    origin: dict[str, Any]  # of the weights, see `initialize.Source`
    report: list[str]  # lines of text for each part


def import_run(source: str, kind: str, config: ConfigDict | None, folder: Path) -> None:
    """Make `folder` a run at step 0 with the detector of `import_detector`, and print a report.

    Nothing is written before everything fits. Raises ConfigError for a folder that holds a run,
    and what `import_detector` raises.
    """
    if (folder / "run.json").exists():
        raise ConfigError(f"{folder} holds a run; choose another --workdir")
    found = import_detector(source, kind, config)
    config, priors = found.detector.config, found.detector.priors.boxes
    data = f"none, the weights are of {Path(source).name} ({found.origin['sha256'][:16]})"
    described = {"classes": found.classes, "data": data, "weights": found.origin}
    metadata = run_metadata(config) | described
    with (
        lock_run_folder(folder),
        checkpoint.Checkpoints(folder / "checkpoints", metadata=metadata) as checkpoints,
    ):
        write_run_files(folder, RunInfo(config, found.classes, data, priors), metadata)
        checkpoints.save(found.state, 0)
    log_line("\n".join([f"weights    {source}", *found.report, f"run        {folder}"]))


def import_detector(source: str, kind: str, config: ConfigDict | None) -> ImportedDetector:
    """The detector of a weight file, or of a name (`kind` "" then), for the config that is its own.

    `config` may be None for a name, which knows its config. Where neither the file nor the config
    names the classes and there are 90, they are COCO's. Raises CheckpointError where something
    does not fit, and ConfigError for a name without heads, and where the classes have no names.
    """
    if named.is_name(source):
        weights_entry = named.find(source)
        if weights_entry.what != "detector":
            raise ConfigError(
                f"{source} is a backbone without heads, which detects nothing: train from it, with "
                f"config.init.source={source} and config.init.what=backbone"
            )
        config = config or packaged.load_config(weights_entry.config)
    elif config is None or not kind:
        raise ConfigError(f"{source} is a file: name its --format, and the --config it is for")
    weights, origin = load_source(source, kind, config)
    named_classes = tuple(config.data.classes)
    classes = weights.classes or named_classes or _coco_classes(weights, config)
    if not classes:
        raise ConfigError(f"{source} has no class names: give them as config.data.classes")
    if named_classes and named_classes != classes:
        raise CheckpointError(
            f"{source} has classes {classes}, config.data.classes {named_classes}"
        )
    detector = build_detector(config, len(classes) + 1)
    blank = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), abstract_state(detector))
    # With the classes that the run will have: another number of columns is then an error.
    fitted = fit_source(source, weights._replace(classes=classes), blank, classes, "detector")
    if not (weights.classes or named_classes):
        fitted.report.append(f"  {'classes':13s}COCO's, by the number of columns")
    state = with_weights(detector, blank, fitted.tensors)
    if weights.prior_sizes:
        _check_prior_sizes(source, weights.prior_sizes, config)
    if weights.priors is not None:
        _check_priors(source, weights.priors, detector.priors.boxes)
        if weights.has_rounded_priors:
            fitted.report.append(
                "  priors       those of the config: the file rounds them to 8 bits"
            )
        else:
            priors = weights.priors.astype(np.float32)
            detector = detector._replace(priors=detector.priors._replace(boxes=priors))
    return ImportedDetector(detector, state, classes, origin, fitted.report)


def load_detector(source: str, which: str = "best") -> LoadedRun:
    """The detector of a run folder (`which` checkpoint), or of named weights as if of a run.

    Of named weights nothing is written but their file. Errors: those of `runs.load.load_run` or
    of `import_detector`.
    """
    if not named.is_name(source):
        return load_run(Path(source).expanduser(), which)
    found = import_detector(source, "", None)
    variables = {part: getattr(found.state, part) for part in abstract_variables(found.detector)}
    return LoadedRun(found.detector, variables, found.classes, 0)


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


def _check_prior_sizes(source: str, sizes: tuple[float, ...], config: ConfigDict) -> None:
    """Raise CheckpointError where the config has other sizes of priors than the file, in pixels."""
    levels = len(config.priors.aspect_ratios)
    own = config.priors.sizes or formula_sizes(
        config.priors.formula, min(config.image_size), levels
    )
    is_equal = len(sizes) == len(own) and (
        np.abs(np.subtract(sizes, own)).max() <= _MAX_SIZE_DIFFERENCE
    )
    if not is_equal:
        raise CheckpointError(
            f"{source}: its priors have the sizes {sizes}, and those of the config {tuple(own)}. "
            "Boxes would be wrong: start from the config that is the file's, or correct "
            "config.priors"
        )


def _check_priors(source: str, file_priors: np.ndarray, priors: np.ndarray) -> None:
    """Raise CheckpointError where the config's priors are not the file's, but for rounding."""
    if file_priors.shape != priors.shape:
        problem = f"are {len(file_priors)}, and those of the config {len(priors)}"
    else:
        is_far = ~(np.abs(file_priors - priors) <= _MAX_PRIOR_DIFFERENCE).all(axis=1)
        if not is_far.any():
            return
        at = int(is_far.argmax())
        problem = (
            f"are not those of the config: {is_far.sum()} of {len(priors)} differ, as prior {at}, "
            f"{file_priors[at].round(3).tolist()} there and {priors[at].round(3).tolist()} here"
        )
    raise CheckpointError(
        f"{source}: its priors {problem}. Boxes would be wrong: start from the config that is the "
        "file's, or correct config.priors"
    )
