"""Both matchers against their oracles on PASCAL VOC 2007, box by box and prior by prior.

Rounding may decide where two IoU, or an IoU and the threshold, differ by less than float32
resolves: boxes in the middle between two locations are common. Such an image passes if the oracle,
with every IoU moved by at most 1e-6 towards the package's result, gives the same; the test counts
them.
"""

from functools import partial

import jax.numpy as jnp
import numpy as np
import oracles_matching
import pytest

from configs import ssd300_vgg16_voc, ssd512_vgg16_voc
from ssd_jax.detector import build_detector
from ssd_jax.multibox import matching
from ssd_jax.prior_tuning.positives import match_images
from ssd_jax.prior_tuning.voc_archive import read_archive

NETWORKS = {"SSD300": ssd300_vgg16_voc, "SSD512": ssd512_vgg16_voc}
CLAIMS = {
    "best_prior": oracles_matching.best_prior_claims,
    "bipartite": oracles_matching.bipartite_claims,
}
ROUNDING = 1e-6
SAMPLE_EVERY = 50  # annotations, in the default run


@pytest.fixture(scope="module", params=NETWORKS)
def prior_boxes(request):
    boxes = build_detector(NETWORKS[request.param].get_config(), 2).priors.boxes
    assert len(boxes) == {"SSD300": 8732, "SSD512": 24564}[request.param]
    return boxes


def annotations(real_data, every=1):
    return read_archive(real_data / "voc2007" / "voc2007_annotations_9963.tar.gz", every)


def make_matcher(prior_boxes, matcher):
    """A matcher of the package at its defaults."""
    return partial(matching.match, priors=jnp.asarray(prior_boxes), matcher=matcher)


def verdict(boxes, prior_boxes, matcher, actual):
    """ "equal", "rounding" or "wrong": the package's result against the oracle's."""
    overlaps = oracles_matching.iou(boxes, prior_boxes).T
    numbers = np.arange(1, len(boxes) + 1)

    def same(overlaps):
        claims = CLAIMS[matcher](overlaps, numbers)
        return np.array_equal(oracles_matching.assign(overlaps, numbers, claims, 0.5)[1], actual)

    if same(overlaps):
        return "equal"
    return "rounding" if same(overlaps + ROUNDING * leaning(overlaps, actual)) else "wrong"


def leaning(overlaps, actual):
    """Where [A, M] an IoU must be larger for the package's result, from -1 to 1."""
    own = actual[:, None] == np.arange(overlaps.shape[1])
    # A prior that is matched to another box than its best one is a forced match.
    forced = own & (overlaps < overlaps.max(axis=1, keepdims=True))
    # A box with none of its best priors lost them to the forced matches of another.
    best = overlaps > overlaps.max(axis=0) - ROUNDING
    kept = best & own
    lost = best & kept.any(axis=1)[:, None] & ~kept.any(axis=0)
    return np.select([forced, own, lost], [1.0, 0.5, 0.0], -1.0)


def check(images, prior_boxes, matcher):
    """The share of images that rounding decided; fails on a wrong one."""
    boxes = [image.boxes for image in images]
    verdicts = {
        images[row].name: verdict(boxes[row], prior_boxes, matcher, actual)
        for row, actual in match_images(boxes, make_matcher(prior_boxes, matcher))
    }
    counts = {name: list(verdicts.values()).count(name) for name in ("equal", "rounding", "wrong")}
    print(f"\n{matcher}, {len(prior_boxes)} priors, {len(images)} images: {counts}")
    assert not [name for name, text in verdicts.items() if text == "wrong"]
    assert len(verdicts) == len([image for image in images if len(image.boxes)])
    return counts["rounding"] / len(verdicts)


@pytest.mark.parametrize("matcher", CLAIMS)
def test_a_sample_meets_the_oracle(real_data, prior_boxes, matcher):
    assert check(annotations(real_data, every=SAMPLE_EVERY), prior_boxes, matcher) < 0.1


@pytest.mark.slow
@pytest.mark.parametrize("matcher", CLAIMS)
def test_every_annotation_meets_the_oracle(real_data, prior_boxes, matcher):
    images = annotations(real_data)
    assert len(images) == 9963 and sum(len(image.boxes) for image in images) == 30638
    assert check(images, prior_boxes, matcher) < 0.05


@pytest.mark.parametrize("matcher", CLAIMS)
def test_a_wrong_matching_is_noticed(prior_boxes, matcher):
    boxes = np.float32([[0.11, 0.12, 0.43, 0.47], [0.2, 0.2, 0.33, 0.85]])
    ((_, actual),) = match_images([boxes], make_matcher(prior_boxes, matcher))
    assert verdict(boxes, prior_boxes, matcher, actual) == "equal"
    matched = np.flatnonzero(actual >= 0)
    for change in (-1, 1):  # one prior lost, or given to the other box
        other = actual.copy()
        other[matched[0]] = -1 if change == -1 else 1 - actual[matched[0]]
        assert verdict(boxes, prior_boxes, matcher, other) == "wrong"
