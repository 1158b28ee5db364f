"""The form of an operation follows the platform that a program is compiled for, wherever it is
traced; what only XLA:CPU needs is on no accelerator."""

from functools import partial

import jax
import jax.numpy as jnp
import pytest

from ssd_jax.models import mobilenet_v1
from ssd_jax.models.layers import Conv, DepthwiseConv, Filters
from ssd_jax.models.platforms.column_pairs import first_stage
from ssd_jax.models.platforms.pooling import max_pool_2x2
from ssd_jax.models.platforms.reductions import all_finite, global_norm

IMAGES = jnp.ones((2, 24, 24, 4))
MOBILENET = mobilenet_v1.Backbone()


def program(function, platform, *arguments):
    """StableHLO of the function for a platform that need not be here."""
    return jax.jit(function).trace(*arguments).lower(lowering_platforms=(platform,)).as_text()


def gradient_of(layer):
    variables = layer.init(jax.random.key(0, impl="rbg"), IMAGES)
    return lambda x: jax.grad(lambda v: layer.apply(v, x).sum())(variables)


@pytest.mark.parametrize("platform", ["tpu", "cuda"])
@pytest.mark.parametrize(
    ("function", "argument", "plain", "special"),
    [
        (gradient_of(Conv(4, (3, 3))), IMAGES, "stablehlo.convolution", "stablehlo.while"),
        (gradient_of(Conv(4, (1, 1))), IMAGES, "stablehlo.convolution", "stablehlo.while"),
        (gradient_of(DepthwiseConv()), IMAGES, "stablehlo.convolution", "stablehlo.while"),
        (global_norm, [IMAGES, IMAGES], "stablehlo.reduce", "stablehlo.concatenate"),
        (all_finite, [IMAGES] * 9, "stablehlo.is_finite", f"tensor<{9 * IMAGES.size}xf32>"),
    ],
    ids=["conv", "conv1x1", "depthwise", "norm", "finite"],
)
def test_the_form_is_that_of_the_target(platform, function, argument, plain, special):
    accelerator, cpu = (program(function, name, argument) for name in (platform, "cpu"))
    assert plain in accelerator and special not in accelerator
    assert special in cpu


def test_only_tpus_pool_by_windows_and_convolve_blocks_of_positions():
    filters = [Filters(jnp.ones((3, 3, inputs, 4)), jnp.ones(4)) for inputs in (3, 4)]
    init = partial(MOBILENET.init, train=False)
    variables = jax.eval_shape(init, jax.random.key(0), IMAGES[..., :3])
    for platform in ("tpu", "cuda", "cpu"):
        pooling = program(max_pool_2x2, platform, IMAGES)
        stage = program(first_stage, platform, IMAGES[..., :3], *filters)
        network = program(
            partial(MOBILENET.apply, train=False), platform, variables, IMAGES[..., :3]
        )
        is_tpu = platform == "tpu"
        assert ("stablehlo.reduce_window" in pooling) == is_tpu
        assert ("tensor<3x3x8x8xf32>" in stage) == is_tpu
        assert ("tensor<5x5x3x128xf32>" in network) == is_tpu
