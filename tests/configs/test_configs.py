"""Every config builds, is locked, and gives a network whose outputs fit its priors."""

import importlib.util
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest
from image_files import write_image
from voc_folders import thing, xml

from ssd_jax.config.serialization import from_saved, to_dict
from ssd_jax.config.validation import validate
from ssd_jax.data.sources import make_source
from ssd_jax.detector import build_detector, detector_parameter_names, predict
from ssd_jax.errors import ConfigError
from ssd_jax.parameter_names import matches_any
from ssd_jax.train_step import abstract_state, inference_variables, train_step

FOLDER = Path(__file__).resolve().parents[2] / "configs"
FILES = sorted(path for path in FOLDER.glob("*.py") if path.stem != "presets")
PRIORS = {
    "finetune": 1917,
    "quickstart": 2420,
    "ssd300_mobilenet_v1_coco": 1917,
    "ssd300_resnet34_coco": 8732,
    "ssd300_resnet50_coco": 8732,
    "ssd300_mobilenet_v1_tflite": 1917,
    "ssd300_vgg16_coco": 8732,
    "ssd300_vgg16_voc": 8732,
    "ssd512_vgg16_voc": 24564,
    "ssdlite320_mobilenet_v3_coco": 3234,
    "voc_folder": 8732,
}


def load(path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_no_config_is_without_a_count():
    assert sorted(PRIORS) == [path.stem for path in FILES]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_config_builds_and_its_shapes_agree(path):
    config = load(path).get_config()
    assert config.is_locked
    validate(config)
    classes = len(config.data.classes or range(80)) + 1
    detector = build_detector(config, classes)
    priors = len(detector.priors.boxes)
    assert priors == PRIORS[path.stem]
    state = abstract_state(detector)
    size = config.image_size
    batch = {
        "image": jax.ShapeDtypeStruct((2, *size, 3), jnp.uint8),
        "boxes": jax.ShapeDtypeStruct((2, 8, 4), jnp.float32),
        "labels": jax.ShapeDtypeStruct((2, 8), jnp.int32),
        "sample": jax.ShapeDtypeStruct((2,), jnp.int32),
    }
    after, metrics = jax.eval_shape(partial(train_step, detector), state, batch)
    assert jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), after) == jax.tree.map(
        lambda leaf: (leaf.shape, leaf.dtype), state
    )
    assert metrics["loss"].shape == () and metrics["per_image_loss"].shape == (2,)
    images = jax.ShapeDtypeStruct((2, *size, 3), jnp.uint8)
    found = jax.eval_shape(partial(predict, detector), inference_variables(state), images)
    assert found.boxes.shape == (2, config.postprocess.top_k, 4)


def test_fine_tuning_freezes_the_first_layers_and_no_other():
    config = load(FOLDER / "finetune.py").get_config()
    names = detector_parameter_names(build_detector(config, 3))
    frozen = [name for name in names if matches_any(name, config.optim.frozen)]
    layers = {name.split("/")[1] for name in frozen if not name.endswith("_BatchNorm/scale")}
    first = {f"Conv2d_{i}_{kind}" for i in range(1, 6) for kind in ("depthwise", "pointwise")}
    first = {"Conv2d_0"} | first
    assert layers == first | {f"{name}_BatchNorm" for name in first}
    assert {name for name in names if name.endswith("_BatchNorm/scale")} <= set(frozen)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_config_tells_its_story_and_survives_json(path):
    module = load(path)
    assert f"--config=configs/{path.name}" in module.__doc__
    assert "Score:" in module.__doc__ and "Hardware and hours:" in module.__doc__
    config = module.get_config()
    assert from_saved(to_dict(config)).to_dict() == config.to_dict()


@pytest.mark.parametrize(
    ("lists", "train", "test"),
    [
        ((), "trainval", "test"),
        (("train", "val"), "train", "val"),
        (("train", "val", "trainval"), "train", "val"),  # trainval would contain val
        (("train", "test"), "train", "test"),
        (("train", "val", "trainval", "test"), "trainval", "test"),
    ],
)
def test_own_photographs_are_never_in_both_sets(tmp_path, lists, train, test):
    folder = tmp_path / "ImageSets" / "Main"
    folder.mkdir(parents=True)
    for name in lists:
        (folder / f"{name}.txt").write_text("a\n")
    config = load(FOLDER / "voc_folder.py").get_config(str(tmp_path))
    assert config.data.train == (f"voc:{tmp_path}:{train}",)
    assert config.data.test == (f"voc:{tmp_path}:{test}",)


def write_yolo(folder, *splits):
    for split in splits:
        for number in range(2):
            (folder / "images" / split).mkdir(parents=True, exist_ok=True)
            write_image(folder / "images" / split / f"{split}{number}.jpg")
            labels = folder / "labels" / split
            labels.mkdir(parents=True, exist_ok=True)
            (labels / f"{split}{number}.txt").write_text("1 .5 .5 .2 .2\n")
    names = ", ".join(f"{split}: images/{split}" for split in splits)
    (folder / "data.yaml").write_text(f"{{{names}, names: [cat, dog]}}")


def sets_of(folder):
    config = load(FOLDER / "voc_folder.py").get_config(str(folder))
    return {
        name: make_source(config.data[name], config, config.data.classes)
        for name in ("train", "test")
    }


@pytest.mark.parametrize("splits", [("train", "val"), ("train", "val", "test")])
def test_own_photographs_may_be_of_any_layout(tmp_path, splits):
    write_yolo(tmp_path / "my photos", *splits)
    sets = sets_of(tmp_path / "my photos")
    assert sets["train"].classes == sets["test"].classes == ("cat", "dog")
    assert [sets["train"].name(i) for i in range(2)] == ["train0.jpg", "train1.jpg"]
    assert sets["test"].name(0) == f"{splits[-1]}0.jpg"


def test_photographs_beside_their_xml_are_divided(tmp_path):
    for number in range(10):
        write_image(tmp_path / f"{number}.jpg")
        (tmp_path / f"{number}.xml").write_text(xml(thing()))
    sets = sets_of(tmp_path)
    assert [len(sets[name]) for name in ("train", "test")] == [8, 2]


def test_what_is_not_clear_is_asked(tmp_path):
    write_yolo(tmp_path / "one", "train")
    config = load(FOLDER / "voc_folder.py").get_config(str(tmp_path / "one"))
    assert config.data.split == (0.7, 0.15, 0.15) and config.data.test == ()
    validate(config)
    write_yolo(tmp_path / "two", "train", "val")
    write_image(tmp_path / "two" / "a.jpg")
    (tmp_path / "two" / "a.xml").write_text(xml(thing()))
    with pytest.raises(ConfigError, match="(?s)read in 2 ways.*PASCAL VOC.*voc:.*YOLO.*yolo:"):
        sets_of(tmp_path / "two")
