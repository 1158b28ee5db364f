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
from jax import lax
from jaxtyping import Array, Float, Int, UInt8
from ml_collections import ConfigDict

from ssd_jax import losses, matching, optim, parallel, photometric, postprocess
from ssd_jax import priors as prior_table
from ssd_jax.models import ssd

Metrics = dict[str, Array]


class State(flax.struct.PyTreeNode):
    """All that a step changes: trees of arrays (Orbax puts other things in their place)."""

    step: Any  # int32 []
    params: Any
    batch_stats: Any
    opt_state: optax.OptState
    ema: Any  # averaged params and batch_stats; {} without averaging
    skipped: Any  # int32 [], steps left out because something was not finite
    skipped_in_a_row: Any  # int32 [], of those the last ones without a good step between


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
    variables = {"batch_stats": {}} | init(jax.random.key(detector.config.seed, impl="rbg"), images)
    return State(
        step=jnp.int32(0),
        **variables,
        opt_state=detector.optimizer.init(variables["params"]),
        ema=jax.tree.map(jnp.copy, variables) if detector.config.optim.ema else {},
        skipped=jnp.int32(0),
        skipped_in_a_row=jnp.int32(0),
    )


def abstract_state(detector: Detector) -> State:
    """Shapes and dtypes of the state, without computing it."""
    return jax.eval_shape(partial(create_state, detector))


def train_step(detector: Detector, state: State, batch: dict) -> tuple[State, Metrics]:
    """One step of training on a batch (see the contracts: image, boxes, labels, sample).

    Metrics are scalars of the whole global batch, but for `image_loss` [B]: the undivided loss
    of each image, which names the guilty one when a loss is not finite. A step after which any
    number of the state would not be finite changes nothing but the counts.
    """
    config = detector.config
    global_sum = partial(parallel.global_sum, axis_name=detector.axis_name)
    images = _normalized(detector, distorted(detector, batch))
    targets = jax.vmap(partial(matched, detector))(batch["boxes"], batch["labels"])
    frozen = optim.named(state.params, config.optim.frozen)

    def total_loss(params):
        params = jax.tree.map(lambda p, still: lax.stop_gradient(p) if still else p, params, frozen)
        variables = {"params": params, "batch_stats": state.batch_stats}
        with ssd.frozen_norms(config.optim.frozen):
            (logits, offsets), updated = detector.model.apply(
                variables, images, train=True, mutable=["batch_stats"]
            )
        with jax.named_scope("loss"):
            loss = _loss(detector, logits, offsets, targets, batch["sample"])
        weight = _image_weights(detector, loss.positives)
        image_loss = loss.classification + config.loss.localization_weight * loss.localization
        return (weight * image_loss).sum(), (loss, weight, image_loss, updated)

    gradient, (loss, weight, image_loss, updated) = jax.grad(total_loss, has_aux=True)(state.params)
    gradient = global_sum(gradient)
    with jax.named_scope("update"):
        updates, opt_state = detector.optimizer.update(gradient, state.opt_state, state.params)
        new = {
            "params": optax.apply_updates(state.params, updates),
            "batch_stats": updated.get("batch_stats", {}),
        }
        new |= {"opt_state": opt_state, "ema": _averaged(config.optim.ema, state, new)}
    classification = global_sum((weight * loss.classification).sum())
    localization = global_sum((weight * loss.localization).sum())
    total = classification + config.loss.localization_weight * localization
    new_state = _if_finite(state, new, total)
    metrics = {
        "loss": total,
        "classification": classification,
        "localization": localization,
        "positives": global_sum(loss.positives.sum()),
        "negatives": global_sum(loss.negatives.sum()),
        "gradient_norm": optim.norm(gradient),
        "learning_rate": optim.schedule(config.optim, config.steps)(state.step),
        "skipped": new_state.skipped,
        "skipped_in_a_row": new_state.skipped_in_a_row,
        "image_loss": image_loss,
    }
    return new_state, metrics


def _loss(detector: Detector, logits, offsets, targets, samples) -> losses.Loss:
    """Undivided losses [B]."""
    options = detector.config.loss
    loss = partial(
        losses.multibox,
        negative_ratio=options.negative_ratio, classification=options.classification,
    )  # fmt: skip
    if options.negatives == "hard":
        return jax.vmap(loss)(logits, offsets, *targets)
    keys = jax.vmap(lambda key: jax.random.fold_in(key, 1))(_sample_keys(detector, samples))
    draws = jax.vmap(lambda key: jax.random.uniform(key, logits.shape[1:2]))(keys)
    return jax.vmap(lambda *arrays: loss(*arrays[:-1], draws=arrays[-1]))(
        logits, offsets, *targets, draws
    )


def _image_weights(detector: Detector, positives: Int[Array, " B"]) -> Float[Array, " B"]:
    """What an image's loss counts: 1 / positives of the whole batch, or its own mean's share."""
    global_sum = partial(parallel.global_sum, axis_name=detector.axis_name)
    if detector.config.loss.normalizer == "batch":
        total = jnp.maximum(global_sum(positives.sum()), 1)
        return jnp.broadcast_to(1 / total.astype(jnp.float32), positives.shape)
    images = global_sum(jnp.int32(positives.shape[0]))
    return 1 / (jnp.maximum(positives, 1) * images).astype(jnp.float32)


def _averaged(decay: float, state: State, new: dict) -> dict:
    """Exponential moving average; young averages forget faster (TensorFlow's rule)."""
    if not decay:
        return {}
    age = state.step.astype(jnp.float32)
    kept = jnp.minimum(decay, (1 + age) / (10 + age))
    return jax.tree.map(lambda old, now: kept * old + (1 - kept) * now, state.ema, new)


def _if_finite(state: State, new: dict, loss: Float[Array, ""]) -> State:
    """The next state with `new` in it, unless a number of it or the loss is not finite."""
    finite = jnp.isfinite(optim.flat((new, loss))).all()
    old = {name: getattr(state, name) for name in new}
    kept = jax.tree.map(lambda now, before: jnp.where(finite, now, before), new, old)
    return State(
        step=state.step + 1,
        **kept,
        skipped=state.skipped + (~finite).astype(jnp.int32),
        skipped_in_a_row=jnp.where(finite, 0, state.skipped_in_a_row + 1),
    )


def predict(
    detector: Detector, variables: dict, images: UInt8[Array, "B H W 3"]
) -> postprocess.Detections:
    """Detections [B, K, …] of images that already have the network's input size."""
    config = detector.config
    images = _normalized(detector, images.astype(jnp.float32))
    logits, offsets = detector.model.apply(variables, images, train=False)
    detect = partial(
        postprocess.detect, priors=jnp.asarray(detector.priors.boxes),
        variances=config.matching.variances, classification=config.loss.classification,
        **config.postprocess,
    )  # fmt: skip
    return jax.vmap(detect)(logits, offsets)


def variables(state: State) -> dict:
    """What `predict` needs of a state: the averages where they are kept."""
    return state.ema or {"params": state.params, "batch_stats": state.batch_stats}


@jax.named_scope("match")
def matched(detector: Detector, boxes, labels) -> matching.Targets:
    """Targets of the truths [M, 4], [M] of one image, by the rules of the experiment."""
    options = detector.config.matching
    return matching.match(
        boxes, labels, jnp.asarray(detector.priors.boxes),
        threshold=options.threshold, matcher=options.matcher, variances=options.variances,
        negative_threshold=options.negative_threshold, contested=options.contested,
        strict=options.strict,
    )  # fmt: skip


def distorted(detector: Detector, batch: dict) -> Float[Array, "B H W 3"]:
    """Images 0 … 255 after photometric distortion, each keyed by its sample number."""
    config = detector.config
    images = jnp.asarray(batch["image"], jnp.float32)
    if not config.augment.photometric.operations:
        return images
    keys = _sample_keys(detector, jnp.asarray(batch["sample"]))
    return photometric.distort(keys, images, config.augment.photometric)


def _sample_keys(detector: Detector, samples: Int[Array, " B"]) -> Array:
    """A random key for each global sample number: the same on any device."""
    return jax.vmap(partial(jax.random.fold_in, jax.random.key(detector.config.seed)))(samples)


def _normalized(detector: Detector, images: Float[Array, "B H W 3"]) -> Float[Array, "B H W 3"]:
    config = detector.config.model
    return photometric.normalize(images, config.mean, config.std, jnp.dtype(config.dtype))
