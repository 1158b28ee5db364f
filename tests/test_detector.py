"""Before compilation: what the config alone cannot tell. No test here computes a parameter."""

import json

import jax
import micro
import numpy as np
import pytest

from ssd_jax import evaluate, training
from ssd_jax.detector import (
    build_checked_detector,
    build_detector,
    detector_parameter_names,
    init_variables,
)
from ssd_jax.errors import CheckpointError, ConfigError
from ssd_jax.parameter_names import flatten_parameters
from ssd_jax.runs.folder import RunInfo, run_metadata, write_run_files
from ssd_jax.runs.load import LoadedRun, load_run
from ssd_jax.runtime import devices

CLASSES = ("box", "disk", "ring", "triangle")


def problems(config, train_classes=CLASSES, test_classes=CLASSES):
    try:
        build_checked_detector(config, train_classes, {"test": test_classes})
    except ConfigError as error:
        return str(error).splitlines()
    return []


@pytest.mark.parametrize("axis_name", [None, "batch"])
def test_what_fits_is_the_detector_of_the_step(axis_name):
    config = micro.get_config()
    detector = build_checked_detector(config, CLASSES, {"val": CLASSES}, axis_name)
    other = build_detector(config, 5, axis_name)
    assert detector.model == other.model and detector.axis_name == axis_name
    assert (detector.priors.boxes == other.priors.boxes).all()


def test_parameters_have_names_of_their_path():
    names = detector_parameter_names(build_detector(micro.get_config(), 5))
    assert len(set(names)) == len(names)
    assert {
        "backbone/stem/kernel", "backbone/stem_norm/scale", "backbone/level0_conv/kernel",
        "heads/classification_0/kernel", "heads/localization_1/bias",
    } <= set(names)  # fmt: skip


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"batch_size": 3}, "config.batch_size=3 does not divide over 2 devices; try 4"),
        ({"model__name": "vggg"}, "model.name is 'vggg'"),
        ({"model__backbone__levels": 3}, "config.priors.aspect_ratios has 2 entries"),
        ({"priors__aspect_ratios": ((2.0,),)}, "config.priors.aspect_ratios has 1 entries"),
        (
            {"optim__weight_decay_params": ("*/kernl",)},
            "config.optim.weight_decay_params has '*/kernl', which matches no param",
        ),
        ({"optim__frozen": ("*/bias", "backbone/conv1_*")}, "config.optim.frozen has 'backbone/co"),
        ({"optim__frozen": ("backbone/*", "heads/*")}, "leaves no parameter to train"),
        ({"data__classes": ("a", "b")}, "config.data.classes=('a', 'b') are not those of"),
    ],
)
def test_what_does_not_fit_is_one_line(change, message):
    (line,) = problems(micro.get_config(**change))
    assert message in line


def test_an_unknown_pattern_comes_with_a_name_like_it():
    (line,) = problems(micro.get_config(optim__frozen=("backbone/stem/kernels",)))
    assert "a name is backbone/stem/kernel," in line


@pytest.mark.parametrize(
    "change",
    [
        {"optim__frozen": ("backbone/*",)},
        {"optim__frozen": ("*/bias",), "optim__weight_decay_params": ("*/kernel", "*/bias")},
        {"optim__weight_decay_params": (), "optim__weight_decay": 0.0},
        {"data__classes": CLASSES},
    ],
)
def test_what_fits_passes(change):
    assert problems(micro.get_config(**change)) == []


@pytest.mark.parametrize(
    ("name", "backbone"),
    [
        ("small", {"levels": "x"}),
        ("small", {"levels": None}),
        ("small", {"levels": 2, "widths": ()}),
        ("small", {"levels": 2, "widths": ("a", "b")}),
        ("small", {"levels": 2, "widths": (0, 8)}),
        ("small", {"depth": 2}),
        ("mobilenet_v1", {"width": "wide"}),
        ("vgg", {"input_size": 301}),
    ],
)
def test_a_backbone_that_cannot_be_built_is_one_line(name, backbone):
    config = micro.get_config(model__name=name)
    with config.unlocked():
        config.model.backbone = backbone
    (line,) = problems(config)
    assert line.startswith(("config.model.backbone", "model.backbone"))


@pytest.mark.parametrize(
    ("train_classes", "test_classes", "message"),
    [
        ((), (), "has no class"),
        (("a", "b"), ("a", "c", "d"), "has c, d, which config.data.train lacks"),
        (("a", "b"), ("b", "a"), "orders the classes as b, a, the training set as a, b"),
    ],
)
def test_sets_that_disagree_about_classes(train_classes, test_classes, message):
    (line,) = problems(micro.get_config(), train_classes, test_classes)
    assert message in line


def test_a_test_set_may_lack_the_last_classes():
    assert problems(micro.get_config(), ("a", "b", "c"), ("a", "b")) == []


def test_all_problems_are_in_one_message():
    config = micro.get_config(
        batch_size=5, optim__weight_decay_params=("x",), optim__frozen=("y",), data__classes=("a",)
    )
    lines = problems(config, ("a", "b"), ("z",))
    wanted = (
        "data.classes",
        "data.test",
        "batch_size",
        "optim.weight_decay_params",
        "optim.frozen",
    )
    assert len(lines) == len(wanted)
    assert all(line.startswith(f"config.{name}") for line, name in zip(lines, wanted))
    levels = problems(micro.get_config(batch_size=5, model__backbone__levels=3), ("a",), ("z",))
    assert [line.split()[0].partition("=")[0] for line in levels] == [
        "config.data.test", "config.batch_size", "config.priors.aspect_ratios",
    ]  # fmt: skip


def test_training_refuses_what_does_not_fit_and_leaves_the_folder_free(tmp_path):
    with pytest.raises(ConfigError, match="matches no parameter"):
        training.train_and_evaluate(micro.get_config(optim__frozen=("conv1_1",)), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [".lock"]


def saved(folder, **changes):
    detector = build_detector(micro.get_config(), 5)
    run = RunInfo(detector.config, CLASSES, "f0", detector.priors.boxes)
    write_run_files(folder, run, run_metadata(run.config))
    path = folder / "config.json"
    values = json.loads(path.read_text())
    for name, value in changes.items():
        block, _, field = name.partition("__")
        values[block] = values[block] | {field: value} if field else value
    del values["crc32"]  # as somebody who edits the file does
    path.write_text(json.dumps(values))
    return path


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"optim": None}, "config.optim="),
        ({"matching__threshold": "x"}, "config.matching.threshold='x'"),
        ({"matching__threshold": float("nan")}, "config.matching.threshold=nan"),
        ({"loss": {}}, "config.loss="),
        ({"model__backbone": {"levels": 3, "widths": [4, 8]}}, "config.priors.aspect_ratios"),
        ({"model__name": "of a fork"}, "model.name"),
        ({"model__backbone": {"levels": "2", "widths": [4, 8]}}, "config.model.backbone={"),
    ],
)
def test_a_damaged_config_of_a_run_names_the_file(tmp_path, change, named):
    path = saved(tmp_path, **change)
    with pytest.raises(CheckpointError) as error:
        load_run(tmp_path)
    assert str(error.value).startswith(str(path)) and named in str(error.value)


@pytest.mark.parametrize("text", ["[]", "3", "null", '{"a.b": 1}', "{"])
def test_a_config_of_a_run_that_is_none_at_all(tmp_path, text):
    saved(tmp_path).write_text(text)
    with pytest.raises(CheckpointError, match="damaged"):
        load_run(tmp_path)


def test_a_sound_run_without_checkpoints_says_so(tmp_path):
    saved(tmp_path)
    with pytest.raises(CheckpointError, match="checkpoint") as error:
        load_run(tmp_path)
    assert "config.json" not in str(error.value)


def test_a_run_is_not_scored_on_other_classes(tmp_path, monkeypatch):
    saved(tmp_path)
    config = micro.get_config()
    opened = LoadedRun(build_detector(config, 4), {}, ("box", "disk", "ring"), 1)
    monkeypatch.setattr(evaluate, "restore_run", lambda *_: opened)
    with pytest.raises(ConfigError, match="has triangle, which"):
        evaluate.evaluate_run(tmp_path, config)


def test_initial_weights_are_those_of_the_seed_on_any_device():
    """Computed on the CPU, so that a run starts alike on every accelerator; numbers on record."""
    detector = build_detector(micro.get_config(), 5)
    weights = flatten_parameters(init_variables(detector)["params"])
    with jax.default_device(jax.devices()[1]):  # stands for an accelerator
        elsewhere = init_variables(detector)["params"]
    assert {leaf.device for leaf in jax.tree.leaves(elsewhere)} == {jax.devices("cpu")[0]}
    for name, value in flatten_parameters(elsewhere).items():
        np.testing.assert_array_equal(value, weights[name])
    for name, expected in {
        "backbone/stem/kernel": [-0.13767239, -0.17013292, 0.01142978],
        "heads/classification_0/kernel": [-0.02595231, -0.01544374, -0.0193097],
    }.items():
        np.testing.assert_allclose(weights[name].ravel()[:3], expected, rtol=1e-6)


def test_without_a_cpu_backend_the_default_device_is_used(monkeypatch):
    def unknown(backend):
        raise RuntimeError(f"Unknown backend {backend}")

    monkeypatch.setattr(jax, "local_devices", unknown)
    with devices.on_cpu():
        pass
