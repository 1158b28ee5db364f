"""Fitting tensors by name to a model: shapes, parts that may be missing, columns of classes.

A tensor that is missing, unknown to the model, of another shape or not finite is an error that
names it. A file of a backbone may lack all extra layers or all of VGG's dense layers, nothing else.
Only heads may have other classes.
"""

import re
from typing import NamedTuple

import numpy as np

from ssd_jax.errors import CheckpointError
from ssd_jax.weights.class_names import match_class_names
from ssd_jax.weights.coco_classes import COCO_CLASSES
from ssd_jax.weights.imported import ImportedWeights

_EXTRA_LAYERS = re.compile(
    r"backbone/(extra\d+_\w+|conv4_3_norm|conv([6-9]|\d\d)_[12]|Conv2d_13_pointwise_[12]_\w+)/.*"
)
_DENSE_LAYERS = re.compile(r"backbone/fc[67]/.*")  # missing in files of VGG's convolutions alone
_CLASS_COLUMNS = re.compile(r"heads/classification_\d+/(kernel|bias)")
_PARTS = ("backbone", "dense layers", "extra layers", "heads")
_MAX_LISTED = 3  # tensors in one message

Tensors = dict[str, np.ndarray]


class FittedWeights(NamedTuple):
    """Tensors for a model, and a line of text for each part of the detector."""

    tensors: Tensors
    report: list[str]
    file_classes: tuple[str, ...]  # of its columns; placeholders where the file does not name them


def fit_to_model(
    weights: ImportedWeights, like: Tensors, classes: tuple[str, ...], what: str = "detector"
) -> FittedWeights:
    """Tensors for a model that has those of `like`; those that are not loaded stay as they are.

    Args:
        weights: of a file or a run.
        like: the tensors of the model by name.
        classes: of the model, without the background.
        what: "detector"; or "backbone": the heads stay, and so do extra or dense layers where the
            file has none of them.

    Raises:
        CheckpointError: tensors that do not fit, with the names of the first.
    """
    tensors = weights.params | weights.batch_stats
    optional_parts = set()
    if what == "backbone":
        tensors = {k: v for k, v in tensors.items() if detector_part(k) != "heads"}
        optional_parts = {"heads", "extra layers", "dense layers"} - set(
            map(detector_part, tensors)
        )
    required = {name for name in like if detector_part(name) not in optional_parts}
    file_classes = _file_classes(weights, tensors, like, classes)
    loaded, errors = {}, []
    for name in sorted(required | tensors.keys()):
        value = tensors.get(name)
        if value is not None and name in like and is_class_column(name):
            value = remap_class_columns(value, like[name], file_classes, classes)
        if error := _tensor_error(value, like.get(name)):
            errors.append(f"{name} {error}")
        loaded[name] = value
    if errors:
        hidden = len(errors) - _MAX_LISTED
        more = f"; and {hidden} more" if hidden > 0 else ""
        raise CheckpointError(
            f"{len(errors)} tensors do not fit the model: {'; '.join(errors[:_MAX_LISTED])}{more}"
        )
    report = _report(weights, like, loaded, file_classes, classes)
    return FittedWeights(like | loaded, report, file_classes)


def detector_part(name: str) -> str:
    """Which part of the detector a tensor belongs to: heads, backbone, dense or extra layers."""
    if name.startswith("heads/"):
        return "heads"
    if _DENSE_LAYERS.fullmatch(name):
        return "dense layers"
    return "extra layers" if _EXTRA_LAYERS.fullmatch(name) else "backbone"


def is_class_column(name: str) -> bool:
    """Whether a tensor of this name has a column for each class."""
    return bool(_CLASS_COLUMNS.fullmatch(name))


def remap_class_columns(
    value: np.ndarray,
    like: np.ndarray,
    file_classes: tuple[str, ...],
    classes: tuple[str, ...],
) -> np.ndarray:
    """Columns [..., priors * C] for `classes`: those of the same class by `match_class_names`, the
    background's, and the mean over the file's classes for every other class.

    A random column would predict confidently wrong scores and cause large early gradients.
    """
    per_location = like.shape[-1] // (len(classes) + 1)
    expected = (*like.shape[:-1], per_location * (len(file_classes) + 1))
    if file_classes == classes or value.shape != expected:
        return value
    value = value.reshape(*value.shape[:-1], per_location, -1)
    background, mean = value[..., 0], value[..., 1:].mean(axis=-1)
    matched = match_class_names(classes, file_classes)
    columns = [
        value[..., file_classes.index(matched[name]) + 1] if name in matched else mean
        for name in classes
    ]
    return np.stack([background, *columns], axis=-1).reshape(like.shape)


def _file_classes(
    weights: ImportedWeights, tensors: Tensors, like: Tensors, classes: tuple[str, ...]
) -> tuple[str, ...]:
    """Classes of the file. Without names: those of the model where there are as many columns,
    COCO's where there are 90, else placeholders that equal no name."""
    if weights.classes:
        return weights.classes
    count = _count_class_columns(tensors, like, len(classes) + 1)
    if count == len(classes):
        return classes
    if count == len(COCO_CLASSES):
        return COCO_CLASSES
    return tuple(f"#{i}" for i in range(1, count + 1))


def _count_class_columns(tensors: Tensors, like: Tensors, columns: int) -> int:
    """Number of classes of a file that does not name them, from the width of its heads."""
    for name, value in tensors.items():
        if is_class_column(name) and name in like and value.ndim:
            per_location = like[name].shape[-1] // columns
            if value.shape[-1] % per_location == 0:
                return value.shape[-1] // per_location - 1
    return columns - 1


def _tensor_error(value: np.ndarray | None, like: np.ndarray | None) -> str:
    if value is None:
        return f"is absent, expected {list(like.shape)}"
    if like is None:
        return f"{list(value.shape)} is not of this model"
    if value.shape != like.shape:
        return f"is {list(value.shape)}, expected {list(like.shape)}"
    if value.dtype.kind != "f" or not np.isfinite(value).all():
        return "has numbers that are not finite"
    return ""


def _report(weights, like, loaded, file_classes, classes) -> list[str]:
    lines: list[str] = []
    synonyms: list[str] = []
    new: list[str] = []
    for part in _PARTS:
        names = [name for name in like if detector_part(name) == part]
        count = sum(name in loaded for name in names)
        text = f"loaded, {count} tensors" if count else "new"
        if part == "heads" and count and not weights.classes and file_classes == classes:
            text += ", classes by position, since the file does not name them"
        elif part == "heads" and count and file_classes != classes:
            matched = match_class_names(classes, file_classes)
            text = f"boxes, background and {len(matched)} of {len(classes)} classes by name"
            synonyms = [f"{name} = {other}" for name, other in matched.items() if name != other]
            new = [name for name in classes if name not in matched]
        if names:
            lines.append(f"  {part:13s}{text}")
    if synonyms:
        lines.append(f"  {'same class':13s}{', '.join(synonyms)}")
    if new:
        lines.append(f"  {'new classes':13s}{', '.join(new)}: each as the mean of the file's")
    for reason in sorted(set(weights.unused.values())):
        names = [name for name, why in weights.unused.items() if why == reason]
        more = f" and {len(names) - _MAX_LISTED} more" if len(names) > _MAX_LISTED else ""
        lines.append(f"  {'unused':13s}{', '.join(names[:_MAX_LISTED])}{more}: {reason}")
    return lines
