"""The weights that a run starts from: random ones, those of another run, or those of a file.

Whatever is loaded must fit: a tensor that is missing, that the model does not have, of another
shape or not finite is an error that names it. Only a backbone's file may lack the extra layers or
VGG's dense ones, each as a whole, and only heads may have other classes.
"""

import hashlib
import importlib
import math
import re
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from ssd_jax import checkpoint, evaluate, logs, optim, step, workdir
from ssd_jax.errors import CheckpointError, ConfigError
from ssd_jax.importers import files
from ssd_jax.importers.imported import COCO_CLASSES, Imported

_WHOLE_FILES = ("tflite", "caffe")  # one tensor format each; the others hold tensors by name
_EXTRA = re.compile(
    r"backbone/(extra\d+_\w+|conv4_3_norm|conv([6-9]|\d\d)_[12]|Conv2d_13_pointwise_[12]_\w+)/.*"
)
_DENSE = re.compile(r"backbone/fc[67]/.*")  # absent from files of VGG's convolutions alone
_BY_CLASS = re.compile(r"heads/classification_\d+/(kernel|bias)")
_NAMED = 3  # tensors, of those that are wrong

Tensors = dict[str, np.ndarray]


class Fitted(NamedTuple):
    """Tensors for a model, and in a line a group of them what happened."""

    tensors: Tensors
    report: list[str]


def first_state(detector: step.Detector, classes: tuple[str, ...]) -> step.State:
    """The state before the first step, as `config.init` says; `classes` without the background.

    Raises CheckpointError for weights that cannot be read or do not fit.
    """
    state, options = step.create_state(detector), detector.config.init
    if not options.source:
        return state
    weights = load(Path(options.source), options.format, detector.config)
    fitted = _fitted(Path(options.source), weights, state, classes, options.what)
    priors = weights.priors
    if priors is not None and not np.array_equal(priors, detector.priors.boxes):
        fitted.report.append("  priors       those of the config, not those that came with it")
    logs.say("\n".join([f"weights    {options.source}", *fitted.report]))
    return filled(detector, state, fitted.tensors)


def write_run(source: Path, kind: str, config: ConfigDict, folder: Path) -> None:
    """Make `folder` a run at step 0 that holds the detector of a weight file, and say so.

    Where neither the file nor the config names the classes and there are 90, they are COCO's.
    Nothing is written before everything fits. Raises CheckpointError where it does not, and
    ConfigError for a folder that holds a run or where nobody names the classes.
    """
    if (folder / "run.json").exists():
        raise ConfigError(f"{folder} holds a run; choose another --workdir")
    weights = load(source, kind, config)
    given = tuple(config.data.classes)
    classes = weights.classes or given or _coco_classes(weights, config)
    if not classes:
        raise ConfigError(f"{source} has no class names: give them as config.data.classes")
    if given and given != classes:
        raise CheckpointError(f"{source} has classes {classes}, config.data.classes {given}")
    detector = step.build(config, len(classes) + 1)
    blank = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), step.abstract_state(detector))
    # With the classes that the run will have, so that no column of another count is left blank.
    fitted = _fitted(source, weights._replace(classes=classes), blank, classes, "detector")
    if not (weights.classes or given):
        fitted.report.append(f"  {'classes':13s}COCO's, by the number of columns")
    state, priors = filled(detector, blank, fitted.tensors), detector.priors.boxes
    if weights.priors is not None:
        _check_priors(source, weights.priors, priors)
        priors = weights.priors.astype(np.float32)
    with source.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    origin = f"none, the weights are of {source.name} ({digest[:16]})"
    place, about = folder / "checkpoints", workdir.about(config)
    with workdir.lock(folder), checkpoint.Checkpoints(place, about=about) as checkpoints:
        workdir.begin(folder, workdir.Run(config, classes, origin, priors))
        checkpoints.save(state, 0)
    logs.say("\n".join([f"weights    {source}", *fitted.report, f"run        {folder}"]))


def _coco_classes(weights: Imported, config: ConfigDict) -> tuple[str, ...]:
    """COCO's names where the heads have as many columns, else ()."""
    count = len(COCO_CLASSES)
    params = step.abstract_state(step.build(config, count + 1)).params
    like = {optim.path_name(path): leaf for path, leaf in jax.tree.leaves_with_path(params)}
    fits = all(
        name in weights.params and weights.params[name].shape == leaf.shape
        for name, leaf in like.items()
        if _BY_CLASS.fullmatch(name)
    )
    return COCO_CLASSES if fits else ()


def load(source: Path, kind: str, config: ConfigDict) -> Imported:
    """Weights of a run folder (`kind` "") or of a weight file, by our names."""
    if not kind and source.is_file():
        raise ConfigError(f"{source} is a file: say of which kind by config.init.format")
    if not kind:
        detector, variables, classes, _ = evaluate.open_run(source)
        params, batch_stats = flat(variables["params"]), flat(variables["batch_stats"])
        return Imported(params, batch_stats, classes, detector.priors.boxes)
    try:
        if kind == "npz":
            return files.own(files.tensors(source))
        importer = importlib.import_module(f"ssd_jax.importers.{kind}")
        if kind in _WHOLE_FILES:
            return importer.read(importer.tensors(source.read_bytes()), config)
        return importer.read(files.tensors(source), config)
    except OSError as error:
        raise CheckpointError(f"{source}: cannot be read ({error.strerror})") from error
    except CheckpointError as error:
        raise CheckpointError(f"{error}\nin {source}, read as {kind}") from error


def fit(
    weights: Imported, like: Tensors, classes: tuple[str, ...], what: str = "detector"
) -> Fitted:
    """Tensors for a model that has those of `like`, of which those not loaded stay.

    `what` is "detector", or "backbone": then heads stay, and so do the extra layers where the
    file has none of them. Raises CheckpointError naming the first tensors that do not fit.
    """
    found = weights.params | weights.batch_stats
    optional = set()
    if what == "backbone":
        found = {name: value for name, value in found.items() if group(name) != "heads"}
        optional = {"heads", "extra layers", "dense layers"} - set(map(group, found))
    required = {name for name in like if group(name) not in optional}
    theirs = weights.classes or classes
    if not weights.classes and len(classes) != (count := _columns(found, like, len(classes) + 1)):
        theirs = tuple(f"#{i}" for i in range(1, count + 1))  # equal to none of ours
    loaded, problems = {}, []
    for name in sorted(required | found.keys()):
        value = found.get(name)
        if value is not None and name in like and _BY_CLASS.fullmatch(name):
            value = _by_class(value, like[name], theirs, classes)
        if problem := _problem(value, like.get(name)):
            problems.append(f"{name} {problem}")
        loaded[name] = value
    if problems:
        more = f"; and {len(problems) - _NAMED} more" if len(problems) > _NAMED else ""
        raise CheckpointError(
            f"{len(problems)} tensors do not fit the model: " + "; ".join(problems[:_NAMED]) + more
        )
    return Fitted(like | loaded, _report(weights, like, loaded, theirs, classes))


def filled(detector: step.Detector, state: step.State, tensors: Tensors) -> step.State:
    """`state` with these tensors, and an optimizer that has made no step."""

    def take(path, leaf):
        return jnp.asarray(tensors[optim.path_name(path)], leaf.dtype)

    variables = {"params": state.params, "batch_stats": state.batch_stats}
    variables = {kind: jax.tree.map_with_path(take, tree) for kind, tree in variables.items()}
    return state.replace(
        **variables,
        opt_state=detector.optimizer.init(variables["params"]),
        ema=jax.tree.map(jnp.copy, variables) if state.ema else {},
    )


def group(name: str) -> str:
    """Which part of the detector a tensor belongs to: what a file may lack as a whole, or not."""
    if name.startswith("heads/"):
        return "heads"
    if _DENSE.fullmatch(name):
        return "dense layers"
    return "extra layers" if _EXTRA.fullmatch(name) else "backbone"


def flat(tree: dict) -> Tensors:
    """A nested dict of arrays by path: "backbone/conv1_1/kernel"."""
    return {
        optim.path_name(path): np.asarray(leaf) for path, leaf in jax.tree.leaves_with_path(tree)
    }


def _fitted(source, weights, state, classes, what) -> Fitted:
    like = flat(state.params) | flat(state.batch_stats)
    try:
        return fit(weights, like, classes, what)
    except CheckpointError as error:
        raise CheckpointError(f"{source}: {error}") from error


def _problem(value: np.ndarray | None, like: np.ndarray | None) -> str:
    if value is None:
        return f"is absent, expected {list(like.shape)}"
    if like is None:
        return f"{list(value.shape)} is not of this model"
    if value.shape != like.shape:
        return f"is {list(value.shape)}, expected {list(like.shape)}"
    if value.dtype.kind != "f" or not np.isfinite(value).all():
        return "holds what is no finite number"
    return ""


def _columns(found: Tensors, like: Tensors, ours: int) -> int:
    """Classes of a file that does not name them, from the width of its heads."""
    for name, value in found.items():
        if _BY_CLASS.fullmatch(name) and name in like and value.ndim:
            per_cell = like[name].shape[-1] // ours
            if value.shape[-1] % per_cell == 0:
                return value.shape[-1] // per_cell - 1
    return ours - 1


def _by_class(value, like, theirs, ours) -> np.ndarray:
    """Columns [..., priors * C] for our classes: those of the same name; others say "rarely".

    A random column would be sure of much that is wrong, and its losses would shake the backbone.
    So it begins with kernel 0, and with the bias of a probability of .01 where scores are sigmoids
    (Lin et al., arXiv:1708.02002, section 3.3); a softmax is held low by the background.
    """
    per_cell = like.shape[-1] // (len(ours) + 1)
    if theirs == ours or value.shape != (*like.shape[:-1], per_cell * (len(theirs) + 1)):
        return value
    value = value.reshape(*value.shape[:-1], per_cell, -1)
    background, rare = value[..., 0], value[..., 1:].mean(axis=-1)
    named = [value[..., theirs.index(name) + 1] if name in theirs else rare for name in ours]
    return np.stack([background, *named], axis=-1).reshape(like.shape)


def _report(weights, like, loaded, theirs, ours) -> list[str]:
    lines = []
    for part in ("backbone", "dense layers", "extra layers", "heads"):
        names = [name for name in like if group(name) == part]
        have = [name for name in names if name in loaded]
        state = f"loaded, {len(have)} tensors" if have else "new"
        if part == "heads" and have and not weights.classes and theirs == ours:
            state += ", classes by position, since the file does not name them"
        elif part == "heads" and have and theirs != ours:
            kept = sum(name in theirs for name in ours)
            state = f"boxes, background and {kept} of {len(ours)} classes by name"
            state += "" if kept == len(ours) else ", the others as the mean of the file's"
        if names:
            lines.append(f"  {part:13s}{state}")
    for why in sorted(set(weights.left.values())):
        names = [name for name, reason in weights.left.items() if reason == why]
        more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
        lines.append(f"  {'left':13s}{', '.join(names[:_NAMED])}{more}: {why}")
    return lines


def _check_priors(source: Path, theirs: np.ndarray, ours: np.ndarray) -> None:
    fits = theirs.shape == ours.shape and math.isfinite(np.abs(theirs - ours).max())
    if not fits or np.abs(theirs - ours).max() > 0.05:
        raise CheckpointError(
            f"{source}: its priors {list(theirs.shape)} are not those of the config "
            f"{list(ours.shape)}; mend config.priors"
        )
