"""Priors are fitted where they do not fit, and stay otherwise."""

import math

import micro
import numpy as np
import pytest

from ssd_jax.recipe.priors import fit_priors, measure_recall
from ssd_jax.recipe.setting import apply_settings

EMPTY = np.zeros((0, 4), np.float32)


class Boxes:
    """A source of images with given boxes."""

    classes, max_boxes, fingerprint, images = ("cat",), 1, "boxes", ()

    def __init__(self, boxes):
        self.boxes = [np.array(each, np.float32).reshape(-1, 4) for each in boxes]

    def name(self, index):
        return f"boxes/{index}"

    def summary(self):
        return "boxes"

    def __len__(self):
        return len(self.boxes)

    def __getitem__(self, index):
        return self.ground_truth(index)

    def ground_truth(self, index):
        count = len(self.boxes[index])
        labels, flags = np.ones(count, np.int32), np.zeros(count, np.int8)
        return {"boxes": self.boxes[index], "labels": labels, "flags": flags}


def test_priors_that_fit_stay():
    source = Boxes(boxes=[[0, 0, 0.5, 0.5], [0.5, 0.5, 1, 1]])  # squares of 16 pixels
    config = micro.get_config(priors__sizes=(8.0, 16.0, 24.0))
    fit = fit_priors(config, source)
    assert fit.before == fit.after == 1 and not fit.settings


def test_priors_that_do_not_fit_are_fitted():
    source = Boxes(boxes=[[0.21, 0.01, 0.29, 0.49]] * 6)  # six times as high as wide
    config = micro.get_config(priors__sizes=(4.0, 8.0, 16.0), augment__geometric=())
    fit = fit_priors(config, source)
    assert fit.before == 0 and fit.after == 1
    assert "fitted: 100.0% of the boxes" in fit.settings[0].reason
    apply_settings(config, fit.settings)
    assert measure_recall(config, source) == 1


@pytest.mark.parametrize("boxes", [[], [EMPTY, EMPTY]])
def test_without_boxes_nothing_is_fitted(boxes):
    fit = fit_priors(micro.get_config(), Boxes(boxes=boxes))
    assert math.isnan(fit.before) and not fit.settings


def test_where_the_search_may_see_no_box_priors_stay():
    source = Boxes(boxes=[EMPTY] * 4 + [[0.4, 0.1, 0.6, 0.9]])
    fit = fit_priors(micro.get_config(augment__geometric=()), source)
    assert fit.before == fit.after < 0.9 and not fit.settings
