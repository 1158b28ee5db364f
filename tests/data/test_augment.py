"""Views, the patches of Caffe's samplers, and the one warp."""

import cv2
import numpy as np
import pytest
from ml_collections import ConfigDict

from ssd_jax.data import augment
from ssd_jax.data.augment import FULL_IMAGE, View
from ssd_jax.multibox import boxes as box_ops
from ssd_jax.types import CROWD, DIFFICULT, PLAIN

FILL = (123.0, 117.0, 104.0)


def settings(*operations):
    return ConfigDict(
        {
            "geometric": operations,
            "zoom_out": {"probability": 0.5, "max_ratio": 4.0},
            "iou_crop": {
                "min_ious": (0.1, 0.3, 0.5, 0.7, 0.9),
                "scale": (0.3, 1.0),
                "aspect_ratio": (0.5, 2.0),
                "trials": 50,
            },
            "flip": {"horizontal": 0.5, "vertical": 0.0},
        }
    )


def rows(*values):
    return np.array(values, np.float32).reshape(-1, 4)


def window(*values):
    return tuple(map(float, values))


def smooth_image(height, width, seed=0):
    noise = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return cv2.normalize(cv2.GaussianBlur(noise, (0, 0), 2), None, 0, 255, cv2.NORM_MINMAX)


def an_example(count=3, seed=0):
    rng = np.random.default_rng(seed)
    low = rng.uniform(0, 0.6, (count, 2))
    return {
        "image": smooth_image(90, 120),
        "boxes": np.concatenate([low, low + rng.uniform(0.1, 0.4, (count, 2))], 1).astype("f4"),
        "labels": np.arange(1, count + 1, dtype=np.int32),
        "flags": np.where(np.arange(count) == 1, DIFFICULT, PLAIN),
        "image_id": 7,
        "size": (90, 120),
    }


def random_view(rng, reach=0.3):
    low, high = rng.uniform(-reach, 0.3, 2), rng.uniform(0.7, 1 + reach, 2)
    return View((*low.tolist(), *high.tolist()), rng.random() < 0.5, rng.random() < 0.5)


# --- views and boxes


def test_boxes_seen_by_hand():
    view = View(window(0.5, 0.0, 1.0, 0.5))
    box = rows([0.5, 0.25, 0.75, 0.5])
    np.testing.assert_allclose(augment.to_view_coords(view, box), rows([0, 0.5, 0.5, 1]))
    mirrored = view._replace(flip_x=True)
    np.testing.assert_allclose(augment.to_view_coords(mirrored, box), rows([0.5, 0.5, 1, 1]))
    upside_down = view._replace(flip_y=True)
    np.testing.assert_allclose(augment.to_view_coords(upside_down, box), rows([0, 0, 0.5, 0.5]))


def test_crop_is_relative_to_what_the_view_shows():
    right_half = augment.crop(FULL_IMAGE, window(0.5, 0, 1, 1))
    np.testing.assert_allclose(right_half.window, [0.5, 0, 1, 1])
    its_left = augment.crop(right_half, window(0, 0, 0.5, 1))
    np.testing.assert_allclose(its_left.window, [0.5, 0, 0.75, 1])
    # of the mirrored photograph, the left half shows the right half of the photograph
    mirrored = augment.crop(FULL_IMAGE._replace(flip_x=True), window(0, 0, 0.5, 1))
    np.testing.assert_allclose(mirrored.window, [0.5, 0, 1, 1])
    assert mirrored.flip_x


def test_the_box_of_a_crop_fills_it():
    rng = np.random.default_rng(1)
    for _ in range(20):
        view, box = random_view(rng), np.array([0.2, 0.3, 0.6, 0.5])
        cropped = augment.crop(view, augment.to_view_coords(view, box).tolist())
        np.testing.assert_allclose(augment.to_view_coords(cropped, box), [0, 0, 1, 1], atol=1e-12)


def test_boxes_are_kept_by_their_center_and_clipped():
    view = View(window(0.5, 0.5, 1.0, 1.0))
    truths = rows(
        [0.4, 0.6, 0.8, 0.8],  # center (.6, .7) inside
        [0.3, 0.6, 0.6, 0.8],  # center (.45, .7) outside
        [0.4, 0.6, 0.6, 0.8],  # center on the border
        [0.6, 0.7, 0.6, 0.8],  # no width
    )
    seen, kept = augment.boxes_in_view(view, truths)
    assert kept.tolist() == [True, False, True, False]
    assert seen.dtype == np.float32
    np.testing.assert_allclose(seen[kept], rows([0, 0.2, 0.6, 0.6], [0, 0.2, 0.2, 0.6]), atol=1e-6)
    none, kept = augment.boxes_in_view(view, rows())
    assert none.shape == (0, 4) and kept.shape == (0,)


# --- random operations


def test_zoom_out_keeps_the_photograph_inside_the_canvas():
    rng, ratios = np.random.default_rng(0), []
    for _ in range(2000):
        view = augment.zoom_out(rng, FULL_IMAGE, rows(), probability=0.5, max_ratio=4.0)
        low, high = np.split(np.array(view.window), 2)
        side = high - low
        assert side[0] == pytest.approx(side[1])
        assert (low <= 0).all() and (high >= 1 - 1e-12).all()
        ratios.append(side[0])
    ratios = np.array(ratios)
    assert 0.46 < (ratios == 1.0).mean() < 0.54
    zoomed = ratios[ratios > 1]
    assert 2.4 < zoomed.mean() < 2.6 and zoomed.max() > 3.95


def test_flip_happens_with_its_probability_and_twice_is_nothing():
    rng = np.random.default_rng(0)
    views = [
        augment.flip(rng, FULL_IMAGE, rows(), horizontal=0.5, vertical=0.1) for _ in range(2000)
    ]
    assert 0.46 < np.mean([view.flip_x for view in views]) < 0.54
    assert 0.07 < np.mean([view.flip_y for view in views]) < 0.13
    back = augment.flip(rng, FULL_IMAGE._replace(flip_x=True), rows(), horizontal=1.0, vertical=0.0)
    assert (back.flip_x, back.flip_y) == (False, False)


def test_patches_fit_and_have_the_scale_and_the_aspect_ratio_asked_for():
    uniform = np.random.default_rng(0).random((4, 6, 5000))
    patches = augment.propose_patches(uniform, (0.3, 1.0), (0.5, 2.0))
    assert patches.shape == (4, 6, 5000)
    assert patches.min() >= 0 and patches.max() <= 1 + 1e-12
    width, height = patches[2:] - patches[:2]
    scale, ratio = np.sqrt(width * height), width / height
    assert 0.3 <= scale.min() < 0.31 and 0.99 < scale.max() <= 1.0
    assert 0.5 - 1e-9 <= ratio.min() < 0.51 and 1.98 < ratio.max() <= 2 + 1e-9
    large = scale > 0.9
    assert ratio[large].min() >= 0.81 - 1e-9 and ratio[large].max() <= 1 / 0.81 + 1e-9


def test_a_patch_by_hand():
    # scale .5; the ratio of .5 ... 2 at one half is 1.25; the corner at one half of the room left
    patch = augment.propose_patches(np.full(4, 0.5), (0.0, 1.0), (0.5, 2.0))
    width, height = 0.5 * np.sqrt(1.25), 0.5 / np.sqrt(1.25)
    want = [(1 - width) / 2, (1 - height) / 2, (1 + width) / 2, (1 + height) / 2]
    np.testing.assert_allclose(patch, want)


def test_first_accepted_by_hand():
    box = rows([0, 0, 1, 1], [0.9, 0.9, 1, 1]).astype(np.float64)
    trials = np.array([[0, 0, 0.5, 0.5], [0, 0, 0.5, 1], [0, 0, 1, 0.8]])  # IoU .25, .5, .8
    patches = np.stack([trials] * 4).transpose(2, 0, 1)
    accepted = augment.first_accepted(patches, box, np.array([0.5, 0.7, 0.9, 0.0]))
    np.testing.assert_array_equal(accepted, trials[[1, 2, 0]])  # none reaches .9
    nothing = augment.first_accepted(patches, box[:0], np.array([0.5, 0.7, 0.9, 0.0]))
    assert nothing.shape == (0, 4)


def test_iou_crop_without_boxes_is_the_whole_view():
    rng, view = np.random.default_rng(0), View(window(-1, -1, 2, 2))
    assert all(augment.iou_crop(rng, view, rows()) is view for _ in range(100))


def test_iou_crop_chooses_uniformly_among_what_was_accepted():
    """One sampler that always accepts beside the whole view: a half each; IoU 1.1: never."""
    rng, box = np.random.default_rng(0), rows([0.4, 0.4, 0.6, 0.6])
    views = [augment.iou_crop(rng, FULL_IMAGE, box, min_ious=(1.1,)) for _ in range(2000)]
    assert 0.46 < np.mean([view is FULL_IMAGE for view in views]) < 0.54


def test_iou_crop_measures_the_boxes_of_the_zoomed_out_view():
    """Eighteen samplers of twenty ask for IoU .5, so nine crops in ten have it."""
    rng, view = np.random.default_rng(0), View(window(0, 0, 2, 2), flip_x=True)
    box, overlaps = rows([0, 0, 1, 1]), []
    for _ in range(300):
        cropped = augment.iou_crop(rng, view, box, min_ious=(0.5,) * 18, trials=200)
        window_row = np.array([cropped.window])
        assert (window_row >= -1e-9).all() and (window_row <= 2 + 1e-9).all()
        overlaps.append(box_ops.iou(window_row, box.astype(np.float64))[0, 0])
    assert 0.84 < np.mean(np.array(overlaps) >= 0.5) < 0.96  # 18 of 20, and a few by chance


# --- the warp


def test_identity_is_exact():
    image = smooth_image(40, 60)
    np.testing.assert_array_equal(augment.warp(image, FULL_IMAGE, (40, 60), FILL), image)


@pytest.mark.parametrize("size", [(300, 300), (200, 250), (500, 700), (188, 251)])
def test_whole_image_equals_a_bilinear_resize(size):
    image = smooth_image(375, 500)
    got = augment.warp(image, FULL_IMAGE, size, FILL).astype(int)
    want = cv2.resize(image, size[::-1], interpolation=cv2.INTER_LINEAR)
    assert np.abs(got - want).max() <= 2


def test_a_whole_number_of_pixels_is_cut_out_exactly():
    image = smooth_image(50, 100)
    got = augment.warp(image, View(window(0.2, 0.1, 0.7, 0.5)), (20, 50), FILL)
    np.testing.assert_array_equal(got, image[5:25, 20:70])


@pytest.mark.parametrize("size", [(10, 25), (20, 10), (7, 5)])
def test_a_ramp_keeps_its_values(size):
    """Pixel x of the source is 2x in red and 3y in green: the warp shows them at their places."""
    y, x = np.mgrid[:80, :120]
    image = np.stack([2 * x, 3 * y, 0 * x], axis=-1).astype(np.uint8)
    x0, y0, x1, y1 = 0.25, 0.25, 0.75, 0.5
    got = augment.warp(image, View(window(x0, y0, x1, y1)), size, FILL).astype(int)
    columns = (x0 + (np.arange(size[1]) + 0.5) / size[1] * (x1 - x0)) * 120 - 0.5
    lines = (y0 + (np.arange(size[0]) + 0.5) / size[0] * (y1 - y0)) * 80 - 0.5
    assert np.abs(got[..., 0] - 2 * columns[None, :]).max() <= 1
    assert np.abs(got[..., 1] - 3 * lines[:, None]).max() <= 1


@pytest.mark.parametrize("size", [(61, 83), (20, 31), (9, 14)])
@pytest.mark.parametrize("bounds", [(0, 0, 1, 1), (0.13, 0.21, 0.77, 0.84), (-0.7, -0.2, 1.9, 1.3)])
def test_flips_commute_with_mirrored_images(size, bounds):
    image, view = smooth_image(71, 97), View(window(*bounds))
    x0, y0, x1, y1 = bounds
    plain = augment.warp(image, view, size, FILL).astype(int)
    flipped = augment.warp(image, view._replace(flip_x=True, flip_y=True), size, FILL)
    assert np.abs(flipped[::-1, ::-1] - plain).max() <= 3  # OpenCV 4 interpolates by 1/32 pixel
    other = View(window(1 - x1, 1 - y1, 1 - x0, 1 - y0))
    mirrored = augment.warp(np.ascontiguousarray(image[::-1, ::-1]), other, size, FILL)
    assert np.abs(mirrored - flipped.astype(int)).max() <= 3


@pytest.mark.parametrize("period", [2, 4])
def test_fine_stripes_become_gray_when_shrunk(period):
    stripes = np.zeros((400, 400, 3), np.uint8)
    stripes[:, np.arange(400) % period < period // 2] = 255
    got = augment.warp(stripes, FULL_IMAGE, (400, 100), FILL)  # by 4 on one axis only
    assert np.abs(got[:, 3:-3].astype(int) - 127.5).max() <= 1
    got = augment.warp(stripes.transpose(1, 0, 2), FULL_IMAGE, (73, 100), FILL)  # by 5.5
    assert np.abs(got[3:-3].astype(int) - 127.5).max() < 40


def test_outside_the_photograph_is_the_fill():
    image = np.full((30, 40, 3), 250, np.uint8)
    got = augment.warp(image, View(window(-1, -1, 3, 3)), (80, 80), FILL)
    assert (got[21:39, 21:39] == 250).all()
    for part in (got[:19], got[41:], got[:, :19], got[:, 41:]):
        assert (part == np.array(FILL, np.uint8)).all()
    nowhere = augment.warp(image, View(window(2, -3, 3, -2)), (10, 10), FILL)
    assert (nowhere == np.array(FILL, np.uint8)).all()


def test_the_border_of_a_view_inside_the_photograph_has_no_fill():
    image = np.full((31, 47, 3), 250, np.uint8)
    for size in ((90, 90), (31, 47), (5, 6)):
        assert (augment.warp(image, FULL_IMAGE, size, FILL) == 250).all()


@pytest.mark.parametrize("shape", [(1, 1), (1, 300), (300, 2)])
def test_thin_images(shape):
    image = np.full((*shape, 3), 77, np.uint8)
    assert (augment.warp(image, FULL_IMAGE, (30, 30), FILL) == 77).all()
    assert augment.warp(image, View(window(-1, -1, 2, 2)), (30, 30), FILL).shape == (30, 30, 3)


@pytest.mark.parametrize("size", [(300, 300), (60, 80)])
def test_boxes_follow_the_pixels(size):
    """A bright rectangle is found within a pixel of where `boxes_in_view` says it is."""
    rng = np.random.default_rng(3)
    for _ in range(25):
        image = np.zeros((240, 320, 3), np.uint8)
        left, top = rng.integers(60, 140), rng.integers(50, 100)
        right, bottom = left + rng.integers(30, 120), top + rng.integers(30, 90)
        image[top:bottom, left:right] = 255
        box = rows([left / 320, top / 240, right / 320, bottom / 240])
        view = random_view(rng)
        seen, kept = augment.boxes_in_view(view, box)
        lit = augment.warp(image, view, size, (0.0, 0.0, 0.0))[..., 0] > 127
        columns, lines = np.flatnonzero(lit.any(axis=0)), np.flatnonzero(lit.any(axis=1))
        found = [columns[0], lines[0], columns[-1] + 1, lines[-1] + 1]
        assert kept[0]
        assert np.abs(seen[0] * np.tile(size[::-1], 2) - found).max() <= 1


# --- whole examples


def augmented(rng, example, config, size, fill=FILL):
    """The example as training sees it at `size`."""
    view, rows = augment.sample_view(rng, example, augment.read_operations(config))
    return example | rows | {"image": augment.warp(example["image"], view, size, fill)}


def test_augment_is_decided_by_its_generator():
    config, example = settings("zoom_out", "iou_crop", "flip"), an_example()
    runs = [
        augmented(np.random.default_rng((5, n)), example, config, (30, 30), FILL) for n in (0, 0, 1)
    ]
    np.testing.assert_array_equal(runs[0]["image"], runs[1]["image"])
    np.testing.assert_array_equal(runs[0]["boxes"], runs[1]["boxes"])
    assert (runs[0]["image"] != runs[2]["image"]).any()


def test_augmented_examples_keep_their_contract():
    config, example = settings("zoom_out", "iou_crop", "flip"), an_example(count=6)
    before = {key: np.copy(value) for key, value in example.items()}
    for sample in range(50):
        out = augmented(np.random.default_rng((5, sample)), example, config, (30, 40), FILL)
        assert out.keys() == example.keys()
        assert out["image"].shape == (30, 40, 3) and out["image"].dtype == np.uint8
        assert len(out["boxes"]) == len(out["labels"]) == len(out["flags"])
        assert out["boxes"].dtype == np.float32 and out["labels"].dtype == np.int32
        assert (out["boxes"] >= 0).all() and (out["boxes"] <= 1).all()
        assert (box_ops.area(out["boxes"]) > 0).all()
        assert ((out["flags"] == DIFFICULT) == (out["labels"] == 2)).all()  # rows stay together
        assert (out["image_id"], out["size"]) == (7, (90, 120))
    for key, value in before.items():
        np.testing.assert_array_equal(example[key], value)


def test_no_operation_is_a_plain_resize():
    example = an_example()
    out = augmented(np.random.default_rng(0), example, settings(), (30, 40), FILL)
    plain = augment.resize(example, (30, 40), FILL)
    for key in example:
        np.testing.assert_array_equal(out[key], plain[key])
    np.testing.assert_array_equal(plain["boxes"], example["boxes"])


def test_resize_for_evaluation_drops_no_box():
    example = an_example(count=1) | {"boxes": rows([0.5, 0.5, 0.5, 0.7])}
    assert len(augment.resize(example, (8, 8), FILL)["boxes"]) == 1
    trained_on = augmented(np.random.default_rng(0), example, settings(), (8, 8), FILL)
    assert trained_on["boxes"].shape == (0, 4)


def test_operations_apply_in_the_order_of_the_config():
    config = settings("flip")
    config.flip.horizontal = 1.0
    out = augmented(np.random.default_rng(0), an_example(), config, (90, 120), FILL)
    np.testing.assert_array_equal(out["image"], an_example()["image"][:, ::-1])
    twice = settings("flip", "flip")
    twice.flip.horizontal = 1.0
    out = augmented(np.random.default_rng(0), an_example(), twice, (90, 120), FILL)
    np.testing.assert_array_equal(out["image"], an_example()["image"])


def test_a_photograph_keeps_its_cells_under_their_boxes(real_data):
    """Any view of a photograph shows, in the middle of a box, the color at the box's middle."""
    bgr = cv2.imread(str(real_data / "bccd" / "JPEGImages" / "BloodImage_00001.jpg"))
    image = cv2.GaussianBlur(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), (0, 0), 8)
    rng = np.random.default_rng(0)
    for _ in range(20):
        view = random_view(rng)
        shown = augment.warp(image, view, (300, 300), FILL).astype(int)
        point = rng.uniform(0.35, 0.65, 2)
        at = augment.to_view_coords(view, np.tile(point, 2))[:2] * 300 - 0.5
        there = point * (image.shape[1], image.shape[0]) - 0.5
        (column, line), (x, y) = at.round().astype(int), there.round().astype(int)
        assert np.abs(shown[line, column] - image[y, x]).max() <= 6


def test_what_a_crop_shows_of_a_crowd_stays():
    """A truth goes with its center; a crowd must silence priors wherever it is seen."""
    boxes = np.float32([[0.3, 0.3, 1.0, 1.0]] * 2 + [[0.8, 0.8, 1.0, 1.0]])
    example = {
        "image": np.zeros((20, 20, 3), np.uint8),
        "boxes": boxes,
        "labels": np.int32([1, -2, -2]),
        "flags": np.array([PLAIN, CROWD, CROWD]),
    }
    corner = augment.crop(augment.FULL_IMAGE, (0.0, 0.0, 0.5, 0.5))
    config = ConfigDict({"geometric": ("fixed",), "fixed": {}})
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(augment.OPERATIONS, "fixed", lambda *_: corner)
        seen = augmented(np.random.default_rng(0), example, config, (20, 20), (0.0,) * 3)
    np.testing.assert_allclose(seen["boxes"], [[0.6, 0.6, 1, 1]], atol=1e-6)
    np.testing.assert_array_equal(seen["labels"], [-2])
