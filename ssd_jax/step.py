"""The step: where model, priors, matching, loss, optimizer and postprocess meet.

A `Detector` is everything about an experiment that does not change while it runs; `State` is
all that does, arrays only. `train_step` and `predict` are plain functions of both, so that any
runner of `parallel.py` can compile them.
"""

from functools import partial
from typing import Any, NamedTuple

import flax.struct
import jax
import jax.numpy as jnp
import optax
from flax import linen as nn
from jaxtyping import Array, Float, UInt8
from ml_collections import ConfigDict

from ssd_jax import losses, matching, optim, parallel, photometric, postprocess
from ssd_jax import priors as prior_table
from ssd_jax.models import ssd

Metrics = dict[str, Array]


class State(flax.struct.PyTreeNode):
    """All that a step changes."""

    step: Any  # int32 []
    params: dict
    batch_stats: dict
    opt_state: optax.OptState


class Detector(NamedTuple):
    """All that a step needs and leaves as it is; `axis_name` is pmap's, None outside it."""

    config: ConfigDict
    model: nn.Module
    priors: prior_table.Priors
    optimizer: optax.GradientTransformation
    axis_name: str | None


def build(config: ConfigDict, num_classes: int, axis_name: str | None = None) -> Detector:
    """The detector of an experiment for `num_classes` classes, background included."""
    maps = ssd.feature_sizes(config.model, config.image_size)
    priors = prior_table.make(config.priors, config.image_size, maps)
    return Detector(
        config=config,
        model=ssd.build(config.model, num_classes, priors.per_cell, axis_name),
        priors=priors,
        optimizer=optim.make(config.optim, config.steps),
        axis_name=axis_name,
    )


def create_state(detector: Detector) -> State:
    """The state before the first step, from `config.seed` (other weights on other platforms)."""
    images = jnp.zeros((1, *detector.config.image_size, 3), jnp.float32)
    init = jax.jit(partial(detector.model.init, train=False))
    # Some shapes of kernels take XLA:CPU ten seconds to compile with the default generator.
    variables = init(jax.random.key(detector.config.seed, impl="rbg"), images)
    return State(
        step=jnp.int32(0),
        params=variables["params"],
        batch_stats=variables.get("batch_stats", {}),
        opt_state=detector.optimizer.init(variables["params"]),
    )


def abstract_state(detector: Detector) -> State:
    """Shapes and dtypes of the state, without computing it."""
    return jax.eval_shape(partial(create_state, detector))


def train_step(detector: Detector, state: State, batch: dict) -> tuple[State, Metrics]:
    """One step of training on a batch (see the contracts: image, boxes, labels, sample).

    Metrics are scalars of the whole global batch, but for `image_loss` [B]: the undivided loss
    of each image, which names the guilty one when a loss is not finite.
    """
    config = detector.config
    global_sum = partial(parallel.global_sum, axis_name=detector.axis_name)
    images = _normalized(detector, distorted(detector, batch))
    targets = jax.vmap(partial(_targets, detector))(batch["boxes"], batch["labels"])

    def total_loss(params):
        variables = {"params": params, "batch_stats": state.batch_stats}
        (logits, offsets), updated = detector.model.apply(
            variables, images, train=True, mutable=["batch_stats"]
        )
        loss = jax.vmap(partial(losses.multibox, negative_ratio=config.loss.negative_ratio))(
            logits, offsets, targets.labels, targets.offsets
        )
        image_loss = loss.classification + config.loss.localization_weight * loss.localization
        positives = global_sum(loss.positives.sum())
        share = image_loss.sum() / jnp.maximum(positives, 1).astype(jnp.float32)
        return share, (loss, image_loss, positives, updated.get("batch_stats", {}))

    gradient, (loss, image_loss, positives, batch_stats) = jax.grad(total_loss, has_aux=True)(
        state.params
    )
    gradient = global_sum(gradient)
    updates, opt_state = detector.optimizer.update(gradient, state.opt_state, state.params)
    new_state = State(
        step=state.step + 1,
        params=optax.apply_updates(state.params, updates),
        batch_stats=batch_stats,
        opt_state=opt_state,
    )
    count = jnp.maximum(positives, 1).astype(jnp.float32)
    classification = global_sum(loss.classification.sum()) / count
    localization = global_sum(loss.localization.sum()) / count
    metrics = {
        "loss": classification + config.loss.localization_weight * localization,
        "classification": classification,
        "localization": localization,
        "positives": positives,
        "negatives": global_sum(loss.negatives.sum()),
        "gradient_norm": optax.tree.norm(gradient),
        "learning_rate": optim.schedule(config.optim, config.steps)(state.step),
        "image_loss": image_loss,
    }
    return new_state, metrics


def predict(
    detector: Detector, variables: dict, images: UInt8[Array, "B H W 3"]
) -> postprocess.Detections:
    """Detections [B, K, …] of images that already have the network's input size."""
    config = detector.config
    images = _normalized(detector, images.astype(jnp.float32))
    logits, offsets = detector.model.apply(variables, images, train=False)
    options = dict(config.postprocess)
    detect = partial(
        postprocess.detect, priors=jnp.asarray(detector.priors.boxes),
        variances=config.matching.variances, **options,
    )  # fmt: skip
    return jax.vmap(detect)(logits, offsets)


def variables(state: State) -> dict:
    """What `predict` needs of a state."""
    return {"params": state.params, "batch_stats": state.batch_stats}


def _targets(detector: Detector, boxes, labels) -> matching.Targets:
    options = detector.config.matching
    return matching.match(
        boxes, labels, jnp.asarray(detector.priors.boxes),
        threshold=options.threshold, matcher=options.matcher, variances=options.variances,
    )  # fmt: skip


def distorted(detector: Detector, batch: dict) -> Float[Array, "B H W 3"]:
    """Images 0 … 255 after photometric distortion, each keyed by its sample number."""
    config = detector.config
    images = jnp.asarray(batch["image"], jnp.float32)
    if not config.augment.photometric.operations:
        return images
    seed = jax.random.key(config.seed)
    keys = jax.vmap(partial(jax.random.fold_in, seed))(batch["sample"])
    return photometric.distort(keys, images, config.augment.photometric)


def _normalized(detector: Detector, images: Float[Array, "B H W 3"]) -> Float[Array, "B H W 3"]:
    config = detector.config.model
    return photometric.normalize(images, config.mean, config.std, jnp.dtype(config.dtype))
