"""Presets against a table of the implementations' rules, copied by hand from their sources."""

import pytest

from configs import presets, ssd300_vgg16_coco, ssd300_vgg16_voc, ssd512_vgg16_voc
from ssd_jax.config.comparison import differences, experiment_fields
from ssd_jax.config.serialization import from_saved, to_dict
from ssd_jax.config.validation import validate
from ssd_jax.errors import ConfigError

EXPERIMENTS = (ssd300_vgg16_voc, ssd300_vgg16_coco, ssd512_vgg16_voc)
NAMES = ("caffe", "torchvision", "tensorflow", "nvidia")
# A row a rule: the field, then its value in each preset, in the order of NAMES.
TABLE = [
    ("priors.clip", "none", "size", "none", "center_size"),
    ("priors.floor_sizes", True, False, False, False),
    ("priors.extra_square", "second", "second", "last", "second"),
    ("matching.matcher", "bipartite", "best_prior", "best_prior", "best_prior"),
    ("matching.conflict_resolution", "best", "last", "first", "last"),
    ("matching.threshold", 0.5, 0.5, 0.5, 0.5),
    ("matching.strict", False, False, False, True),
    ("matching.negative_threshold", 0.5, 1.0, 1.0, 1.0),
    ("matching.difficult", "train", "drop", "train", "drop"),
    ("loss.classification", "softmax", "softmax", "sigmoid", "softmax"),
    ("loss.negatives", "hard", "hard", "hard", "hard"),
    ("loss.negative_ratio", 3, 3, 3, 3),
    ("loss.normalizer", "batch", "batch", "batch", "image"),
    ("loss.localization_weight", 1, 1, 1, 1),
    ("augment.geometric", ("zoom_out", "iou_crop", "flip"), ("zoom_out", "iou_crop", "flip"),
     ("flip", "iou_crop"), ("iou_crop", "flip")),
    ("augment.zoom_out.probability", 0.5, 0.5, 0.5, 0.5),
    ("augment.zoom_out.max_ratio", 4, 4, 4, 4),
    ("augment.iou_crop.selection", "success", "mode", "mode", "mode"),
    ("augment.iou_crop.shape", "aspect", "sides", "aspect", "sides"),
    ("augment.iou_crop.accept", "any", "any", "any", "all"),
    ("augment.iou_crop.trials", 50, 40, 50, 1),
    ("augment.iou_crop.min_ious", *[(0.1, 0.3, 0.5, 0.7, 0.9)] * 4),
    ("augment.iou_crop.scale", (0.3, 1), (0.3, 1), (0.1**0.5, 1), (0.3, 1)),
    ("augment.iou_crop.aspect_ratio", *[(0.5, 2)] * 4),
    ("augment.flip.horizontal", 0.5, 0.5, 0.5, 0.5),
    ("augment.photometric.operations", ("brightness", "contrast", "saturation", "hue"),
     ("brightness", "contrast", "saturation", "hue", "channel_order"), (),
     ("brightness", "contrast", "saturation", "hue")),
    ("augment.photometric.probability", 0.5, 0.5, 0.5, 1.0),
    ("augment.photometric.brightness", 32, 32, 32, 32),
    ("augment.photometric.contrast", *[(0.5, 1.5)] * 4),
    ("augment.photometric.saturation", *[(0.5, 1.5)] * 4),
    ("augment.photometric.hue", 36 / 360, 18 / 360, 0, 0.5 / 360),
    ("augment.photometric.channel_order", 0, 0.5, 0, 0),
    ("batch_size", 32, 32, 24, 32),
    ("optim.name", "sgd", "sgd", "rmsprop", "sgd"),
    ("optim.learning_rate", 1e-3, 2e-3, 4e-3, 2.6e-3),
    ("optim.momentum", 0.9, 0.9, 0.9, 0.9),
    ("optim.rmsprop.decay", 0.9, 0.9, 0.9, 0.9),
    ("optim.rmsprop.epsilon", 1, 1, 1, 1),
    ("optim.weight_decay", 5e-4, 5e-4, 4e-5, 5e-4),
    ("optim.weight_decay_params", ("*/kernel", "*_norm/scale"), ("*",), ("*/kernel",),
     ("*/kernel",)),
    ("optim.bias_lr_multiplier", 2, 1, 1, 1),
    ("optim.warmup_steps", 0, 1000, 0, 300),
    ("optim.lr_decay_fractions", (80 / 120, 100 / 120), (80 / 120, 110 / 120), (),
     (43 / 65, 54 / 65)),
    ("optim.lr_decay_rate", 0.1, 0.1, 0.1, 0.1),
    ("postprocess.score_threshold", 0.01, 0.01, 1e-8, 0.05),
    ("postprocess.iou_threshold", 0.45, 0.45, 0.6, 0.5),
    ("postprocess.top_k_per_class", 400, 400, 100, 200),
    ("postprocess.top_k", 200, 200, 100, 200),
    ("postprocess.clip", "none", "first", "last", "none"),
]  # fmt: skip


def value(config, field):
    for part in field.split("."):
        config = config[part]
    return config


def test_the_table_is_of_all_presets():
    assert tuple(presets.PRESETS) == NAMES
    assert all(len(row) == 1 + len(NAMES) for row in TABLE)


@pytest.mark.parametrize("name", NAMES)
def test_a_preset_sets_the_rules_of_its_implementation(name):
    config = ssd300_vgg16_voc.get_config(name)
    column = 1 + NAMES.index(name)
    wrong = {
        row[0]: (value(config, row[0]), row[column])
        for row in TABLE
        if value(config, row[0]) != pytest.approx(row[column])
    }
    assert not wrong


@pytest.mark.parametrize("module", EXPERIMENTS)
@pytest.mark.parametrize("name", NAMES)
def test_a_preset_changes_rules_only_and_is_valid(module, name):
    config, plain = module.get_config(name), module.get_config()
    validate(config)
    assert config.is_locked
    assert from_saved(to_dict(config)).to_dict() == config.to_dict()
    for field in (
        "data",
        "model",
        "priors.sizes",
        "priors.aspect_ratios",
        "priors.strides",
        "steps",
    ):
        assert value(config, field) == value(plain, field)
    set_here = {row[0] for row in TABLE}
    changed = differences(experiment_fields(plain), experiment_fields(config))
    assert {line.partition(":")[0].removeprefix("config.") for line in changed} <= set_here


def test_without_a_name_nothing_changes():
    config = ssd300_vgg16_voc.get_config()
    before = config.to_dict()
    assert presets.apply(config, "").to_dict() == before


def test_an_unknown_preset_is_refused_with_the_list():
    with pytest.raises(ConfigError, match="'cafe'.*caffe, torchvision, tensorflow, nvidia"):
        ssd300_vgg16_voc.get_config("cafe")
