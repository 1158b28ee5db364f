"""PASCAL VOC average precision: published references, the loop oracle, and cases by hand."""

import math

import numpy as np
import oracles
import pytest

from ssd_jax.metrics import voc

PIXELS = np.array([1.0, 1.0, 0.0, 0.0])
SIZE = (100, 200)  # H, W


def truth(boxes, labels=None, ignore=None, size=SIZE):
    boxes = np.array(boxes, np.float32).reshape(-1, 4)
    labels = np.ones(len(boxes), np.int32) if labels is None else np.array(labels, np.int32)
    ignore = np.zeros(len(boxes), bool) if ignore is None else np.array(ignore, bool)
    return {"boxes": boxes, "labels": labels, "ignore": ignore, "size": size}


def detection(boxes, scores, labels=None):
    boxes = np.array(boxes, np.float32).reshape(-1, 4)
    labels = np.ones(len(boxes), np.int32) if labels is None else np.array(labels, np.int32)
    return {"boxes": boxes, "scores": np.array(scores, np.float32), "labels": labels}


def area_ap(truths, detections, classes=("cat",)):
    return dict(voc.evaluate(truths, detections, classes))["voc/mAP50_area"]


LEFT, RIGHT = [0.1, 0.1, 0.3, 0.5], [0.6, 0.1, 0.8, 0.5]
ELSEWHERE = [0.4, 0.7, 0.5, 0.9]


def read_corners(files, first):
    """x y w h from column `first` on, of all files, as x, y, x + w, y + h; and the file's place."""
    rows = [
        (i, [float(value) for value in line.split()[1:]])
        for i, file in enumerate(files)
        for line in file.read_text().splitlines()
    ]
    values = np.array([row for _, row in rows])
    xywh = values[:, first : first + 4]
    corners = np.concatenate([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], axis=1)
    return corners, np.array([i for i, _ in rows]), values[:, 0]


@pytest.mark.parametrize(
    "iou_threshold, eleven_point, expected",
    [
        (0.1, True, 0.3333333333),
        (0.3, True, 0.2683982683),
        (0.5, True, 0.0303030303),
        (0.75, True, 0.0),
        (0.1, False, 0.3371980676),
        (0.3, False, 0.2456866804),
        (0.5, False, 0.0222222222),
    ],
)
def test_published_case(real_data, iou_threshold, eleven_point, expected):
    folder = real_data / "metric_references" / "voc_case_1"
    truths, truth_images, _ = read_corners(sorted((folder / "gts").iterdir()), 0)
    boxes, images, scores = read_corners(sorted((folder / "dets").iterdir()), 1)
    ignore = np.zeros(len(truths), bool)
    matches = voc.match_detections(
        truths, truth_images, ignore, boxes, images, scores, iou_threshold
    )
    curve = voc.precision_recall_curve(matches)
    assert voc.average_precision(*curve, eleven_point) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("seed", range(5))
def test_equals_the_loop_oracle(seed):
    # Boxes on a coarse lattice of whole pixels and scores of few values: many ties of both.
    rng = np.random.default_rng(seed)
    truths, detections, names, compared = [], [], ("a", "b", "c"), 0

    def lattice(n):
        low = rng.integers(0, 4, (n, 2))
        return np.concatenate([low, low + rng.integers(1, 4, (n, 2))], 1) / 8

    for _ in range(15):
        n, k = rng.integers(0, 7), rng.integers(0, 12)
        truths.append(truth(lattice(n), rng.integers(1, 4, n), rng.random(n) < 0.3, (80, 160)))
        scores = rng.integers(1, 6, k) / 5
        detections.append(detection(lattice(k), scores, rng.integers(0, 4, k)))
    ours = dict(voc.evaluate(truths, detections, names, 0.3))

    def pixels(row):
        return (row["boxes"].astype(float) * (160, 80, 160, 80) + PIXELS).tolist()

    for label, name in enumerate(names, 1):
        real = {
            i: [
                (box, bool(hard))
                for box, hard, c in zip(pixels(t), t["ignore"], t["labels"])
                if c == label
            ]
            for i, t in enumerate(truths)
        }
        found = [
            (i, float(score), box)
            for i, d in enumerate(detections)
            for box, score, c in zip(pixels(d), d["scores"], d["labels"])
            if c == label
        ]
        expected = oracles.voc_class_ap(real, found, 0.3, False)
        assert ours[f"voc/AP30_area/{name}"] == pytest.approx(expected, abs=1e-12)
        counted = sum(not hard for rows in real.values() for _, hard in rows)
        if counted % 5:  # else a recall may be 3, 6 or 7 tenths, which the oracle lets pass
            expected = oracles.voc_class_ap(real, found, 0.3, True)
            assert ours[f"voc/AP30_11point/{name}"] == pytest.approx(expected, abs=1e-12)
            compared += 1
    assert compared


def test_average_precision_by_hand():
    recall, precision = np.array([0.25, 0.25, 0.5]), np.array([1.0, 0.5, 2 / 3])
    assert voc.average_precision(recall, precision, False) == pytest.approx(0.25 + 0.25 * 2 / 3)
    # The points 0, .1, .2 see precision 1, and .3, .4, .5 see 2 / 3.
    expected = (3 + 3 * 2 / 3) / 11
    assert voc.average_precision(recall, precision, True) == pytest.approx(expected)
    nothing = np.zeros(0), np.zeros(0)
    assert voc.average_precision(*nothing, True) == voc.average_precision(*nothing, False) == 0


@pytest.mark.parametrize("tenths", range(1, 11))
def test_which_recalls_reach_their_point(tenths):
    """The published number at 0.1 depends on it: its curve has a recall of 9 of 15."""
    recall = np.array([tenths / 10])
    reached = tenths if tenths in (3, 6, 7) else tenths + 1
    assert voc.average_precision(recall, np.ones(1), True) == pytest.approx(reached / 11)


def test_names_and_order():
    names = [name for name, _ in voc.evaluate([truth([LEFT])], [detection([], [])], ("a", "b"))]
    assert names == [
        "voc/mAP50_area", "voc/mAP50_11point", "voc/AP50_area/a", "voc/AP50_11point/a",
        "voc/AP50_area/b", "voc/AP50_11point/b",
    ]  # fmt: skip
    at_75 = dict(voc.evaluate([truth([LEFT])], [detection([], [])], ("a",), 0.75))
    assert "voc/AP75_area/a" in at_75


def test_all_found_is_one():
    scores = dict(
        voc.evaluate([truth([LEFT, RIGHT])], [detection([RIGHT, LEFT], [1, 0.5])], ("c",))
    )
    assert list(scores.values()) == pytest.approx([1] * 4)


def test_second_match_of_a_truth_is_a_false_positive():
    detections = [detection([LEFT, LEFT, RIGHT], [0.9, 0.8, 0.7])]
    # Precision 1, 1/2, 2/3 at recall 1/2, 1/2, 1.
    assert area_ap([truth([LEFT, RIGHT])], detections) == pytest.approx(0.5 + 0.5 * 2 / 3)


def test_best_truth_alone_is_looked_at():
    # The second detection overlaps RIGHT enough, but LEFT more, which is taken.
    close = [0.12, 0.1, 0.32, 0.5]
    truths = [truth([LEFT, close])]
    detections = [detection([LEFT, LEFT], [0.9, 0.8])]
    assert area_ap(truths, detections) == pytest.approx(0.5)


def test_of_equal_overlaps_the_first_truth_is_taken():
    found = [detection([LEFT], [0.9])]
    assert area_ap([truth([LEFT, LEFT], ignore=[False, True])], found) == 1
    assert area_ap([truth([LEFT, LEFT], ignore=[True, False])], found) == 0


def test_difficult_is_neither_counted_nor_punished():
    truths = [truth([LEFT, RIGHT], ignore=[True, False])]
    twice_on_difficult = detection([LEFT, LEFT, RIGHT], [0.9, 0.8, 0.7])
    assert area_ap(truths, [twice_on_difficult]) == pytest.approx(1)
    missed = detection([ELSEWHERE, RIGHT], [0.9, 0.7])
    assert area_ap(truths, [missed]) == pytest.approx(0.5)


def test_ties_keep_the_order_of_the_input():
    truths = [truth([LEFT])]
    assert area_ap(truths, [detection([LEFT, ELSEWHERE], [0.5, 0.5])]) == 1
    assert area_ap(truths, [detection([ELSEWHERE, LEFT], [0.5, 0.5])]) == 0.5


def test_a_truth_of_another_image_or_class_is_no_match():
    truths = [truth([LEFT]), truth([])]
    assert area_ap(truths, [detection([], []), detection([LEFT], [0.9])]) == 0
    found = [detection([LEFT], [0.9], [2]), detection([], [])]
    values = dict(voc.evaluate(truths, found, ("cat", "dog")))
    assert values["voc/AP50_area/cat"] == 0


def test_overlap_of_exactly_the_threshold_matches():
    # Inclusive pixels: 4 x 1 inside 8 x 1.
    one, half = np.array([[1.0, 1.0, 8.0, 1.0]]), np.array([[1.0, 1.0, 4.0, 1.0]])
    zero = np.zeros(1, int)
    matches = voc.match_detections(one, zero, np.zeros(1, bool), half, zero, np.ones(1), 0.5)
    curve = voc.precision_recall_curve(matches)
    assert voc.average_precision(*curve, False) == 1


def test_normalized_corners_become_inclusive_pixels():
    # Of 10 pixels, 1 … 4 against 1 … 8 is 4 / 8; one pixel less is 3 / 8.
    size = (1, 10)
    truths = [truth([[0, 0, 0.8, 1]], size=size)]
    assert area_ap(truths, [detection([[0, 0, 0.4, 1]], [1])]) == 1
    assert area_ap(truths, [detection([[0, 0, 0.3, 1]], [1])]) == 0


def test_class_without_counted_truth_is_left_out_of_the_mean():
    truths = [truth([LEFT, RIGHT], labels=[1, 2], ignore=[False, True])]
    detections = [detection([LEFT, RIGHT, LEFT], [0.9, 0.8, 0.7], [1, 2, 3])]
    values = dict(voc.evaluate(truths, detections, ("cat", "hard", "absent")))
    assert values["voc/mAP50_area"] == values["voc/AP50_area/cat"] == 1
    assert math.isnan(values["voc/AP50_area/hard"])
    assert math.isnan(values["voc/AP50_11point/absent"])


def test_nothing_at_all():
    empty = detection(np.zeros((0, 4)), [])
    assert area_ap([truth([LEFT])], [empty]) == 0
    assert math.isnan(area_ap([truth([])], [detection([LEFT], [1])]))
    assert math.isnan(area_ap([], []))


def test_empty_slots_and_padding_do_not_count():
    slots = detection([LEFT, [0, 0, 0, 0], [np.nan] * 4], [0.9, 1, np.nan], [1, 0, 0])
    padded = truth([LEFT, [0, 0, 0, 0]], labels=[1, 0])
    assert area_ap([padded], [slots]) == 1


def test_boxes_without_area_do_not_warn():
    flat, reversed_ = [1, 1, 1, 1], [0.9, 0.9, 0.1, 0.1]
    assert area_ap([truth([flat, LEFT])], [detection([flat, reversed_], [0.9, 0.8])]) == 0


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_not_finite_names_the_image(bad):
    fine = detection([LEFT], [0.9])
    truths = [truth([LEFT]), truth([LEFT])]
    with pytest.raises(ValueError, match="image 1 has scores"):
        area_ap(truths, [fine, detection([LEFT], [bad])])
    with pytest.raises(ValueError, match="image 0 has boxes"):
        area_ap(truths, [detection([[0, 0, bad, 1]], [0.9]), fine])
    with pytest.raises(ValueError, match="image 1 has boxes"):
        area_ap([truths[0], truth([[bad, 0, 1, 1]])], [fine, fine])


def test_wrong_labels_and_lengths_are_refused():
    with pytest.raises(ValueError, match="image 0 has labels outside 0 … 1"):
        area_ap([truth([LEFT])], [detection([LEFT], [0.9], [2])])
    with pytest.raises(ValueError, match="image 0 has labels"):
        area_ap([truth([LEFT], labels=[-1])], [detection([LEFT], [0.9])])
    with pytest.raises(ValueError, match="1 images of ground truth, but 0"):
        area_ap([truth([LEFT])], [])


def test_inputs_are_not_changed():
    truths, detections = [truth([LEFT, RIGHT])], [detection([RIGHT, LEFT], [0.2, 0.7])]
    before = [{k: np.copy(v) for k, v in row.items()} for row in (*truths, *detections)]
    area_ap(truths, detections)
    for old, new in zip(before, (*truths, *detections)):
        for name, value in old.items():
            np.testing.assert_array_equal(value, new[name])
