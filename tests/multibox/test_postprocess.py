from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest
from random_data import random_boxes

from ssd_jax.multibox import boxes as box_ops
from ssd_jax.multibox import postprocess

VARIANCES = box_ops.VARIANCES


def crowd(seed, count):
    """Boxes that overlap in long chains: the hard case for suppression."""
    rng = np.random.default_rng(seed)
    corner = rng.uniform(0, 0.6, (count, 2))
    corner[: count // 2, 1] = 0.3
    return np.concatenate([corner, corner + rng.uniform(0.2, 0.35, (count, 2))], 1).astype(
        np.float32
    )


@pytest.mark.parametrize("threshold", [0.3, 0.45, 0.5, 0.6])
@pytest.mark.parametrize("seed", range(5))
def test_suppression_is_plain_greedy_nms(threshold, seed):
    boxes = crowd(seed, 150)
    scores = np.linspace(1, 0.1, 150)
    kept = jax.jit(postprocess.nms)(boxes, np.ones(150, bool), threshold)
    np.testing.assert_array_equal(np.flatnonzero(kept), oracles.nms(boxes, scores, threshold))


def test_suppression_chain_by_hand():
    """1 falls to 0, so 2 lives although it overlaps 1."""
    boxes = jnp.float32([[0, 0, 0.4, 1], [0.1, 0, 0.5, 1], [0.2, 0, 0.6, 1]])
    kept = postprocess.nms(boxes, jnp.ones(3, bool), 0.5)
    np.testing.assert_array_equal(kept, [True, False, True])


def test_an_invalid_box_suppresses_nothing():
    boxes = jnp.float32([[0, 0, 1, 1], [0, 0, 1, 1]])
    np.testing.assert_array_equal(
        postprocess.nms(boxes, jnp.array([False, True]), 0.5), [False, True]
    )


@pytest.mark.parametrize("count", [0, 1, 63, 64, 65, 128])
def test_any_number_of_boxes_and_of_valid_ones(count):
    boxes, valid = crowd(3, count), np.random.default_rng(count).random(count) < 0.5
    kept = jax.jit(postprocess.nms)(boxes, valid, 0.45)
    expected = np.flatnonzero(valid)[
        oracles.nms(boxes[valid], np.linspace(1, 0, valid.sum()), 0.45)
    ]
    np.testing.assert_array_equal(np.flatnonzero(kept), expected)


def heads(seed, priors=120, classes=4):
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(priors, classes)).astype(np.float32) * 2
    offsets = rng.normal(size=(priors, 4)).astype(np.float32)
    return logits, offsets, random_boxes(rng, priors)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(("per_class", "in_total"), [(400, 200), (20, 15)])
@pytest.mark.parametrize("classification", ["softmax", "sigmoid", "sigmoid_classes"])
def test_detections_meet_the_oracle(seed, per_class, in_total, classification):
    arguments = heads(seed)
    found = jax.jit(
        partial(postprocess.detect, score_threshold=0.05, iou_threshold=0.45,
                top_k_per_class=per_class, top_k=in_total, classification=classification)
    )(*arguments)  # fmt: skip
    boxes, scores, labels = oracles.detect(
        *arguments, VARIANCES, 0.05, 0.45, per_class, in_total, classification
    )
    count = len(scores)
    assert count > 5
    np.testing.assert_array_equal(found.labels[:count], labels)
    np.testing.assert_allclose(found.scores[:count], scores, atol=1e-6)
    np.testing.assert_allclose(found.boxes[:count], np.clip(boxes, 0, 1), atol=1e-5)
    assert not np.asarray(found.labels[count:]).any()


def test_nothing_above_the_threshold_gives_empty_slots():
    logits, offsets, priors = heads(0)
    logits[:, 0] = 50
    found = postprocess.detect(*map(jnp.asarray, (logits, offsets, priors)))
    assert not np.asarray(found.labels).any() and not np.asarray(found.scores).any()


def test_classes_do_not_suppress_each_other():
    priors = jnp.float32([[0.2, 0.2, 0.8, 0.8]] * 2)
    logits = jnp.float32([[0, 5, 0], [0, 0, 4]])
    found = postprocess.detect(logits, jnp.zeros((2, 4)), priors, score_threshold=0.5)
    np.testing.assert_array_equal(found.labels, [1, 2, 0, 0])


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(("per_class", "in_total"), [(400, 200), (20, 15)])
@pytest.mark.parametrize("classification", ["softmax", "sigmoid"])
def test_without_classes_suppression_is_greedy_over_the_best_class_of_each_prior(
    seed, per_class, in_total, classification
):
    logits, offsets, priors = heads(seed)
    found = jax.jit(
        partial(postprocess.detect, score_threshold=0.05, iou_threshold=0.45, class_agnostic=True,
                top_k_per_class=per_class, top_k=in_total, classification=classification)
    )(np.stack([logits, -logits]), np.stack([offsets, offsets]), priors)  # fmt: skip
    for row, own in enumerate((logits, -logits)):
        scores = own.astype(np.float64)
        scores = np.exp(scores) / np.exp(scores).sum(-1, keepdims=True)
        scores = (1 / (1 + np.exp(-own)) if classification == "sigmoid" else scores)[:, 1:]
        best, labels = scores.max(-1), scores.argmax(-1) + 1
        order = np.argsort(-best, kind="stable")
        order = order[best[order] > 0.05][:per_class]
        boxes = oracles.decode(offsets, priors, VARIANCES)[order]
        kept = order[oracles.nms(boxes, best[order], 0.45)][:in_total]
        count = len(kept)
        assert count > 5 and not np.asarray(found.labels[row, count:]).any()
        np.testing.assert_array_equal(found.labels[row, :count], labels[kept])
        np.testing.assert_allclose(found.scores[row, :count], best[kept], atol=1e-6)


def test_of_two_classes_in_one_place_the_surest_is_left():
    priors = jnp.float32([[0.2, 0.2, 0.8, 0.8]] * 2)
    logits = jnp.float32([[0, 5, 4], [0, 3, 4]])
    found = postprocess.detect(
        logits, jnp.zeros((2, 4)), priors, score_threshold=0.2, class_agnostic=True
    )
    np.testing.assert_array_equal(found.labels, [1, 0])


@pytest.mark.parametrize(
    ("clip", "left", "kept"), [("first", 0, 1), ("last", 0, 2), ("none", -0.5, 2)]
)
def test_boxes_are_cut_before_or_after_suppression_or_not(clip, left, kept):
    """Two boxes that share half of one, and inside the image all."""
    priors = jnp.float32([[-0.5, 0, 0.5, 1], [0, 0, 0.5, 1]])
    logits = jnp.float32([[0, 5], [0, 4]])
    found = postprocess.detect(
        logits, jnp.zeros((2, 4)), priors, score_threshold=0.5, iou_threshold=0.6, clip=clip
    )
    np.testing.assert_allclose(found.boxes[0], [left, 0, 0.5, 1], atol=1e-6)
    assert (found.labels > 0).sum() == kept


def test_a_batch_is_its_images():
    batch = [heads(seed) for seed in range(3)]
    logits, offsets = (jnp.stack([one[i] for one in batch]) for i in (0, 1))
    detect = partial(postprocess.detect, priors=jnp.asarray(batch[0][2]))
    together = jax.jit(detect)(logits, offsets)
    mapped = jax.jit(jax.vmap(detect))(logits, offsets)
    for row in range(3):
        alone = detect(logits[row], offsets[row])
        for batch in (together, mapped):
            np.testing.assert_array_equal(batch.labels[row], alone.labels)
            np.testing.assert_allclose(batch.boxes[row], alone.boxes, atol=1e-6)


def test_sets_that_end_in_other_tiles_do_not_disturb_each_other():
    """Sets of 0, 1, 70 and 200 valid boxes, suppressed together and alone."""
    boxes = jnp.stack([crowd(seed, 200) for seed in range(4)]).reshape(2, 2, 200, 4)
    counts = np.array([0, 1, 70, 200]).reshape(2, 2)
    valid = np.arange(200) < counts[..., None]
    together = jax.jit(postprocess.nms)(boxes, valid, 0.45)
    for at in np.ndindex(2, 2):
        alone = postprocess.nms(boxes[at], jnp.asarray(valid[at]), 0.45)
        np.testing.assert_array_equal(together[at], alone)
    assert together.any(-1).tolist() == [[False, True], [True, True]]
