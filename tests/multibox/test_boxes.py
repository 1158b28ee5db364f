import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest
from random_data import random_boxes

from ssd_jax.multibox import boxes as box_ops


def test_iou_by_hand():
    a = np.float32([[0, 0, 0.5, 0.5]])
    b = np.float32(
        [[0.25, 0.25, 0.75, 0.75], [0.5, 0, 1, 0.5], [0, 0, 0.5, 0.5], [0.1, 0.1, 0.1, 0.1]]
    )
    np.testing.assert_allclose(box_ops.iou(a, b), [[1 / 7, 0, 1, 0]], atol=1e-7)


def test_iou_of_two_points_is_zero_and_not_nan():
    point = np.zeros((1, 4), np.float32)
    assert box_ops.iou(point, point) == 0


def test_reversed_corners_have_no_area():
    assert box_ops.area(np.float32([[0.5, 0.5, 0.2, 0.2]])) == 0


def test_iou_meets_the_oracle():
    rng = np.random.default_rng(0)
    a, b = random_boxes(rng, 40), random_boxes(rng, 60)
    np.testing.assert_allclose(box_ops.iou(a, b), oracles.iou(a, b), atol=1e-6)


def test_numpy_in_numpy_out_and_jax_in_jax_out():
    rng = np.random.default_rng(1)
    a = random_boxes(rng, 5)
    assert type(box_ops.iou(a, a)) is np.ndarray
    result = jax.jit(box_ops.iou)(jnp.asarray(a), jnp.asarray(a))
    assert isinstance(result, jax.Array)
    np.testing.assert_allclose(result, box_ops.iou(a, a), atol=1e-6)


def test_forms_round_trip():
    corners = random_boxes(np.random.default_rng(2), 50)
    np.testing.assert_allclose(box_ops.to_corners(box_ops.to_cxcywh(corners)), corners, atol=1e-6)


def test_encode_by_hand():
    prior = np.float32([[0.2, 0.2, 0.6, 0.6]])  # center .4, side .4
    truth = np.float32([[0.3, 0.2, 0.7, 1.0]])  # center (.5, .6), sides .4 and .8
    expected = [[0.1 / 0.4 / 0.1, 0.2 / 0.4 / 0.1, 0, np.log(2) / 0.2]]
    np.testing.assert_allclose(box_ops.encode(truth, prior), expected, atol=1e-5)


def test_encode_meets_the_oracle_and_decode_inverts_it():
    rng = np.random.default_rng(3)
    truth, prior = random_boxes(rng, 50), random_boxes(rng, 50)
    offsets = box_ops.encode(truth, prior)
    np.testing.assert_allclose(
        offsets, oracles.encode(truth, prior, box_ops.VARIANCES), rtol=1e-3, atol=1e-3
    )
    np.testing.assert_allclose(box_ops.decode(offsets, prior), truth, atol=1e-5)


def test_a_box_without_area_encodes_to_finite_numbers():
    point = np.float32([[0.5, 0.5, 0.5, 0.5]])
    assert np.isfinite(box_ops.encode(point, np.float32([[0.4, 0.4, 0.6, 0.6]]))).all()


def test_a_wild_offset_decodes_to_a_finite_box():
    wild = np.float32([[0, 0, 1e4, 1e4]])
    assert np.isfinite(box_ops.decode(wild, np.float32([[0.4, 0.4, 0.6, 0.6]]))).all()


@pytest.mark.parametrize("variances", [(0.1, 0.1, 0.2, 0.2), (1.0, 1.0, 1.0, 1.0)])
def test_variances_scale_the_offsets(variances):
    rng = np.random.default_rng(4)
    truth, prior = random_boxes(rng, 5), random_boxes(rng, 5)
    plain = box_ops.encode(truth, prior, (1.0, 1.0, 1.0, 1.0))
    np.testing.assert_allclose(
        box_ops.encode(truth, prior, variances), plain / np.float32(variances), rtol=1e-6
    )


def test_clip():
    np.testing.assert_array_equal(
        box_ops.clip(np.float32([-0.5, 0.2, 1.5, 0.9])), np.float32([0, 0.2, 1, 0.9])
    )
