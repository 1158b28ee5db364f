"""The oracles against numbers worked out by hand."""

import math

import numpy as np
import oracles
import oracles_augment
import oracles_matching
import oracles_priors
import pytest

VARIANCES = [0.1, 0.1, 0.2, 0.2]
# One row of squares of side .2, whose IoU with each other is easy: a shift by s gives
# (.2 - s) / (.2 + s).
PRIORS = np.array([[0.0, 0, 0.2, 1], [0.1, 0, 0.3, 1], [0.6, 0, 0.8, 1]])


def shifted(x):
    return [x, 0, x + 0.2, 1]


def test_prior_counts_and_shapes():
    assert oracles_priors.ssd300_voc_priors().shape == (8732, 4)
    assert oracles_priors.ssd300_coco_priors().shape == (8732, 4)
    assert oracles_priors.ssd512_voc_priors().shape == (24564, 4)
    assert oracles_priors.mobilenet_v1_coco_priors().shape == (1917, 4)


def test_caffe_priors_by_hand():
    priors = oracles_priors.ssd300_voc_priors() * 300
    w, h = priors[:, 2] - priors[:, 0], priors[:, 3] - priors[:, 1]
    np.testing.assert_allclose(priors[0], [4 - 15, 4 - 15, 4 + 15, 4 + 15])  # not clipped
    np.testing.assert_allclose(priors[4], [12 - 15, 4 - 15, 12 + 15, 4 + 15])  # columns first
    np.testing.assert_allclose(priors[4 * 38], [4 - 15, 12 - 15, 4 + 15, 12 + 15])
    second = slice(5776, 5782)
    root2, root3 = 1.41421356, 1.73205081
    width = [60, 81.608823, 60 * root2, 60 / root2, 60 * root3, 60 / root3]
    height = [60, 81.608823, 60 / root2, 60 * root2, 60 / root3, 60 * root3]
    np.testing.assert_allclose(w[second], width, rtol=1e-7)
    np.testing.assert_allclose(h[second], height, rtol=1e-7)
    np.testing.assert_allclose(w[-4:], [264, 288.374756, 264 * root2, 264 / root2], rtol=1e-7)
    np.testing.assert_allclose((priors[-1, :2] + priors[-1, 2:]) / 2, [150, 150])


def test_ssd512_sizes_are_truncated():
    first = oracles_priors.ssd512_voc_priors()[:2] * 512
    np.testing.assert_allclose(first[:, 2] - first[:, 0], [35, math.sqrt(35 * 76)])
    np.testing.assert_allclose((first[:, 2] + first[:, 0]) / 2, [4, 4])


def test_rules_of_priors_by_hand():
    """One cell of 10 pixels whose boxes reach beyond the image."""

    def boxes(**rules):
        return oracles_priors.priors([(1, None, [4])], [6.9, 40], 10, **rules) * 10

    def sides(boxes):
        return (boxes[:, 2:] - boxes[:, :2]).round(6).tolist()

    assert sides(boxes(floor_sizes=True))[0] == [6, 6] and sides(boxes())[0] == [6.9, 6.9]
    assert sides(boxes(floor_sizes=True, extra_square="last"))[1:3] == [[12, 3], [3, 12]]
    assert len(boxes(extra_square="none")) == 3
    assert boxes(floor_sizes=True)[2].tolist() == pytest.approx([-1, 3.5, 11, 6.5])
    for clip in ("corners", "size", "center_size"):
        assert boxes(floor_sizes=True, clip=clip)[2].tolist() == pytest.approx([0, 3.5, 10, 6.5])
    # A center in the corner tells them apart.
    for clip, wanted in {
        "corners": [0, 0.5, 0.2, 1],
        "size": [-0.2, 0.6, 0.2, 1.6],
        "center_size": [-0.2, 0.5, 0.2, 1.5],
    }.items():
        assert oracles_priors._clipped(0, 1.1, 0.4, 1.2, clip) == pytest.approx(wanted)


def test_mobilenet_priors_by_hand():
    priors = oracles_priors.mobilenet_v1_coco_priors() * 300
    w, h = priors[:, 2] - priors[:, 0], priors[:, 3] - priors[:, 1]
    np.testing.assert_allclose(w[:3], [30, 84.852814, 42.426407], rtol=1e-7)
    np.testing.assert_allclose(h[:3], [30, 42.426407, 84.852814], rtol=1e-7)
    np.testing.assert_allclose(w[1083:1089:5], [105, 125.499004], rtol=1e-7)  # larger square last
    np.testing.assert_allclose(w[-1], 292.403830, rtol=1e-7)  # sqrt(.95 * 1)
    np.testing.assert_allclose((priors[3, :2] + priors[3, 2:]) / 2, [1.5 * 300 / 19, 150 / 19])
    np.testing.assert_allclose((priors[-1, :2] + priors[-1, 2:]) / 2, [150, 150])


def test_iou_by_hand():
    a = [[0, 0, 0.2, 0.2], [0.5, 0.5, 0.5, 0.5]]
    b = [[0.1, 0.1, 0.3, 0.3], [0.2, 0, 0.4, 0.2], [0.5, 0.5, 0.5, 0.5]]
    for iou in (oracles.iou, oracles_matching.iou):
        np.testing.assert_allclose(iou(a, b), [[1 / 7, 0, 0], [0, 0, 0]])


def test_encode_by_hand_and_decode_back():
    prior, box = [[0.2, 0.2, 0.6, 0.4]], [[0.3, 0.2, 0.5, 0.6]]
    offsets = oracles.encode(box, prior, VARIANCES)
    # The center moves by 0 of .4 and by .1 of .2; the width halves, the height doubles.
    np.testing.assert_allclose(offsets, [[0, 5, -5 * math.log(2), 5 * math.log(2)]], atol=1e-12)
    np.testing.assert_allclose(oracles.decode(offsets, prior, VARIANCES), box)


@pytest.mark.parametrize(
    ("match", "labels", "truths"),
    [
        # Both truths claim prior 1: .14/.26 for row 0, .16/.24 for row 1, which has it.
        # Row 0 then has nothing by "best prior", and its next best, prior 0, in the bipartite.
        (oracles_matching.match_best_prior, [0, 8, 0], [-1, 1, -1]),
        (oracles_matching.match_bipartite, [7, 8, 0], [0, 1, -1]),
    ],
)
def test_match_with_a_stolen_prior(match, labels, truths):
    boxes = [shifted(0.16), shifted(0.14)]
    for order in (slice(None), slice(None, None, -1)):
        found_labels, found_truths = match(boxes[order], [7, 8][order], PRIORS, 0.6)
        assert found_labels.tolist() == labels
        flip = order.step == -1
        assert found_truths.tolist() == [1 - t if flip and t >= 0 else t for t in truths]


@pytest.mark.parametrize(
    "match", [oracles_matching.match_best_prior, oracles_matching.match_bipartite]
)
def test_match_rules_shared(match):
    def labels(boxes, labels, threshold):
        return match(boxes, labels, PRIORS, threshold)[0].tolist()

    # IoU of row 0 with the priors: 1, 1/3, 0. The threshold is inclusive, padding has no say.
    third = oracles.iou(PRIORS[1:2], PRIORS[:1])[0, 0]
    assert labels([shifted(0), shifted(0.6)], [4, 0], third) == [4, 4, 0]
    assert labels([shifted(0), shifted(0.6)], [4, 0], third + 1e-9) == [4, 0, 0]
    # A truth far from every threshold still claims its best prior, unless it touches none.
    assert labels([[0.75, 0, 0.95, 1]], [4], 0.5) == [0, 0, 4]
    assert labels([[0.85, 0, 0.95, 1]], [4], 0.5) == [0, 0, 0]
    # Equal claims: the lower prior for a truth, the lower truth for a prior.
    assert match([[0, 0, 0.3, 1]], [4], PRIORS, 0.9)[1].tolist() == [0, -1, -1]
    twins = match([shifted(0.6), shifted(0.6)], [4, 5], PRIORS, 0.5)
    assert [values.tolist() for values in twins] == [[0, 0, 4], [-1, -1, 0]]
    # Strict: above the threshold, not at it.
    strict = match([shifted(0)], [4], PRIORS, third, strict=True)
    assert strict[0].tolist() == [4, 0, 0]
    # Ignored truths claim nothing and only mark priors that are not positive.
    assert labels([shifted(0), shifted(0)], [4, -1], 0.3) == [4, 4, 0]
    assert labels([shifted(0), shifted(0.55)], [4, -1], 0.5) == [4, 0, -1]
    assert labels([shifted(0.75)], [-1], 0.5) == [0, 0, 0]
    assert labels([], [], 0.5) == [0, 0, 0]


def test_mining_ties_and_shortage():
    scores, eligible = [1, 3, 2, 3, 2, 2], [True, True, True, False, True, True]
    assert np.flatnonzero(oracles.hard_negatives(scores, eligible, 2)).tolist() == [1, 2]
    assert np.flatnonzero(oracles.hard_negatives(scores, eligible, 3)).tolist() == [1, 2, 4]
    assert np.flatnonzero(oracles.hard_negatives(scores, eligible, 9)).tolist() == [0, 1, 2, 4, 5]
    assert not oracles.hard_negatives(scores, eligible, 0).any()


def test_multibox_loss_by_hand():
    # Cross-entropy against the background: log 2, log 4, log 4/3, and one that is not eligible.
    logits = [[0, 0], [0, math.log(3)], [math.log(3), 0], [0, 9], [0, math.log(3)]]
    offsets = np.zeros((5, 4))
    offsets[0] = [0.5, 1, -3, 0]
    labels = [1, 0, 0, -1, 0]
    loss = oracles.multibox_loss(logits, offsets, labels, np.zeros((5, 4)), 2)
    assert (loss["positives"], loss["negatives"]) == (1, 2)
    assert loss["classification"] == pytest.approx(math.log(2) + 2 * math.log(4))
    assert loss["localization"] == pytest.approx(0.125 + 0.5 + 2.5)
    empty = oracles.multibox_loss(logits, offsets, [0, 0, 0, -1, 0], np.zeros((5, 4)), 3)
    assert list(empty.values()) == [0, 0, 0, 0]


def test_nms_by_hand():
    # Row 2 (best) removes row 1 (IoU .15/.25), not row 0 (.1/.3), and its twin row 3. Row 1, once
    # removed, does not remove row 0 (.15/.25).
    boxes, scores = [shifted(0), shifted(0.05), shifted(0.1), shifted(0.1)], [0.5, 0.6, 0.9, 0.9]
    assert oracles.nms(boxes, scores, 0.5).tolist() == [2, 0]
    exact = oracles.iou(boxes[1:2], boxes[2:3])[0, 0]
    assert oracles.nms(boxes[1:3], scores[1:3], exact).tolist() == [1, 0]
    assert oracles.nms(np.zeros((0, 4)), [], 0.5).tolist() == []


def test_detect_by_hand():
    scores = np.array([[0.1, 0.6, 0.3], [0.1, 0.5, 0.4], [0.8, 0.05, 0.15], [0.2, 0.3, 0.5]])
    priors = np.array([shifted(0), shifted(0.05), shifted(0.6), shifted(0.4)])
    args = np.log(scores), np.zeros((4, 4)), priors, VARIANCES
    # Class 1: rows 0, 1, 3, of which 0 removes 1. Class 2: rows 3, 1, 0, of which 1 removes 0.
    boxes, found, labels = oracles.detect(*args, 0.2, 0.5, 3, 9)
    np.testing.assert_allclose(found, [0.6, 0.5, 0.4, 0.3])
    assert labels.tolist() == [1, 2, 2, 1]
    np.testing.assert_allclose(boxes, priors[[0, 3, 1, 3]])
    # The best two of a class before suppression, the best two of all after it.
    np.testing.assert_allclose(oracles.detect(*args, 0.2, 0.5, 2, 9)[1], [0.6, 0.5, 0.4])
    np.testing.assert_allclose(oracles.detect(*args, 0.2, 0.5, 3, 2)[1], [0.6, 0.5])
    assert [len(values) for values in oracles.detect(*args, 0.9, 0.5, 3, 9)] == [0, 0, 0]


def test_voc_ap_by_hand():
    recall, precision = [0.3, 0.3, 0.6, 0.9], [1, 0.5, 2 / 3, 0.75]
    # Points 0 to .3 see 1, points .4 to .9 see .75, the last sees nothing.
    assert oracles.voc_ap(recall, precision, True) == pytest.approx((4 + 6 * 0.75) / 11)
    assert oracles.voc_ap(recall, precision, False) == pytest.approx(0.3 + 0.6 * 0.75)
    assert oracles.voc_ap([], [], True) == oracles.voc_ap([], [], False) == 0


def test_voc_class_ap_by_hand():
    truths = {"a": [([1, 1, 10, 10], False), ([21, 1, 30, 10], True)], "b": [([1, 1, 4, 1], False)]}
    hit, hard, half = [1, 1, 10, 10], [21, 1, 30, 10], [1, 1, 2, 1]
    detections = [
        ("a", 0.5, hit),  # true
        ("a", 0.9, hard),  # difficult: not counted
        ("a", 0.5, hit),  # second on the same truth: false
        ("b", 0.2, half),  # 2 of 4 pixels, exactly .5: true
        ("c", 0.1, hit),  # no truth in that image: false
    ]
    # Precision 1, 1/2, 2/3, 1/2 at recall 1/2, 1/2, 1, 1.
    area = oracles.voc_class_ap(truths, detections, 0.5, False)
    assert area == pytest.approx(1 / 2 + 1 / 2 * 2 / 3)
    eleven = oracles.voc_class_ap(truths, detections, 0.5, True)
    assert eleven == pytest.approx((6 + 5 * 2 / 3) / 11)
    # Without the +1 of inclusive pixels `half` would have no area, and just above .5 it is false.
    assert oracles.voc_class_ap(truths, detections, 0.5 + 1e-9, False) == pytest.approx(1 / 2)
    # A false positive close to a truth does not use it up.
    late = [("b", 0.9, [1, 1, 1, 1]), ("b", 0.8, [1, 1, 4, 1])]
    assert oracles.voc_class_ap({"b": truths["b"]}, late, 0.5, False) == pytest.approx(1 / 2)
    assert oracles.voc_class_ap(truths, [], 0.5, True) == 0
    assert math.isnan(oracles.voc_class_ap({"a": [(hard, True)]}, [], 0.5, True))


def test_who_gets_a_contested_prior():
    boxes = [shifted(0.14), shifted(0.12), shifted(0.16)]  # all claim prior 1
    for conflict_resolution, winner in (("best", 1), ("first", 0), ("last", 2)):
        _, truths = oracles_matching.match_best_prior(
            boxes, [7, 8, 9], PRIORS, 0.9, conflict_resolution=conflict_resolution
        )
        assert truths.tolist() == [-1, winner, -1]


def test_crops_by_hand():
    half = [0.5] * 4
    scale, ratio = (0.2, 1.0), (0.5, 2.0)  # a scale of .6, a ratio of (.5 + 2) / 2
    w, h = 0.6 * 1.25**0.5, 0.6 / 1.25**0.5
    wanted = [(1 - w) / 2, (1 - h) / 2, (1 + w) / 2, (1 + h) / 2]
    assert oracles_augment.aspect_patch(half, scale, ratio) == pytest.approx(wanted)
    assert oracles_augment.sides_patch(half, scale, ratio) == pytest.approx([0.2, 0.2, 0.8, 0.8])
    assert oracles_augment.sides_patch([1, 0.1, 0, 0], scale, ratio) is None  # 1 by .28

    left, right = [0, 0, 0.5, 1], [0.5, 0, 1, 1]
    samplers = [[left, right], [right, left]]  # of IoU .9, and of any
    for k, wanted in enumerate([[0, 0, 1, 1], right, right]):
        crop = oracles_augment.success_crop(samplers, [right], [0.9], lambda count, k=k: k)
        assert crop == wanted
    rounds = [(2, [left, None]), (1, [left, right]), (0, [])]
    assert oracles_augment.mode_crop(rounds, [right], [0.9], "any") == right
    assert oracles_augment.mode_crop(rounds, [left, right], [0.9], "any") == left
    assert oracles_augment.mode_crop([(2, [left]), (0, [])], [left, right], [0.9], "all") == [
        0, 0, 1, 1,
    ]  # fmt: skip

    assert oracles_augment.zoomed([[0, 0, 1, 1]], 4, 0, 1).tolist() == [[0, 0.75, 0.25, 1]]
    seen, kept = oracles_augment.emitted([[0, 0, 0.9, 1], [0.2, 0, 1, 1]], right)
    assert kept.tolist() == [False, True]
    np.testing.assert_allclose(seen[1], [0, 0, 1, 1])


def test_colors_by_hand():
    """Contrast 2 clips the red of (100, 60, 20) + 30; saturation 0 then leaves the brightest."""
    early = oracles_augment.distort([[100, 60, 20]], 30, 2, 0, 0, contrast_first=True)
    late = oracles_augment.distort([[100, 60, 20]], -60, 2, 0.5, 0, contrast_first=False)
    np.testing.assert_allclose(early, [[255, 255, 255]])
    np.testing.assert_allclose(late, [[80, 40, 40]])
    turned = oracles_augment.distort([[200, 0, 0]], 0, 1, 1, 1 / 3, contrast_first=True)
    np.testing.assert_allclose(turned, [[0, 200, 0]], atol=1e-9)
