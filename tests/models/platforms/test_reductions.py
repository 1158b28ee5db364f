"""Norm and finiteness by leaf and by vector, against NumPy."""

import jax.numpy as jnp
import numpy as np
import pytest

from ssd_jax.models.platforms import reductions

TREE = {
    "kernel": jnp.float32(np.random.default_rng(0).normal(size=(3, 3, 2, 5))),
    "bias": jnp.zeros(5),
    "scalar": jnp.float32(-2.0),
}
NORMS = [reductions.global_norm, reductions.norm_by_vector]
CHECKS = [reductions.all_finite, reductions.finite_by_leaf, reductions.finite_by_vector]


@pytest.mark.parametrize("norm", NORMS)
def test_norm_of_all_leaves_together(norm):
    expected = np.sqrt((np.asarray(TREE["kernel"], np.float64) ** 2).sum() + 4)
    np.testing.assert_allclose(norm(TREE), expected, rtol=1e-6)


@pytest.mark.parametrize("is_finite", CHECKS)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_one_number_that_is_not_finite_is_found_in_any_leaf(is_finite, bad):
    assert is_finite(TREE)
    for name in ("kernel", "bias"):
        leaf = TREE[name]
        assert not is_finite(TREE | {name: leaf.at[(-1,) * leaf.ndim].set(bad)})
    assert not is_finite(TREE | {"scalar": jnp.float32(bad)})
