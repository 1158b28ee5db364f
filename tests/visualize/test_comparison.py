"""Ground truth beside detections: what is where."""

import numpy as np
import pytest

from ssd_jax.visualize.comparison import draw_comparison
from ssd_jax.visualize.palette import GRAY, label_color

BOX, OTHER = [0.25, 0.25, 0.75, 0.75], [0.1, 0.1, 0.9, 0.4]


def compare(size=(240, 480), truth=(BOX,), found=(BOX,), ignore=False):
    """Truth is of class 1 and detections of class 2, on black."""
    image = np.zeros((*size, 3), np.uint8)
    sides = [
        (np.float32(boxes).reshape(-1, 4), np.full(len(boxes), label, np.int32))
        for label, boxes in enumerate((truth, found), 1)
    ]
    scores = np.full(len(found), 0.5, np.float32)
    flags = np.full(len(truth), ignore)
    return draw_comparison(
        image, sides[0], flags, sides[1], scores, ("cat", "dog"), ("left", "right")
    )


def colors_of_halves(picture):
    half = picture.shape[1] // 2
    return [{*map(tuple, part.reshape(-1, 3).tolist())} for part in np.split(picture, [half], 1)]


def test_ground_truth_is_left_and_detections_are_right():
    left, right = colors_of_halves(compare())
    assert label_color(1) in left and label_color(2) not in left
    assert label_color(2) in right and label_color(1) not in right


def test_ignored_ground_truth_is_gray():
    left, _ = colors_of_halves(compare(ignore=True))
    assert GRAY in left and label_color(1) not in left


@pytest.mark.parametrize("size", [(240, 480), (1200, 2400), (80, 160)])
def test_an_image_of_any_size_keeps_its_aspect(size):
    picture = compare(size)
    caption = picture.shape[0] - 240
    assert 2 * 480 <= picture.shape[1] <= 2 * 480 + 8 and 10 < caption < 30
    column = picture[:, 240]  # through the middle of the left image
    black = np.flatnonzero((column == 0).all(1))
    assert 230 <= black[-1] - black[0] <= 262


def test_a_tiny_image_is_not_enlarged_without_end():
    assert compare((20, 40)).shape[1] <= 2 * 120 + 8


def test_a_tall_image_is_not_higher_than_others():
    picture = compare((2000, 1000))
    assert 360 < picture.shape[0] < 400 and 360 <= picture.shape[1] <= 368


def test_an_image_with_nothing_to_draw_is_drawn_too():
    assert compare(truth=(), found=()).shape == compare(truth=(OTHER,)).shape
