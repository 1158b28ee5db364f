"""Color operations against colorsys, and the randomness of `distort`."""

import colorsys

import jax
import jax.numpy as jnp
import numpy as np
import oracles_augment
import pytest
from ml_collections import ConfigDict

from ssd_jax.data import color

CAFFE = ("brightness", "contrast", "saturation", "hue")


def settings(operations=CAFFE, **overrides):
    values = {
        "operations": operations,
        "probability": 0.5,
        "brightness": 32.0,
        "contrast": (0.5, 1.5),
        "saturation": (0.5, 1.5),
        "hue": 0.1,
        "channel_order": 0.5,
    }
    return ConfigDict(values | overrides)


def keys(samples):
    return jax.vmap(jax.random.fold_in, (None, 0))(jax.random.key(0), jnp.asarray(samples))


def distort(samples, batch, config):
    """Compiled, one key for each sample number."""
    run = jax.jit(lambda keys, images: color.jitter(keys, images, config))
    return run(keys(samples), batch)


def images(count, side=6, seed=0):
    """Noise with gray, black, white and saturated pixels among it."""
    pixels = np.random.default_rng(seed).uniform(0, 255, (count, side, side, 3)).astype(np.float32)
    special = [[0, 0, 0], [255, 255, 255], [80, 80, 80], [255, 0, 0], [0, 255, 255], [9, 9, 200]]
    pixels[:, 0, :6] = special
    return jnp.asarray(pixels)


def planes(image):
    return tuple(image[..., channel] for channel in range(3))


def through_hsv(image, change):
    """Each pixel [..., 3] of 0 ... 255 through colorsys, changed there by `change(h, s, v)`."""

    def one(pixel):
        return colorsys.hsv_to_rgb(*change(*colorsys.rgb_to_hsv(*(pixel / 255.0))))

    return 255 * np.apply_along_axis(one, -1, np.asarray(image, np.float64))


@pytest.mark.parametrize("turn", [-0.1, 0.05, 0.1, 0.5, -1 / 3])
def test_hue_turns_as_in_hsv(turn):
    image = images(1)[0]
    want = through_hsv(image, lambda h, s, v: ((h + turn) % 1.0, s, v))
    got = jnp.stack(color.hue(planes(image), jnp.float32(turn)), axis=-1)
    np.testing.assert_allclose(got, want, atol=0.01)


@pytest.mark.parametrize("factor", [0.0, 0.5, 1.0, 1.5, 4.0])
def test_saturation_scales_as_in_hsv(factor):
    image = images(1)[0]
    want = through_hsv(image, lambda h, s, v: (h, min(s * factor, 1.0), v))
    got = jnp.stack(color.saturation(planes(image), jnp.float32(factor)), axis=-1)
    np.testing.assert_allclose(got, want, atol=0.01)


def test_brightness_and_contrast_by_hand():
    rgb = tuple(jnp.full((1, 1), value) for value in (10.0, 100.0, 250.0))
    brighter = color.brightness(rgb, jnp.float32(20.0))
    assert [float(channel[0, 0]) for channel in brighter] == [30.0, 120.0, 255.0]
    darker = color.brightness(rgb, jnp.float32(-20.0))
    assert [float(channel[0, 0]) for channel in darker] == [0.0, 80.0, 230.0]
    harder = color.contrast(rgb, jnp.float32(1.5))
    assert [float(channel[0, 0]) for channel in harder] == [15.0, 150.0, 255.0]


def test_channel_order_by_hand():
    rgb = tuple(jnp.full((1, 1), value) for value in (1.0, 2.0, 3.0))
    got = color.channel_order(rgb, jnp.asarray([2, 0, 1], jnp.int32))
    assert [float(channel[0, 0]) for channel in got] == [3.0, 1.0, 2.0]
    assert sorted(map(sorted, color.CHANNEL_ORDERS.tolist())) == [[0, 1, 2]] * 6
    assert len(set(map(tuple, color.CHANNEL_ORDERS.tolist()))) == 6


def test_nothing_happens_at_probability_zero_or_without_operations():
    batch = images(8)
    never = settings(color.OPERATIONS, probability=0.0, channel_order=0.0)
    np.testing.assert_allclose(distort(range(8), batch, never), batch, atol=1e-3)
    none = distort(range(8), batch, settings(operations=()))
    np.testing.assert_array_equal(none, batch)


def test_result_stays_in_range_and_keeps_its_dtype():
    wild = settings(
        color.OPERATIONS, probability=1.0, brightness=99.0, saturation=(0.0, 9.0), hue=0.5
    )
    out = distort(range(64), images(64), wild)
    assert out.dtype == jnp.float32 and out.shape == (64, 6, 6, 3)
    assert float(out.min()) >= 0.0 and float(out.max()) <= 255.0


def test_an_image_does_not_depend_on_its_batch():
    batch, config = images(6), settings(color.OPERATIONS)
    together = distort(range(6), batch, config)
    backwards = distort(range(6)[::-1], batch[::-1], config)[::-1]
    alone = distort([4], batch[4:5], config)
    np.testing.assert_allclose(backwards, together, atol=1e-3)
    np.testing.assert_allclose(alone[0], together[4], atol=1e-3)


def test_keys_decide():
    same = jnp.broadcast_to(images(1), (64, 6, 6, 3))
    out = np.asarray(distort(range(64), same, settings()))
    again = np.asarray(distort(range(64), same, settings()))
    np.testing.assert_array_equal(out, again)
    assert len({image.tobytes() for image in out.round()}) > 50


@pytest.mark.parametrize("probability", [0.5, 0.2])
def test_amounts_are_uniform_and_happen_with_their_probability(probability):
    gray = jnp.full((4000, 1, 1, 3), 100.0)
    config = settings(("brightness",), probability=probability)
    shift = np.asarray(distort(range(4000), gray, config))[:, 0, 0, 0] - 100
    happened = shift[shift != 0]
    assert abs(len(happened) / 4000 - probability) < 0.04
    assert happened.min() < -30 and happened.max() > 30 and abs(happened.mean()) < 2
    assert np.abs(shift).max() <= 32

    config = settings(("contrast",), probability=probability)
    factor = np.asarray(distort(range(4000), gray, config))[:, 0, 0, 0] / 100
    happened = factor[factor != 1]
    assert abs(len(happened) / 4000 - probability) < 0.04
    assert 0.5 <= happened.min() < 0.52 and 1.48 < happened.max() < 1.5001


def test_contrast_comes_before_saturation_or_after_it():
    """Once the brightest channel clips at 255, the order shows; half the images take each."""
    pixel = jnp.broadcast_to(jnp.asarray([200.0, 150.0, 100.0]), (2000, 1, 1, 3))
    # fixed factors: contrast 2, saturation 0.5
    config = settings(
        ("contrast", "saturation"), probability=1.0, contrast=(2.0, 2.0), saturation=(0.5, 0.5)
    )
    out = np.asarray(distort(range(2000), pixel, config))[:, 0, 0]
    first = np.isclose(out, [255.0, 255.0, 227.5], atol=0.01).all(axis=1)
    last = np.isclose(out, [255.0, 255.0, 255.0], atol=0.01).all(axis=1)
    assert (first ^ last).all()
    assert 0.45 < first.mean() < 0.55


def test_leaving_an_operation_out_does_not_redraw_the_others():
    gray = jnp.full((32, 1, 1, 3), 100.0)
    bright = distort(range(32), gray, settings(("brightness",)))
    both = distort(range(32), gray, settings(("brightness", "hue")))
    np.testing.assert_allclose(both, bright, atol=1e-3)


def test_every_channel_order_is_drawn():
    pixel = jnp.broadcast_to(jnp.asarray([1.0, 2.0, 3.0]), (300, 1, 1, 3))
    config = settings(("channel_order",), channel_order=1.0)
    out = np.asarray(distort(range(300), pixel, config))[:, 0, 0]
    assert len({tuple(row) for row in out.tolist()}) == 6


def test_normalize_by_hand():
    image = jnp.asarray([[[123, 117, 104], [255, 0, 1]]], jnp.uint8)
    got = color.normalize(image, (123.0, 117.0, 104.0), (2.0, 1.0, 4.0))
    np.testing.assert_allclose(got, [[[0, 0, 0], [66, -117, -25.75]]])
    assert got.dtype == jnp.float32
    half = color.normalize(images(2), (0.0, 0.0, 0.0), (1.0, 1.0, 1.0), jnp.bfloat16)
    assert half.dtype == jnp.bfloat16 and half.shape == (2, 6, 6, 3)


def test_all_of_it_meets_the_oracle_in_caffes_order():
    """What each image was given is read off probes; the oracle then does the same to colors."""
    samples, count = range(48), 48
    colors = jnp.broadcast_to(images(1), (count, 6, 6, 3))
    full = {"probability": 0.8, "saturation": (0.3, 0.9), "hue": 0.15}

    def seen(operations, pixel, **overrides):
        probe = jnp.broadcast_to(jnp.asarray(pixel, jnp.float32), (count, 1, 1, 3))
        config = settings(operations, **(full | overrides))
        return np.asarray(distort(samples, probe, config), np.float64)[:, 0, 0]

    shift = seen(("brightness",), [100, 100, 100])[:, 0] - 100
    factor = seen(("contrast",), [100, 100, 100])[:, 0] / 100
    gray = 1 - seen(("saturation",), [200, 100, 100])[:, 1] / 200
    turn = [colorsys.rgb_to_hsv(*row)[0] - 0.5 for row in seen(("hue",), [100, 200, 200])]
    always = {"probability": 1.0, "contrast": (2.0, 2.0), "saturation": (0.5, 0.5)}
    first = seen(("contrast", "saturation"), [200, 150, 100], **always)[:, 2] < 250
    assert 10 < first.sum() < 38
    out = np.asarray(distort(samples, colors, settings(**full))).reshape(count, -1, 3)
    for row in samples:
        wanted = oracles_augment.distort(
            np.asarray(colors[row]).reshape(-1, 3),
            shift[row], factor[row], 2 * gray[row], turn[row], first[row],
        )  # fmt: skip
        np.testing.assert_allclose(out[row], wanted, atol=0.1)
