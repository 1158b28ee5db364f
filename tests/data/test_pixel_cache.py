"""The cache gives what decoding gives, whatever happens to its folder."""

import os

import cv2
import micro
import numpy as np
import pytest

from ssd_jax.data import loader
from ssd_jax.data.annotated_image import AnnotatedImage, ImageFileSource
from ssd_jax.data.pixel_cache import CachedImages


def photographs(folder, count=4, size=(60, 80), seed=0):
    rng, images = np.random.default_rng(seed), []
    for i in range(count):
        path = folder / f"{i}.png"
        cv2.imwrite(str(path), rng.integers(0, 256, (*size, 3), dtype=np.uint8))
        box = np.float32([[0.1, 0.1, 0.6, 0.9]])
        images.append(AnnotatedImage(path, size, box, np.int32([1]), np.int8([0]), {}))
    return ImageFileSource("drawn", "all", ("a",), images)


def kept_files(folder):
    return sorted(path for path in folder.rglob("*") if path.is_file())


def assert_equal(one, other):
    assert one.keys() == other.keys()
    for name in other:
        np.testing.assert_array_equal(one[name], other[name], err_msg=name)


@pytest.fixture
def decoded(monkeypatch):
    """How often images were decoded so far: a list that grows."""
    calls, decode = [], ImageFileSource.__getitem__
    monkeypatch.setattr(
        ImageFileSource, "__getitem__", lambda self, i: (calls.append(i), decode(self, i))[1]
    )
    return calls


def test_the_second_time_is_the_same_and_decodes_nothing(tmp_path, decoded):
    source = photographs(tmp_path)
    expected = [source[i] for i in range(4)]
    del decoded[:]
    for folder in (tmp_path / "cache",) * 2:  # the second one is another process
        cached = CachedImages(source, str(folder), 1.0, (50, 50))
        for i in range(4):
            assert_equal(cached[i], expected[i])
    assert decoded == [0, 1, 2, 3]
    assert len(kept_files(folder)) == 4


def test_large_images_are_averaged_over_whole_pixels(tmp_path):
    source = photographs(tmp_path, count=1, size=(60, 100))
    image = source[0]["image"].astype(float)
    means = image.reshape(30, 2, 50, 2, 3).mean(axis=(1, 3))
    for least, wanted in (((30, 40), means), ((31, 40), image)):  # twice 31 is more than 60
        for _ in range(2):
            found = CachedImages(source, str(tmp_path / "cache"), 1.0, least)[0]
            assert found["size"] == (60, 100)
            np.testing.assert_allclose(found["image"], wanted, atol=0.5)


def test_the_folder_holds_no_more_than_it_may(tmp_path, decoded):
    source = photographs(tmp_path)
    cached = CachedImages(source, str(tmp_path / "cache"), 2.5 * 60 * 80 * 3 / 2**30, (50, 50))
    for i in (*range(4), *range(4)):
        cached[i]
    assert decoded == [0, 1, 2, 3, 2, 3]
    assert len(kept_files(tmp_path / "cache")) == 2
    assert cached.summary().startswith("cache: 2 of 4 images, 2.68e-05 GiB decoded, in ")


def test_damaged_files_and_changed_images_are_decoded_again(tmp_path, decoded):
    source = photographs(tmp_path, count=1)
    cached = CachedImages(source, str(tmp_path / "cache"), 1.0, (50, 50))
    expected = cached[0]
    (kept,) = kept_files(tmp_path / "cache")
    kept.write_bytes(kept.read_bytes()[:-1])
    assert_equal(cached[0], expected)
    assert decoded == [0, 0] and len(kept.read_bytes()) == 60 * 80 * 3
    changed = photographs(tmp_path, count=1, seed=1)[0]
    os.utime(tmp_path / "0.png", ns=(1, 1))
    assert (changed["image"] != expected["image"]).any()
    np.testing.assert_array_equal(cached[0]["image"], changed["image"])


def test_a_folder_that_cannot_be_written_is_said_once(tmp_path, capsys):
    source = photographs(tmp_path)
    (tmp_path / "cache").write_text("a file")
    cached = CachedImages(source, str(tmp_path / "cache"), 1.0, (50, 50))
    for i in range(4):
        assert_equal(cached[i], source[i])
    assert capsys.readouterr().err.count("decodes images every time") == 1


@pytest.mark.parametrize("workers", [0, 1])
def test_batches_do_not_depend_on_the_cache(tmp_path, capsys, workers):
    source = photographs(tmp_path)
    settings = {"batch_size": 4, "image_size": (32, 32), "data__workers": workers}
    expected = list(loader.training_batches(source, micro.get_config(**settings), 0, 2))
    config = micro.get_config(**settings, data__cache=str(tmp_path / "cache"))
    for _ in range(2):
        for found, wanted in zip(loader.training_batches(source, config, 0, 2), expected):
            assert_equal(found, wanted)
    assert "cache: 4 of 4 images" in capsys.readouterr().err
    assert len(kept_files(tmp_path / "cache")) == 4
