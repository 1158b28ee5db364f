from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import oracles_matching
import oracles_priors
import pytest
from random_data import random_boxes

from ssd_jax.multibox import boxes as box_ops
from ssd_jax.multibox import matching
from ssd_jax.types import CROWD_LABEL, IGNORED_LABEL

MATCHERS = {
    "best_prior": oracles_matching.match_best_prior,
    "bipartite": oracles_matching.match_bipartite,
}


@partial(
    jax.jit,
    static_argnames=("matcher", "threshold", "negative_threshold", "conflict_resolution", "strict"),
)
def match(boxes, labels, priors, threshold=0.5, matcher="best_prior", **rules):
    return matching.match(boxes, labels, priors, threshold, matcher, **rules)


def scene(seed, truths=6, priors=300, padding=0, ignored=0):
    rng = np.random.default_rng(seed)
    boxes = random_boxes(rng, truths)
    labels = rng.integers(1, 5, truths).astype(np.int32)
    labels[:ignored] = IGNORED_LABEL
    boxes = np.concatenate([boxes, np.zeros((padding, 4), np.float32)])
    labels = np.concatenate([labels, np.zeros(padding, np.int32)])
    return boxes, labels, random_boxes(rng, priors)


@pytest.mark.parametrize("matcher", MATCHERS)
def test_by_hand_a_contested_prior(matcher):
    """Two truths want prior 0; the better one gets it, and only bipartite consoles the other."""
    priors = np.float32([[0, 0, 0.4, 0.4], [0.1, 0, 0.7, 0.4], [0.6, 0.6, 1, 1]])
    truths = np.float32([[0.04, 0, 0.44, 0.4], [0, 0, 0.4, 0.38]])
    targets = match(truths, jnp.int32([1, 2]), priors, matcher=matcher, threshold=0.9)
    other = 1 if matcher == "bipartite" else 0
    np.testing.assert_array_equal(targets.labels, [2, other, 0])


def test_the_neutral_band_by_hand():
    """IoU .4 with the truth is neither positive nor negative from .3 to .5, and .2 is negative."""
    priors = np.float32([[0, 0, 1, 1], [0, 0, 0.4, 1], [0, 0, 0.2, 1]])
    targets = match(np.float32([[0, 0, 1, 1]]), jnp.int32([2]), priors, negative_threshold=0.3)
    np.testing.assert_array_equal(targets.labels, [2, -1, 0])


@pytest.mark.parametrize("matcher", MATCHERS)
@pytest.mark.parametrize("negative_threshold", [1.0, 0.3])
@pytest.mark.parametrize("seed", range(12))
def test_meets_the_oracle(matcher, negative_threshold, seed):
    boxes, labels, priors = scene(seed, truths=1 + seed, padding=seed % 3, ignored=seed % 2)
    targets = match(boxes, labels, priors, 0.5, matcher, negative_threshold=negative_threshold)
    expected, truth = MATCHERS[matcher](boxes, labels, priors, 0.5, negative_threshold)
    np.testing.assert_array_equal(targets.labels, expected)
    positive = expected > 0
    wanted = box_ops.encode(boxes[truth[positive]], priors[positive])
    np.testing.assert_allclose(targets.offsets[positive], wanted, rtol=1e-4, atol=1e-4)
    assert not np.asarray(targets.offsets)[~positive].any()


@pytest.mark.parametrize("conflict_resolution", ["best", "first", "last"])
@pytest.mark.parametrize("strict", [False, True])
def test_claims_on_one_prior_meet_the_oracle(conflict_resolution, strict):
    """Few priors for many truths, so that nearly every claim is contested."""
    for seed in range(8):
        boxes, labels, priors = scene(seed, truths=12, priors=6, padding=2)
        rules = {"conflict_resolution": conflict_resolution, "strict": strict}
        targets = match(boxes, labels, priors, 0.6, **rules)
        expected, truth = oracles_matching.match_best_prior(boxes, labels, priors, 0.6, **rules)
        np.testing.assert_array_equal(targets.labels, expected)
        positive = expected > 0
        wanted = box_ops.encode(boxes[truth[positive]], priors[positive])
        np.testing.assert_allclose(targets.offsets[positive], wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("conflict_resolution", "label"), [("best", 2), ("first", 1), ("last", 3)])
def test_who_gets_a_contested_prior_by_hand(conflict_resolution, label):
    """IoU .5, .8 and .4 with the one prior, below the threshold."""
    truths = np.float32([[0, 0, 0.5, 1], [0, 0, 0.8, 1], [0, 0, 0.4, 1], [0, 0, 0, 0]])
    targets = match(
        truths,
        jnp.int32([1, 2, 3, 0]),
        np.float32([[0, 0, 1, 1]]),
        0.9,
        conflict_resolution=conflict_resolution,
    )
    np.testing.assert_array_equal(targets.labels, [label])


def crowd(priors, count):
    """Truths that fight for priors, each with one clear favorite: ties are not rounding's."""
    rng, boxes = np.random.default_rng(7), []
    while len(boxes) < count:
        corner, size = rng.uniform(0, 0.2, 2), rng.uniform(0.05, 0.15, 2)
        box = np.concatenate([corner, corner + size]).astype(np.float32)
        second, first = np.sort(oracles.iou(box[None], priors)[0])[-2:]
        if first - second > 1e-4:
            boxes.append(box)
    return np.stack(boxes)


@pytest.mark.parametrize("matcher", MATCHERS)
def test_meets_the_oracle_on_crowded_scenes_with_ssd300_priors(matcher):
    priors = oracles_priors.ssd300_voc_priors().astype(np.float32)
    boxes = crowd(priors, 24)
    labels = np.random.default_rng(8).integers(1, 21, 24).astype(np.int32)
    expected, _ = MATCHERS[matcher](boxes, labels, priors, 0.5)
    np.testing.assert_array_equal(match(boxes, labels, priors, matcher=matcher).labels, expected)


@pytest.mark.parametrize("matcher", MATCHERS)
def test_padding_and_order_of_truths_do_not_matter(matcher):
    boxes, labels, priors = scene(3, truths=8)
    plain = match(boxes, labels, priors, matcher=matcher)
    order = np.random.default_rng(0).permutation(8)
    rows = np.array([0, 3, *range(5, 11)])  # padding in between, too
    padded, padded_labels = np.zeros((16, 4), np.float32), np.zeros(16, np.int32)
    padded[rows], padded_labels[rows] = boxes[order], labels[order]
    other = match(padded, padded_labels, priors, matcher=matcher)
    np.testing.assert_array_equal(plain.labels, other.labels)
    np.testing.assert_array_equal(plain.offsets, other.offsets)


@pytest.mark.parametrize("matcher", MATCHERS)
def test_every_truth_gets_a_prior_however_small_its_overlap(matcher):
    priors = np.float32([[0, 0, 0.5, 0.5], [0.5, 0.5, 1, 1]])
    truths = np.float32([[0.45, 0.45, 0.5, 0.5], [0.5, 0.5, 0.52, 0.52]])
    targets = match(truths, jnp.int32([3, 4]), priors, matcher=matcher)
    np.testing.assert_array_equal(targets.labels, [3, 4])


@pytest.mark.parametrize("matcher", MATCHERS)
def test_no_truths_and_far_truths_match_nothing(matcher):
    priors = np.float32([[0, 0, 0.2, 0.2]])
    far = np.float32([[0.8, 0.8, 0.9, 0.9], [0, 0, 0, 0]])
    assert not match(far, jnp.int32([0, 0]), priors, matcher=matcher).labels.any()
    assert not match(far, jnp.int32([2, 0]), priors, matcher=matcher).labels.any()


def test_an_ignored_truth_claims_nothing_and_silences_its_priors():
    priors = np.float32([[0, 0, 0.5, 0.5], [0.5, 0.5, 1, 1], [0, 0.5, 0.5, 1]])
    truths = np.float32([[0, 0, 0.5, 0.5], [0.5, 0.5, 1, 1]])
    targets = match(truths, jnp.int32([-1, 2]), priors)
    np.testing.assert_array_equal(targets.labels, [-1, 2, 0])


def test_a_crowd_claims_nothing_and_silences_what_lies_in_it():
    """By the share of the prior, however small its IoU; a truth inside keeps its priors."""
    crowd, person = [0, 0, 0.8, 0.8], [0.5, 0.5, 0.7, 0.7]
    priors = np.float32(
        [
            [0.1, 0.1, 0.2, 0.2],  # inside
            [0.75, 0.1, 0.85, 0.2],  # half inside
            [0.76, 0.1, 0.86, 0.2],  # less
            person,
            [0, 0, 0.8, 0.8],  # the crowd's own
            [0.85, 0.85, 0.95, 0.95],  # elsewhere
        ]
    )
    truths = np.float32([crowd, person])
    labels = match(truths, jnp.int32([CROWD_LABEL, 3]), priors, threshold=0.49).labels
    np.testing.assert_array_equal(labels, [-1, -1, 0, 3, -1, 0])
    labels = match(truths, jnp.int32([IGNORED_LABEL, 3]), priors).labels
    np.testing.assert_array_equal(labels, [0, 0, 0, 3, -1, 0])


@pytest.mark.parametrize("matcher", MATCHERS)
def test_priors_of_crowds_equal_the_oracle(matcher):
    """Shared area over the prior's, in float64, beside the oracle of everything else."""
    silenced = kept = 0
    for seed in range(5):
        boxes, labels, priors = scene(seed, padding=2)
        labels[:2] = CROWD_LABEL
        found = np.asarray(match(boxes, labels, priors, matcher=matcher).labels)
        others, _ = MATCHERS[matcher](boxes, np.where(labels < 0, 0, labels), priors, 0.5)
        low = np.maximum(boxes[:2, None, :2], priors[None, :, :2]).astype(float)
        high = np.minimum(boxes[:2, None, 2:], priors[None, :, 2:])
        shared = np.maximum(high - low, 0).prod(-1)
        share = (shared / (priors[:, 2:] - priors[:, :2]).astype(float).prod(-1)).max(0)
        assert np.abs(share - 0.5).min() > 1e-6
        inside = others[share > 0.5]
        silenced, kept = silenced + (inside == 0).sum(), kept + (inside > 0).sum()
        np.testing.assert_array_equal(found, np.where((others == 0) & (share > 0.5), -1, others))
    assert silenced > 20 and kept > 2


def test_threshold_is_inclusive():
    priors = np.float32([[0, 0, 1, 0.5], [0, 0, 1, 1]])
    truth = np.float32([[0, 0, 1, 1]])
    np.testing.assert_array_equal(match(truth, jnp.int32([1]), priors).labels, [1, 1])
    above = match(truth, jnp.int32([1]), priors, strict=True)
    np.testing.assert_array_equal(above.labels, [0, 1])
    unclear = match(np.float32([[0, 0, 1, 1]] * 2), jnp.int32([-1, 0]), priors, strict=True)
    np.testing.assert_array_equal(unclear.labels, [0, -1])


@pytest.mark.parametrize("matcher", MATCHERS)
def test_a_batch_is_its_images(matcher):
    scenes = [scene(seed, truths=4 + seed, padding=6 - seed) for seed in range(4)]
    boxes, labels = (np.stack([one[i] for one in scenes]) for i in (0, 1))
    priors = scenes[0][2]
    together = jax.jit(jax.vmap(partial(match, matcher=matcher), (0, 0, None)))(
        boxes, labels, priors
    )
    for row in range(4):
        alone = match(boxes[row], labels[row], priors, matcher=matcher)
        np.testing.assert_array_equal(together.labels[row], alone.labels)
        np.testing.assert_allclose(together.offsets[row], alone.offsets, atol=1e-5)


@pytest.mark.parametrize("matcher", MATCHERS)
@pytest.mark.parametrize("block", [1, 4, 5])
def test_blocks_of_boxes_meet_the_oracle(monkeypatch, matcher, block):
    """Images with few, many and no boxes in one batch, of which the fullest needs all blocks."""
    rng, total = np.random.default_rng(3), 17
    boxes, labels = np.zeros((4, total, 4), np.float32), np.zeros((4, total), np.int32)
    for image, count in enumerate((17, 0, 3, 9)):
        boxes[image, :count] = random_boxes(rng, count)
        labels[image, :count] = rng.choice([1, 2, 3, IGNORED_LABEL, CROWD_LABEL], count)
    priors = random_boxes(rng, 40)

    def match_all(block):
        monkeypatch.setattr(matching, "_MAX_BLOCK", block)
        one = partial(matching.match, priors=jnp.asarray(priors), matcher=matcher)
        return jax.jit(jax.vmap(one))(boxes, labels)

    found, expected = match_all(block), match_all(total)
    np.testing.assert_array_equal(found.labels, expected.labels)
    np.testing.assert_allclose(found.offsets, expected.offsets, rtol=1e-5, atol=1e-5)
    for image in (0, 2, 3):
        plain = np.where(labels[image] == CROWD_LABEL, IGNORED_LABEL, labels[image])
        positive = MATCHERS[matcher](boxes[image], plain, priors, 0.5)[0] > 0
        np.testing.assert_array_equal(np.asarray(found.labels[image]) > 0, positive)


@pytest.mark.parametrize("conflict_resolution", ["best", "first", "last"])
def test_a_prior_that_boxes_of_several_blocks_contest(monkeypatch, conflict_resolution):
    monkeypatch.setattr(matching, "_MAX_BLOCK", 5)
    resolve = {"conflict_resolution": conflict_resolution}
    for seed in range(8):
        boxes, labels, priors = scene(seed, truths=12, priors=6, padding=2)
        arrays = map(jnp.asarray, (boxes, labels, priors))
        targets = matching.match(*arrays, 0.6, **resolve)
        expected, _ = oracles_matching.match_best_prior(boxes, labels, priors, 0.6, **resolve)
        np.testing.assert_array_equal(targets.labels, expected)


@pytest.mark.parametrize("matcher", MATCHERS)
@pytest.mark.parametrize("boxes", [504, 5000])
def test_memory_does_not_grow_with_the_boxes_of_an_image(matcher, boxes):
    """SSD300 on VGG16, 32 images: below 2 GB (SI) beside inputs and outputs."""
    priors = jax.ShapeDtypeStruct((8732, 4), jnp.float32)
    batch = jax.ShapeDtypeStruct((32, boxes, 4), jnp.float32)
    labels = jax.ShapeDtypeStruct((32, boxes), jnp.int32)
    matched = jax.vmap(partial(matching.match, matcher=matcher), in_axes=(0, 0, None))
    compiled = jax.jit(matched).lower(batch, labels, priors).compile()
    assert compiled.memory_analysis().temp_size_in_bytes < 2e9
