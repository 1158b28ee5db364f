"""Pictures: which pixels change, odd sizes and names, and files that cannot be written."""

import os

import cv2
import numpy as np
import pytest

from ssd_jax.errors import ResourceError
from ssd_jax.visualize.boxes import draw_boxes
from ssd_jax.visualize.images import enlarge, image_grid, save_image
from ssd_jax.visualize.text import add_caption

ORANGE, BLUE = (230, 159, 0), (86, 180, 233)
GRAY = (128, 128, 128)


def black(height=120, width=160):
    return np.zeros((height, width, 3), np.uint8)


def drawn(boxes, labels, image=None, classes=("cat", "dog"), **options):
    boxes = np.array(boxes, np.float32).reshape(-1, 4)
    image = black() if image is None else image
    return draw_boxes(image, boxes, np.array(labels, np.int32), classes, **options)


def lit(picture):
    """Pixels [H, W] brighter than the faint halo of an antialiased line on black."""
    return picture.max(axis=-1) > 60


def touched(picture):
    """First and last row and column that are lit: (top, bottom, left, right)."""
    rows, columns = lit(picture).any(axis=1).nonzero()[0], lit(picture).any(axis=0).nonzero()[0]
    return tuple(int(i) for i in (rows[0], rows[-1], columns[0], columns[-1]))


def near(pixel, color):
    return np.abs(pixel.astype(int) - color).max() <= 25


def test_box_is_drawn_on_its_own_pixels_and_the_input_stays():
    image = black()
    picture = drawn([[0.25, 0.5, 0.75, 0.75]], [1], image, ("",), ignore=np.array([True]))
    # Columns 40 … 119 of 160 and rows 60 … 89 of 120.
    assert touched(picture) == (60, 89, 40, 119)
    assert not picture[62:88, 42:118].any()
    assert all(near(picture[at], GRAY) for at in ((60, 80), (89, 80), (75, 40), (75, 119)))
    assert not image.any()


def test_label_has_a_plate_in_the_color_of_the_class():
    picture = drawn([[0.25, 0.5, 0.75, 0.75], [0.5, 0.8, 0.9, 0.95]], [1, 2])
    assert near(picture[75, 40], ORANGE) and near(picture[105, 80], BLUE)
    top, _, left, _ = touched(drawn([[0.25, 0.5, 0.75, 0.75]], [1]))
    plate = picture[top:60, 40:60]
    assert left == 40 and top < 55
    assert (plate == ORANGE).all(axis=-1).sum() > 30  # the ground
    assert (plate.max(axis=-1) < 60).sum() > 5  # dark letters on it


def test_score_makes_the_label_longer():
    def plate_width(**options):
        picture = drawn([[0.1, 0.9, 0.15, 0.95]], [1], **options)
        return touched(picture)[3]

    assert plate_width(scores=np.array([0.5], np.float32)) > plate_width() + 10


def test_ignored_truth_is_thin_gray_and_nameless():
    box = [[0.25, 0.25, 0.75, 0.75]]
    big = black(960, 960)
    thick = drawn(box, [1], big)
    thin = drawn(box, [1], big, ignore=np.array([True]))
    unlabeled = drawn(box, [-1], big)
    np.testing.assert_array_equal(thin, unlabeled)
    assert touched(thin) == (240, 719, 240, 719)
    assert lit(thin)[480].sum() == 2
    assert lit(thick)[480].sum() >= 8
    assert (thin == thin[..., :1]).all()


def test_first_box_is_on_top():
    box = [0.25, 0.5, 0.75, 0.75]
    assert near(drawn([box, box], [2, 1])[75, 40], BLUE)


@pytest.mark.parametrize(
    "boxes, labels",
    [
        ([], []),
        ([[0.1, 0.1, 0.9, 0.9]], [0]),
        ([[1.2, 0.1, 1.9, 0.9], [-0.9, 0.1, -0.1, 0.9]], [1, 1]),
        ([[0.1, -1e30, 0.9, -1e20], [0.1, 1.0, 0.9, 1e30]], [1, 1]),
    ],
)
def test_nothing_to_draw(boxes, labels):
    assert not drawn(boxes, labels).any()


def test_box_across_the_border_has_only_its_edges_inside():
    picture = drawn([[0.5, 0.5, 1e9, 1e9]], [1], ignore=np.array([True]))
    assert touched(picture) == (60, 119, 80, 159)
    assert not picture[62:, 82:].any()


@pytest.mark.parametrize("size", [(1, 1), (1, 50), (50, 1), (13, 17), (37, 500)])
def test_small_images(size):
    boxes = [[0, 0, 1, 1], [0.5, 0.5, 0.5, 0.5]]
    scores = np.array([0.9, 0.8], np.float32)
    picture = drawn(boxes, [1, 2], black(*size), ("x" * 60, "dog"), scores=scores)
    assert picture.shape == (*size, 3) and picture.any()


@pytest.mark.parametrize("corner", [(0, 0), (0.9, 0), (0, 0.9), (0.9, 0.9), (-0.05, 0.5)])
def test_text_is_kept_inside_the_image(corner):
    def plate(x, y):
        """Pixels of the plate and the dark letters on it; lines are never of the full color."""
        picture = drawn([[x, y, x + 0.1, y + 0.1]], [1], classes=("bird",))
        ground = (picture == ORANGE).all(axis=-1)
        rows, columns = ground.any(axis=1).nonzero()[0], ground.any(axis=0).nonzero()[0]
        return ground.sum(), rows[-1] - rows[0], columns[-1] - columns[0]

    assert plate(*corner) == plate(0.5, 0.5)  # where nothing is near


def test_names_beyond_ascii():
    def same(name, plain):
        box = [[0.1, 0.5, 0.9, 0.9]]
        a, b = drawn(box, [1], classes=(name,)), drawn(box, [1], classes=(plain,))
        return np.array_equal(a, b)

    assert same("Épervier", "Epervier")
    assert same("猫", "?")
    assert same("a\nb", "a?b")
    assert not same("cat", "dog")


def test_view_that_is_not_contiguous():
    image = np.full((60, 80, 3), 7, np.uint8)[::-1, ::-1, ::-1]
    picture = drawn([[0.25, 0.5, 0.75, 0.75]], [1], image)
    assert (image == 7).all() and (picture != 7).any()


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_box_that_is_not_finite_is_refused(bad):
    with pytest.raises(ValueError, match="not finite"):
        drawn([[0, 0, bad, 1]], [1])


def filled(height, width, value):
    return np.full((height, width, 3), value, np.uint8)


@pytest.mark.parametrize(
    ("size", "factor"),
    [((33, 20), 15), ((299, 299), 2), ((300, 300), 1), ((299, 641), 1), ((1, 5000), 1)],
)
def test_small_images_are_enlarged_by_whole_factors(size, factor):
    """To 300 pixels of the shorter side, and no more than 1,280 of the longer."""
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    large = enlarge(image)
    assert large.shape == (size[0] * factor, size[1] * factor, 3)
    if factor == 1:
        np.testing.assert_array_equal(large, image)
    else:
        np.testing.assert_allclose(large.mean(), image.mean(), atol=2)


def test_grid_by_hand():
    picture = image_grid([filled(2, 3, value) for value in (10, 20, 30)], 2, pad=1)
    assert picture.shape == (7, 9, 3)
    expected = np.full((7, 9), 255)
    expected[1:3, 1:4], expected[1:3, 5:8], expected[4:6, 1:4] = 10, 20, 30
    np.testing.assert_array_equal(picture[..., 0], expected)


def test_grid_fits_and_centers_other_sizes():
    picture = image_grid([filled(10, 20, 10), filled(5, 5, 20), filled(1, 20, 30)], 3, pad=0)
    assert picture.shape == (10, 60, 3)
    row = picture[5, :, 0]
    assert (row[:20] == 10).all() and (row[25:35] == 20).all()
    assert (row[20:25] == 255).all() and (row[35:40] == 255).all()
    assert (picture[:, 50, 0] == 30).sum() == 1


def test_grid_of_fewer_images_than_columns_and_of_none():
    assert image_grid([filled(2, 3, 10)], 4, pad=0).shape == (2, 3, 3)
    with pytest.raises(ValueError, match="at least one"):
        image_grid([], 2)


def test_save_keeps_every_pixel_and_leaves_nothing_else(tmp_path):
    image = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    path = tmp_path / "new" / "图 é.png"
    save_image(path, black())
    save_image(path, image)
    read = cv2.imdecode(np.frombuffer(path.read_bytes(), np.uint8), cv2.IMREAD_COLOR)
    np.testing.assert_array_equal(read[..., ::-1], image)
    assert os.listdir(path.parent) == [path.name]


def test_save_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ResourceError, match="cannot write"):
        save_image(tmp_path / "file" / "a.png", black())
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(ResourceError, match=r"folder\.png"):
        save_image(tmp_path / "folder.png", black())
    assert sorted(os.listdir(tmp_path)) == ["file", "folder.png"]


def test_real_photograph(real_data):
    path = real_data / "bccd" / "JPEGImages" / "BloodImage_00000.jpg"
    image = cv2.imread(str(path))[..., ::-1]
    picture = drawn([[0.4, 0.4, 0.8, 0.8]], [1], image, scores=np.array([0.93], np.float32))
    changed = (picture != image).any(axis=-1)
    assert 0.005 < changed.mean() < 0.03
    assert not changed[:150].any()


def test_a_caption_is_above_the_image_and_fits():
    image = np.full((50, 120, 3), 90, np.uint8)
    strips = []
    for text in ("a", "two\nlines", "a line that is much too long " * 4):
        out = add_caption(image, text)
        np.testing.assert_array_equal(out[-50:], image)
        strips.append(out[:-50])
        assert out.shape[1] == 120 and strips[-1].min() < 130
        assert (strips[-1][:, [0, -1]] > 200).all()
    assert len(strips[1]) == 2 * len(strips[0])


def test_a_class_without_a_name_writes_nothing():
    image = np.full((60, 60, 3), 90, np.uint8)
    boxes = np.float32([[0.25, 0.5, 0.75, 0.9]])
    named, nameless = (draw_boxes(image, boxes, np.int32([1]), [name]) for name in ("name", ""))
    assert (named[:29] != 90).any() and (nameless[:29] == 90).all()
