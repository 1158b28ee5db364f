"""Rules of the crop against the oracle, on the same random numbers."""

import numpy as np
import oracles_augment
import pytest

from ssd_jax.data import augment
from ssd_jax.data.augment import FULL_IMAGE

MIN_IOUS = (0.1, 0.3, 0.5, 0.7, 0.9)
SCALE, RATIO = (0.3, 1.0), (0.5, 2.0)
PATCHES = {"aspect": oracles_augment.aspect_patch, "sides": oracles_augment.sides_patch}


def truths(seed, count):
    rng = np.random.default_rng(seed)
    low = rng.uniform(0, 0.6, (count, 2))
    return np.concatenate([low, low + rng.uniform(0.05, 0.4, (count, 2))], 1).astype(np.float32)


def planes(patches):
    """Patches [S, T, 4] -> [4, S, T], as the package holds them."""
    return patches.transpose(2, 0, 1)


def trials(rng, shape, samplers, count):
    """The patches of `samplers` [S][T] by the oracle, of numbers drawn as the package draws."""
    uniform = rng.random((4, samplers, count))
    return [
        [PATCHES[shape](uniform[:, s, t], SCALE, RATIO) for t in range(count)]
        for s in range(samplers)
    ]


@pytest.mark.parametrize("shape", PATCHES)
def test_patches_meet_the_oracle(shape):
    uniform = np.random.default_rng(1).random((4, 400))
    found = augment.propose_patches(uniform, SCALE, RATIO, shape).T
    wanted = [PATCHES[shape](one, SCALE, RATIO) for one in uniform.T]
    refused = np.array([patch is None for patch in wanted])
    assert (np.isnan(found).any(axis=1) == refused).all()
    assert 40 < refused.sum() < 160 if shape == "sides" else not refused.any()
    np.testing.assert_allclose(found[~refused], [p for p in wanted if p is not None], atol=1e-12)


@pytest.mark.parametrize("shape", PATCHES)
@pytest.mark.parametrize("seed", range(30))
def test_one_of_the_successes_meets_the_oracle(shape, seed):
    boxes, rng = truths(seed, 1 + seed % 4), np.random.default_rng(seed)
    view = augment.iou_crop(
        np.random.default_rng(seed), FULL_IMAGE, boxes, trials=6, selection="success", shape=shape
    )
    patches = trials(rng, shape, len(MIN_IOUS) + 1, 6)
    # The package counts the whole image last, the oracle first.
    wanted = oracles_augment.success_crop(
        patches, boxes.tolist(), MIN_IOUS, lambda count: (rng.integers(count) + 1) % count
    )
    np.testing.assert_allclose(view.window, wanted, atol=1e-12)


@pytest.mark.parametrize("accept", ["any", "all"])
@pytest.mark.parametrize("seed", range(40))
def test_a_mode_and_its_trials_meet_the_oracle(accept, seed):
    boxes, rng = truths(seed, 1 + seed % 3), np.random.default_rng(seed)
    view = augment.iou_crop(
        np.random.default_rng(seed), FULL_IMAGE, boxes,
        trials=4, selection="mode", shape="sides", accept=accept,
    )  # fmt: skip
    count = len(MIN_IOUS)

    def rounds():
        while True:  # the package's modes: minimum IoUs, any IoU, the whole image
            mode = rng.integers(count + 2)
            patches = [] if mode == count + 1 else trials(rng, "sides", 1, 4)[0]
            yield {count: 1, count + 1: 0}.get(mode, mode + 2), patches

    wanted = oracles_augment.mode_crop(rounds(), boxes.tolist(), MIN_IOUS, accept)
    np.testing.assert_allclose(view.window, wanted, atol=1e-12)


def test_a_patch_beside_its_box_is_no_success_of_a_mode():
    """IoU .5 with the box, whose center is outside: Caffe takes it, a mode does not."""
    boxes = np.float32([[0, 0, 1, 1]])
    patches = np.array([[[0.0, 0.0, 0.5, 1.0], [0.0, 0.0, 0.6, 1.0]]])
    thresholds = np.array([0.4])
    first = augment.first_accepted(planes(patches), boxes, thresholds)
    np.testing.assert_array_equal(first, patches[:, 0])
    centered = augment.first_accepted(planes(patches), boxes, thresholds, centered=True)
    np.testing.assert_array_equal(centered, patches[:, 1])


def test_all_boxes_must_reach_where_all_are_asked():
    boxes = np.array([[0.0, 0.0, 0.5, 1.0], [0.5, 0.0, 1.0, 1.0]])
    patches = np.array([[[0.0, 0.0, 0.6, 1.0], [0.0, 0.0, 1.0, 1.0]]])  # IoU .83 and .1; .5 twice
    for accept, wanted in (("any", 0), ("all", 1)):
        found = augment.first_accepted(planes(patches), boxes, np.array([0.4]), accept)
        np.testing.assert_array_equal(found, patches[:, wanted])
    assert not len(augment.first_accepted(planes(patches), boxes, np.array([0.6]), "all"))


def test_every_mode_is_drawn_as_often():
    """Two modes, of which one always succeeds: a half of the images stay whole."""
    rng, boxes = np.random.default_rng(0), np.float32([[0.4, 0.4, 0.6, 0.6]])
    rule = {"min_ious": (), "scale": (0.9, 0.9), "selection": "mode", "shape": "sides"}
    views = [augment.iou_crop(rng, FULL_IMAGE, boxes, **rule) for _ in range(2000)]
    assert 0.46 < np.mean([view is FULL_IMAGE for view in views]) < 0.54
    assert augment.iou_crop(rng, FULL_IMAGE, boxes[:0], **rule) is FULL_IMAGE


@pytest.mark.parametrize("seed", range(10))
def test_zooming_out_and_what_a_crop_keeps_meet_the_oracle(seed):
    boxes, rng = truths(seed, 12), np.random.default_rng(seed)
    view = augment.zoom_out(np.random.default_rng(seed), FULL_IMAGE, boxes, probability=1.0)
    rng.random()
    ratio = rng.uniform(1, 4)
    places = rng.uniform(0, ratio - 1, 2) / (ratio - 1)
    zoomed = oracles_augment.zoomed(boxes, ratio, *places)
    np.testing.assert_allclose(augment.to_view_coords(view, boxes), zoomed, atol=1e-6)

    patch = oracles_augment.aspect_patch(rng.random(4), SCALE, RATIO)
    seen, kept = augment.boxes_in_view(augment.crop(view, patch), boxes)
    wanted, inside = oracles_augment.emitted(zoomed, patch)
    np.testing.assert_array_equal(kept, inside)
    np.testing.assert_allclose(seen, wanted, atol=1e-5)
