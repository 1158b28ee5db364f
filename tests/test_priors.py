import numpy as np
import oracles
import pytest

from configs import (
    ssd300_mobilenet_v1_coco,
    ssd300_vgg16_coco,
    ssd300_vgg16_voc,
    ssd512_vgg16_voc,
)
from ssd_jax import priors
from ssd_jax.errors import ConfigError

MAPS_300 = ((38, 38), (19, 19), (10, 10), (5, 5), (3, 3), (1, 1))
MAPS_512 = ((64, 64), (32, 32), (16, 16), (8, 8), (4, 4), (2, 2), (1, 1))
MAPS_MOBILENET = ((19, 19), (10, 10), (5, 5), (3, 3), (2, 2), (1, 1))


def make(module, maps):
    config = module.get_config()
    return priors.make(config.priors, config.image_size, maps)


@pytest.mark.parametrize(
    ("module", "maps", "oracle", "count"),
    [
        (ssd300_vgg16_voc, MAPS_300, oracles.ssd300_voc_priors, 8732),
        (ssd300_vgg16_coco, MAPS_300, oracles.ssd300_coco_priors, 8732),
        (ssd512_vgg16_voc, MAPS_512, oracles.ssd512_voc_priors, 24564),
        (ssd300_mobilenet_v1_coco, MAPS_MOBILENET, oracles.mobilenet_v1_coco_priors, 1917),
    ],
)
def test_canonical_priors_meet_the_oracle_in_order(module, maps, oracle, count):
    boxes = make(module, maps).boxes
    assert boxes.shape == (count, 4)
    np.testing.assert_allclose(boxes, oracle(), atol=1e-6)


def test_first_cell_of_ssd300_by_hand():
    boxes = make(ssd300_vgg16_voc, MAPS_300).boxes[:4] * 300
    root = np.sqrt(2)
    sizes = np.float32(
        [[30, 30], [np.sqrt(1800)] * 2, [30 * root, 30 / root], [30 / root, 30 * root]]
    )
    np.testing.assert_allclose(boxes[:, 2:] - boxes[:, :2], sizes, rtol=1e-5)
    np.testing.assert_allclose((boxes[:, 2:] + boxes[:, :2]) / 2, np.full((4, 2), 4.0), atol=1e-4)


def test_columns_run_before_rows():
    boxes = make(ssd300_vgg16_voc, MAPS_300).boxes
    second_cell = (boxes[4, :2] + boxes[4, 2:]) / 2 * 300
    np.testing.assert_allclose(second_cell, [12, 4], atol=1e-4)


def small_config(**changes):
    config = ssd300_vgg16_voc.get_config()
    with config.unlocked():
        config.priors.update(
            {"sizes": (30.0, 60.0, 90.0), "steps": (), "aspect_ratios": ((2.0,), (2.0,)), **changes}
        )
    return config.priors


def test_one_prior_a_cell():
    table = priors.make(
        small_config(aspect_ratios=((), ()), extra_square="none"), (96, 96), ((4, 4), (2, 2))
    )
    assert table.per_cell == (1, 1)
    assert len(table.boxes) == 16 + 4


def test_paper_formula_gives_the_scales_of_section_3_1():
    config = small_config(sizes=())
    sizes = priors.paper_sizes(config.formula, 300, 6)
    np.testing.assert_allclose(
        np.array(sizes[:6]) / 300, [0.1, 0.2, 0.375, 0.55, 0.725, 0.9], atol=1e-9
    )
    assert len(sizes) == 7


def test_formula_without_an_additional_level_spans_s_min_to_s_max():
    config = small_config(sizes=())
    config.formula.first = 0.0
    sizes = np.array(priors.paper_sizes(config.formula, 100, 5))
    np.testing.assert_allclose(sizes[[0, 4]], [20, 90])
    np.testing.assert_allclose(np.diff(sizes), np.diff(sizes)[0])


def test_a_grid_without_steps_is_centered_and_fits_any_shape():
    table = priors.make(small_config(), (60, 120), ((2, 4), (1, 2)))
    centers = (table.boxes[:, :2] + table.boxes[:, 2:]) / 2
    np.testing.assert_allclose(centers.mean(0), [0.5, 0.5], atol=1e-6)
    np.testing.assert_allclose(centers[0], [1 / 8, 1 / 4], atol=1e-6)
    first = (table.boxes[0, 2:] - table.boxes[0, :2]) * (120, 60)
    np.testing.assert_allclose(first, [30, 30], rtol=1e-5)  # a square in pixels


def test_clipping_keeps_priors_inside():
    config = small_config(clip=True)
    table = priors.make(config, (60, 60), ((4, 4), (2, 2)))
    assert table.boxes.min() == 0 and table.boxes.max() == 1


@pytest.mark.parametrize(
    "changes",
    [
        {"sizes": (30.0, 60.0)},
        {"aspect_ratios": ((2.0,),)},
        {"steps": (8.0,)},
        {"extra_square": "third"},
    ],
)
def test_a_table_that_does_not_fit_is_refused(changes):
    with pytest.raises(ConfigError, match="priors"):
        priors.make(small_config(**changes), (96, 96), ((4, 4), (2, 2)))
