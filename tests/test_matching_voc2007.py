"""Both matchers against their oracles on PASCAL VOC 2007, truth by truth and prior by prior.

Rounding may decide where two IoU, or an IoU and the threshold, differ by less than float32 holds:
truths in the middle between two cells are common. Such an image passes if the oracle, with every
IoU moved by at most 1e-6 towards what the package found, finds the same; the test counts them.
"""

import numpy as np
import oracles_matching
import pytest

from scripts import annotated
from scripts import report_matching as report

CLAIMS = {
    "best_prior": oracles_matching.best_prior_claims,
    "bipartite": oracles_matching.bipartite_claims,
}
ROUNDING = 1e-6
SAMPLE = 50  # every so many annotations in the default run


@pytest.fixture(scope="module", params=report.NETWORKS)
def prior_boxes(request):
    boxes = report.prior_boxes(report.NETWORKS[request.param].get_config())
    assert len(boxes) == {"SSD300": 8732, "SSD512": 24564}[request.param]
    return boxes


def annotations(real_data, every=1):
    return annotated.read(real_data / "voc2007" / "voc2007_annotations_9963.tar.gz", every)


def verdict(boxes, prior_boxes, matcher, found):
    """ "equal", "rounding" or "wrong": what the package found against the oracle."""
    overlaps = oracles_matching.iou(boxes, prior_boxes).T
    numbers = np.arange(1, len(boxes) + 1)

    def same(overlaps):
        claims = CLAIMS[matcher](overlaps, numbers)
        return np.array_equal(oracles_matching.assign(overlaps, numbers, claims, 0.5)[1], found)

    if same(overlaps):
        return "equal"
    return "rounding" if same(overlaps + ROUNDING * leaning(overlaps, found)) else "wrong"


def leaning(overlaps, found):
    """Where [A, M] an IoU must be larger for what was found, from -1 to 1."""
    own = found[:, None] == np.arange(overlaps.shape[1])
    # A prior whose truth is not the one it overlaps best was claimed.
    claimed = own & (overlaps < overlaps.max(axis=1, keepdims=True))
    # A truth that has none of the priors it overlaps best lost a claim to one that has.
    best = overlaps > overlaps.max(axis=0) - ROUNDING
    kept = best & own
    lost = best & kept.any(axis=1)[:, None] & ~kept.any(axis=0)
    return np.select([claimed, own, lost], [1.0, 0.5, 0.0], -1.0)


def check(images, prior_boxes, matcher):
    """The share of images that rounding decided; fails on a wrong one."""
    boxes = [image.boxes for image in images]
    verdicts = {
        images[row].name: verdict(boxes[row], prior_boxes, matcher, found)
        for row, found in annotated.matched(boxes, report.matcher_of(prior_boxes, matcher))
    }
    counts = {name: list(verdicts.values()).count(name) for name in ("equal", "rounding", "wrong")}
    print(f"\n{matcher}, {len(prior_boxes)} priors, {len(images)} images: {counts}")
    assert not [name for name, text in verdicts.items() if text == "wrong"]
    assert len(verdicts) == len([image for image in images if len(image.boxes)])
    return counts["rounding"] / len(verdicts)


@pytest.mark.parametrize("matcher", CLAIMS)
def test_a_sample_meets_the_oracle(real_data, prior_boxes, matcher):
    assert check(annotations(real_data, every=SAMPLE), prior_boxes, matcher) < 0.1


@pytest.mark.slow
@pytest.mark.parametrize("matcher", CLAIMS)
def test_every_annotation_meets_the_oracle(real_data, prior_boxes, matcher):
    images = annotations(real_data)
    assert len(images) == 9963 and sum(len(image.boxes) for image in images) == 30638
    assert check(images, prior_boxes, matcher) < 0.05


@pytest.mark.parametrize("matcher", CLAIMS)
def test_a_wrong_matching_is_noticed(prior_boxes, matcher):
    boxes = np.float32([[0.11, 0.12, 0.43, 0.47], [0.2, 0.2, 0.33, 0.85]])
    ((_, found),) = annotated.matched([boxes], report.matcher_of(prior_boxes, matcher))
    assert verdict(boxes, prior_boxes, matcher, found) == "equal"
    matched = np.flatnonzero(found >= 0)
    for change in (-1, 1):  # one prior lost, or given to the other truth
        other = found.copy()
        other[matched[0]] = -1 if change == -1 else 1 - found[matched[0]]
        assert verdict(boxes, prior_boxes, matcher, other) == "wrong"
