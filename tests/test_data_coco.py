import json

import cv2
import numpy as np
import pytest

from ssd_jax.data import coco
from ssd_jax.errors import ConfigError, DataError

CATEGORIES = [{"id": 18, "name": "dog"}, {"id": 3, "name": "cat"}]


def box(bbox, image_id=7, category_id=3, **fields):
    return {"id": 1, "image_id": image_id, "category_id": category_id, "bbox": bbox, **fields}


def write(folder, annotations, **changes):
    """Two images of 50 x 40, the second without boxes unless `annotations` says otherwise."""
    images = [{"id": key, "file_name": f"{key}.png"} for key in (7, 2)]
    for image in images:
        cv2.imwrite(str(folder / image["file_name"]), np.full((40, 50, 3), 90, np.uint8))
    content = {"images": images, "categories": CATEGORIES, "annotations": annotations} | changes
    (folder / "boxes.json").write_text(json.dumps(content))
    return coco.read(folder, folder / "boxes.json")


def test_boxes_become_corners_and_ids_become_labels(tmp_path):
    source = write(tmp_path, [box([5, 10, 20, 20]), box([0, 0, 50, 40], category_id=18)])
    assert source.classes == ("dog", "cat") and len(source) == 2 and source.max_boxes == 2
    example = source[0]
    np.testing.assert_allclose(example["boxes"], [[0.1, 0.25, 0.5, 0.75], [0, 0, 1, 1]])
    np.testing.assert_array_equal(example["labels"], [2, 1])
    assert example["size"] == (40, 50) and source.name(0) == "7.png"
    assert source[1]["boxes"].shape == (0, 4)


def test_crowds_are_ignored_truths(tmp_path):
    source = write(tmp_path, [box([0, 0, 9, 9], iscrowd=1), box([9, 9, 9, 9], iscrowd=0)])
    np.testing.assert_array_equal(source[0]["ignore"], [True, False])


def test_what_cannot_be_used_is_dropped_and_counted(tmp_path):
    source = write(
        tmp_path, [box([1, 1, 0, 5]), box([60, 0, 5, 5]), box([40, 30, 20, 20]), box([0, 0, 5, 5])]
    )
    assert len(source[0]["boxes"]) == 2
    for note in ("1 boxes without area", "1 boxes outside", "1 boxes clipped"):
        assert note in source.summary()


def test_given_classes_fix_the_labels(tmp_path):
    write(tmp_path, [box([0, 0, 5, 5])])
    path = tmp_path / "boxes.json"
    source = coco.read(tmp_path, path, ("cat", "cow", "dog"))
    assert source[0]["labels"] == [1] and source.classes == ("cat", "cow", "dog")
    with pytest.raises(DataError, match="unknown class 'dog'"):
        coco.read(tmp_path, path, ("cat",))
    with pytest.raises(ConfigError, match="twice"):
        coco.read(tmp_path, path, ("cat", "cat", "dog"))


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (box([1, 1, -4, 5]), "annotation 1 of 7.png: bbox"),
        (box([1, 1, 4]), "annotation 1 of 7.png: bbox"),
        (box([1, 1, 4, float("nan")]), "annotation 1 of 7.png: bbox"),
        (box([1, 1, 4, "5"]), "annotation 1 of 7.png: bbox"),
        (box([1, 1, 4, 5], category_id=4), "unknown category 4"),
        (box([1, 1, 4, 5], image_id=99), "annotation 1 is of image 99"),
        ({"id": 1, "bbox": [1, 1, 4, 5]}, "without 'image_id'"),
    ],
)
def test_bad_annotations_name_their_file(tmp_path, row, message):
    with pytest.raises(DataError, match=message) as error:
        write(tmp_path, [row])
    assert "boxes.json" in str(error.value)


def test_files_that_are_missing_or_no_annotations(tmp_path):
    with pytest.raises(DataError, match=r"none\.json: cannot read"):
        coco.read(tmp_path, tmp_path / "none.json")
    for text, message in (("{", "not JSON"), ("[]", "not a COCO"), ("{}", "no images")):
        (tmp_path / "bad.json").write_text(text)
        with pytest.raises(DataError, match=message):
            coco.read(tmp_path, tmp_path / "bad.json")
    for changes, message in (
        ({"categories": [{"id": 3}]}, "without 'name'"),
        ({"categories": [{"id": 3, "name": "a"}, {"id": 4, "name": "a"}]}, "the same name"),
        ({"images": [{"id": 1, "file_name": "7.png"}] * 2}, "the same id"),
    ):
        (tmp_path / "x").mkdir(exist_ok=True)
        with pytest.raises(DataError, match=message):
            write_with(tmp_path / "x", changes)
    with pytest.raises(DataError, match=r"9\.png"):
        write_with(tmp_path, {"images": [{"id": 9, "file_name": "9.png"}]})


def write_with(folder, changes):
    """Read a file whose parts are `changes` or empty; no image is written."""
    content = {"images": [], "categories": CATEGORIES, "annotations": []} | changes
    (folder / "boxes.json").write_text(json.dumps(content))
    return coco.read(folder, folder / "boxes.json")
