"""Detector: config and classes -> network and priors; images -> detections.

It holds all that a step needs and does not change. What only model, data and devices together can
tell of a config is checked here too, before anything is compiled.
"""

import difflib
from collections.abc import Mapping
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float, Int, UInt8
from ml_collections import ConfigDict

from ssd_jax.data import color
from ssd_jax.errors import ConfigError
from ssd_jax.models import ssd
from ssd_jax.multibox import losses, matching, postprocess
from ssd_jax.multibox.priors import Priors, make_priors
from ssd_jax.parameter_names import matches_any, parameter_names
from ssd_jax.runtime import devices
from ssd_jax.types import Batch, Detections, Targets

Variables = dict  # {"params": …, "batch_stats": …}, what the network is applied with


class Detector(NamedTuple):
    """An experiment's network and priors; `axis_name` is pmap's, None outside it."""

    config: ConfigDict
    model: nn.Module
    priors: Priors
    axis_name: str | None


def build_detector(config: ConfigDict, num_classes: int, axis_name: str | None = None) -> Detector:
    """The detector of an experiment for `num_classes` classes, background included.

    Raises ConfigError where model, images and tables of priors do not fit each other.
    """
    map_sizes = ssd.feature_map_sizes(config.model, config.image_size)
    priors = make_priors(config.priors, config.image_size, map_sizes)
    norm_axis = None if config.model.norm_batch_size else axis_name
    network = ssd.build_network(config.model, num_classes, priors.priors_per_location, norm_axis)
    return Detector(config, network, priors, axis_name)


def build_checked_detector(
    config: ConfigDict,
    train_classes: tuple[str, ...],
    other_classes: Mapping[str, tuple[str, ...]],
    axis_name: str | None = None,
) -> Detector:
    """`build_detector` for the classes of the data, which do not name the background.

    `other_classes` are those of the validation and the test set, by name. Raises ConfigError with a
    line for each problem: batch size and devices, classes of the sets, model and images, tables of
    priors and feature maps, patterns of parameter names.
    """
    problems = class_list_errors(config, train_classes, other_classes)
    try:
        devices.check_batch_size(config.batch_size, config.model.norm_batch_size)
    except ConfigError as error:
        problems.append(str(error))
    try:
        detector = build_detector(config, len(train_classes) + 1, axis_name)
        problems += _pattern_errors(config.optim, detector_parameter_names(detector))
    except ConfigError as error:
        problems.append(str(error))
    if problems:
        raise ConfigError("\n".join(problems))
    return detector


def init_variables(detector: Detector) -> Variables:
    """Random weights from `config.seed`, computed on the CPU: the same for any accelerator."""
    init = jax.jit(partial(detector.model.init, train=False))
    with devices.on_cpu():
        images = jnp.zeros((1, *detector.config.image_size, 3), jnp.float32)
        # With the default generator XLA:CPU takes ten seconds to compile some shapes of kernels.
        key = jax.random.key(detector.config.seed, impl="rbg")  # its numbers differ by platform
        return {"batch_stats": {}} | init(key, images)


def abstract_variables(detector: Detector) -> Variables:
    """Shapes and dtypes of the variables, without computing them."""
    return jax.eval_shape(partial(init_variables, detector))


def detector_parameter_names(detector: Detector) -> list[str]:
    """The name of each parameter, as `backbone/conv1_1/kernel`, without computing any."""
    return jax.tree.leaves(parameter_names(abstract_variables(detector)["params"]))


def predict(
    detector: Detector, variables: Variables, images: UInt8[Array, "B H W 3"]
) -> Detections:
    """Detections [B, K, …] of images that already have the network's input size."""
    return _detect(detector, *apply_network(detector, variables, images))


def predict_with_losses(
    detector: Detector, variables: Variables, batch: Batch
) -> tuple[Detections, losses.MultiboxLoss]:
    """Detections [B, K, …] and undivided losses [B] of image, boxes, labels and image_id.

    The network is applied once. Boxes and labels are those of a training batch (see `types`).
    Negatives at random follow the number of the image.
    """
    logits, offsets = apply_network(detector, variables, batch["image"])
    targets = jax.vmap(partial(match_targets, detector))(batch["boxes"], batch["labels"])
    with jax.named_scope("loss"):
        loss = per_image_losses(detector, logits, offsets, targets, batch["image_id"])
    return _detect(detector, logits, offsets), loss


def _detect(
    detector: Detector, logits: Float[Array, "B A C"], offsets: Float[Array, "B A 4"]
) -> Detections:
    config = detector.config
    return postprocess.detect(
        logits, offsets, jnp.asarray(detector.priors.boxes),
        variances=config.matching.variances, classification=config.loss.classification,
        **config.postprocess,
    )  # fmt: skip


def apply_network(
    detector: Detector, variables: Variables, images: UInt8[Array, "B H W 3"]
) -> tuple[Float[Array, "B A C"], Float[Array, "B A 4"]]:
    """Logits and offsets of images 0 … 255 that have the network's input size."""
    images = normalize_images(detector, images.astype(jnp.float32))
    return detector.model.apply(variables, images, train=False)


@jax.named_scope("match")
def match_targets(
    detector: Detector, boxes: Float[Array, "M 4"], labels: Int[Array, " M"]
) -> Targets:
    """Targets of one image's padded ground truth, by the rules of the experiment."""
    options = detector.config.matching
    return matching.match(
        boxes, labels, jnp.asarray(detector.priors.boxes),
        threshold=options.threshold, matcher=options.matcher, variances=options.variances,
        negative_threshold=options.negative_threshold,
        conflict_resolution=options.conflict_resolution, strict=options.strict,
    )  # fmt: skip


def per_image_losses(
    detector: Detector,
    logits: Float[Array, "B A C"],
    offsets: Float[Array, "B A 4"],
    targets: Targets,
    samples: Int[Array, " B"],
) -> losses.MultiboxLoss:
    """Undivided losses [B] by the rules of the experiment; `samples` key negatives at random."""
    options = detector.config.loss
    loss = partial(
        losses.multibox_loss,
        negative_ratio=None if options.negatives == "all" else options.negative_ratio,
        classification=options.classification, focal=losses.Focal(**options.focal),
    )  # fmt: skip
    if options.negatives != "random":
        return jax.vmap(loss)(logits, offsets, *targets)
    keys = jax.vmap(lambda key: jax.random.fold_in(key, 1))(sample_keys(detector, samples))
    scores = jax.vmap(lambda key: jax.random.uniform(key, logits.shape[1:2]))(keys)  # [B, A]
    return jax.vmap(lambda *arrays: loss(*arrays[:-1], random_scores=arrays[-1]))(
        logits, offsets, *targets, scores
    )


@jax.named_scope("photometric")
def jitter_colors(detector: Detector, batch: Batch) -> Float[Array, "B H W 3"]:
    """Images 0 … 255 of a training batch after color jitter, keyed by their sample numbers."""
    config = detector.config
    images = jnp.asarray(batch["image"], jnp.float32)
    if not config.augment.photometric.operations:
        return images
    keys = sample_keys(detector, jnp.asarray(batch["sample"]))
    return color.jitter(keys, images, config.augment.photometric)


def sample_keys(detector: Detector, samples: Int[Array, " B"]) -> Array:
    """A random key for each global sample number: the same on any device."""
    return jax.vmap(partial(jax.random.fold_in, jax.random.key(detector.config.seed)))(samples)


@jax.named_scope("normalize")
def normalize_images(
    detector: Detector, images: Float[Array, "B H W 3"]
) -> Float[Array, "B H W 3"]:
    """(images - mean) / std of the experiment, in the dtype of the network."""
    config = detector.config.model
    return color.normalize(images, config.mean, config.std, jnp.dtype(config.dtype))


def class_list_errors(
    config: ConfigDict,
    train_classes: tuple[str, ...],
    other_classes: Mapping[str, tuple[str, ...]],
) -> list[str]:
    """Why a detector of the training set's classes cannot be scored on those of val or test."""
    named, train = tuple(config.data.classes), tuple(train_classes)
    problems = []
    if not train:
        problems.append(f"config.data.train={config.data.train} has no class: name another set")
    if named and named != train:
        problems.append(
            f"config.data.classes={named} are not those of config.data.train: {train}; "
            "write () to take these"
        )
    for which, other in other_classes.items():
        field = f"config.data.{which}={config.data[which]}"
        if missing := [name for name in other if name not in train]:
            problems.append(
                f"{field} has {', '.join(missing)}, which config.data.train lacks: score the same "
                "classes"
            )
        elif tuple(other) != train[: len(other)]:
            problems.append(
                f"{field} orders the classes as {', '.join(other)}, the training set as "
                f"{', '.join(train)}: give both one order in config.data.classes"
            )
    return problems


def _pattern_errors(config: ConfigDict, names: list[str]) -> list[str]:
    """Patterns that match no parameter, and a network that is frozen as a whole."""
    problems = []
    for field in ("weight_decay_params", "frozen"):
        for pattern in config[field]:
            if not any(matches_any(name, (pattern,)) for name in names):
                (nearest,) = difflib.get_close_matches(pattern, names, n=1, cutoff=0)
                problems.append(
                    f"config.optim.{field} has {pattern!r}, which matches no parameter: a name is "
                    f"{nearest}, and * stands for any part"
                )
    if all(matches_any(name, config.frozen) for name in names):
        problems.append(
            f"config.optim.frozen={config.frozen} leaves no parameter to train: remove some"
        )
    return problems
