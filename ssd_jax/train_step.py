"""The training step: where network, matching, loss and optimizer meet.

`TrainState` is all that changes during a run, arrays only; a `Detector` is all that does not.
`train_step` is a plain function of both, so that either runner of `runtime/devices.py` compiles it.
"""

from functools import partial
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int
from ml_collections import ConfigDict

from ssd_jax.detector import (
    Detector,
    Variables,
    init_variables,
    jitter_colors,
    match_targets,
    normalize_images,
    per_image_losses,
)
from ssd_jax.models.platforms.reductions import finite_by_vector, global_norm
from ssd_jax.optimizer import (
    create_optimizer,
    frozen_batch_norms,
    learning_rate_schedule,
    stop_frozen_gradients,
    update_ema,
)
from ssd_jax.runtime import devices
from ssd_jax.types import Batch

Metrics = dict[str, Array]


class TrainState(flax.struct.PyTreeNode):
    """All that a step changes: trees of arrays (Orbax puts other leaves in their place)."""

    step: Any  # int32 []
    params: Any
    batch_stats: Any
    opt_state: optax.OptState
    ema: Any  # averaged params and batch_stats; {} without averaging
    skipped: Any  # int32 [], number of steps that changed nothing because of NaN or infinity
    consecutive_skipped: Any  # int32 [], how many of them since the last step that was not skipped


def init_state(detector: Detector) -> TrainState:
    """The state before the first step, with random weights from `config.seed`."""
    return state_of_variables(detector, init_variables(detector))


def state_of_variables(detector: Detector, variables: Variables) -> TrainState:
    """The state before the first step, with these weights."""
    config = detector.config
    optimizer = create_optimizer(config.optim, config.steps)
    return TrainState(
        step=jnp.int32(0),
        **variables,
        opt_state=optimizer.init(variables["params"]),
        ema=jax.tree.map(jnp.copy, variables) if config.optim.ema_decay else {},
        skipped=jnp.int32(0),
        consecutive_skipped=jnp.int32(0),
    )


def abstract_state(detector: Detector) -> TrainState:
    """Shapes and dtypes of the state, without computing it."""
    return jax.eval_shape(partial(init_state, detector))


def inference_variables(state: TrainState) -> Variables:
    """The variables to evaluate and predict with: the averages where they are kept."""
    return state.ema or {"params": state.params, "batch_stats": state.batch_stats}


def train_step(detector: Detector, state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
    """One training step on a batch of image, boxes, labels and sample (see `types`).

    Metrics are scalars of the whole global batch, except `per_image_loss` [B]: the undivided loss
    of each image, which tells which images made a loss non-finite. A step whose loss, gradient or
    batch statistics are not finite changes nothing but the counts of skipped steps. An overflow
    in the update itself is not seen here, since that would read the whole state once more: the
    next gradient is not finite then, and `all_finite` tells before a state is saved.
    """
    config = detector.config
    global_sum = partial(devices.global_sum, axis_name=detector.axis_name)
    images = normalize_images(detector, jitter_colors(detector, batch))
    targets = jax.vmap(partial(match_targets, detector))(batch["boxes"], batch["labels"])

    @jax.named_scope("loss")
    def total_loss(params):
        params = stop_frozen_gradients(params, config.optim.frozen)
        variables = {"params": params, "batch_stats": state.batch_stats}
        with frozen_batch_norms(config.optim.frozen):
            (logits, offsets), batch_stats = _apply_in_training(detector, variables, images)
        with jax.named_scope("loss"):
            loss = per_image_losses(detector, logits, offsets, targets, batch["sample"])
        weight = _loss_normalizers(detector, loss.positives)
        per_image = loss.classification + config.loss.localization_weight * loss.localization
        return (weight * per_image).sum(), (loss, weight, per_image, batch_stats)

    gradient, (loss, weight, per_image, batch_stats) = jax.grad(total_loss, has_aux=True)(
        state.params
    )
    with jax.named_scope("gradient_sum"):
        gradient = global_sum(gradient)
    with jax.named_scope("update"):
        optimizer = create_optimizer(config.optim, config.steps)
        updates, opt_state = optimizer.update(gradient, state.opt_state, state.params)
        new = {
            "params": optax.apply_updates(state.params, updates),
            "batch_stats": batch_stats,
        }
        new |= {"opt_state": opt_state, "ema": _ema(config.optim, state, new)}
    cls_loss = global_sum((weight * loss.classification).sum())
    loc_loss = global_sum((weight * loss.localization).sum())
    total = cls_loss + config.loss.localization_weight * loc_loss
    with jax.named_scope("metrics"):
        gradient_norm = global_norm(gradient)
    new_state = _skip_if_nonfinite(state, new, (total, gradient_norm, batch_stats))
    metrics = {
        "loss": total,
        "cls_loss": cls_loss,
        "loc_loss": loc_loss,
        "positives": global_sum(loss.positives.sum()),
        "negatives": global_sum(loss.negatives.sum()),
        "gradient_norm": gradient_norm,
        # A skipped step does not advance the optimizer's schedule.
        "learning_rate": learning_rate_schedule(config.optim, config.steps)(
            state.step - state.skipped
        ),
        "skipped": new_state.skipped,
        "consecutive_skipped": new_state.consecutive_skipped,
        "per_image_loss": per_image,
    }
    return new_state, metrics


def _apply_in_training(
    detector: Detector, variables: Variables, images: Float[Array, "B H W 3"]
) -> tuple[tuple[Float[Array, "B A C"], Float[Array, "B A 4"]], dict]:
    """Logits and offsets, and the new statistics of batch norms.

    With `model.norm_batch_size` a batch norm averages over so many images only, and the running
    statistics move by the mean of those of all groups of images (Hoffer et al., "Train longer,
    generalize better", arXiv:1705.08741, section 4).
    """

    def apply(images):
        outputs, updated = detector.model.apply(
            variables, images, train=True, mutable=["batch_stats"]
        )
        return outputs, updated.get("batch_stats", {})

    size = detector.config.model.norm_batch_size
    if not size:
        return apply(images)
    outputs, batch_stats = jax.vmap(apply)(images.reshape(-1, size, *images.shape[1:]))
    groups = devices.global_sum(jnp.float32(images.shape[0] // size), detector.axis_name)
    total = devices.global_sum(
        jax.tree.map(lambda leaf: leaf.sum(0), batch_stats), detector.axis_name
    )
    return (
        jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), outputs),
        jax.tree.map(lambda leaf: leaf / groups, total),
    )


def _loss_normalizers(detector: Detector, positives: Int[Array, " B"]) -> Float[Array, " B"]:
    """The factor of each image's loss.

    "batch": 1 / positives of the whole batch. "image": 1 / its own positives / number of images.
    """
    global_sum = partial(devices.global_sum, axis_name=detector.axis_name)
    if detector.config.loss.normalizer == "batch":
        total = jnp.maximum(global_sum(positives.sum()), 1)
        return jnp.broadcast_to(1 / total.astype(jnp.float32), positives.shape)
    images = global_sum(jnp.int32(positives.shape[0]))
    return 1 / (jnp.maximum(positives, 1) * images).astype(jnp.float32)


def _ema(config: ConfigDict, state: TrainState, new: dict) -> dict:
    if not config.ema_decay:
        return {}
    return update_ema(config.ema_decay, state.step, state.ema, new, config.ema_warmup)


@jax.named_scope("finite_check")
def _skip_if_nonfinite(state: TrainState, new: dict, checked: Any) -> TrainState:
    """The next state: with `new`, or unchanged where a number of `checked` is not finite."""
    finite = finite_by_vector(checked)  # many small leaves: one vector is fastest anywhere
    old = {name: getattr(state, name) for name in new}
    kept = jax.tree.map(lambda after, before: jnp.where(finite, after, before), new, old)
    return TrainState(
        step=state.step + 1,
        **kept,
        skipped=state.skipped + (~finite).astype(jnp.int32),
        consecutive_skipped=jnp.where(finite, 0, state.consecutive_skipped + 1),
    )
