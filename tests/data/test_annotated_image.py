"""Boxes that training cannot use, and class names that nobody can read."""

import numpy as np
import pytest

from ssd_jax.data.annotated_image import clip_and_filter, resolve_classes
from ssd_jax.errors import ConfigError, DataError
from ssd_jax.multibox import boxes as box_ops

NO_AREA = "boxes without area dropped"


@pytest.mark.parametrize(
    "box",
    [
        (0.5 - 1e-12, 0.5 - 1e-12, 0.5 + 1e-12, 0.5 + 1e-12),  # one number in float32
        (0.5, 0.2, 0.5 + 1e-12, 0.8),
        (0, 0, 1e-25, 1e-25),  # two numbers, whose product is none
        (0, 0, 1e-20, 1e-20),
        (1 - 1e-12, 0.2, 1.5, 0.8),  # what the border leaves
        (-0.5, 0, 1e-39, 1),
    ],
)
def test_what_has_no_area_in_float32_is_dropped_and_counted(box):
    corners = np.array([(0.1, 0.1, 0.2, 0.2), box])
    clipped = clip_and_filter(corners, np.zeros(2, bool), [1, 1])
    assert clipped.kept.tolist() == [True, False]
    assert clipped.corrections == {NO_AREA: 1}


def test_the_smallest_boxes_that_training_can_use_are_kept():
    corners = np.array([(0, 0, 1e-18, 1e-18), (0.5, 0.5, 0.5 + 1e-7, 1), (0, 0, 1, 1e-37)])
    clipped = clip_and_filter(corners, np.zeros(3, bool))
    assert clipped.kept.all() and not clipped.corrections
    assert (box_ops.area(clipped.boxes) > np.finfo(np.float32).tiny).all()


def test_a_box_is_counted_once():
    outside, empty = (2, 2, 3, 3), (0.5, 0.5, 0.5, 0.7)
    corners = np.array([outside, empty, (0.5, 0.5, 0.5 + 1e-12, 0.7)])
    clipped = clip_and_filter(corners, np.array([False, True, False]), [1, 1, 1])
    assert not clipped.kept.any()
    assert clipped.corrections == {NO_AREA: 2, "boxes outside the image dropped": 1}


READABLE = ("dog", "no", "1", "é", "图", "家\u200d族", "😀", "a b", "شی\u200cء", "x\u00a0y")
UNREADABLE = ("a\0b", "a\nb", "a\tb", "\x1b[2J", "a\x85", "\ud800", "", "  ", "a\x7f")


@pytest.mark.parametrize("name", READABLE)
def test_names_that_can_be_read(name):
    assert resolve_classes((), {name: "f"}, [name]) == (name,)
    assert resolve_classes((name, "other"), {name: "f"}, ()) == (name, "other")


@pytest.mark.parametrize("name", UNREADABLE)
def test_names_that_cannot_be_read_are_refused_with_their_place(name):
    for given in ((), ("dog", name)):
        with pytest.raises(DataError, match="class name '.*' in file.xml .*rename") as error:
            resolve_classes(given, {"dog": "other.xml", name: "file.xml"}, ["dog", name])
        str(error.value).encode()
    with pytest.raises(ConfigError, match="config.data.classes: the name '"):
        resolve_classes(("dog", name), {"dog": "file.xml"}, ())
