"""Depthwise convolution: both forms agree, forward and backward, and pad as they should."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ssd_jax.models.layers import DepthwiseConv
from ssd_jax.models.platforms.depthwise import depthwise_by_groups, depthwise_by_taps

# XLA:CPU takes seconds to compile the default generator for some small shapes.
key = functools.partial(jax.random.key, impl="rbg")

CASES = [
    (3, 1, ((1, 1), (1, 1))),
    (3, 2, ((0, 1), (0, 1))),
    (3, 2, ((1, 1), (1, 1))),
    (3, 3, ((0, 0), (0, 0))),
    (5, 1, ((2, 2), (2, 2))),
    (5, 2, ((1, 2), (2, 1))),
]


@pytest.mark.parametrize(("size", "stride", "pads"), CASES)
@pytest.mark.parametrize(("height", "width"), [(8, 7), (9, 5)])
def test_both_forms_agree_with_their_gradients(size, stride, pads, height, width):
    keys = jax.random.split(key(size), 3)
    x = jax.random.normal(keys[0], (2, height, width, 6))
    kernel = jax.random.normal(keys[1], (size, size, 1, 6))
    shape = jax.eval_shape(lambda: depthwise_by_groups(x, kernel, stride, pads)).shape
    cotangent = jax.random.normal(keys[2], shape)

    def output_and_gradients(form):
        y, back = jax.vjp(lambda x, kernel: form(x, kernel, stride, pads), x, kernel)
        return y, back(cotangent)

    got = jax.jit(lambda: output_and_gradients(depthwise_by_taps))()
    want = jax.jit(lambda: output_and_gradients(depthwise_by_groups))()
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want)):
        np.testing.assert_allclose(a, b, atol=2e-5)


@pytest.mark.parametrize(
    ("width", "want"),
    # Weights 1, 10, 100 over 1, 2, 3, ...: an even row is padded on the right only.
    [(4, [1 + 20 + 300, 3 + 40]), (5, [10 + 200, 2 + 30 + 400, 4 + 50])],
)
def test_same_padding_is_tensorflows(width, want):
    x = jnp.arange(1.0, width + 1).reshape(1, 1, width, 1)
    kernel = jnp.zeros((3, 3, 1, 1)).at[1, :, 0, 0].set(jnp.array([1.0, 10.0, 100.0]))
    got = DepthwiseConv(stride=2).apply({"params": {"kernel": kernel}}, x)
    np.testing.assert_array_equal(got[0, 0, :, 0], want)


def test_padding_given_by_name_or_by_numbers():
    x = jax.random.normal(key(0), (1, 6, 6, 4))
    variables = DepthwiseConv(5).init(key(1), x)
    assert variables["params"]["kernel"].shape == (5, 5, 1, 4)
    same = DepthwiseConv(5).apply(variables, x)
    numbers = DepthwiseConv(5, padding=((2, 2), (2, 2))).apply(variables, x)
    valid = DepthwiseConv(5, padding="VALID").apply(variables, x)
    np.testing.assert_array_equal(same, numbers)
    np.testing.assert_allclose(valid, same[:, 2:-2, 2:-2], atol=1e-6)


def test_platforms_get_the_form_that_suits_them():
    x, module = jnp.ones((1, 4, 4, 2)), DepthwiseConv()
    variables = module.init(key(0), x)
    traced = jax.jit(module.apply).trace(variables, x)
    on_cpu = traced.lower(lowering_platforms=("cpu",)).as_text()
    elsewhere = traced.lower(lowering_platforms=("tpu",)).as_text()
    assert "stablehlo.convolution" not in on_cpu
    assert "feature_group_count = 2" in elsewhere


def test_bfloat16_computes_with_float32_parameters():
    x = jax.random.normal(key(0), (1, 8, 8, 4))
    module = DepthwiseConv(dtype=jnp.bfloat16)
    variables = module.init(key(1), x)
    assert variables["params"]["kernel"].dtype == jnp.float32
    got = module.apply(variables, x)
    assert got.dtype == jnp.bfloat16
    want = DepthwiseConv().apply(variables, x)
    np.testing.assert_allclose(got.astype(jnp.float32), want, atol=0.03)
