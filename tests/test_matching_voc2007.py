"""Both matchers against their oracles on PASCAL VOC 2007, truth by truth and prior by prior.

Rounding may decide where two IoU, or an IoU and the threshold, differ by less than float32 holds:
truths in the middle between two cells are common. Such an image passes if the oracle, with every
IoU moved by 1e-6 towards what the package found, finds the same; the test counts them.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import oracles_matching
import pytest
import voc2007

from configs import ssd300_vgg16_voc, ssd512_vgg16_voc
from ssd_jax import matching, priors
from ssd_jax.models import ssd

SIZES = {300: ssd300_vgg16_voc, 512: ssd512_vgg16_voc}
CLAIMS = {
    "best_prior": oracles_matching.best_prior_claims,
    "bipartite": oracles_matching.bipartite_claims,
}
ROUNDING = 1e-6
SAMPLE = 50  # every so many annotations in the default run


@pytest.fixture(scope="module", params=SIZES, ids=lambda side: f"SSD{side}")
def prior_boxes(request):
    config = SIZES[request.param].get_config()
    maps = ssd.feature_sizes(config.model, config.image_size)
    boxes = priors.make(config.priors, config.image_size, maps).boxes
    assert len(boxes) == {300: 8732, 512: 24564}[request.param]
    return boxes


def found_by_the_package(images, prior_boxes, matcher):
    """(image, truth row [A] of each prior, -1 = none) for all images."""

    @jax.jit
    def rows(boxes, labels):
        match = partial(matching.match, priors=jnp.asarray(prior_boxes), matcher=matcher)
        return jax.vmap(match)(boxes, labels).labels - 1

    for part, boxes, labels in voc2007.batches(images, rows=16):
        yield from zip(part, np.asarray(rows(boxes, labels)))


def verdict(boxes, prior_boxes, matcher, found):
    """ "equal", "rounding" or "wrong": what the package found against the oracle."""
    overlaps = oracles_matching.iou(boxes, prior_boxes).T
    numbers = np.arange(1, len(boxes) + 1)

    def oracle(overlaps):
        claims = CLAIMS[matcher](overlaps, numbers)
        return oracles_matching.assign(overlaps, numbers, claims, 0.5)[1]

    if np.array_equal(oracle(overlaps), found):
        return "equal"
    towards = np.where(found[:, None] == numbers - 1, ROUNDING, -ROUNDING)
    return "rounding" if np.array_equal(oracle(overlaps + towards), found) else "wrong"


def check(images, prior_boxes, matcher):
    """The share of images that rounding decided; fails on a wrong one."""
    verdicts = {
        image.name: verdict(image.boxes, prior_boxes, matcher, found)
        for image, found in found_by_the_package(images, prior_boxes, matcher)
    }
    counts = {name: list(verdicts.values()).count(name) for name in ("equal", "rounding", "wrong")}
    print(f"\n{matcher}, {len(prior_boxes)} priors, {len(images)} images: {counts}")
    assert not [name for name, text in verdicts.items() if text == "wrong"]
    assert len(verdicts) == len([image for image in images if len(image.boxes)])
    return counts["rounding"] / len(verdicts)


@pytest.mark.parametrize("matcher", CLAIMS)
def test_a_sample_meets_the_oracle(real_data, prior_boxes, matcher):
    assert check(voc2007.read(real_data, every=SAMPLE), prior_boxes, matcher) < 0.1


@pytest.mark.slow
@pytest.mark.parametrize("matcher", CLAIMS)
def test_every_annotation_meets_the_oracle(real_data, prior_boxes, matcher):
    images = voc2007.read(real_data)
    assert len(images) == 9963 and sum(len(image.boxes) for image in images) == 30638
    assert check(images, prior_boxes, matcher) < 0.05


@pytest.mark.parametrize("matcher", CLAIMS)
def test_a_wrong_matching_is_noticed(prior_boxes, matcher):
    boxes = np.float32([[0.11, 0.12, 0.43, 0.47], [0.2, 0.2, 0.33, 0.85]])
    images = [voc2007.Annotated("two", boxes)]
    ((_, found),) = found_by_the_package(images, prior_boxes, matcher)
    assert verdict(boxes, prior_boxes, matcher, found) == "equal"
    matched = np.flatnonzero(found >= 0)
    for change in (-1, 1):  # one prior lost, or given to the other truth
        other = found.copy()
        other[matched[0]] = -1 if change == -1 else 1 - found[matched[0]]
        assert verdict(boxes, prior_boxes, matcher, other) == "wrong"
