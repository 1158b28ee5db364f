import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ssd_jax.models.layers import Conv
from ssd_jax.models.platforms import convolution

OPTIONS = [
    {"kernel_size": (3, 3)},
    {"kernel_size": (3, 3), "strides": 2},
    {"kernel_size": (4, 4), "strides": 2, "padding": "VALID"},
    {"kernel_size": (3, 3), "padding": 6, "kernel_dilation": 6},
    {"kernel_size": (3, 2), "padding": ((0, 1), (2, 0)), "strides": (1, 3)},
    {"kernel_size": (2, 3), "padding": ((0, 1), (2, 0))},
    {"kernel_size": (1, 1), "strides": 2},
    {"kernel_size": (1, 1)},
    {"kernel_size": (1, 1), "padding": 1},
    {"kernel_size": (4, 4), "padding": 1, "use_bias": False},
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("shape", [(3, 9, 8, 5), (1, 12, 7, 2)])
@pytest.mark.parametrize("strip", [1, 1_500, 10**9])
def test_values_and_gradients_are_those_of_flax(options, shape, strip, monkeypatch):
    """Strips of one row, of some (the last one not full), and of a whole image."""
    monkeypatch.setattr(convolution, "_STRIP_BYTES", strip)
    monkeypatch.setattr(convolution, "_LARGE", 1)
    x = jnp.float32(np.random.default_rng(0).normal(size=shape))
    own, flax = Conv(4, **options), nn.Conv(4, **options)
    params = own.init(jax.random.key(0, impl="rbg"), x)
    weight = jnp.float32(np.random.default_rng(1).normal(size=own.apply(params, x).shape))

    def weighted(module):
        return jax.value_and_grad(lambda p, x: (module.apply(p, x) * weight).sum(), (0, 1))

    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5),
        jax.jit(weighted(own))(params, x), jax.jit(weighted(flax))(params, x),
    )  # fmt: skip


def test_an_empty_map_stays_empty():
    """Too small an image is told by whoever looks at the sizes of the maps."""
    module = Conv(4, kernel_size=(1, 1))
    out, _ = jax.eval_shape(module.init_with_output, jax.random.key(0), jnp.zeros((1, 0, 0, 8)))
    assert out.shape == (1, 0, 0, 4)


@pytest.mark.parametrize(
    ("side", "options", "is_loop"),
    [(24, {}, True), (23, {}, False), (60, {"strides": 2}, False),
     (60, {"kernel_dilation": 2}, False)],
)  # fmt: skip
def test_a_loop_over_strips_is_for_large_dense_maps(side, options, is_loop):
    x, module = jnp.zeros((2, side, side, 3)), Conv(4, kernel_size=(3, 3), **options)
    params = module.init(jax.random.key(0, impl="rbg"), x)
    gradient = jax.jit(jax.grad(lambda p: module.apply(p, x).sum()))
    text = gradient.trace(params).lower(lowering_platforms=("cpu",)).as_text()
    assert ("while" in text) == is_loop


@pytest.mark.parametrize("side", [6, 24])
def test_half_precision_stays_half(side):
    """In XLA's form, and in strips."""
    x = jnp.ones((2, side, side, 3), jnp.bfloat16)
    module = Conv(4, kernel_size=(3, 3), dtype=jnp.bfloat16)
    params = module.init(jax.random.key(0, impl="rbg"), x)
    gradient = jax.grad(lambda p: module.apply(p, x).astype(jnp.float32).sum())(params)
    assert module.apply(params, x).dtype == jnp.bfloat16
    assert gradient["params"]["kernel"].dtype == jnp.float32
