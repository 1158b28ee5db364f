"""MobileNetV1's first layers over blocks of positions against position by position."""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ssd_jax.models import mobilenet_v1
from ssd_jax.models.batch_norm import Norm, Statistics, batch_norm
from ssd_jax.models.platforms import position_blocks
from ssd_jax.models.platforms.position_blocks import (
    ConvNorm,
    by_blocks,
    by_positions,
    first_layers,
)

NORM = partial(batch_norm, train=True, epsilon=1e-3, axis_name=None)
NORMS = [NORM] * 4


def arguments(height, width):
    rng = np.random.default_rng(0)

    def normal(*shape):
        return jnp.asarray(rng.normal(size=shape), jnp.float32)

    def layer(*shape):
        return ConvNorm(
            normal(*shape), Norm(*normal(2, shape[-1]), Statistics(*normal(2, shape[-1])))
        )

    layers = [layer(3, 3, 3, 4), layer(3, 3, 1, 4), layer(1, 1, 4, 8), layer(3, 3, 1, 8)]
    return normal(2, height, width, 3), layers


@pytest.mark.parametrize(("height", "width"), [(20, 24), (19, 23), (4, 3)])
def test_blocks_compute_what_positions_do_with_its_gradient(height, width):
    images, layers = arguments(height, width)
    weight = jax.random.normal(jax.random.key(1), by_positions(images, layers, NORMS)[0].shape)

    def total(layers, images, form):
        x, statistics = form(images, layers, NORMS)
        return (x * weight).sum(), (x, statistics)

    expected, own = (
        jax.jit(jax.value_and_grad(partial(total, form=form), (0, 1), has_aux=True))(layers, images)
        for form in (by_positions, by_blocks)
    )
    jax.tree.map(partial(np.testing.assert_allclose, rtol=2e-4, atol=2e-4), own, expected)


@pytest.mark.parametrize("form", [by_positions, by_blocks])
def test_stride_two_pads_as_tensorflow_does(form):
    """Conv2d_0 on an even side: nothing on the left, one zero on the right."""
    images = np.zeros((1, 4, 4, 3), np.float32)
    images[0, 1, :, 0] = 1, 2, 3, 4
    kernel = np.zeros((3, 3, 3, 1), np.float32)
    kernel[1, :, 0, 0] = 1, 0.1, 0.01
    one = jnp.ones(1)
    layer = ConvNorm(jnp.asarray(kernel), Norm(one, one, Statistics(one, one)))
    x, _ = form(jnp.asarray(images), [layer], [lambda x, norm: (x, norm.running)])
    np.testing.assert_allclose(x.reshape(2, 2), [[1.23, 3.4], [0, 0]], rtol=1e-6)


def test_an_odd_map_has_no_blocks():
    images, layers = arguments(8, 10)  # a map of 4 x 5
    form, expected = first_layers(images, layers, NORMS), by_positions(images, layers, NORMS)
    jax.tree.map(np.testing.assert_array_equal, form, expected)


LAYERS = (
    ("Conv2d_0", 32, 3, 2, 1),
    ("Conv2d_1_depthwise", 32, 3, 1, 32),
    ("Conv2d_1_pointwise", 64, 1, 1, 1),
    ("Conv2d_2_depthwise", 64, 3, 2, 64),
)


class FlaxLayers(nn.Module):
    """The layers of Flax alone, up to the convolution that reads their map."""

    train: bool

    @nn.compact
    def __call__(self, x):
        for name, channels, size, stride, groups in LAYERS:
            conv = nn.Conv(channels, (size, size), stride, feature_group_count=groups,
                           use_bias=False, name=name)  # fmt: skip
            norm = nn.BatchNorm(
                not self.train, momentum=0.9, epsilon=1e-3, name=name + "_BatchNorm"
            )
            x = nn.relu6(norm(conv(x)))
        return nn.Conv(128, (1, 1), use_bias=False, name="Conv2d_2_pointwise")(x)


@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize("form", [by_positions, by_blocks])
def test_the_network_has_the_numbers_and_the_variables_of_flax(form, train, monkeypatch):
    monkeypatch.setattr(position_blocks, "by_positions", form)
    images, _ = arguments(20, 24)
    network = mobilenet_v1.Backbone(norm_momentum=0.9)
    variables = jax.jit(partial(network.init, train=train))(jax.random.key(0), images)
    own = jax.jit(
        partial(network.apply, train=train, capture_intermediates=True,
                mutable=["batch_stats", "intermediates"])
    )(variables, images)[1]  # fmt: skip
    expected, updated = FlaxLayers(train).apply(variables, images, mutable=["batch_stats"])
    (x,) = own["intermediates"]["Conv2d_2_pointwise"]["__call__"]
    close = partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-5)
    close(x, expected)
    for layer in LAYERS:
        norm = layer[0] + "_BatchNorm"
        jax.tree.map(close, own["batch_stats"][norm], updated["batch_stats"][norm])


@pytest.mark.parametrize("form", [by_positions, by_blocks])
def test_halves_on_an_axis_have_the_statistics_of_the_whole(form):
    images, layers = arguments(4, 8)
    images *= jnp.asarray([1.0, 3.0])[:, None, None, None]
    mapped = partial(form, normalizers=[partial(NORM, axis_name="batch")] * 4)
    run = jax.jit(jax.vmap(mapped, (0, None), axis_name="batch"))
    halves, statistics = run(images[:, None], layers)
    expected, of_whole = jax.jit(partial(form, normalizers=NORMS))(images, layers)
    np.testing.assert_allclose(halves[:, 0], expected, atol=1e-4)
    apart = jax.tree.map(lambda each: each[0], statistics)
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5), apart, of_whole)
