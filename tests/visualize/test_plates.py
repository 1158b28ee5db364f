"""Names of boxes: none hides another where there is room, and all can be read."""

import numpy as np
import pytest

from ssd_jax.visualize.boxes import draw_boxes
from ssd_jax.visualize.palette import label_color
from ssd_jax.visualize.plates import place_plates
from ssd_jax.visualize.text import Plate, make_plate

SIZE = (300, 400)


def plate(width=60, height=20):
    return Plate("a", 0.5, width, height, 4)


def placed(corners, **options):
    return place_plates([plate(**options) for _ in corners], corners, SIZE)


@pytest.mark.parametrize(
    ("box", "place"),
    [
        ((100, 100, 199, 199), (100, 80)),  # above
        ((100, 5, 199, 99), (100, 100)),  # below, where there is no room above
        ((100, 5, 199, 290), (100, 5)),  # inside, where there is room nowhere else
        ((370, 100, 399, 199), (340, 80)),  # moved into the image
        ((-50, 100, 20, 199), (0, 80)),
    ],
)
def test_the_place_of_one_plate(box, place):
    assert placed([box]) == [place]


def test_a_plate_gives_way_to_those_before_it():
    box = (100, 100, 299, 199)
    above, right, below, below_right, inside = placed([box] * 5)
    assert (above, right) == ((100, 80), (240, 80))
    assert (below, below_right) == ((100, 200), (240, 200))
    assert inside == (100, 100)


def test_random_boxes_that_have_room_have_plates_that_can_all_be_seen():
    rng = np.random.default_rng(0)
    for _ in range(20):
        start = rng.integers(0, 250, (8, 2))
        corners = np.concatenate([start, start + rng.integers(10, 150, (8, 2))], 1).tolist()
        covered = np.zeros(SIZE, int)
        for left, top in placed(corners):
            assert 0 <= left <= SIZE[1] - 60 and 0 <= top <= SIZE[0] - 20
            covered[top : top + 20, left : left + 60] += 1
        assert covered.max() == 1


def test_where_there_is_no_room_the_first_is_on_top():
    """A hundred names at one box of a small image."""
    image, box = np.zeros((60, 80, 3), np.uint8), np.float32([[0.1, 0.1, 0.9, 0.9]] * 100)
    labels = np.array([1] + [2] * 99, np.int32)
    drawn = draw_boxes(image, box, labels, ("cat", "dog"))
    alone = draw_boxes(image, box[:1], labels[:1], ("cat", "dog"))
    ground = (alone == label_color(1)).all(axis=-1)
    assert ground.sum() > 100 and (drawn[ground] == label_color(1)).all()


@pytest.mark.parametrize("shorter", [300, 450, 1000, 3000])
def test_text_grows_with_the_picture(shorter):
    """Letters of at least ten pixels, and of a fiftieth of the picture."""
    made = make_plate("dog 0.87", (shorter, shorter * 4 // 3))
    assert made.height >= 14 and 0.02 < made.height / shorter < 0.07
