"""The score where F1 is highest: by hand, and against a loop over all thresholds."""

import numpy as np
import pytest

from ssd_jax.metrics import thresholds, voc
from ssd_jax.metrics.voc import Matches


def matches(scores, correct, objects):
    return Matches(np.float64(scores), np.array(correct, bool), objects)


def test_by_hand():
    # F1 after each detection, 4 objects: 2/5, 4/6, 4/7, 6/8, 6/9.
    found = matches([0.9, 0.8, 0.7, 0.6, 0.2], [1, 1, 0, 1, 0], 4)
    assert thresholds.best_threshold(found) == pytest.approx((0.6 + 0.2) / 2)
    # The last one is correct too: everything is kept, down to half of its score.
    assert thresholds.best_threshold(matches([0.9, 0.4], [1, 1], 2)) == pytest.approx(0.2)
    # Of equal scores both are kept, or none.
    assert thresholds.best_threshold(matches([0.9, 0.5, 0.5], [1, 1, 0], 2)) == pytest.approx(0.25)
    assert thresholds.best_threshold(matches([0.9, 0.5, 0.5, 0.5], [1, 0, 0, 1], 2)) == (
        pytest.approx(0.7)
    )


def test_what_is_true_at_the_threshold_by_hand():
    """The best F1 is after four detections: three are correct, of four objects."""
    found = matches([0.9, 0.8, 0.7, 0.6, 0.2], [1, 1, 0, 1, 0], 4)
    assert thresholds.best_point(found) == pytest.approx((0.4, 3 / 4, 3 / 4, 6 / 8))
    # All three detections and two of five objects.
    found = matches([0.9, 0.8, 0.7], [1, 0, 1], 5)
    assert thresholds.best_point(found) == pytest.approx((0.35, 2 / 3, 2 / 5, 4 / 8))


def test_of_all_classes_each_detection_and_each_object_counts_once():
    """By score: cat correct, dog wrong, dog correct, cat wrong; three cats and one dog.

    F1 after each: 2/5, 2/6, 4/7, 4/8. A mean over classes would be another number.
    """
    cats, dogs = matches([0.9, 0.2], [1, 0], 3), matches([0.8, 0.5], [0, 1], 1)
    values = dict(thresholds.evaluate([cats, dogs], ("cat", "dog")))
    assert values == pytest.approx(
        {"threshold": 0.35, "precision": 2 / 3, "recall": 2 / 4, "f1": 4 / 7}
    )


@pytest.mark.parametrize("found", [matches([], [], 3), matches([0.9], [0], 3), matches([], [], 0)])
def test_without_a_correct_detection_there_is_none(found):
    assert thresholds.best_threshold(found) is None
    assert list(thresholds.evaluate([found], ("cat",))) == []


@pytest.mark.parametrize("seed", range(20))
def test_no_other_threshold_is_better(seed):
    rng = np.random.default_rng(seed)
    scores = np.sort(rng.integers(1, 12, 30) / 12)[::-1]
    found = matches(scores, rng.random(30) < scores, 25)

    def f1(threshold):
        kept = scores >= threshold
        correct = (found.is_correct & kept).sum()
        return 2 * correct / (kept.sum() + found.objects)

    best = thresholds.best_threshold(found)
    assert f1(best) == max(f1(threshold) for threshold in np.linspace(0, 1, 1000))


def test_a_class_of_few_objects_has_that_of_all():
    many = matches([0.9, 0.8, 0.3], [1, 1, 0], 20)
    few = matches([0.6], [1], 19)
    values = dict(thresholds.evaluate([many, few], ("cat", "threshold")))
    assert set(values) == {"threshold", "precision", "recall", "f1", "threshold/cat"}
    assert values["threshold/cat"] == pytest.approx(0.55)
    assert values["threshold"] == pytest.approx(0.45)  # 3 of 4 detections are correct
    chosen = thresholds.select(values, ("cat", "threshold", "new"), 0.5)
    assert chosen == pytest.approx([0.55, 0.45, 0.45])
    assert thresholds.select({}, ("cat",), 0.5) == [0.5]


def test_of_images():
    """Two images: one box found twice, one missed, one difficult box that counts for nothing."""
    box, far = [0.1, 0.1, 0.5, 0.5], [0.6, 0.6, 0.9, 0.9]
    truth = [
        {"boxes": np.float32([box, far]), "labels": np.int32([1, 1]), "size": (100, 100),
         "ignore": np.array([False, True])},
        {"boxes": np.float32([box]), "labels": np.int32([1]), "size": (100, 100),
         "ignore": np.array([False])},
    ]  # fmt: skip
    found = [
        {"boxes": np.float32([box, box, far]), "scores": np.float32([0.9, 0.3, 0.8]),
         "labels": np.int32([1, 1, 1])},
        {"boxes": np.zeros((0, 4), np.float32), "scores": np.float32([]), "labels": np.int32([])},
    ]  # fmt: skip
    (one,) = voc.match_classes(truth, found, ("cat",))
    assert one.objects == 2 and one.is_correct.tolist() == [True, False]
    assert thresholds.best_threshold(one) == pytest.approx(0.6)


def test_thresholds_of_another_set_keep_what_they_keep():
    """Cats from .5 on: one of one, of three; dogs from .3 on, that of all: one of two, of one."""
    cats, dogs = matches([0.9, 0.2], [1, 1], 3), matches([0.8, 0.3, 0.1], [0, 1, 1], 1)
    given = {"threshold": 0.3, "threshold/cat": 0.5}
    found = dict(thresholds.evaluate([cats, dogs], ("cat", "dog"), given))
    assert found == pytest.approx(given | {"precision": 2 / 3, "recall": 2 / 4, "f1": 4 / 7})
    assert dict(thresholds.evaluate([cats, dogs], ("cat", "dog"), {})) == {}
    assert thresholds.among(given | {"voc/mAP50_area": 0.1}) == given
