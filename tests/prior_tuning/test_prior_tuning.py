"""Priors fitted to annotations: the exact best IoU, the report, the search, the written config."""

import io
import json
import runpy
import subprocess
import sys
import tarfile
from functools import partial
from pathlib import Path

import cv2
import jax.numpy as jnp
import micro
import numpy as np
import pytest

from configs import ssd300_vgg16_voc, voc_folder
from ssd_jax.config.serialization import to_dict
from ssd_jax.config.validation import validate
from ssd_jax.detector import build_detector
from ssd_jax.errors import ConfigError, DataError
from ssd_jax.multibox import boxes as box_ops
from ssd_jax.multibox import matching
from ssd_jax.multibox.priors import make_priors, prior_shapes
from ssd_jax.prior_tuning import ground_truth, report, search, write_config
from ssd_jax.prior_tuning.object_size import box_sides
from ssd_jax.prior_tuning.positives import count_positives
from ssd_jax.prior_tuning.prior_grid import best_iou_on_grid, make_prior_grid
from ssd_jax.prior_tuning.scorer import Scorer
from ssd_jax.prior_tuning.tune import tune_priors
from ssd_jax.prior_tuning.voc_archive import read_archive
from ssd_jax.types import DIFFICULT, PLAIN

ROOT = Path(__file__).resolve().parents[2]


def with_size(image_size, levels=6, **changes):
    """The small network at any size, sizes of priors by the formula."""
    config = voc_folder.get_config()
    config.image_size = image_size
    config.model.backbone.levels = levels
    config.priors.sizes = ()
    config.priors.aspect_ratios = config.priors.aspect_ratios[:levels]
    for name, value in changes.items():
        config.priors[name] = value
    return config


def random_boxes(rng, count=150):
    """Boxes of any size and place; a third of them ends at a border."""
    corners = np.sort(rng.random((count, 2, 2)), axis=1)
    corners[: count // 2] = corners[: count // 2].mean(axis=1, keepdims=True) + 0.1 * (
        corners[: count // 2] - corners[: count // 2].mean(axis=1, keepdims=True)
    )
    boxes = corners.reshape(-1, 4)
    boxes[::6, :2] = 0
    boxes[1::6, 2:] = 1
    whole = [[0, 0, 1, 1], [0, 0, 0.01, 0.01], [0.99, 0, 1, 1], [0.5, 0.5, 0.5001, 0.9]]
    return np.concatenate([boxes, whole])


@pytest.mark.parametrize("clip", ["none", "corners", "size", "center_size"])
@pytest.mark.parametrize(
    ("image_size", "changes"),
    [
        ((300, 300), {"strides": (8.0, 16.0, 32.0, 64.0, 100.0, 300.0)}),
        ((300, 300), {"strides": (9.0, 17.0, 37.0, 80.0, 150.0, 200.0), "floor_sizes": True}),
        ((160, 320), {"extra_square": "none"}),
        ((512, 300), {"first_level": ((30.0, 30.0), (10.0, 700.0))}),
    ],
)
def test_the_best_iou_of_each_shape_is_that_of_all_its_priors(image_size, changes, clip):
    config = with_size(image_size, clip=clip, **changes)
    grid, boxes = make_prior_grid(config), random_boxes(np.random.default_rng(3))
    made = make_priors(config.priors, image_size, grid.feature_map_sizes)
    levels = prior_shapes(config.priors, image_size, len(grid.feature_map_sizes))
    start = 0
    for level, ((rows, columns), shapes) in enumerate(zip(grid.feature_map_sizes, levels)):
        stop = start + rows * columns * len(shapes)
        of_level = made.boxes[start:stop].astype(np.float64).reshape(-1, len(shapes), 4)
        for i, shape in enumerate(shapes):
            expected = box_ops.iou(boxes, of_level[:, i]).max(axis=1)
            actual = best_iou_on_grid(boxes, grid, level, shape)
            np.testing.assert_allclose(actual, expected, atol=2e-5)
        start = stop
    (best,) = Scorer([boxes], grid).best_iou(config.priors)
    expected = box_ops.iou(boxes, made.boxes.astype(np.float64)).max(axis=1)
    np.testing.assert_allclose(best, expected, atol=2e-5)


def three_boxes():
    """Two levels of 32 pixels, strides 8 and 16; three boxes in one image.

    The first is the finest square at the first location: beside it the square of side √(8·15) and
    both rectangles of that location reach an IoU of .5. The second has a quarter of that square's
    area, at the third location of the diagonal, and gets only the prior of its forced match. The
    third is the square of the second level's upper right location, whose rectangles reach .55.
    """
    config = micro.get_config(priors__sizes=(8.0, 15.0, 40.0), augment__geometric=())
    pixels = [[0, 0, 8, 8], [18, 18, 22, 22], [16.5, 0.5, 31.5, 15.5]]
    boxes = np.float32(pixels) / 32
    return config, ground_truth.ImageBoxes(boxes, np.int32([1, 1, 3]), False, False)


def test_three_boxes_are_counted_by_hand():
    config, image = three_boxes()
    grid, classes = make_prior_grid(config), ("box", "disk", "ring")
    assert grid.feature_map_sizes == ((4, 4), (2, 2)) and grid.strides == ((8, 8), (16, 16))
    fit = report.measure_fit(config, [image], grid, len(classes))
    np.testing.assert_allclose(fit.best_iou, [1, 0.25, 1], rtol=1e-5)
    np.testing.assert_array_equal(fit.positives, [4, 1, 3])
    summary = report.summarize_fit([image], (fit, fit), classes, (32, 32))
    groups = summary["searched"]["plain"]
    expected = {
        "all": (3, 2 / 3, 0.75, 8 / 3), "small": (3, 2 / 3, 0.75, 8 / 3),
        "class box": (2, 0.5, 0.625, 2.5), "class ring": (1, 1, 1, 3),
    }  # fmt: skip
    for group, (count, *values) in expected.items():
        assert groups[group]["boxes"] == count
        for name, value in zip(report.STATISTICS, values):
            np.testing.assert_allclose(groups[group][name], [value] * 2, rtol=1e-5)
    for group in ("medium", "large", "class disk"):
        assert groups[group] == {"boxes": 0} | dict.fromkeys(report.STATISTICS, [None, None])
    text = report.format_tables(summary)
    assert "| searched | plain | all | 3 | 0.667 → 0.667 | 0.750 → 0.750 | 2.67 → 2.67 |" in text
    assert "| searched | plain | large | 0 | – | – | – |" in text
    assert "| disk | plain | 0 | – | – | – |" in text and "augmented" not in text


def one_class_set(boxes_of_images):
    """A set whose boxes are all of one class."""
    return ground_truth.AnnotatedSet(
        [
            {
                "boxes": np.float32(boxes).reshape(-1, 4),
                "labels": np.ones(len(boxes), np.int32),
                "flags": np.full(len(boxes), PLAIN, np.int8),
            }
            for boxes in boxes_of_images
        ],
        ("thing",),
    )


def test_boxes_of_one_shape_get_a_prior_of_that_shape(tmp_path):
    config = micro.get_config(image_size=(160, 160), augment__geometric=("flip",))
    rng = np.random.default_rng(0)
    corners = rng.uniform(0, [120, 140], (40, 2)) / 160
    side = np.array([40, 20]) / 160
    dataset = one_class_set(np.concatenate([corners, corners + side], axis=1)[:, None])
    proposed, document, _ = tune_priors(config, dataset, tmp_path / "x.png")
    map_sizes = make_prior_grid(proposed).feature_map_sizes
    levels = prior_shapes(proposed.priors, proposed.image_size, len(map_sizes))
    shapes = np.array([shape for level in levels for shape in level])
    assert np.abs(np.log(shapes / [40, 20])).max(axis=1).min() < 0.25
    for part in document["fit"].values():
        for view in part.values():
            assert view["all"]["recall"][1] == 1
            assert view["all"]["mean_iou"][1] > view["all"]["mean_iou"][0] + 0.02
    assert document["fit"]["held out"]["plain"]["all"]["boxes"] == 8
    assert json.loads((tmp_path / "x.json").read_text()) == json.loads(json.dumps(document))
    assert cv2.imread(str(tmp_path / "x.png")).std() > 10


def proposal(config, boxes):
    """The config tuned on boxes, and its scores before and after."""
    grid, box_sets = make_prior_grid(config), [np.float32(boxes)]
    proposed = search.with_fields(config, search.search_fields(config, box_sets, grid))
    scorer = Scorer(box_sets, grid)
    return proposed, scorer(config.priors), scorer(proposed.priors)


@pytest.mark.parametrize(
    ("image_size", "changes"),
    [
        ((160, 320), {"levels": 3, "clip": "corners"}),
        ((512, 300), {"extra_square": "none"}),
        ((160, 320), {"levels": 2, "floor_sizes": True}),
    ],
)
def test_a_proposal_is_valid_costs_the_same_and_no_number_falls(image_size, changes):
    config = with_size(image_size, **changes)
    proposed, old, new = proposal(config, random_boxes(np.random.default_rng(7), 60))
    assert (new.recall >= old.recall).all() and (new.mean_iou > old.mean_iou + 0.01).all()
    validate(proposed)
    detector, before = build_detector(proposed, 2), build_detector(config, 2)
    assert detector.priors.priors_per_location == before.priors.priors_per_location
    assert len(detector.priors.boxes) == len(before.priors.boxes)
    grid, sizes = make_prior_grid(config), proposed.priors.sizes
    old_sizes = search.get_fields(config, grid).sizes
    for size, old_size, map_size, strides in zip(
        sizes, old_sizes, grid.feature_map_sizes, grid.strides
    ):
        assert size >= min(max(strides), old_size) or map_size == (1, 1)
    assert not changes.get("floor_sizes") or all(size == int(size) for size in sizes)


def test_sizes_ascend_and_are_not_below_the_strides():
    config = with_size((160, 320), levels=3)
    corners = np.random.default_rng(1).uniform(0, 0.9, (30, 2))
    tiny = np.concatenate([corners, corners + np.array([5 / 320, 5 / 160])], axis=1)
    proposed, old, new = proposal(config, tiny)
    assert new.mean_iou > old.mean_iou
    sizes = np.array(proposed.priors.sizes)
    assert (sizes[:3] >= [8, 16, 32]).all() and sizes[0] < 9
    assert (sizes[1:] >= 1.05 * sizes[:-1]).all()


def test_an_explicit_finest_level_is_fitted_too():
    config = with_size((160, 320), levels=2, first_level=((30.0, 30.0), (40.0, 20.0)))
    corners = np.random.default_rng(1).uniform(0, 0.8, (30, 2))
    boxes = np.concatenate([corners, corners + np.array([16 / 320, 24 / 160])], axis=1)
    proposed, old, new = proposal(config, boxes)
    assert len(proposed.priors.first_level) == 2
    assert new.recall[0] > 0.9 > 0.5 > old.recall[0]
    shapes = np.array(proposed.priors.first_level)
    assert np.abs(np.log(shapes / [16, 24])).max(axis=1).min() < 0.25


def test_what_fits_stays_as_it_is(tmp_path):
    config, image = three_boxes()
    exact = image.boxes[[0, 2]]
    proposed, document, _ = tune_priors(config, one_class_set([exact] * 4), tmp_path / "x.png")
    assert proposed.to_dict() == config.to_dict() and document["before"] == document["after"]
    assert document["fit"]["held out"]["plain"]["all"]["boxes"] == 0  # of four images


def test_samples_are_what_training_sees():
    config = micro.get_config(matching__difficult="ignore")
    config.augment.geometric = ("zoom_out", "iou_crop", "flip")
    dataset = ground_truth.read_training_set(config)
    first = dataset.ground_truth[0]
    dataset.ground_truth[0] = first | {"flags": np.full(len(first["labels"]), DIFFICULT, np.int8)}
    samples = ground_truth.sample_boxes(dataset, config)
    assert len(samples) == 12 * (1 + ground_truth.SAMPLES_PER_IMAGE)
    assert [sample.held_out for sample in samples[::5]] == [i % 5 == 4 for i in range(12)]
    assert not any(len(sample.labels) for sample in samples[:5])
    for number, sample in enumerate(samples[::5][1:], start=1):
        gt = dataset.ground_truth[number]
        np.testing.assert_array_equal(sample.boxes, gt["boxes"][gt["flags"] == PLAIN])
    augmented = [False] + [True] * ground_truth.SAMPLES_PER_IMAGE
    assert [sample.augmented for sample in samples[:5]] == augmented
    sides = {
        view: np.concatenate(
            [s.boxes[:, 2:] - s.boxes[:, :2] for s in samples if s.augmented == view]
        )
        for view in (False, True)
    }
    assert sides[True].std() > sides[False].std()


def test_images_without_boxes_are_refused():
    config = micro.get_config()
    with pytest.raises(DataError, match="3 images without a box"):
        ground_truth.sample_boxes(one_class_set([[]] * 3), config)


def test_an_archive_needs_no_images(tmp_path):
    path = tmp_path / "a.tar.gz"
    text = (
        "<annotation><size><width>200</width><height>100</height></size><object><name>b</name>"
        "<bndbox><xmin>1</xmin><ymin>1</ymin><xmax>100</xmax><ymax>50</ymax></bndbox></object>"
        "<object><name>a</name><difficult>1</difficult><bndbox><xmin>101</xmin><ymin>51</ymin>"
        "<xmax>200</xmax><ymax>100</ymax></bndbox></object></annotation>"
    )
    for data in (text, text.replace("<width>200</width>", "")):
        with tarfile.open(path, "w:gz") as files:
            member = tarfile.TarInfo("Annotations/1.xml")
            member.size = len(data)
            files.addfile(member, io.BytesIO(data.encode()))
        if data == text:
            dataset = ground_truth.read_voc_archive(path, micro.get_config())
            assert dataset.classes == ("a", "b")
            (only,) = dataset.ground_truth
            np.testing.assert_allclose(only["boxes"], [[0, 0, 0.5, 0.5], [0.5, 0.5, 1, 1]])
            assert only["labels"].tolist() == [2, 1] and only["flags"].tolist() == [
                PLAIN,
                DIFFICULT,
            ]
            with pytest.raises(DataError, match="unknown class 'b'"):
                ground_truth.read_voc_archive(path, micro.get_config(data__classes=("a",)))
        else:
            with pytest.raises(DataError, match="1.xml: no size of the image"):
                ground_truth.read_voc_archive(path, micro.get_config())


XML = """<annotation><size><width>300</width><height>300</height></size>{}</annotation>"""
OBJECT = """<object><name>a</name><difficult>1</difficult><bndbox><xmin>{}</xmin><ymin>{}</ymin>
<xmax>{}</xmax><ymax>{}</ymax></bndbox></object>"""


def test_the_priors_of_an_archive_are_counted_by_hand(tmp_path):
    """An image with a small and a large object, one with two of the same, and one without."""
    objects = [[(140, 140, 149, 149), (1, 1, 300, 300)], [(141, 141, 148, 148)] * 2, []]
    path = tmp_path / "annotations.tar.gz"
    with tarfile.open(path, "w:gz") as files:
        for number, corners in enumerate(objects):
            data = XML.format("".join(OBJECT.format(*box) for box in corners)).encode()
            member = tarfile.TarInfo(f"Annotations/{number}.xml")
            member.size = len(data)
            files.addfile(member, io.BytesIO(data))
    images = [image.boxes for image in read_archive(path)]
    assert [len(boxes) for boxes in images] == [2, 2, 0]
    areas = box_sides(np.concatenate(images), (300, 300)).prod(axis=1)
    np.testing.assert_allclose(areas, [100, 300**2, 64, 64], rtol=1e-4)
    priors = jnp.asarray(build_detector(ssd300_vgg16_voc.get_config(), 2).priors.boxes)
    for matcher, small in (("best_prior", [1, 1, 0]), ("bipartite", [1, 1, 1])):
        match = partial(matching.match, priors=priors, matcher=matcher)
        counts = np.concatenate(count_positives(images, match))
        assert counts[[0, 2, 3]].tolist() == small and counts[1] >= 2
    assert len(read_archive(path, every=2)) == 2


def test_a_file_that_is_no_archive_is_refused(tmp_path):
    path = tmp_path / "annotations.tar.gz"
    with pytest.raises(DataError, match="not an archive"):
        read_archive(path)
    path.write_bytes(b"no archive")
    with pytest.raises(DataError, match="not an archive"):
        read_archive(path)


def command(module, *arguments):
    return subprocess.run(
        [sys.executable, "-m", module, *map(str, arguments)],
        capture_output=True, text=True, cwd=ROOT,
    )  # fmt: skip


def test_the_written_config_trains(tmp_path):
    out, picture = tmp_path / "new" / "tuned.py", tmp_path / "docs" / "p.png"
    given = [
        "--config=tests/micro.py", "--config.seed=3", "--config.image_size=(48, 32)",
        f"--apply={out}", f"--output={picture}",
    ]  # fmt: skip
    result = command("scripts.tune_priors", *given)
    assert result.returncode == 0, result.stderr
    assert "| held out | plain | all |" in result.stdout and "step 0.32: recall" in result.stderr
    document = json.loads(picture.with_suffix(".json").read_text())
    assert document["images"] == 12
    namespace = runpy.run_path(str(out))
    config, base = namespace["get_config"](), micro.get_config(seed=3, image_size=(48, 32))
    assert to_dict(config.priors)["sizes"] == document["after"]["sizes"]
    assert document["after"] != document["before"]
    base.priors.sizes, base.priors.aspect_ratios = config.priors.sizes, config.priors.aspect_ratios
    assert config.to_dict() == base.to_dict()
    assert f"--config={out}" in namespace["__doc__"] and "Score:" in namespace["__doc__"]
    run = command(
        "ssd_jax.main", f"--config={out}", f"--workdir={tmp_path / 'run'}", "--config.steps=2",
        "--config.eval_every=0",
    )  # fmt: skip
    assert run.returncode == 0, run.stderr


def test_a_config_of_the_project_is_imported_by_its_name(tmp_path):
    base = "configs/ssd300_vgg16_voc.py:caffe"
    config = runpy.run_path(str(ROOT / "configs" / "ssd300_vgg16_voc.py"))["get_config"]("caffe")
    config.priors.sizes = (20.0, 40.0, 80.0, 120.0, 160.0, 200.0, 250.0)
    path = tmp_path / "x.py"
    path.write_text(write_config.config_source(path, base, config, "A story.\nAnd more."))
    assert "from configs import ssd300_vgg16_voc" in path.read_text()
    assert runpy.run_path(str(path))["get_config"]().to_dict() == config.to_dict()


def test_only_a_new_python_file_can_be_written(tmp_path):
    with pytest.raises(ConfigError, match="name it .py"):
        write_config.check_output(tmp_path / "x.json")
    (tmp_path / "x.py").touch()
    with pytest.raises(ConfigError, match="delete it or name another"):
        write_config.check_output(tmp_path / "x.py")


def test_the_recall_of_small_blood_cells_rises(tmp_path, real_data):
    config = voc_folder.get_config(str(real_data / "bccd"))
    config.data.train = (f"voc:{real_data / 'bccd'}:val",)
    config.augment.geometric = ()
    dataset = ground_truth.read_training_set(config)
    assert dataset.classes == ("Platelets", "RBC", "WBC") and len(dataset.ground_truth) == 87
    _, document, _ = tune_priors(config, dataset, tmp_path / "x.png")
    for part in ("searched", "held out"):
        groups = document["fit"][part]["plain"]
        before, after = groups["class Platelets"]["recall"]
        assert before < 0.7 and after > before + 0.15
        assert groups["class RBC"]["recall"][1] > 0.99
