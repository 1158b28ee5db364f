"""Optimizer: config -> schedule and optax transform, and which parameters it treats how.

Parameters are named by their path, `backbone/conv1_1/kernel`; a config names groups of them by
shell patterns, in which `*` stands for slashes too.
"""

from collections.abc import Sequence
from fnmatch import fnmatchcase
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float
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
    """SGD with momentum and L2 decay as in the paper's section 3, or TensorFlow's RMSProp.

    Decay enters the momentum, and pulls on the parameters that `decayed` names. Biases step
    `bias_rate` times as far as the rest. A positive `clip_norm` holds the norm of the gradient,
    all parameters together, below it. Frozen parameters are expected to have no gradient.
    """
    rate = schedule(config, steps)
    if config.name == "rmsprop":
        # TensorFlow: mean squares begin at 1, and epsilon is under the root.
        rule = optax.rmsprop(
            rate, config.rmsprop.decay, config.rmsprop.epsilon, initial_scale=1.0,
            momentum=config.momentum,
        )  # fmt: skip
    else:
        rule = optax.sgd(rate, momentum=config.momentum)

    def pulled(params: dict) -> dict:
        decayed, frozen = (named(params, names) for names in (config.decayed, config.frozen))
        return jax.tree.map(lambda pulls, still: pulls and not still, decayed, frozen)

    parts = [
        _clipped(config.clip_norm) if config.clip_norm else None,
        optax.add_decayed_weights(config.weight_decay, mask=pulled),
        rule,
        _scaled_biases(config.bias_rate) if config.bias_rate != 1.0 else None,
    ]
    return optax.chain(*[part for part in parts if part])


def flat(tree: Any) -> Float[Array, " N"]:
    """All floating-point leaves as one vector.

    XLA:CPU takes a tenth of a second to compile each reduction: one of this vector starts a deep
    network minutes earlier than one of each leaf.
    """
    leaves = [leaf for leaf in jax.tree.leaves(tree) if jnp.issubdtype(leaf.dtype, jnp.floating)]
    return jnp.concatenate([leaf.ravel() for leaf in leaves])


def norm(tree: Any) -> Float[Array, ""]:
    """Euclidean norm of all leaves together."""
    return jnp.sqrt(jnp.square(flat(tree)).sum())


def _clipped(most: float) -> optax.GradientTransformation:
    """`optax.clip_by_global_norm` with the norm of this file, which the step reports too."""

    def clip(updates: dict, params: dict) -> dict:
        scale = jnp.minimum(1.0, most / jnp.maximum(norm(updates), 1e-30))
        return jax.tree.map(lambda leaf: leaf * scale, updates)

    return optax.stateless(clip)


def names(params: dict) -> dict:
    """The name of each parameter, in the shape of the tree."""
    return jax.tree.map_with_path(lambda path, _: path_name(path), params)


path_name = partial(jax.tree_util.keystr, simple=True, separator="/")


def fits(name: str, patterns: Sequence[str]) -> bool:
    """Whether one of the shell `patterns` fits the name."""
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def named(params: dict, patterns: Sequence[str]) -> dict:
    """Mask of the parameters whose name one of the shell `patterns` fits."""
    return jax.tree.map(lambda name: fits(name, patterns), names(params))


def _scaled_biases(factor: float) -> optax.GradientTransformation:
    return optax.masked(optax.scale(factor), lambda params: named(params, ("*/bias",)))
