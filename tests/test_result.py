"""What a detector finds in one picture, by hand."""

import io
import sys
import types
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ssd_jax.errors import ConfigError
from ssd_jax.result import Detection, Picture, Result
from ssd_jax.visualize.images import enlarge

BOXES = np.float32([[0.1, 0.25, 0.5, 0.75], [0, 0, 1, 1]])


def result(path=None, frame=None):
    image = np.full((40, 100, 3), 80, np.uint8)
    scores, labels = np.float32([0.9, 0.5]), np.int32([2, 1])
    return Result(Picture(7, path, frame, image), BOXES, scores, labels, ("cat", "dog"))


def test_boxes_are_pixels_and_labels_have_names():
    found = result()
    np.testing.assert_allclose(found.boxes, [[10, 10, 50, 30], [0, 0, 100, 40]])
    assert len(found) == 2 and found.names == ["dog", "cat"]
    first, second = found
    assert isinstance(first, Detection) and (first.label, first.name) == (2, "dog")
    assert first.score == pytest.approx(0.9) and second.box.tolist() == [0, 0, 100, 40]
    assert repr(found) == "image 100x40: dog 0.90, cat 0.50"


def test_nothing_found():
    empty = Result(result().picture, BOXES[:0], np.float32([]), np.int32([]), ("cat",))
    assert len(empty) == 0 and list(empty) == [] and empty.to_coco() == []
    np.testing.assert_array_equal(empty.draw(), enlarge(empty.picture.image))
    assert repr(empty) == "image 100x40: nothing"


def test_coco_results():
    first, second = result(Path("a/b.jpg"), 3).to_coco()
    assert first == {
        "image_id": 7, "category_id": 2, "bbox": [10, 10, 40, 20], "score": pytest.approx(0.9),
        "file_name": "b.jpg", "category_name": "dog", "frame": 3,
        "image_height": 40, "image_width": 100,
    }  # fmt: skip
    assert second["category_name"] == "cat" and second["bbox"] == [0, 0, 100, 40]
    assert "file_name" not in result().to_coco()[0]


def test_pictures_are_saved_and_shown(tmp_path, monkeypatch):
    found, shown = result(), []
    assert (found.draw() != enlarge(found.picture.image)).any()
    found.save(tmp_path / "new" / "found.png")
    found.save(str(tmp_path / "found.png"))
    for content in ((tmp_path / "found.png").read_bytes(), found._repr_png_()):
        np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(content))), found.draw())
    for name in ("found", "found.xyz"):
        with pytest.raises(ConfigError, match=f"{name}: no format of pictures .* write .png"):
            found.save(tmp_path / name)
    monkeypatch.setattr(Image.Image, "show", lambda image: shown.append(np.asarray(image)))
    found.show()
    np.testing.assert_array_equal(shown[0], found.draw())


def test_a_small_picture_is_drawn_enlarged():
    """Boxes stay where they are in the picture; the picture itself stays as it is."""
    found = result()
    assert found.draw().shape == (320, 800, 3) and found.picture.image.shape == (40, 100, 3)
    assert (found.draw()[-3:, 400] != 80).any()  # the box of the whole picture
    large = Picture(0, None, None, np.full((320, 400, 3), 80, np.uint8))
    drawn = Result(large, BOXES, np.float32([0.9, 0.5]), np.int32([2, 1]), ("cat", "dog")).draw()
    assert drawn.shape == (320, 400, 3)


def test_supervision_gets_its_own_names(monkeypatch):
    """Class numbers from 0, and the names beside them."""
    module = types.SimpleNamespace(Detections=lambda **fields: fields)
    monkeypatch.setitem(sys.modules, "supervision", module)
    fields = result().to_supervision()
    assert fields["class_id"].tolist() == [1, 0]
    assert fields["data"]["class_name"].tolist() == ["dog", "cat"]
    assert fields["xyxy"].shape == (2, 4) and fields["confidence"].shape == (2,)
