"""Priors fitted to annotations: the exact best IoU, the report, the search, the written config."""

import io
import json
import runpy
import subprocess
import sys
import tarfile
from pathlib import Path

import cv2
import micro
import numpy as np
import pytest

from configs import voc_folder
from scripts import tune_priors
from scripts.prior_tuning import applied, overlap, report, search, truths
from ssd_jax import boxes as box_math
from ssd_jax import config as configs
from ssd_jax import priors, step
from ssd_jax.errors import ConfigError, DataError

ROOT = Path(__file__).resolve().parents[1]


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


def random_truths(rng, count=150):
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


@pytest.mark.parametrize("clip", priors.CLIPS)
@pytest.mark.parametrize(
    ("image_size", "changes"),
    [
        ((300, 300), {"steps": (8.0, 16.0, 32.0, 64.0, 100.0, 300.0)}),
        ((300, 300), {"steps": (9.0, 17.0, 37.0, 80.0, 150.0, 200.0), "truncate": True}),
        ((160, 320), {"extra_square": "none"}),
        ((512, 300), {"first_level": ((30.0, 30.0), (10.0, 700.0))}),
    ],
)
def test_the_best_iou_of_each_shape_is_that_of_all_its_priors(image_size, changes, clip):
    config = with_size(image_size, clip=clip, **changes)
    table, boxes = overlap.grid(config), random_truths(np.random.default_rng(3))
    made = priors.make(config.priors, image_size, table.maps)
    cells = priors.cell_sizes(config.priors, image_size, len(table.maps))
    start = 0
    for level, ((rows, columns), shapes) in enumerate(zip(table.maps, cells)):
        stop = start + rows * columns * len(shapes)
        of_level = made.boxes[start:stop].astype(np.float64).reshape(-1, len(shapes), 4)
        for i, shape in enumerate(shapes):
            expected = box_math.iou(boxes, of_level[:, i]).max(axis=1)
            found = overlap.best_iou(boxes, table, level, shape)
            np.testing.assert_allclose(found, expected, atol=2e-5)
        start = stop
    (best,) = search.Scorer([boxes], table).best(config.priors)
    expected = box_math.iou(boxes, made.boxes.astype(np.float64)).max(axis=1)
    np.testing.assert_allclose(best, expected, atol=2e-5)


def three_truths():
    """Two levels of 32 pixels, strides 8 and 16; three truths in one image, and what they get.

    The first is the finest square at the first cell: beside it the square of side √(8·15) and
    both stretched priors of that cell reach .5. The second is a quarter of that square in area,
    at the third cell of the diagonal, and has the one prior that it claims. The third is the
    square of the second level's upper right cell, whose stretched priors reach .55.
    """
    config = micro.get_config(priors__sizes=(8.0, 15.0, 40.0), augment__geometric=())
    pixels = [[0, 0, 8, 8], [18, 18, 22, 22], [16.5, 0.5, 31.5, 15.5]]
    boxes = np.float32(pixels) / 32
    return config, truths.Picture(boxes, np.int32([1, 1, 3]), False, False)


def test_three_truths_are_counted_by_hand():
    config, picture = three_truths()
    table, classes = overlap.grid(config), ("box", "disk", "ring")
    assert table.maps == ((4, 4), (2, 2)) and table.steps == ((8, 8), (16, 16))
    measured = report.measure(config, [picture], table, len(classes))
    np.testing.assert_allclose(measured.iou, [1, 0.25, 1], rtol=1e-5)
    np.testing.assert_array_equal(measured.positives, [4, 1, 3])
    found = report.figures([picture], (measured, measured), classes, (32, 32))
    groups = found["searched"]["plain"]
    expected = {
        "all": (3, 2 / 3, 0.75, 8 / 3), "small": (3, 2 / 3, 0.75, 8 / 3),
        "class box": (2, 0.5, 0.625, 2.5), "class ring": (1, 1, 1, 3),
    }  # fmt: skip
    for group, (count, *values) in expected.items():
        assert groups[group]["truths"] == count
        for name, value in zip(report.FIGURES, values):
            np.testing.assert_allclose(groups[group][name], [value] * 2, rtol=1e-5)
    for group in ("medium", "large", "class disk"):
        assert groups[group] == {"truths": 0} | dict.fromkeys(report.FIGURES, [None, None])
    text = report.tables(found)
    assert "| searched | plain | all | 3 | 0.667 → 0.667 | 0.750 → 0.750 | 2.67 → 2.67 |" in text
    assert "| searched | plain | large | 0 | – | – | – |" in text
    assert "| disk | plain | 0 | – | – | – |" in text and "augmented" not in text


def images_of(boxes_of_images):
    """Images whose truths are all of one class."""
    return truths.Images(
        [
            {
                "boxes": np.float32(boxes).reshape(-1, 4),
                "labels": np.ones(len(boxes), np.int32),
                "ignore": np.zeros(len(boxes), bool),
            }
            for boxes in boxes_of_images
        ],
        ("thing",),
    )


def test_truths_of_one_shape_get_a_prior_of_that_shape(tmp_path):
    config = micro.get_config(image_size=(160, 160), augment__geometric=("flip",))
    rng = np.random.default_rng(0)
    corners = rng.uniform(0, [120, 140], (40, 2)) / 160
    side = np.array([40, 20]) / 160
    images = images_of(np.concatenate([corners, corners + side], axis=1)[:, None])
    proposed, document = tune_priors.tuned(config, images, tmp_path / "x.png")
    maps = overlap.grid(proposed).maps
    cells = priors.cell_sizes(proposed.priors, proposed.image_size, len(maps))
    shapes = np.array([shape for level in cells for shape in level])
    assert np.abs(np.log(shapes / [40, 20])).max(axis=1).min() < 0.25
    for part in document["figures"].values():
        for view in part.values():
            assert view["all"]["recall"][1] == 1
            assert view["all"]["mean_iou"][1] > view["all"]["mean_iou"][0] + 0.02
    assert document["figures"]["held out"]["plain"]["all"]["truths"] == 8
    assert json.loads((tmp_path / "x.json").read_text()) == json.loads(json.dumps(document))
    assert cv2.imread(str(tmp_path / "x.png")).std() > 10


def proposal(config, boxes):
    """The config tuned on boxes, and its recall and mean IoU before and after."""
    table, score = overlap.grid(config), search.Scorer([np.float32(boxes)], overlap.grid(config))
    fields = search.tune(config, [np.float32(boxes)], table, lambda text: None)
    proposed = search.with_fields(config, fields)
    return proposed, score(config.priors), score(proposed.priors)


@pytest.mark.parametrize(
    ("image_size", "changes"),
    [
        ((160, 320), {"levels": 3, "clip": "corners"}),
        ((512, 300), {"extra_square": "none"}),
        ((160, 320), {"levels": 2, "truncate": True}),
    ],
)
def test_a_proposal_is_valid_costs_the_same_and_no_figure_falls(image_size, changes):
    config = with_size(image_size, **changes)
    proposed, old, new = proposal(config, random_truths(np.random.default_rng(7), 60))
    assert (new.recall >= old.recall).all() and (new.mean_iou > old.mean_iou + 0.01).all()
    configs.validate(proposed)
    detector, before = step.build(proposed, 2), step.build(config, 2)
    assert detector.priors.per_cell == before.priors.per_cell
    assert len(detector.priors.boxes) == len(before.priors.boxes)
    table, was = overlap.grid(config), search.fields_of(config, overlap.grid(config)).sizes
    sizes = proposed.priors.sizes
    for size, start, cells, strides in zip(sizes, was, table.maps, table.steps):
        assert size >= min(max(strides), start) or cells == (1, 1)
    assert not changes.get("truncate") or all(size == int(size) for size in sizes)


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
    config, picture = three_truths()
    exact = picture.boxes[[0, 2]]
    proposed, document = tune_priors.tuned(config, images_of([exact] * 4), tmp_path / "x.png")
    assert proposed.to_dict() == config.to_dict() and document["before"] == document["after"]
    assert document["figures"]["held out"]["plain"]["all"]["truths"] == 0  # of four images


def test_pictures_are_what_training_sees():
    config = micro.get_config(matching__difficult="ignore")
    config.augment.geometric = ("zoom_out", "iou_crop", "flip")
    images = truths.of_training_data(config)
    images.truths[0] = images.truths[0] | {"ignore": np.ones(len(images.truths[0]["labels"]), bool)}
    seen = truths.pictures(images, config)
    assert len(seen) == 12 * (1 + truths.DRAWS)
    assert [picture.held_out for picture in seen[::5]] == [i % 5 == 4 for i in range(12)]
    assert not any(len(picture.labels) for picture in seen[:5])
    for number, picture in enumerate(seen[::5][1:], start=1):
        kept = ~images.truths[number]["ignore"]
        np.testing.assert_array_equal(picture.boxes, images.truths[number]["boxes"][kept])
    assert [picture.augmented for picture in seen[:5]] == [False] + [True] * truths.DRAWS
    areas = {
        view: np.concatenate([p.boxes[:, 2:] - p.boxes[:, :2] for p in seen if p.augmented == view])
        for view in (False, True)
    }
    assert areas[True].std() > areas[False].std()


def test_images_without_truths_are_refused():
    config = micro.get_config()
    with pytest.raises(DataError, match="3 images and no truth"):
        truths.pictures(images_of([[]] * 3), config)


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
            images = truths.of_archive(path, micro.get_config())
            assert images.classes == ("a", "b")
            (only,) = images.truths
            np.testing.assert_allclose(only["boxes"], [[0, 0, 0.5, 0.5], [0.5, 0.5, 1, 1]])
            assert only["labels"].tolist() == [2, 1] and only["ignore"].tolist() == [False, True]
            with pytest.raises(DataError, match="unknown class 'b'"):
                truths.of_archive(path, micro.get_config(data__classes=("a",)))
        else:
            with pytest.raises(DataError, match="1.xml: no size of the image"):
                truths.of_archive(path, micro.get_config())


def command(name, *arguments, module=False):
    start = ["-m", name] if module else [ROOT / name]
    return subprocess.run(
        [sys.executable, *start, *map(str, arguments)], capture_output=True, text=True, cwd=ROOT
    )


def test_the_written_config_trains(tmp_path):
    out, picture = tmp_path / "new" / "tuned.py", tmp_path / "docs" / "p.png"
    given = [
        "--config=tests/micro.py", "--config.seed=3", "--config.image_size=(48, 32)",
        f"--apply={out}", f"--output={picture}",
    ]  # fmt: skip
    result = command("scripts/tune_priors.py", *given)
    assert result.returncode == 0, result.stderr
    assert "| held out | plain | all |" in result.stdout and "step 0.32: recall" in result.stderr
    document = json.loads(picture.with_suffix(".json").read_text())
    assert document["images"] == 12
    namespace = runpy.run_path(str(out))
    config, base = namespace["get_config"](), micro.get_config(seed=3, image_size=(48, 32))
    assert configs.to_dict(config.priors)["sizes"] == document["after"]["sizes"]
    assert document["after"] != document["before"]
    base.priors.sizes, base.priors.aspect_ratios = config.priors.sizes, config.priors.aspect_ratios
    assert config.to_dict() == base.to_dict()
    assert f"--config={out}" in namespace["__doc__"] and "Score:" in namespace["__doc__"]
    run = command(
        "ssd_jax.main", f"--config={out}", f"--workdir={tmp_path / 'run'}", "--config.steps=2",
        "--config.eval_every=0", module=True,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr


def test_a_config_of_the_project_is_imported_by_its_name(tmp_path):
    base = "configs/ssd300_vgg16_voc.py:caffe"
    config = runpy.run_path(str(ROOT / "configs" / "ssd300_vgg16_voc.py"))["get_config"]("caffe")
    config.priors.sizes = (20.0, 40.0, 80.0, 120.0, 160.0, 200.0, 250.0)
    path = tmp_path / "x.py"
    path.write_text(applied.text(path, base, config, "A story.\nAnd more."))
    assert "from configs import ssd300_vgg16_voc" in path.read_text()
    assert runpy.run_path(str(path))["get_config"]().to_dict() == config.to_dict()


def test_only_a_new_python_file_can_be_written(tmp_path):
    with pytest.raises(ConfigError, match="name it .py"):
        applied.check(tmp_path / "x.json")
    (tmp_path / "x.py").touch()
    with pytest.raises(ConfigError, match="delete it or name another"):
        applied.check(tmp_path / "x.py")


def test_small_blood_cells_are_reached_after(tmp_path, real_data):
    config = voc_folder.get_config(str(real_data / "bccd"))
    config.data.train = (f"voc:{real_data / 'bccd'}:val",)
    config.augment.geometric = ()
    images = truths.of_training_data(config)
    assert images.classes == ("Platelets", "RBC", "WBC") and len(images.truths) == 87
    _, document = tune_priors.tuned(config, images, tmp_path / "x.png")
    for part in ("searched", "held out"):
        groups = document["figures"][part]["plain"]
        before, after = groups["class Platelets"]["recall"]
        assert before < 0.7 and after > before + 0.15
        assert groups["class RBC"]["recall"][1] > 0.99
