import copy
import json
from functools import reduce
from operator import getitem

import micro
import pytest
from ml_collections import ConfigDict

from configs import ssd300_vgg16_voc
from ssd_jax.config.comparison import detector_fields, differences, experiment_fields
from ssd_jax.config.schema import FIELDS
from ssd_jax.config.serialization import from_saved, to_dict
from ssd_jax.config.validation import validate
from ssd_jax.errors import ConfigError


def test_a_config_survives_json_with_its_tuples():
    config = micro.get_config()
    back = from_saved(json.loads(json.dumps(to_dict(config))))
    assert back.to_dict() == config.to_dict()
    assert back.is_locked
    assert isinstance(back.priors.aspect_ratios[0], tuple)


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 1}, {"batch_size": 8}, {"augment__flip__vertical": 0.5},
        {"model__backbone__levels": 3}, {"init__source": "runs/x"},
        {"priors__clip": "size"}, {"matching__threshold": 0.4},
        {"loss__negative_ratio": 1.0}, {"optim__momentum": 0.5},
    ],
)  # fmt: skip
def test_what_makes_another_experiment(change):
    old, new = experiment_fields(micro.get_config()), experiment_fields(micro.get_config(**change))
    (line,) = differences(old, new)
    (name,) = change
    assert line.startswith(f"config.{name.replace('__', '.')}: ") and " -> " in line


@pytest.mark.parametrize(
    "change",
    [
        {"steps": 100}, {"log_every": 7}, {"eval_every": 7}, {"save_every": 7},
        {"parallel": "jit"}, {"postprocess__top_k": 5}, {"data__test": ("shapes:test:7",)},
        {"eval_batch_size": 7},
    ],
)  # fmt: skip
def test_what_may_differ_on_resume(change):
    old, new = experiment_fields(micro.get_config()), experiment_fields(micro.get_config(**change))
    assert old == new


@pytest.mark.parametrize(
    ("change", "is_same"),
    [
        ({"seed": 1}, True), ({"batch_size": 8}, True), ({"optim__warmup_steps": 7}, True),
        ({"augment__flip__vertical": 0.5}, True), ({"init__source": "runs/x"}, True),
        ({"model__backbone__levels": 3}, False), ({"priors__clip": "size"}, False),
        ({"image_size": (40, 40)}, False), ({"loss__classification": "sigmoid"}, False),
    ],
)  # fmt: skip
def test_what_makes_another_detector(change, is_same):
    old, new = detector_fields(micro.get_config()), detector_fields(micro.get_config(**change))
    assert (old == new) == is_same


BASE = ssd300_vgg16_voc.get_config().to_dict()


def problems(config):
    """The lines of the message, [] for a config that passes."""
    try:
        validate(config)
    except ConfigError as error:
        return str(error).splitlines()
    return []


def base(**changes):
    """The base experiment with values of any type: fields are dotted, with `__` for the dot."""
    values = copy.deepcopy(BASE)
    for name, value in changes.items():
        *blocks, last = name.split("__")
        reduce(getitem, blocks, values)[last] = value
    return ConfigDict(values)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"matching__difficult": "ingore"}, "matching.difficult='ingore' must be one of train, "),
        ({"matching__matcher": "foo"}, "must be one of best_prior, bipartite"),
        ({"parallel": "pmpa"}, "must be one of pmap, jit"),
        ({"batch_size": 0}, "batch_size=0 must be an integer, 1 or above"),
        ({"batch_size": True}, "batch_size=True must be an integer"),
        ({"batch_size": 32.0}, "batch_size=32.0 must be an integer"),
        ({"eval_batch_size": -1}, "eval_batch_size=-1 must be an integer, 0 or above"),
        ({"steps": 2**31}, "steps=2147483648 must be an integer"),
        ({"steps": 10**500}, "0… must be an integer"),
        ({"seed": -1}, "seed=-1 must be an integer, 0 or above"),
        ({"image_size": (300, 300, 24, 56)}, "image_size=(300, 300, 24, 56) must be a tuple of 2"),
        ({"image_size": [300, 300]}, "image_size=[300, 300] must be a tuple"),
        ({"image_size": (300, 300.5)}, "image_size=(300, 300.5) must be"),
        ({"data__train": "voc:A:b"}, "data.train='voc:A:b' must be a tuple of 1 or more"),
        ({"data__classes": ("a", "a")}, "data.classes=('a', 'a') must be"),
        ({"augment__geometric": ("flip", "flip")}, "zoom_out, iou_crop, flip, none twice"),
        ({"augment__geometric": ("zoom",)}, "augment.geometric=('zoom',) must be"),
        ({"augment__photometric__operations": ("blur",)}, "operations=('blur',) must be"),
        (
            {"augment__photometric__contrast": (1.5, 0.5)},
            "contrast=(1.5, 0.5) must be (minimum, maximum)",
        ),
        ({"augment__iou_crop__scale": (0.0, 1.0)}, "0.01 <= minimum <= maximum <= 1"),
        ({"augment__iou_crop__scale": (0.3, float("nan"))}, "scale=(0.3, nan) must be"),
        ({"augment__flip__vertical": 1.5}, "augment.flip.vertical=1.5 must be a number from 0 to"),
        ({"model__mean": (1.0, float("inf"), 2.0)}, "model.mean=(1.0, inf, 2.0) must be"),
        ({"model__std": (1.0, 0.0, 1.0)}, "model.std=(1.0, 0.0, 1.0) must be a tuple of 3"),
        ({"model__backbone__width": float("nan")}, "model.backbone.width=nan must be"),
        ({"model__backbone__widths": (1, (2, float("inf")))}, "model.backbone.widths="),
        ({"priors__sizes": (30.0, 20.0)}, "priors.sizes=(30.0, 20.0) must be"),
        ({"priors__sizes": (30.0, 30.0)}, "above 0, ascending"),
        ({"priors__aspect_ratios": ((2.0,), (0.0,))}, "priors.aspect_ratios=((2.0,), (0.0,))"),
        ({"priors__aspect_ratios": (2.0, 3.0)}, "priors.aspect_ratios=(2.0, 3.0)"),
        ({"priors__first_level": ((1.0, 2.0, 3.0),)}, "priors.first_level=((1.0, 2.0, 3.0),)"),
        (
            {"priors__clip": True},
            "priors.clip=True must be one of none, corners, size, center_size",
        ),
        ({"deterministic": 0}, "deterministic=0 must be True or False"),
        ({"matching__variances": (0.1, 0.1, 0.2)}, "matching.variances=(0.1, 0.1, 0.2) must be"),
        ({"matching__negative_threshold": 0.0}, "negative_threshold=0.0 must be a number above 0"),
        ({"optim__learning_rate": float("nan")}, "learning_rate=nan must be a number above 0"),
        ({"optim__learning_rate": "0.1"}, "learning_rate='0.1' must be a number"),
        ({"optim__learning_rate": 10**500}, "must be a number above 0"),
        ({"optim__momentum": 1.0}, "momentum=1.0 must be a number from 0 to below 1"),
        ({"optim__ema_decay": 1}, "optim.ema_decay=1 must be a number from 0 to below 1"),
        ({"optim__frozen": "backbone/*"}, "optim.frozen='backbone/*' must be a tuple"),
        ({"optim__lr_decay_fractions": (0.5, 0.5)}, "optim.lr_decay_fractions=(0.5, 0.5) must be"),
        ({"optim__lr_decay_fractions": (0.5, 1.5)}, "optim.lr_decay_fractions=(0.5, 1.5) must be"),
        ({"log_every": 0}, "log_every=0 must be"),
    ],
)
def test_a_value_that_cannot_work_is_one_line(change, message):
    (line,) = problems(base(**change))
    assert line.startswith("config.") and message in line and len(line) < 300


@pytest.mark.parametrize(
    ("change", "first", "others"),
    [
        (
            {"optim__warmup_steps": 80_000},
            "optim.warmup_steps=80000 does not end",
            ["steps=120000"],
        ),
        ({"steps": 1000, "optim__schedule": "cosine"}, "optim.warmup_steps=1000 does not end", []),
        ({"batch_size": 2**15}, "steps=120000", ["batch_size=32768"]),
        ({"matching__negative_threshold": 0.6}, "matching.negative_threshold=0.6", ["old=0.5"]),
        ({"augment__iou_crop__aspect_ratio": (1.5, 2.0)}, "augment.iou_crop.aspect_ratio", ["0.3"]),
        ({"augment__iou_crop__aspect_ratio": (0.5, 0.8)}, "augment.iou_crop.aspect_ratio", ["0.3"]),
        ({"priors__formula__s_min": 0.95}, "priors.formula.s_min=0.95", ["s_max=0.9"]),
        ({"priors__formula__first": 0.2}, "priors.formula.s_min=0.2", ["first=0.2"]),
        ({"priors__sizes": (30.0, 60.0)}, "priors.aspect_ratios=", ["sizes=(30.0, 60.0)"]),
        ({"priors__strides": (8.0, 16.0)}, "priors.aspect_ratios=", ["strides=(8.0, 16.0)"]),
        ({"postprocess__top_k": 8001}, "postprocess.top_k=8001", ["top_k_per_class=400"]),
        (
            {"priors__sizes": (0.5, 2, 3, 4, 5, 6, 7), "priors__floor_sizes": True},
            "priors.sizes=(0.5,",
            ["floor_sizes=True"],
        ),
    ],
)
def test_values_that_cannot_work_together_are_one_line(change, first, others):
    (line,) = problems(base(**change))
    assert line.startswith(f"config.{first}") and all(other in line for other in others)


@pytest.mark.parametrize(
    "change",
    [
        {"optim__warmup_steps": 79_999},
        {"optim__warmup_steps": 119_999, "optim__lr_decay_fractions": ()},
        {"optim__warmup_steps": 119_999, "optim__schedule": "cosine"},
        {"matching__negative_threshold": 0.4},
        {"matching__negative_threshold": 0.5},
        {"augment__iou_crop__aspect_ratio": (1.5, 2.0), "augment__iou_crop__scale": (0.3, 0.8)},
        {"augment__geometric": (), "augment__iou_crop__min_ious": ()},
        {"augment__photometric__operations": ("channel_order",)},
        {"priors__sizes": (), "priors__strides": ()},
        {"priors__sizes": (1, 2, 3, 4, 5, 6), "priors__extra_square": "none"},
        {"priors__first_level": ((30.0, 30.0), (84.8, 42.4))},
        {"postprocess__top_k": 8000},
        {"postprocess__top_k": 8001, "data__classes": ()},
        {"model__backbone": {}},
        {"model__backbone": {"widths": (1, 2), "fast": True, "kind": "x", "scale": 0.5}},
        {"optim__frozen": ("backbone/conv1_*", "backbone/conv2_*"), "optim__ema_decay": 0.9999},
        {"eval_every": 0, "save_every": 0, "log_every": 10**9},
    ],
)
def test_what_works_passes(change):
    assert problems(base(**change)) == []


def test_all_problems_are_in_one_message():
    lines = problems(base(seed=-1, batch_size=-4, parallel="x", optim__warmup_steps=10**6))
    names = {line.partition("=")[0].removeprefix("config.") for line in lines}
    assert names == {"seed", "batch_size", "parallel", "optim.warmup_steps"} and len(lines) == 4


def test_an_unknown_field_is_named_with_the_nearest_known_one():
    (line,) = problems(base(optim__learning_rat=1.0))
    assert line.startswith("config.optim.learning_rat is unknown")
    assert "config.optim.learning_rate?" in line


def test_missing_fields_are_named_and_a_missing_block_is_named_once():
    values = base().to_dict()
    del values["optim"]["rmsprop"], values["optim"]["momentum"], values["loss"], values["seed"]
    del values["model"]["backbone"]
    names = [line.split()[0] for line in problems(ConfigDict(values))]
    assert names == [
        f"config.{name}"
        for name in ("seed", "model.backbone", "loss", "optim.momentum", "optim.rmsprop")
    ]


@pytest.mark.parametrize("value", [None, 3, "x", (), {}])
def test_a_value_in_place_of_a_block_is_one_line(value):
    for change in ({"optim": value}, {"augment__flip": value}):
        (name,) = change
        (line,) = problems(base(**change))
        assert line.startswith(f"config.{name.replace('__', '.')}=")
        assert "must be a block of fields, as config." in line


def test_an_empty_config_lacks_everything():
    assert len(problems(ConfigDict())) == len({name.partition(".")[0] for name in FIELDS})


FREE = "model.backbone.input_size"


@pytest.mark.parametrize(
    ("value", "passing"),
    [
        (None, set()),
        (float("nan"), set()),
        (float("inf"), set()),
        (-1, {FREE}),
        (0, None),
        ("x", {FREE, "data.cache", "init.source", "model.name"}),
        ((), None),
        ((1,), None),
        (
            True,
            {
                FREE,
                "deterministic",
                "matching.strict",
                "optim.ema_warmup",
                "postprocess.class_agnostic",
                "priors.floor_sizes",
            },  # fmt: skip
        ),
        ({}, set()),
        ({"a": 1}, {FREE}),
        ([[]], set()),
    ],
)
def test_any_value_in_any_field_passes_or_is_named(value, passing):
    passed = set()
    for name in (field.replace("model.backbone.*", FREE) for field in FIELDS):
        lines = problems(base(**{name.replace(".", "__"): value}))
        passed |= set() if lines else {name}
        assert not lines or any(f"config.{name}" in line for line in lines), (name, lines)
    assert passed == passing if passing is not None else 0 < len(passed) < len(FIELDS) / 2


def test_an_absent_field_is_a_difference():
    assert differences({"a": 1}, {"b": None}) == [
        "a: 1 -> (absent)",
        "b: (absent) -> None",
    ]
