"""Optimizer: config -> schedule and optax transform."""

import jax
import jax.numpy as jnp
import optax
from ml_collections import ConfigDict

from ssd_jax.errors import ConfigError


def schedule(config: ConfigDict, steps: int) -> optax.Schedule:
    """Learning rate by step: linear warm-up, then the named schedule up to `steps`.

    "step" multiplies by `decay_rate` at each of `decay_at` (fractions of `steps`, as the paper's
    80k and 100k of 120k); "cosine" falls to zero at `steps`.
    """
    peak, warmup = config.learning_rate, config.warmup_steps
    if config.schedule == "step":
        after = optax.piecewise_constant_schedule(
            peak, {round(at * steps) - warmup: config.decay_rate for at in config.decay_at}
        )
    elif config.schedule == "cosine":
        after = optax.cosine_decay_schedule(peak, max(steps - warmup, 1))
    else:
        raise ConfigError(f"config.optim.schedule={config.schedule!r}: 'step' or 'cosine'")
    if warmup:
        after = optax.join_schedules([optax.linear_schedule(0.0, peak, warmup), after], [warmup])
    # Optax mixes integer steps with floats, which strict promotion refuses.
    return lambda step: after(jnp.asarray(step, jnp.float32))


def make(config: ConfigDict, steps: int) -> optax.GradientTransformation:
    """SGD with momentum and L2 decay as in the paper's section 3: decay enters the momentum.

    A positive `clip_norm` holds the norm of the gradient, all parameters together, below it.
    """
    clip = optax.clip_by_global_norm(config.clip_norm) if config.clip_norm else optax.identity()
    return optax.chain(
        clip,
        optax.add_decayed_weights(config.weight_decay, mask=decayed),
        optax.sgd(schedule(config, steps), momentum=config.momentum),
    )


def decayed(params: dict) -> dict:
    """Mask of the parameters that weight decay pulls on: kernels, not biases nor norms' scales."""
    return jax.tree.map_with_path(lambda path, _: path[-1].key == "kernel", params)
