"""The first stage over pairs of columns against column by column."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ssd_jax.models.layers import Filters
from ssd_jax.models.platforms.column_pairs import (
    by_column_pairs,
    by_columns,
    first_stage,
)
from ssd_jax.models.platforms.convolution import convolve


def arguments(height, width, dtype="float32"):
    rng = np.random.default_rng(0)

    def normal(*shape):
        return jnp.asarray(rng.normal(size=shape), jnp.float32)

    images = normal(2, height, width, 3).astype(dtype)
    return images, Filters(normal(3, 3, 3, 8), normal(8)), Filters(normal(3, 3, 8, 8), normal(8))


@pytest.mark.parametrize(("height", "width"), [(6, 8), (5, 2), (1, 4)])
def test_pairs_compute_what_columns_do_with_its_gradient(height, width):
    images, *filters = arguments(height, width)
    weight = jax.random.normal(jax.random.key(1), by_columns(images, *filters).shape)

    def total(filters, images, form):
        return (form(images, *filters) * weight).sum()

    expected, own = (
        jax.value_and_grad(partial(total, form=form), (0, 1))(filters, images)
        for form in (by_columns, by_column_pairs)
    )
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-4), own, expected)


@pytest.mark.parametrize("form", [by_columns, by_column_pairs])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_pooling_may_come_before_bias_and_relu(form, dtype):
    images, *filters = arguments(6, 8, dtype)
    x = images
    for kernel, bias in filters:
        x = convolve(x, kernel.astype(dtype), (1, 1), ((1, 1), (1, 1)), (1, 1))
        x = jax.nn.relu(x + bias.astype(dtype)[None, None, None])
    pooled = x.reshape(2, 3, 2, 4, 2, 8).max((2, 4))
    rounding = 0.05 if dtype == "bfloat16" and form is by_column_pairs else 1e-5
    np.testing.assert_allclose(
        form(images, *filters).astype(np.float32), pooled.astype(np.float32),
        rtol=rounding, atol=rounding,
    )  # fmt: skip


def test_an_odd_width_has_no_pairs():
    images, *filters = arguments(4, 5)
    np.testing.assert_array_equal(first_stage(images, *filters), by_columns(images, *filters))
