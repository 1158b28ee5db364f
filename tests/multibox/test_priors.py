import numpy as np
import oracles_priors
import pytest

from configs import (
    ssd300_mobilenet_v1_coco,
    ssd300_resnet34_coco,
    ssd300_resnet50_coco,
    ssd300_vgg16_coco,
    ssd300_vgg16_voc,
    ssd512_vgg16_voc,
    ssdlite320_mobilenet_v3_coco,
)
from ssd_jax.errors import ConfigError
from ssd_jax.multibox.priors import formula_sizes, make_priors

MAPS_300 = ((38, 38), (19, 19), (10, 10), (5, 5), (3, 3), (1, 1))
MAPS_512 = ((64, 64), (32, 32), (16, 16), (8, 8), (4, 4), (2, 2), (1, 1))
MAPS_MOBILENET = ((19, 19), (10, 10), (5, 5), (3, 3), (2, 2), (1, 1))
MAPS_320 = ((20, 20), (10, 10), (5, 5), (3, 3), (2, 2), (1, 1))


def ssdlite_priors():
    """torchvision's DefaultBoxGenerator without steps: sizes, not centers, end at 1."""
    scales = [0.2, 0.35, 0.5, 0.65, 0.8, 0.95, 1.0]
    listed = []
    for (rows, columns), scale, following in zip(MAPS_320, scales[:-1], scales[1:], strict=True):
        shapes = [(scale, scale), (np.sqrt(scale * following),) * 2]
        for ratio in (2, 3):
            long, short = scale * np.sqrt(ratio), scale / np.sqrt(ratio)
            shapes += [(long, short), (short, long)]
        for row in range(rows):
            for column in range(columns):
                x, y = (column + 0.5) / columns, (row + 0.5) / rows
                for w, h in shapes:
                    w, h = min(w, 1.0), min(h, 1.0)
                    listed.append([x - w / 2, y - h / 2, x + w / 2, y + h / 2])
    return np.array(listed)


def nvidia_priors():
    """dboxes300_coco of NVIDIA and MLPerf: centers and sizes end at 0 and 1.

    Listed there shape by shape within a level; here cell by cell.
    """
    sizes, steps = [21, 45, 99, 153, 207, 261, 315], [8, 16, 32, 64, 100, 300]
    ratios = [[2], [2, 3], [2, 3], [2, 3], [2], [2]]
    listed = []
    for level, (rows, columns) in enumerate(MAPS_300):
        small, large = sizes[level] / 300, sizes[level + 1] / 300
        shapes = [(small, small), (np.sqrt(small * large),) * 2]
        for ratio in ratios[level]:
            w, h = small * np.sqrt(ratio), small / np.sqrt(ratio)
            shapes += [(w, h), (h, w)]
        by_shape = [
            [(j + 0.5) * steps[level] / 300, (i + 0.5) * steps[level] / 300, *shape]
            for shape in shapes for i in range(rows) for j in range(columns)
        ]  # fmt: skip
        by_cell = np.clip(by_shape, 0, 1).reshape(len(shapes), -1, 4).swapaxes(0, 1).reshape(-1, 4)
        low, high = by_cell[:, :2] - by_cell[:, 2:] / 2, by_cell[:, :2] + by_cell[:, 2:] / 2
        listed.append(np.concatenate([low, high], axis=1))
    return np.concatenate(listed)


def make(module, maps):
    config = module.get_config()
    return make_priors(config.priors, config.image_size, maps)


@pytest.mark.parametrize(
    ("module", "maps", "oracle", "count"),
    [
        (ssd300_vgg16_voc, MAPS_300, oracles_priors.ssd300_voc_priors, 8732),
        (ssd300_vgg16_coco, MAPS_300, oracles_priors.ssd300_coco_priors, 8732),
        (ssd512_vgg16_voc, MAPS_512, oracles_priors.ssd512_voc_priors, 24564),
        (ssd300_mobilenet_v1_coco, MAPS_MOBILENET, oracles_priors.mobilenet_v1_coco_priors, 1917),
        (ssdlite320_mobilenet_v3_coco, MAPS_320, ssdlite_priors, 3234),
        (ssd300_resnet34_coco, MAPS_300, nvidia_priors, 8732),
        (ssd300_resnet50_coco, MAPS_300, nvidia_priors, 8732),
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
            {
                "sizes": (30.0, 60.0, 90.0),
                "strides": (),
                "aspect_ratios": ((2.0,), (2.0,)),
                **changes,
            }
        )
    return config.priors


def test_one_prior_a_location():
    table = make_priors(
        small_config(aspect_ratios=((), ()), extra_square="none"), (96, 96), ((4, 4), (2, 2))
    )
    assert table.priors_per_location == (1, 1)
    assert len(table.boxes) == 16 + 4


def test_paper_formula_gives_the_scales_of_section_3_1():
    config = small_config(sizes=())
    sizes = formula_sizes(config.formula, 300, 6)
    np.testing.assert_allclose(
        np.array(sizes[:6]) / 300, [0.1, 0.2, 0.375, 0.55, 0.725, 0.9], atol=1e-9
    )
    assert len(sizes) == 7


def test_formula_without_an_additional_level_spans_s_min_to_s_max():
    config = small_config(sizes=())
    config.formula.first = 0.0
    sizes = np.array(formula_sizes(config.formula, 100, 5))
    np.testing.assert_allclose(sizes[[0, 4]], [20, 90])
    np.testing.assert_allclose(np.diff(sizes), np.diff(sizes)[0])


def test_a_grid_without_strides_is_centered_and_fits_any_shape():
    table = make_priors(small_config(), (60, 120), ((2, 4), (1, 2)))
    centers = (table.boxes[:, :2] + table.boxes[:, 2:]) / 2
    np.testing.assert_allclose(centers.mean(0), [0.5, 0.5], atol=1e-6)
    np.testing.assert_allclose(centers[0], [1 / 8, 1 / 4], atol=1e-6)
    first = (table.boxes[0, 2:] - table.boxes[0, :2]) * (120, 60)
    np.testing.assert_allclose(first, [30, 30], rtol=1e-5)  # a square in pixels


@pytest.mark.parametrize(
    ("clip", "want"),
    [
        ("none", [45, -15, 135, 75]),
        ("corners", [45, 0, 60, 60]),
        ("size", [60, 0, 120, 60]),
        ("center_size", [30, 0, 90, 60]),
    ],
)
def test_clipping_of_corners_sizes_and_centers_by_hand(clip, want):
    """A square of 90 around (90, 30) of an image of 60."""
    config = small_config(
        clip=clip, sizes=(90.0, 0.0), aspect_ratios=((),), extra_square="none", strides=(60.0,)
    )
    table = make_priors(config, (60, 60), ((1, 2),))
    np.testing.assert_allclose(table.boxes[1], np.float32(want) / 60, atol=1e-6)


@pytest.mark.parametrize(
    "changes",
    [
        {"sizes": (30.0, 60.0)},
        {"aspect_ratios": ((2.0,),)},
        {"strides": (8.0,)},
    ],
)
def test_a_table_that_does_not_fit_is_refused(changes):
    with pytest.raises(ConfigError, match="priors"):
        make_priors(small_config(**changes), (96, 96), ((4, 4), (2, 2)))
