"""The mean loss of a set: by hand."""

import numpy as np
import pytest

from ssd_jax.metrics import losses

CLASSIFICATION, LOCALIZATION = np.float32([6.0, 2.0, 0.0]), np.float32([3.0, 1.0, 0.0])
POSITIVES = np.int32([3, 1, 0])


def means(normalizer, rows=slice(None), weight=2.0):
    columns = (CLASSIFICATION[rows], LOCALIZATION[rows], POSITIVES[rows])
    return dict(losses.evaluate(*columns, weight, normalizer))


def test_of_a_batch_the_sums_are_divided_by_all_positives():
    # 8 and 4, over 4 positives.
    expected = {"eval/loss": 4.0, "eval/cls_loss": 2.0, "eval/loc_loss": 1.0}
    assert means("batch") == pytest.approx(expected)


def test_of_images_each_is_divided_by_its_own_and_one_without_box_counts_too():
    # (6/3 + 2/1 + 0) / 3 and (3/3 + 1/1 + 0) / 3.
    expected = {"eval/loss": 8 / 3, "eval/cls_loss": 4 / 3, "eval/loc_loss": 2 / 3}
    assert means("image") == pytest.approx(expected)


@pytest.mark.parametrize("normalizer", ["batch", "image"])
def test_without_any_positive_nothing_is_divided_by_zero(normalizer):
    assert means(normalizer, slice(2, 3)) == pytest.approx(dict.fromkeys(means("batch"), 0.0))
