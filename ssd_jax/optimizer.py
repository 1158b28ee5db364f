"""Optimizer: learning rate schedule, update rule, decayed and frozen parameters, EMA."""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Int
from ml_collections import ConfigDict

from ssd_jax.models.batch_norm import BatchNormVariables
from ssd_jax.models.platforms.reductions import global_norm
from ssd_jax.parameter_names import matches_any, parameter_mask


def learning_rate_schedule(config: ConfigDict, steps: int) -> optax.Schedule:
    """Learning rate by step: linear warm-up, then the schedule of the config up to `steps`.

    "step" multiplies by `lr_decay_rate` at each of `lr_decay_fractions` (of `steps`, as the paper's
    80k and 100k of 120k); "cosine" falls to zero at `steps`. `config` is the `optim` block.
    """
    peak, warmup = config.learning_rate, config.warmup_steps
    if config.schedule == "step":
        boundaries = {
            round(fraction * steps) - warmup: config.lr_decay_rate
            for fraction in config.lr_decay_fractions
        }
        after_warmup = optax.piecewise_constant_schedule(peak, boundaries)
    else:
        after_warmup = optax.cosine_decay_schedule(peak, max(steps - warmup, 1))
    schedule = after_warmup
    if warmup:
        ramp = optax.linear_schedule(0.0, peak, warmup)
        schedule = optax.join_schedules([ramp, after_warmup], [warmup])
    # Optax mixes integer steps with floats, which strict dtype promotion refuses.
    return lambda step: schedule(jnp.asarray(step, jnp.float32))


def create_optimizer(config: ConfigDict, steps: int) -> optax.GradientTransformation:
    """SGD with momentum and L2 decay (paper section 3), or TensorFlow's RMSProp.

    L2 decay is added before momentum, for parameters that match `weight_decay_params` and are not
    frozen. Updates of biases are multiplied by `bias_lr_multiplier`. A positive `clip_norm` limits
    the norm of the gradient over all parameters. Frozen parameters must have no gradient
    (`stop_frozen_gradients`). `config` is the `optim` block.
    """
    learning_rate = learning_rate_schedule(config, steps)
    if config.name == "rmsprop":
        # TensorFlow: mean squares begin at 1, and epsilon is under the root.
        update_rule = optax.rmsprop(
            learning_rate, config.rmsprop.decay, config.rmsprop.epsilon, initial_scale=1.0,
            momentum=config.momentum,
        )  # fmt: skip
    else:
        update_rule = optax.sgd(learning_rate, momentum=config.momentum)

    def weight_decay_mask(params: dict) -> dict:
        decayed = parameter_mask(params, config.weight_decay_params)
        frozen = parameter_mask(params, config.frozen)
        return jax.tree.map(lambda decay, freeze: decay and not freeze, decayed, frozen)

    parts = [
        _clip_by_global_norm(config.clip_norm) if config.clip_norm else None,
        optax.add_decayed_weights(config.weight_decay, mask=weight_decay_mask),
        update_rule,
        _scale_bias_updates(config.bias_lr_multiplier) if config.bias_lr_multiplier != 1 else None,
    ]
    return optax.chain(*[part for part in parts if part])


def _scale_bias_updates(factor: float) -> optax.GradientTransformation:
    return optax.masked(optax.scale(factor), lambda params: parameter_mask(params, ("*/bias",)))


def _clip_by_global_norm(max_norm: float) -> optax.GradientTransformation:
    """`optax.clip_by_global_norm` with the norm that the step reports."""

    def clip(updates: dict, params: dict) -> dict:
        scale = jnp.minimum(1.0, max_norm / jnp.maximum(global_norm(updates), 1e-30))
        return jax.tree.map(lambda leaf: leaf * scale, updates)

    return optax.stateless(clip)


def stop_frozen_gradients(params: dict, patterns: Sequence[str]) -> dict:
    """The parameters; no gradient flows to those that a pattern matches."""
    frozen = parameter_mask(params, patterns)
    return jax.tree.map(
        lambda leaf, freeze: jax.lax.stop_gradient(leaf) if freeze else leaf, params, frozen
    )


def frozen_batch_norms(patterns: Sequence[str]) -> AbstractContextManager:
    """Inside, batch norms whose scale a pattern matches use and keep their running statistics."""

    def interceptor(function, arguments, options, context):
        name = "/".join((*context.module.path, "scale"))
        kinds = nn.BatchNorm | BatchNormVariables
        is_norm = isinstance(context.module, kinds) and context.method_name == "__call__"
        if is_norm and matches_any(name, patterns):
            options = options | {"use_running_average": True}
        return function(*arguments, **options)

    return nn.intercept_methods(interceptor) if patterns else nullcontext()


def update_ema(
    decay: float, step: Int[Array, ""], averages: dict, values: dict, warmup: bool = True
) -> dict:
    """Exponential moving average of `values` after step number `step`, counted from 0.

    With `warmup` the decay is smaller in the first steps, (1 + step) / (10 + step) (TensorFlow's
    rule), so that random initial values are soon forgotten. Without it the average is one of the
    initial values and all later ones, as good for initial values that were trained (compare
    Wortsman et al., "Robust fine-tuning of zero-shot models", arXiv:2109.01903).
    """
    if warmup:
        age = step.astype(jnp.float32)
        decay = jnp.minimum(decay, (1 + age) / (10 + age))
    return jax.tree.map(lambda old, new: decay * old + (1 - decay) * new, averages, values)
