"""Norm and finiteness of all numbers of a tree, leaf by leaf; on CPUs over one long vector.

XLA:CPU takes a tenth of a second to compile each reduction: one reduction of a vector starts a
deep network minutes earlier than one of each leaf. On accelerators the copies into that vector
cost several times the reductions.
"""

from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import lax
from jaxtyping import Array, Bool, Float


def global_norm(tree: Any) -> Float[Array, ""]:
    """Euclidean norm of all leaves together."""
    return lax.platform_dependent(tree, cpu=norm_by_vector, default=optax.tree.norm)


def all_finite(tree: Any) -> Bool[Array, ""]:
    """Whether every floating-point number of every leaf is finite."""
    return lax.platform_dependent(tree, cpu=finite_by_vector, default=finite_by_leaf)


def norm_by_vector(tree: Any) -> Float[Array, ""]:
    return jnp.sqrt(jnp.square(_ravel(tree)).sum())


def finite_by_leaf(tree: Any) -> Bool[Array, ""]:
    return jnp.stack([jnp.isfinite(leaf).all() for leaf in _floats(tree)]).all()


def finite_by_vector(tree: Any) -> Bool[Array, ""]:
    return jnp.isfinite(_ravel(tree)).all()


def _ravel(tree: Any) -> Float[Array, " N"]:
    return jnp.concatenate([leaf.ravel() for leaf in _floats(tree)])


def _floats(tree: Any) -> list[Array]:
    return [leaf for leaf in jax.tree.leaves(tree) if jnp.issubdtype(leaf.dtype, jnp.floating)]
