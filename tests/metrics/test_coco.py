"""COCO average precision: cocoapi's published values, cases by hand, and the traps."""

import copy
import json
import math

import numpy as np
import pytest

from ssd_jax.errors import DataError
from ssd_jax.metrics import coco

SIZE = (100, 200)  # H, W
LEFT, RIGHT = [0.1, 0.1, 0.3, 0.5], [0.6, 0.1, 0.8, 0.5]
REFERENCE = {
    "AP": 0.503647, "AP50": 0.696973, "AP75": 0.571667,
    "AP_small": 0.593252, "AP_medium": 0.557991, "AP_large": 0.489363,
    "AR1": 0.386813, "AR10": 0.593680, "AR100": 0.595353,
    "AR_small": 0.654764, "AR_medium": 0.603130, "AR_large": 0.553744,
}  # fmt: skip


def truth(boxes, labels=None, ignore=None):
    boxes = np.array(boxes, np.float32).reshape(-1, 4)
    labels = np.ones(len(boxes), np.int32) if labels is None else np.array(labels, np.int32)
    ignore = np.zeros(len(boxes), bool) if ignore is None else np.array(ignore, bool)
    return {"boxes": boxes, "labels": labels, "ignore": ignore, "size": SIZE}


def detection(boxes, scores, labels=None):
    boxes = np.array(boxes, np.float32).reshape(-1, 4)
    labels = np.ones(len(boxes), np.int32) if labels is None else np.array(labels, np.int32)
    return {"boxes": boxes, "scores": np.array(scores, np.float32), "labels": labels}


def scores_of(truths, detections, classes=("cat",)):
    pairs = coco.evaluate(truths, detections, classes)
    return {name.removeprefix("coco/"): value for name, value in pairs}


@pytest.fixture
def reference(real_data):
    folder = real_data / "metric_references"
    names = ("coco100_ground_truth.json", "coco100_detections.json")
    return [json.loads((folder / name).read_text()) for name in names]


def test_published_case(reference):
    found = dict(coco.evaluate_results(*reference))
    assert list(found) == [f"coco/{name}" for name in REFERENCE]
    for name, expected in REFERENCE.items():
        assert found[f"coco/{name}"] == pytest.approx(expected, abs=1e-6)


def test_published_case_as_examples(reference):
    """The same through normalized corners, labels without holes and areas of segmentations."""
    ground_truth, results = reference
    categories = sorted(row["id"] for row in ground_truth["categories"])
    truths, detections = [], []
    for image in sorted(ground_truth["images"], key=lambda row: row["id"]):  # the order of ties
        size = (image["height"], image["width"])

        def columns(rows, image=image, size=size):
            rows = [row for row in rows if row["image_id"] == image["id"]]
            xywh = np.array([row["bbox"] for row in rows]).reshape(-1, 4)
            corners = np.concatenate([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], axis=1)
            labels = [categories.index(row["category_id"]) + 1 for row in rows]
            boxes = corners / (size[1], size[0], size[1], size[0])
            return rows, {"boxes": boxes, "labels": np.array(labels, int)}

        rows, real = columns(ground_truth["annotations"])
        real["ignore"] = np.array([row["iscrowd"] for row in rows], bool)
        real["areas"] = np.array([row["area"] for row in rows])
        truths.append(real | {"size": size})
        rows, found = columns(results)
        detections.append(found | {"scores": np.array([row["score"] for row in rows])})
    found = scores_of(truths, detections, tuple(str(c) for c in categories))
    for name, expected in REFERENCE.items():
        assert found[name] == pytest.approx(expected, abs=1e-6)


def test_all_found_is_one_for_the_first_annotation_too():
    found = scores_of([truth([LEFT])], [detection([LEFT], [0.9])])
    # 40 x 40 pixels: medium.
    assert [found[name] for name in ("AP", "AP_medium", "AR1")] == pytest.approx([1, 1, 1])
    assert math.isnan(found["AP_small"]) and math.isnan(found["AR_large"])


def test_areas_decide_the_size():
    small = truth([LEFT]) | {"areas": np.array([30.0], np.float32)}
    found = scores_of([small], [detection([LEFT], [0.9])])
    assert found["AP_small"] == pytest.approx(1)
    assert math.isnan(found["AP_medium"])


def test_ignored_is_a_crowd_and_neither_counted_nor_punished():
    truths = [truth([LEFT, RIGHT], ignore=[True, False])]
    part = [0.15, 0.2, 0.2, 0.3]  # inside the crowd, with a small IoU
    found = scores_of(truths, [detection([part, LEFT, RIGHT], [0.9, 0.8, 0.7])])
    assert found["AP"] == pytest.approx(1)


def test_double_match_and_thresholds():
    # The best match of a taken truth is false: precision 1, 1/2, 2/3 at recall 1/2, 1/2, 1; 51
    # of the 101 recall points are at most 1/2.
    detections = [detection([LEFT, LEFT, RIGHT], [0.9, 0.8, 0.7])]
    found = scores_of([truth([LEFT, RIGHT])], detections)
    assert found["AP"] == pytest.approx((51 + 50 * 2 / 3) / 101)
    half = [0.1, 0.1, 0.3, 0.34]  # 24 of 40 pixels high: an IoU of 0.6
    found = scores_of([truth([LEFT])], [detection([half], [0.9])])
    assert found["AP50"] == pytest.approx(1)
    assert found["AP75"] == 0


def test_without_detections_is_zero_and_without_truths_nan():
    empty, nothing = detection([], []), truth([])
    found = scores_of([truth([LEFT])], [empty])
    assert found["AP"] == found["AR100"] == 0
    assert math.isnan(found["AP_small"])
    assert all(math.isnan(v) for v in scores_of([nothing], [detection([LEFT], [1])]).values())
    assert all(math.isnan(v) for v in scores_of([nothing], [empty]).values())
    assert all(math.isnan(v) for v in scores_of([], []).values())


def test_class_without_truths_is_left_out():
    found = scores_of(
        [truth([LEFT])], [detection([LEFT, RIGHT], [0.9, 0.8], [1, 2])], ("cat", "dog")
    )
    assert found["AP"] == pytest.approx(1)


def test_prints_nothing(capsys):
    scores_of([truth([LEFT])], [detection([LEFT], [0.9])])
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_not_finite_is_refused(bad):
    fine = detection([LEFT], [0.9])
    truths = [truth([LEFT]), truth([LEFT])]
    with pytest.raises(ValueError, match="image 1 has scores"):
        scores_of(truths, [fine, detection([LEFT], [bad])])
    with pytest.raises(ValueError, match="image 1 has boxes"):
        scores_of(truths, [fine, detection([[0, 0, bad, 1]], [0.9])])
    with pytest.raises(ValueError, match="image 0 has boxes"):
        scores_of([truth([[0, 0, bad, 1]]), truths[1]], [fine, fine])


def small_case():
    ground_truth = {
        "images": [{"id": 7, "height": 100, "width": 200}],
        "categories": [{"id": 90, "name": "cat"}],
        "annotations": [{"id": 0, "image_id": 7, "category_id": 90, "bbox": [10, 10, 50, 50]}],
    }
    results = [{"image_id": 7, "category_id": 90, "bbox": [10, 10, 50, 50], "score": 0.9}]
    return ground_truth, results


def test_annotation_zero_counts_and_nothing_is_changed():
    case = small_case()
    before = copy.deepcopy(case)
    assert dict(coco.evaluate_results(*case))["coco/AP"] == pytest.approx(1)
    assert case == before


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("where", ["score", "bbox", "annotation"])
def test_file_that_is_not_finite_names_the_image(where, bad):
    ground_truth, results = small_case()
    row = ground_truth["annotations"][0] if where == "annotation" else results[0]
    row["score" if where == "score" else "bbox"] = bad if where == "score" else [0, 0, bad, 1]
    kind = "annotation" if where == "annotation" else "result"
    with pytest.raises(ValueError, match=f"{kind} 0, of image 7"):
        list(coco.evaluate_results(ground_truth, results))


@pytest.mark.parametrize("key", ["image_id", "category_id"])
def test_unknown_ids_are_refused(key):
    ground_truth, results = small_case()
    results[0][key] = 8
    with pytest.raises(DataError, match=f"{key} 8"):
        list(coco.evaluate_results(ground_truth, results))


def test_to_results_by_hand():
    detections = [
        detection([LEFT, [0, 0, 0, 0]], [0.123456789, 0], [2, 0]),
        detection([RIGHT], [0.5]),
    ]
    results = coco.to_results(detections, np.array([42, 7]), (18, 90), [(100, 200), (50, 100)])
    assert json.loads(json.dumps(results)) == [
        {"image_id": 42, "category_id": 90, "bbox": [20, 10, 40, 40], "score": 0.1234568},
        {"image_id": 7, "category_id": 18, "bbox": [60, 5, 20, 20], "score": 0.5},
    ]
    assert coco.to_results([], [], (1,), []) == []


def test_rounding_makes_no_ties_of_float32_scores():
    close = np.nextafter(np.float32(0.5), np.float32(1), dtype=np.float32)
    first, second = coco.to_results([detection([LEFT, LEFT], [close, 0.5])], [1], [1], [SIZE])
    assert first["score"] > second["score"]


def test_different_numbers_of_images_are_refused():
    with pytest.raises(ValueError, match="1 images of ground truth, but 0"):
        scores_of([truth([LEFT])], [])
