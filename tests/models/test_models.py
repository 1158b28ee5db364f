"""Networks: sizes of maps, numbers of priors and parameters, order, norms, dtypes."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from ssd_jax.errors import ConfigError
from ssd_jax.models import mobilenet_v3, small, ssd, vgg
from ssd_jax.models.heads import Heads
from ssd_jax.models.platforms.pooling import max_pool_2x2
from ssd_jax.optimizer import frozen_batch_norms

SSD300 = (4, 6, 6, 6, 4, 4)
SSD512 = (4, 6, 6, 6, 6, 4, 4)
SSD_MOBILENET = (3, 6, 6, 6, 6, 6)
SSDLITE = (6,) * 6
MAPS_300 = (38, 19, 10, 5, 3, 1)

# XLA:CPU takes seconds to compile the default generator for some small shapes.
key = functools.partial(jax.random.key, impl="rbg")


def config(name, dtype="float32", head="conv", head_kernel=3, **backbone):
    return ConfigDict(
        {"name": name, "backbone": backbone, "head": head, "head_kernel": head_kernel,
         "dtype": dtype}
    )  # fmt: skip


def shapes(model, num_classes, priors_per_location, side):
    """Variables and outputs of the network for one image, as shapes only."""
    network = ssd.build_network(model, num_classes, priors_per_location)
    images = jax.ShapeDtypeStruct((1, side, side, 3), jnp.float32)
    (logits, offsets), variables = jax.eval_shape(
        lambda k, images: network.init_with_output(k, images, False),
        key(0),
        images,
    )
    return variables, logits, offsets


def all_ones(init, *inputs, **options):
    """Variables of `init` that are all 1, without computing it."""
    variables = jax.eval_shape(functools.partial(init, **options), key(0), *inputs)
    return jax.tree.map(lambda leaf: jnp.ones(leaf.shape, leaf.dtype), variables)


def count(params):
    return sum(leaf.size for leaf in jax.tree.leaves(params))


@pytest.mark.parametrize(
    ("model", "side", "sides"),
    [
        (config("vgg", input_size=300), 300, MAPS_300),
        (config("vgg", input_size=512), 512, (64, 32, 16, 8, 4, 2, 1)),
        (config("mobilenet_v1"), 300, (19, 10, 5, 3, 2, 1)),
        (config("mobilenet_v1", width=0.5), 320, (20, 10, 5, 3, 2, 1)),
        (config("mobilenet_v3"), 320, (20, 10, 5, 3, 2, 1)),
        (config("mobilenet_v3"), 300, (19, 10, 5, 3, 2, 1)),
        (config("resnet", depth=34), 300, MAPS_300),
        (config("resnet", depth=50), 300, MAPS_300),
        (config("small"), 300, MAPS_300),
        (config("small"), 160, (20, 10, 5, 3, 2, 1)),
        (config("small", levels=5), 160, (20, 10, 5, 3, 2)),
        (config("small", levels=7), 512, (64, 32, 16, 8, 4, 2, 1)),
    ],
)
def test_sides_of_feature_maps(model, side, sides):
    assert ssd.feature_map_sizes(model, (side, side)) == tuple((s, s) for s in sides)


def test_feature_maps_of_images_that_are_not_square():
    sizes = ssd.feature_map_sizes(config("vgg", input_size=300), (300, 460))
    assert sizes == ((38, 58), (19, 29), (10, 15), (5, 8), (3, 6), (1, 4))
    assert ssd.feature_map_sizes(config("small", levels=2), (161, 32)) == ((21, 4), (11, 2))


@pytest.mark.parametrize(
    ("model", "classes", "priors", "side", "num_priors", "params"),
    [
        (config("vgg", input_size=300), 21, SSD300, 300, 8732, 26_285_486),
        (config("vgg", input_size=300), 91, SSD300, 300, 8732, 35_641_826),
        (config("vgg", input_size=512), 21, SSD512, 512, 24564, 27_188_676),
        (config("mobilenet_v1", head_kernel=1), 21, SSD_MOBILENET, 300, 1917, 5_796_089),
        (config("mobilenet_v1", head_kernel=1), 91, SSD_MOBILENET, 300, 1917, 6_819_839),
        (config("mobilenet_v3", head="lite"), 91, SSDLITE, 320, 3234, 3_440_060),
        (config("resnet", depth=34), 81, SSD300, 300, 8732, 19_972_534),
        (config("resnet", depth=50), 81, SSD300, 300, 8732, 22_894_902),
    ],
)
def test_published_numbers_of_priors_and_parameters(
    model, classes, priors, side, num_priors, params
):
    variables, logits, offsets = shapes(model, classes, priors, side)
    assert logits.shape == (1, num_priors, classes)
    assert offsets.shape == (1, num_priors, 4)
    assert count(variables["params"]) == params


def test_vgg_has_the_layers_of_caffe_by_name():
    variables, _, _ = shapes(config("vgg", input_size=300), 21, SSD300, 300)
    backbone, heads = variables["params"]["backbone"], variables["params"]["heads"]
    assert backbone["conv1_1"]["kernel"].shape == (3, 3, 3, 64)
    assert backbone["conv4_3_norm"]["scale"].shape == (512,)
    assert backbone["fc6"]["kernel"].shape == (3, 3, 512, 1024)
    assert backbone["conv9_2"]["kernel"].shape == (3, 3, 128, 256)
    assert heads["classification_0"]["kernel"].shape == (3, 3, 512, 4 * 21)
    assert heads["localization_5"]["bias"].shape == (16,)
    assert "batch_stats" not in variables


def test_mobilenet_v3_keeps_its_tail_for_weights_of_classification():
    """torchvision squeezes 72 channels to 24, and a whole tail ends in 160 and 960."""
    wide, _, _ = shapes(config("mobilenet_v3", reduce_tail=False), 21, SSDLITE, 320)
    slim, _, _ = shapes(config("mobilenet_v3", head="lite"), 21, SSDLITE, 320)
    wide, slim = wide["params"]["backbone"], slim["params"]["backbone"]
    assert wide["block4_squeeze"]["kernel"].shape == (1, 1, 72, 24)
    assert wide["block13_depthwise"]["kernel"].shape == (5, 5, 1, 672)
    assert "block1_expand" not in wide and "block7_squeeze" not in wide
    for params, channels in ((wide, 160), (slim, 80)):
        assert params["block13_project"]["kernel"].shape == (1, 1, 672, channels)
        assert params["block15_excite"]["kernel"].shape[-1] == 6 * channels
        assert params["last"]["kernel"].shape == (1, 1, channels, 6 * channels)


@pytest.mark.parametrize(("quarter_of", "squeezed"), [(72, 24), (120, 32), (480, 120), (16, 8)])
def test_squeezed_channels_by_hand(quarter_of, squeezed):
    assert mobilenet_v3._squeezed_channels(quarter_of) == squeezed


def test_resnet_has_norms_in_its_extra_layers_or_biases():
    mlperf, _, _ = shapes(config("resnet", depth=34), 81, SSD300, 300)
    nvidia, _, _ = shapes(config("resnet", depth=50), 81, SSD300, 300)
    for params, has_norm in ((mlperf["params"]["backbone"], False),
                             (nvidia["params"]["backbone"], True)):  # fmt: skip
        assert ("extra1_squeeze_norm" in params) == has_norm
        assert ("bias" in params["extra1_squeeze"]) != has_norm
        assert "bias" not in params["layer3_5_conv2"] and "layer3_5_conv2_norm" in params
    assert nvidia["params"]["backbone"]["layer1_0_downsample"]["kernel"].shape == (1, 1, 64, 256)


def test_lite_heads_by_hand():
    """Depthwise sum of 3 x 3, norm with its statistics, ReLU6, then 1 x 1 and a bias."""
    heads = Heads((1,), num_classes=2, style="lite")
    ones = jnp.ones((1, 2, 2, 1))
    variables = all_ones(heads.init, (ones,))
    logits, offsets = heads.apply(variables, (ones,))
    # 4 neighbors; (4 - 1) / sqrt(1 + 0.001) + 1; times 1 plus 1.
    np.testing.assert_allclose(logits, 3 / 1.001**0.5 + 2, rtol=1e-6)
    capped, _ = heads.apply(variables, (ones * 100,))
    np.testing.assert_allclose(capped, 7.0)
    assert logits.shape == (1, 4, 2) and offsets.shape == (1, 4, 4)


class OneMap(nn.Module):
    """A backbone that hands the images on."""

    norm_momentum: float = 0.5

    def __call__(self, images, train):
        return (images,)


def test_lite_heads_average_as_their_backbone_does():
    network = ssd.SSD(OneMap(), (1,), 2, head="lite")
    images = jnp.zeros((1, 1, 1, 3))  # one position: of the variance half of what was remembered
    variables = all_ones(network.init, images, train=False)
    _, updates = network.apply(variables, images, train=True, mutable=["batch_stats"])
    for norm in updates["batch_stats"]["heads"].values():
        np.testing.assert_allclose(norm["var"], 0.5)


@pytest.mark.parametrize(
    "model",
    [
        config("mobilenet_v1"),
        config("mobilenet_v3", head="lite"),
        config("resnet", depth=34),
        config("resnet", depth=50),
    ],
)
def test_frozen_norms_are_only_evaluated(model):
    """Statistics that nothing updates are handed on as they came."""
    network = ssd.build_network(model, 3, SSDLITE)
    images = jax.ShapeDtypeStruct((1, 320, 320, 3), jnp.float32)
    variables = jax.eval_shape(functools.partial(network.init, train=False), key(0), images)

    def moved(patterns):
        with frozen_batch_norms(patterns):
            apply = functools.partial(network.apply, train=True, mutable=["batch_stats"])
            jaxpr = jax.make_jaxpr(lambda v, x: apply(v, x)[1])(variables, images).jaxpr
        return sum(out not in jaxpr.invars for out in jaxpr.outvars)

    assert moved(("*",)) == 0 < moved(())


def test_mobilenet_narrows_to_sixteen_channels_and_no_further():
    variables, _, _ = shapes(config("mobilenet_v1", width=0.25), 21, SSD_MOBILENET, 300)
    backbone = variables["params"]["backbone"]
    assert backbone["Conv2d_0"]["kernel"].shape == (3, 3, 3, 16)  # 8 would be a quarter
    assert backbone["Conv2d_5_pointwise"]["kernel"].shape == (1, 1, 64, 64)
    assert backbone["Conv2d_13_pointwise_2_Conv2d_2_3x3_s2_128"]["kernel"].shape[2:] == (64, 128)
    assert backbone["Conv2d_13_pointwise_1_Conv2d_5_1x1_16"]["kernel"].shape[2:] == (64, 16)


def test_heads_keep_the_order_level_row_column_prior():
    fine = jnp.arange(6.0).reshape(1, 2, 3, 1)  # value = row * 3 + column
    coarse = jnp.full((1, 1, 1, 1), 6.0)
    heads = Heads((2, 1), num_classes=3, kernel=1)
    params = heads.init(key(0), (fine, coarse))["params"]
    params = jax.tree.map(jnp.zeros_like, params)
    for level, priors in ((0, 2), (1, 1)):
        for name, size in (("classification", 3), ("localization", 4)):
            # Output channel p * size + c at value v is 100 v + 10 p + c.
            digits = jnp.arange(priors)[:, None] * 10 + jnp.arange(size)[None]
            layer = params[f"{name}_{level}"]
            layer["kernel"] = jnp.full_like(layer["kernel"], 100.0)
            layer["bias"] = digits.reshape(-1).astype(jnp.float32)
    logits, offsets = heads.apply({"params": params}, (fine, coarse))
    cells = [100 * value + 10 * prior for value in range(6) for prior in range(2)] + [600]
    np.testing.assert_array_equal(logits[0], np.array(cells)[:, None] + np.arange(3))
    np.testing.assert_array_equal(offsets[0], np.array(cells)[:, None] + np.arange(4))


def test_heads_refuse_priors_for_another_number_of_levels():
    with pytest.raises(ConfigError, match="2 feature maps.*3 levels"):
        Heads((4, 6, 6), 3).init(key(0), (jnp.zeros((1, 2, 2, 1)),) * 2)


def test_l2_norm_by_hand():
    x = jnp.array([[3.0, 4.0], [0.0, 0.0], [-1e-5, 0.0]]).reshape(1, 1, 3, 2)
    norm = vgg.L2Norm()
    variables = norm.init(key(0), x)
    # The last row is as long as the root of eps, so it is divided by sqrt(2) times its length.
    want = [[12.0, 16.0], [0.0, 0.0], [-20 / 2**0.5, 0.0]]
    np.testing.assert_allclose(norm.apply(variables, x)[0, 0], want, rtol=1e-5)
    scaled = {"params": {"scale": jnp.array([1.0, 10.0])}}
    np.testing.assert_allclose(norm.apply(scaled, x)[0, 0, 0], [0.6, 8.0], rtol=1e-6)


def test_vgg_pools_in_ceil_mode():
    """Four pools of one column: 33 -> 17 -> 9 -> 5 -> 3, and the last pixel is not lost."""
    backbone = vgg.Backbone(512)
    images = np.zeros((1, 33, 1, 3), np.float32)
    images[0, 32, 0, 0] = 5.0

    def pass_on(leaf):  # every convolution copies channel 0 of its middle tap; no bias; scale 1
        value = np.zeros(leaf.shape, np.float32)
        if value.ndim == 4:
            value[value.shape[0] // 2, value.shape[1] // 2, 0, 0] = 1.0
        return value

    init = functools.partial(backbone.init, train=False)
    params = jax.tree.map(pass_on, jax.eval_shape(init, key(0), images)["params"])
    params["conv4_3_norm"]["scale"] += 1.0
    conv4_3, fc7, *_ = jax.jit(functools.partial(backbone.apply, train=False))(
        {"params": params}, images
    )
    np.testing.assert_allclose(conv4_3[0, :, 0, 0], [0, 0, 0, 0, 1], atol=1e-6)  # normalized
    np.testing.assert_allclose(fc7[0, :, 0, 0], [0, 5, 5])  # pool5 spreads it by one


def test_small_sees_every_pixel_of_odd_sides():
    backbone = small.Backbone(widths=(4,), levels=1)
    images = jnp.ones((1, 9, 7, 3))
    variables = jax.jit(backbone.init, static_argnums=2)(key(0), images, False)
    variables = jax.tree.map(jnp.abs, variables)  # nothing negative, so no ReLU hides a pixel

    def total(images):
        return sum(x.sum() for x in backbone.apply(variables, images, False))

    gradient = jax.jit(jax.grad(total))(images)
    assert (gradient > 0).all()


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_small_trains_in_either_dtype(dtype):
    network = ssd.build_network(config("small", dtype, widths=(4, 8), levels=2), 3, (2, 3))
    images = jax.random.normal(key(1), (2, 32, 24, 3)) + 1
    variables = jax.jit(network.init, static_argnums=2)(key(0), images, True)

    def loss(params):
        (logits, offsets), updates = network.apply(
            {**variables, "params": params}, images, True, mutable=["batch_stats"]
        )
        return jnp.mean(logits**2) + jnp.mean(offsets**2), (logits, offsets, updates)

    gradients, (logits, offsets, updates) = jax.jit(jax.grad(loss, has_aux=True))(
        variables["params"]
    )
    assert logits.shape == (2, 4 * 3 * 2 + 2 * 2 * 3, 3) and offsets.shape == (2, 36, 4)
    assert logits.dtype == offsets.dtype == jnp.float32
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves((variables, gradients)))
    assert all(jnp.abs(leaf).sum() > 0 for leaf in jax.tree.leaves(gradients))
    before = jax.tree.leaves(variables["batch_stats"])
    after = jax.tree.leaves(updates["batch_stats"])
    assert len(before) == len(after) > 0
    assert all((old != new).any() for old, new in zip(before, after))
    computed = jax.make_jaxpr(lambda x: network.apply(variables, x, False))(images)
    assert ("bf16" in str(computed)) == (dtype == "bfloat16")


@pytest.mark.parametrize(
    ("name", "head", "priors"),
    [
        ("vgg", "conv", SSD300),
        ("mobilenet_v1", "conv", SSD_MOBILENET),
        ("mobilenet_v3", "lite", SSDLITE),
        ("resnet", "conv", SSD300),
    ],
)
def test_bfloat16_keeps_parameters_and_outputs_in_float32(name, head, priors):
    variables, logits, offsets = shapes(config(name, "bfloat16", head), 21, priors, 300)
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype("float32")}
    assert logits.dtype == offsets.dtype == jnp.float32


def test_batch_norm_averages_over_the_mapped_axis():
    """Two halves of a batch on an axis see the statistics of the whole batch."""
    images = jax.random.normal(key(1), (4, 16, 16, 3))
    images *= jnp.arange(1.0, 5.0)[:, None, None, None]
    alone = ssd.build_network(config("small", widths=(4,), levels=1), 2, (1,))
    mapped = ssd.build_network(config("small", widths=(4,), levels=1), 2, (1,), axis_name="batch")
    variables = jax.jit(alone.init, static_argnums=2)(key(0), images, True)

    def logits(network):
        return lambda x: network.apply(variables, x, True, mutable=["batch_stats"])[0][0]

    halves = images.reshape(2, 2, 16, 16, 3)
    want = jax.jit(logits(alone))(images)
    got = jax.jit(jax.vmap(logits(mapped), axis_name="batch"))(halves).reshape(want.shape)
    np.testing.assert_allclose(got, want, atol=1e-5)
    apart = jax.jit(jax.vmap(logits(alone)))(halves).reshape(want.shape)
    assert np.abs(apart - want).max() > 1e-3


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (config("densenet"), "'densenet': no file of ssd_jax/models"),
        (config("resnet", depth=18), "depth is 18: resnet is defined for 34 and 50"),
        (config("heads"), "no file of ssd_jax"),
        (config("mobilenet_v1", depth=2), "has depth, .* its fields are norm_momentum, width"),
        (config("vgg", input_size=400), "input_size is 400: vgg is defined for 300 and 512"),
        (config("vgg", input_size=300), "100 x 100 are too small"),
    ],
)
def test_errors_name_the_field_and_the_choices(model, message):
    with pytest.raises(ConfigError, match=message):
        ssd.build_network(model, 3, (1,))
        ssd.feature_map_sizes(model, (100, 100))


@pytest.mark.parametrize(("height", "width"), [(8, 6), (7, 5), (1, 2)])
def test_slices_pool_as_a_pooling_does_with_its_gradient(height, width):
    x = jax.random.normal(key(0), (2, height, width, 3))
    pool = functools.partial(nn.max_pool, window_shape=(2, 2), strides=(2, 2), padding="SAME")
    weight = jax.random.normal(key(1), pool(x).shape)
    own, expected = (
        jax.value_and_grad(lambda x, form=form: (form(x) * weight).sum())(x)
        for form in (max_pool_2x2, pool)
    )
    jax.tree.map(functools.partial(np.testing.assert_allclose, atol=1e-5), own, expected)


def test_of_equal_values_one_gets_the_whole_gradient():
    gradient = jax.grad(lambda x: max_pool_2x2(x).sum())(jnp.ones((1, 4, 4, 2)))
    np.testing.assert_array_equal(np.sort(gradient.reshape(2, 2, 2, 2, 2).sum((1, 3)).ravel()), 1)
