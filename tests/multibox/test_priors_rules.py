"""Rules of priors, one by one and together, against the oracle."""

import numpy as np
import oracles_priors
import pytest

from configs import ssd300_vgg16_voc, ssd512_vgg16_voc
from ssd_jax.multibox.priors import make_priors

MAPS = {
    300: ((38, 38), (19, 19), (10, 10), (5, 5), (3, 3), (1, 1)),
    512: ((64, 64), (32, 32), (16, 16), (8, 8), (4, 4), (2, 2), (1, 1)),
}
CASES = [
    (300, ssd300_vgg16_voc, oracles_priors.SSD300, oracles_priors.VOC300),
    (300, ssd300_vgg16_voc, oracles_priors.SSD300, oracles_priors.COCO300),
    (512, ssd512_vgg16_voc, oracles_priors.SSD512, oracles_priors.VOC512),
    (512, ssd512_vgg16_voc, oracles_priors.SSD512, oracles_priors.COCO512),
]


@pytest.mark.parametrize(("side", "module", "levels", "sizes"), CASES)
@pytest.mark.parametrize("clip", ["none", "corners", "size", "center_size"])
@pytest.mark.parametrize("extra_square", ["second", "last"])
@pytest.mark.parametrize("floor_sizes", [True, False])
def test_rules_meet_the_oracle(side, module, levels, sizes, clip, extra_square, floor_sizes):
    rules = {"clip": clip, "extra_square": extra_square, "floor_sizes": floor_sizes}
    config = module.get_config()
    config.priors.update({"sizes": tuple(map(float, sizes)), **rules})
    found = make_priors(config.priors, config.image_size, MAPS[side]).boxes
    wanted = oracles_priors.priors(levels, sizes, side, **rules)
    np.testing.assert_allclose(found, wanted, atol=1e-6)


def test_floor_sizes_moves_ssd512_and_not_ssd300():
    # The 384 pixels of one level are whole: of its 4 cells only the larger squares change.
    for module, side, moved in ((ssd300_vgg16_voc, 300, 0), (ssd512_vgg16_voc, 512, 24552)):
        config, boxes = module.get_config(), []
        for floor_sizes in (True, False):
            config.priors.floor_sizes = floor_sizes
            boxes.append(make_priors(config.priors, config.image_size, MAPS[side]).boxes)
        assert (boxes[0] != boxes[1]).any(axis=1).sum() == moved
