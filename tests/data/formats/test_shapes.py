"""Drawn scenes: the same from any thread, tight boxes, honest difficult flags."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from ssd_jax.data.formats import shapes
from ssd_jax.data.formats.shapes import CLASSES, Shapes
from ssd_jax.errors import ConfigError
from ssd_jax.types import DIFFICULT

SIZE = (96, 128)


@pytest.fixture(scope="module")
def source() -> Shapes:
    return Shapes("train", 300, SIZE)


@pytest.fixture(scope="module")
def scenes(source) -> list[dict]:
    return [source[i] for i in range(len(source))]


def test_examples_keep_the_contract(source, scenes):
    assert len(scenes) == 300
    for i, scene in enumerate(scenes):
        n = len(scene["labels"])
        assert scene["image"].shape == (*SIZE, 3) and scene["image"].dtype == np.uint8
        assert scene["boxes"].shape == (n, 4) and scene["boxes"].dtype == np.float32
        assert scene["labels"].dtype == np.int32 and scene["flags"].dtype == np.int8
        assert scene["flags"].shape == (n,) and n <= source.max_boxes
        assert scene["size"] == SIZE and scene["image_id"] == i
        assert ((scene["boxes"] >= 0) & (scene["boxes"] <= 1)).all()
        assert (scene["boxes"][:, :2] < scene["boxes"][:, 2:]).all()


def test_scenes_are_varied(scenes):
    boxes = np.concatenate([scene["boxes"] for scene in scenes])
    counts = np.array([len(scene["labels"]) for scene in scenes])
    sides = (boxes[:, 2:] - boxes[:, :2]) * np.array([128, 96]) / 96  # in short sides
    ratio = np.log2(sides[:, 0] / sides[:, 1])
    labels = np.concatenate([scene["labels"] for scene in scenes])
    ignored = (np.concatenate([scene["flags"] for scene in scenes]) == DIFFICULT).mean()
    assert np.bincount(labels, minlength=5)[1:].min() > len(labels) / 8
    assert set(counts) == set(range(7)) and 0.01 < (counts == 0).mean() < 0.12
    assert sides.max() < 0.65 and (sides.max(axis=1) > 0.5).any()
    assert (sides.max(axis=1) < 0.13).any()
    assert ratio.min() < -0.9 and ratio.max() > 0.9
    assert 0 < ignored < 0.1
    assert ((boxes == 0) | (boxes == 1)).any(axis=1).mean() > 0.02  # cut by the border


def test_any_thread_and_any_order_give_the_same_scene(scenes):
    order = np.random.default_rng(0).permutation(100).tolist()
    again = Shapes("train", 300, SIZE)
    with ThreadPoolExecutor(4) as pool:
        drawn = dict(zip(order, pool.map(again.__getitem__, order)))
    for i in order:
        for key in ("image", "boxes", "labels", "flags"):
            np.testing.assert_array_equal(drawn[i][key], scenes[i][key])


def test_splits_and_seeds_differ(source):
    images = [source[3]["image"]]
    images += [
        Shapes("test", 300, SIZE)[3]["image"],
        Shapes("train", 300, SIZE, seed=1)[3]["image"],
    ]
    for a, b in ((0, 1), (0, 2), (1, 2)):
        assert (images[a] != images[b]).mean() > 0.5


def test_a_longer_split_starts_with_the_same_scenes(scenes):
    np.testing.assert_array_equal(Shapes("train", 9999, SIZE)[7]["image"], scenes[7]["image"])


def test_box_bounds_what_differs_from_the_background(monkeypatch):
    """Scenes of one object over a background of zeros: the box holds all that was painted."""
    monkeypatch.setattr(shapes, "_COUNTS", (0.0, 1.0))
    surfaces = iter(range(10**6))

    def plain(rng, height, width, color):
        value = 0.0 if next(surfaces) % 2 == 0 else 255.0  # background, object, background, ...
        return np.full((height, width, 3), value, np.float32)

    monkeypatch.setattr(shapes, "_surface", plain)
    for i in range(100):
        scene = Shapes("test", 100, SIZE)[i]
        if not len(scene["labels"]):
            continue
        inside = scene["image"][..., 0] >= 128  # at least half covered
        rows, columns = np.flatnonzero(inside.any(1)), np.flatnonzero(inside.any(0))
        pixels = scene["boxes"][0] * np.array([128, 96, 128, 96])
        expected = [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]
        np.testing.assert_allclose(pixels, expected, atol=1e-4)


def test_hidden_objects_become_difficult_and_then_vanish():
    """Four 10x10 objects of which 100, 40 - 1, 15 and 14 pixels are still seen."""
    owner = np.zeros((50, 100), np.uint8)
    for number, seen in enumerate((100, 39, 15, 14), start=1):
        owner[10:20, 20 * number - 10 : 20 * number].flat[:seen] = number
    boxes, labels, ignore = shapes._visible_ground_truth(owner, [4, 3, 2, 1], [100.0] * 4)
    np.testing.assert_array_equal(labels, [4, 3, 2])
    np.testing.assert_array_equal(ignore, [False, True, True])
    pixels = boxes * np.array([100, 50, 100, 50])
    np.testing.assert_allclose(pixels[:2], [[10, 10, 20, 20], [30, 10, 40, 14]], atol=1e-4)


def test_an_empty_scene_has_no_rows(monkeypatch):
    monkeypatch.setattr(shapes, "_COUNTS", (1.0,))
    scene = Shapes("train", 1, (32, 32))[0]
    assert scene["boxes"].shape == (0, 4) and scene["labels"].shape == (0,)


def test_fingerprint_follows_the_settings():
    prints = {
        Shapes(*arguments).fingerprint
        for arguments in (
            ("train", 5, SIZE),
            ("test", 5, SIZE),
            ("train", 6, SIZE),
            ("train", 5, (96, 96)),
            ("train", 5, SIZE, 1),
        )
    }
    assert len(prints) == 5
    assert Shapes("train", 5, SIZE).fingerprint in prints


def test_names_and_summary(source):
    assert source.name(7) == "shapes/train/7"
    assert "300 scenes of 128x96" in source.summary()
    assert all(name in source.summary() for name in CLASSES)


def test_index_outside_is_an_index_error(source):
    for i in (-1, 300):
        with pytest.raises(IndexError):
            source[i]


@pytest.mark.parametrize(
    "arguments, words",
    [
        (("trian", 5, SIZE), "trian.*train, val, test"),
        (("train", 0, SIZE), "0 images"),
        (("train", 5, (8, 96)), "32 pixels"),
        (("train", 5, SIZE, -1), "seed"),
    ],
)
def test_bad_settings(arguments, words):
    with pytest.raises(ConfigError, match=words):
        Shapes(*arguments)
