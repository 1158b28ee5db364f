import io
import json
from contextlib import redirect_stdout

import cv2
import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from ssd_jax import evaluate
from ssd_jax.data.formats import coco
from ssd_jax.data.scan import Scan
from ssd_jax.errors import ConfigError, DataError
from ssd_jax.types import CROWD, PLAIN

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


def test_an_image_whose_path_does_not_exist_is_found_by_its_name(tmp_path):
    names = ("../../label-studio/upload/7.png", "images/2.png")
    images = [{"id": key, "file_name": name} for key, name in zip((7, 2), names)]
    write(tmp_path, [box([5, 10, 20, 20])])
    (tmp_path / "deep").mkdir()
    (tmp_path / "2.png").rename(tmp_path / "deep" / "2.png")
    content = {"images": images, "categories": CATEGORIES, "annotations": []}
    (tmp_path / "boxes.json").write_text(json.dumps(content))
    source = coco.read(tmp_path, tmp_path / "boxes.json")
    assert [source.images[i].path for i in range(2)] == [
        tmp_path / "7.png",
        tmp_path / "deep" / "2.png",
    ]
    cv2.imwrite(str(tmp_path / "2.png"), np.zeros((40, 50, 3), np.uint8))
    with pytest.raises(DataError, match="images/2.png: cannot read the image"):
        coco.read(tmp_path, tmp_path / "boxes.json")


@pytest.mark.parametrize("group", ["pets", "dog"])
def test_a_category_that_only_names_a_group_is_no_class(tmp_path, group):
    """Exports of Roboflow have one; with a single class it may have the same name."""
    categories = [
        {"id": 0, "name": group, "supercategory": "none"},
        {"id": 1, "name": "dog", "supercategory": group},
    ]
    source = write(tmp_path, [box([5, 10, 20, 20], category_id=1)], categories=categories)
    assert source.classes == ("dog",)
    if group == "pets":
        rows = [box([5, 10, 20, 20], category_id=0)]
        assert write(tmp_path, rows, categories=categories).classes == ("pets", "dog")


def test_crowds_are_ignored_truths(tmp_path):
    source = write(tmp_path, [box([0, 0, 9, 9], iscrowd=1), box([9, 9, 9, 9], iscrowd=0)])
    np.testing.assert_array_equal(source[0]["flags"], [CROWD, PLAIN])
    assert "(1 crowds)" in source.summary()


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
        (box([1, 1, 4, True]), "annotation 1 of 7.png: bbox"),
        (box([1, 1, 4, None]), "annotation 1 of 7.png: bbox"),
        (box([1, 1, 4, 10**400]), r"annotation 1 of 7.png: bbox .*1000+\.\.\.0+"),
        (box([1e308, 1, 1e308, 5]), "annotation 1 of 7.png: bbox"),
        (box([1, 1, 1e200, 1e200]), "annotation 1 of 7.png: bbox"),
        (box("1234"), "annotation 1 of 7.png: bbox '1234'"),
        (box([1, 1, 4, 5], area=-1), "annotation 1 of 7.png: area -1"),
        (box([1, 1, 4, 5], area=float("nan")), "annotation 1 of 7.png: area nan"),
        (box([1, 1, 4, 5], area=10**400), "annotation 1 of 7.png: area 1000"),
        (box([1, 1, 4, 5], area=True), "annotation 1 of 7.png: area True"),
        (box([1, 1, 4, 5], area="20"), "annotation 1 of 7.png: area '20'"),
        (box([1, 1, 4, 5], category_id=None), "unknown category None"),
        (box([1, 1, 4, 5], category_id="3"), "unknown category '3'"),
        (box([1, 1, 4, 5], category_id=[3]), r"unknown category \[3\]"),
        (box([1, 1, 4, 5], image_id="7"), "annotation 1 is of image '7'"),
        (box([1, 1, 4, 5], image_id=[7]), r"annotation 1 is of image \[7\]"),
        (box([1, 1, 4, 5], image_id=7.5), "annotation 1 is of image 7.5"),
        (box([1, 1, 4, 5], image_id=10**400), r"annotation 1 is of image 10+\.\.\.0+"),
        ({"id": 1, "bbox": [1, 1, 4, 5]}, "annotation 1 is of image None"),
        (None, "annotation None: not a COCO"),
        ([1], r"annotation \[1\]: not a COCO"),
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
        ({"categories": [{"id": 3}]}, "category 1 of its list has no name"),
        ({"categories": [{"id": 3, "name": 5}]}, "category 1 of its list has 5 as name"),
        ({"categories": [{"id": None, "name": "a"}]}, "category 1 of its list has no id"),
        ({"categories": [{"id": True, "name": "a"}]}, "has True as id"),
        ({"categories": ["a"]}, "category 1 of its list has no id"),
        ({"categories": {"a": 1}}, "no categories"),
        ({"images": [{"id": 1}]}, "image 1 of its list has no file_name"),
        ({"images": [{"id": 1, "file_name": ["7.png"]}]}, "has \\['7.png'\\] as file_name"),
        ({"images": [{"id": 1.5, "file_name": "7.png"}]}, "has 1.5 as id"),
        ({"images": [{"id": {}, "file_name": "7.png"}]}, "has {} as id"),
        ({}, "boxes.json: no images"),
        ({"images": [None]}, "image 1 of its list has no id"),
        ({"categories": [{"id": 3, "name": "a"}, {"id": 4, "name": "a"}]}, "the same name"),
        ({"images": [{"id": 1, "file_name": "7.png"}] * 2}, "the same id"),
    ):
        (tmp_path / "x").mkdir(exist_ok=True)
        with pytest.raises(DataError, match=message):
            write_with(tmp_path / "x", changes)
    with pytest.raises(DataError, match=r"9\.png"):
        write_with(tmp_path, {"images": [{"id": 9, "file_name": "9.png"}]})


DEEP = '{"images": ' + "[" * 100_000 + "]" * 100_000 + "}"


@pytest.mark.parametrize(
    ("text", "words"),
    [(DEEP, "not JSON .*recursion"), (f"[{'9' * 5000}]", "not JSON"), ('{"a": "\xff', "not JSON")],
)
def test_hostile_json_is_refused(tmp_path, text, words):
    (tmp_path / "bad.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(DataError, match=f"bad.json: .*{words}"):
        coco.read(tmp_path, tmp_path / "bad.json")


def test_two_names_of_one_category_id_are_named(tmp_path):
    categories = [{"id": 3, "name": "cat"}, {"id": 4, "name": "dog"}, {"id": 3, "name": "cow"}]
    with pytest.raises(DataError, match="boxes.json: the categories 'cat' and 'cow' have .* id 3"):
        write(tmp_path, [], categories=categories)


@pytest.mark.parametrize("what", ["images", "categories"])
def test_ids_of_two_kinds_are_refused(tmp_path, what):
    entries = [{"id": key, "file_name": f"{key}.png", "name": f"n{key}"} for key in (7, "2")]
    with pytest.raises(DataError, match=f"boxes.json: some ids of {what} are numbers and some"):
        write(tmp_path, [], **{what: entries})


def test_an_image_that_is_listed_twice_is_refused_with_both_spellings(tmp_path):
    (tmp_path / "sub").mkdir()
    for name in ("7.png", "./7.png", "sub/../7.png", str(tmp_path / "7.png")):
        images = [{"id": 7, "file_name": "7.png"}, {"id": 2, "file_name": name}]
        words = "ids 7 and 2 are one file, '7.png' and '"
        with pytest.raises(DataError, match=words) as error:
            write(tmp_path, [], images=images)
        assert f"'7.png' and {name!r}" in str(error.value)


@pytest.mark.parametrize("name", ["a\0b.png", "\ud800.png", "", "sub", "a" * 300])
def test_names_that_no_image_has_are_refused(tmp_path, name):
    (tmp_path / "sub").mkdir()
    with pytest.raises(DataError, match="cannot read the image"):
        write(tmp_path, [], images=[{"id": 7, "file_name": name}])


def test_all_errors_are_collected_by_reason(tmp_path):
    images = [{"id": key, "file_name": f"{key}.png"} for key in (7, 2, 4, 2)]
    images += [{"id": 5, "file_name": "./4.png"}, {"file_name": "x.png"}]
    rows = [box([1, 1, 4, 5], iscrowd="0"), box([1, 1, 4, 5], image_id=99)]
    rows += [box([1, 1, 4, 5], image_id=2, area=-1)]
    with pytest.raises(DataError):
        write(tmp_path, rows, images=images)
    scan = Scan(collect_errors=True)
    cv2.imwrite(str(tmp_path / "4.png"), np.zeros((40, 50, 3), np.uint8))
    source = coco.read(tmp_path, tmp_path / "boxes.json", (), scan)
    assert [source.name(i) for i in range(len(source))] == ["4.png"]
    found = sorted((error.reason, str(error).partition(": ")[2]) for error in scan.errors)
    assert found == [
        ("annotations without image", "annotation 1 is of image 99, which is not in the file"),
        ("boxes or areas that are no such numbers",
         "annotation 1 of 2.png: area -1 is not a number of pixels"),
        ("entries that are none of a COCO annotation file",
         "annotation 1 of 7.png: iscrowd '0' is neither 0 nor 1"),
        ("entries that are none of a COCO annotation file",
         "image 6 of its list has no id: not a COCO annotation file"),
        ("entries that are none of a COCO annotation file",
         "the images '2.png' and '2.png' have the same id 2; give each its own"),
        ("images listed twice",
         "the images with the ids 4 and 5 are one file, '4.png' and './4.png'; join them"),
    ]  # fmt: skip
    content, image_ids, _ = source.scoring_inputs()
    assert content["images"] == [{"id": 1}] and image_ids == [1]


@pytest.mark.parametrize("value", ["0", "1", "x", "", None, [], {}, -1, 2, 0.5, float("nan")])
def test_a_crowd_is_0_or_1(tmp_path, value):
    with pytest.raises(DataError, match="boxes.json: annotation 1 of 7.png: iscrowd .* 0 nor 1"):
        write(tmp_path, [box([1, 1, 4, 5], iscrowd=value)])


@pytest.mark.parametrize("value", [0, 1, False, True, 1.0])
def test_training_and_metric_agree_about_crowds(tmp_path, value):
    source = write(tmp_path, [box([1, 1, 4, 5], iscrowd=value)])
    (row,) = source.scoring_inputs()[0]["annotations"]
    assert type(row["iscrowd"]) is int
    assert row["iscrowd"] == value == (source[0]["flags"] == CROWD).item()


def test_what_is_scored_is_what_was_read(tmp_path):
    """Numbers from 1, in the order of the file's ids; and the file may be gone by then."""
    rows = [
        box([60, 10, 20, 20], image_id=7, category_id=18, iscrowd=1),
        box([1, 1, 4, 5], image_id=2, area=7),
        box([1, 2, 0, 5], image_id=7.0, category_id=3.0, id="x"),
    ]
    source = write(tmp_path, rows)
    (tmp_path / "boxes.json").write_text("{}")
    content, image_ids, category_ids = source.scoring_inputs()
    assert content["images"] == [{"id": 1}, {"id": 2}]
    assert content["categories"] == [{"id": 1, "name": "dog"}, {"id": 2, "name": "cat"}]
    assert content["annotations"] == [
        {"image_id": 1, "category_id": 2, "bbox": [1, 1, 4, 5], "area": 7, "iscrowd": 0},
        {"image_id": 2, "category_id": 1, "bbox": [60, 10, 20, 20], "area": 400, "iscrowd": 1},
        {"image_id": 2, "category_id": 2, "bbox": [1, 2, 0, 5], "area": 0, "iscrowd": 0},
    ]
    assert image_ids == [2, 1] and category_ids == [1, 2]


@pytest.mark.parametrize("big", [10**400, "seven"])
def test_ids_may_be_texts_and_numbers_of_any_length(tmp_path, big):
    images = [{"id": big, "file_name": "7.png"}, {"id": big * 2, "file_name": "2.png"}]
    categories = [{"id": big, "name": "dog"}]
    source = write(tmp_path, [box([1, 1, 4, 5], big, big)], images=images, categories=categories)
    assert source[0]["labels"] == [1]
    found = [truth | {"scores": np.ones(len(truth["labels"]), np.float32)} for truth in source]
    assert scores(source, found)["AP"] == pytest.approx(1)


def write_with(folder, changes):
    """Read a file whose parts are `changes` or empty; no image is written."""
    content = {"images": [], "categories": CATEGORIES, "annotations": []} | changes
    (folder / "boxes.json").write_text(json.dumps(content))
    return coco.read(folder, folder / "boxes.json")


TWELVE = ("AP", "AP50", "AP75", "AP_small", "AP_medium", "AP_large",
          "AR1", "AR10", "AR100", "AR_small", "AR_medium", "AR_large")  # fmt: skip


def reference_scores(path, results):
    """pycocotools alone, on the file as it is."""
    with redirect_stdout(io.StringIO()):
        truth = COCO(str(path))
        evaluation = COCOeval(truth, truth.loadRes(results), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return dict(zip(TWELVE, evaluation.stats))


def detections_of(source, results, image_ids, category_ids):
    """COCO results as what the network finds: normalized corners and labels, image by image."""
    found = []
    for i, image_id in enumerate(image_ids):
        rows = [row for row in results if row["image_id"] == image_id]
        height, width = source[i]["size"]
        xywh = np.array([row["bbox"] for row in rows]).reshape(-1, 4)
        corners = np.concatenate([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], axis=1)
        labels = [category_ids.index(row["category_id"]) + 1 for row in rows]
        found.append(
            {
                "boxes": np.float32(corners / (width, height, width, height)),
                "scores": np.float32([row["score"] for row in rows]),
                "labels": np.array(labels, np.int32),
            }
        )
    return found


def scores(source, found):
    truths = [source[i] for i in range(len(source))]
    truths = [truth | {"ignore": truth["flags"] != PLAIN} for truth in truths]
    named = dict(evaluate.coco_scores(source, truths, found))
    return {name.removeprefix("coco/"): value for name, value in named.items()}


@pytest.fixture
def hard(tmp_path):
    """Folder with all that a reader changes: crowds, ids with holes and the id 0, areas far below
    those of the boxes, boxes without area and across and outside the border.
    """
    rng = np.random.default_rng(0)
    size = np.array([300, 200])
    annotations, results = [], []
    for number in range(60):
        low = rng.uniform(-0.1, 0.8, 2) * size
        low_high = np.concatenate([low, rng.uniform(4, 250, 2)])
        row = box(low_high.tolist(), int(rng.choice([7, 2, 90])), int(rng.choice([3, 18])))
        row |= {"area": float(low_high[2:].prod() * rng.uniform(0.03, 0.6)), "id": number}
        annotations.append(row | {"iscrowd": int(rng.random() < 0.2)})
        moved = (low_high * rng.uniform(0.9, 1.1, 4)).tolist()
        score = float(np.float32(rng.random()))
        results.append({"score": score, "bbox": moved}
                       | {key: row[key] for key in ("image_id", "category_id")})  # fmt: skip
    annotations += [
        box([310, 10, 20, 20], 7, 3, id=50, area=400, iscrowd=0),
        box([10, 10, 0, 20], 2, 18, id=51, area=0, iscrowd=0),
    ]
    images = [{"id": key, "file_name": f"{key}.png"} for key in (7, 2, 90, 4)]
    for image in images:
        cv2.imwrite(str(tmp_path / image["file_name"]), np.zeros((200, 300, 3), np.uint8))
    content = {"images": images, "categories": CATEGORIES, "annotations": annotations}
    (tmp_path / "boxes.json").write_text(json.dumps(content))
    return tmp_path, results


@pytest.mark.parametrize("classes", [(), ("cow", "cat", "dog")])
def test_scores_are_those_of_the_original_file(hard, classes):
    folder, results = hard
    source = coco.read(folder, folder / "boxes.json", classes)
    category_ids = [{"dog": 18, "cat": 3, "cow": None}[name] for name in source.classes]
    found = detections_of(source, results, [7, 2, 90, 4], category_ids)
    # annotations have the ids 1 … in the reference: one with the id 0 never counts as found there
    content = json.loads((folder / "boxes.json").read_text())
    for number, row in enumerate(content["annotations"], 1):
        row["id"] = number
    (folder / "ids.json").write_text(json.dumps(content))
    expected = reference_scores(folder / "ids.json", results)
    assert len({round(value, 3) for value in expected.values()}) > 6  # not all alike
    for name, value in scores(source, found).items():
        assert value == pytest.approx(expected[name], abs=1e-9), name
    source.scoring_inputs = None  # from boxes as they were read: clipped, and their areas
    assert scores(source, found)["AP_small"] != pytest.approx(expected["AP_small"], abs=1e-2)


def test_a_class_that_the_file_lacks_changes_no_score(hard):
    folder, results = hard
    source = coco.read(folder, folder / "boxes.json", ("cow", "cat", "dog"))
    found = detections_of(source, results, [7, 2, 90, 4], [None, 3, 18])
    extra = [
        {name: np.concatenate([values, values[:1]]) for name, values in one.items()}
        for one in found
    ]
    for one in extra:
        one["labels"][-1:] = 1
    assert scores(source, extra) == scores(source, found)


def test_published_case_through_the_reader(real_data, tmp_path):
    folder = real_data / "metric_references"
    path = folder / "coco100_ground_truth.json"
    content = json.loads(path.read_text())
    results = json.loads((folder / "coco100_detections.json").read_text())
    for image in content["images"]:
        blank = Image.new("1", (image["width"], image["height"]))
        blank.save(tmp_path / image["file_name"], "PNG")
    source = coco.read(tmp_path, path)
    ids = [row["id"] for row in content["categories"]]
    found = detections_of(source, results, [row["id"] for row in content["images"]], ids)
    named = scores(source, found)
    assert named["AP"] == pytest.approx(0.503647, abs=1e-6)
    expected = reference_scores(path, results)
    for name, value in named.items():
        assert value == pytest.approx(expected[name], abs=1e-9), name


def test_an_area_that_is_no_number_is_refused(tmp_path):
    with pytest.raises(DataError, match="annotation 1 of 7.png: area None"):
        write(tmp_path, [box([1, 1, 4, 5], area=None)])
