"""The weights that a training starts from, and the base config and settings that go with them."""

import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from ssd_jax.config.comparison import flatten_fields
from ssd_jax.config.packaged import load_config
from ssd_jax.data.messages import printable
from ssd_jax.errors import ConfigError
from ssd_jax.recipe.length import BATCH_SIZE, FINE_TUNING, FROM_RANDOM, MeasuredLength
from ssd_jax.recipe.setting import Setting
from ssd_jax.runs.folder import RunInfo, is_run, read_run_info
from ssd_jax.weights import named

AUTO, NONE = "auto", "none"
COCO_DETECTOR, _MEGABYTES = "tflite:coco_ssd_mobilenet_v1", 4
_COCO_CONFIG, _FINE_TUNING_CONFIG = "ssd300_mobilenet_v1_tflite", "finetune"
_RANDOM_CONFIG, _BASE_CONFIG = "voc_folder", "ssd300_vgg16_voc"
_RATE_SHARE = 0.4  # of the rate that a detector was trained with from random weights
# What a recipe sets itself, so that it is not taken over from a run.
_OF_THE_RECIPE = (
    "data", "init", "batch_size", "steps", "log_every", "eval_every", "save_every", "patience",
    "optim.warmup_steps", "seed",
)  # fmt: skip


class Start(NamedTuple):
    """Weights to start from, and what is trained with them."""

    base: str  # a config of the project, NAME[:ARGUMENT]
    settings: tuple[Setting, ...]
    why: str  # for people
    measured: MeasuredLength  # the run that tells how long to train
    keeps_priors: bool  # those of the weights
    is_measured: bool  # whether this start was, see the page of `measured`


def choose_start(weights: str) -> Start:
    """The start of `--weights`: auto, none, a name of weights, or a run folder.

    Downloads nothing: auto takes the COCO detector only where its file is there already. Raises
    ConfigError for anything else, and what `read_run_info` raises for a damaged run.
    """
    if weights == AUTO:
        return _automatic_start()
    if weights == NONE:
        return _random_start("as --weights=none says")
    if weights == COCO_DETECTOR:
        return _tune_coco_detector(weights, "a detector of COCO, as --weights says")
    if weights in named.NAMES:
        found = named.find(weights)
        return (_start_detector if found.what == "detector" else _start_backbone)(weights, found)
    folder = Path(weights).expanduser()
    if is_run(folder):
        folder = Path(os.path.abspath(folder))
        return _start_from_run(folder, read_run_info(folder))
    raise ConfigError(_explain_unknown(weights))


def source_of(weights: str) -> str:
    """`config.init.source` of `--weights`, unless it is auto."""
    if weights == NONE:
        return ""
    return weights if named.is_name(weights) else os.path.abspath(Path(weights).expanduser())


def _explain_unknown(weights: str) -> str:
    path, kinds = Path(weights).expanduser(), ", ".join(named.NAMES)
    if path.is_file():
        return (
            f"--weights={printable(weights)} is a file: make a run of it with ssd-jax import, and "
            "name the folder of that run"
        )
    if path.is_dir():
        return f"--weights={printable(weights)} is a folder without a run: it has no run.json"
    ends = [name for name in named.NAMES if name.endswith(f":{weights}")]
    names = " or ".join(f"--weights={name}" for name in ends)
    hint = (
        f"did you mean {names}?" if ends else f"write auto, none, a run folder, or one of {kinds}"
    )
    return f"there are no weights {printable(weights)}: {hint}"


def _automatic_start() -> Start:
    if named.cached_path(COCO_DETECTOR).is_file():
        return _tune_coco_detector(COCO_DETECTOR, "a detector of COCO that was downloaded before")
    return _random_start(
        "no trained weights are on this machine. A far better start for most photographs: stop "
        f"(Ctrl-C), and add --weights={COCO_DETECTOR}, {_MEGABYTES} MB that are downloaded once, "
        "and another --workdir"
    )


def _random_start(why: str) -> Start:
    return Start(_RANDOM_CONFIG, (), f"random weights: {why}", FROM_RANDOM, False, True)


def _tune_coco_detector(source: str, why: str) -> Start:
    settings = () if source == COCO_DETECTOR else (Setting("init.source", source),)
    return Start(_FINE_TUNING_CONFIG, settings, f"{source}: {why}", FINE_TUNING, True, True)


def _start_detector(name: str, weights: named.NamedWeights) -> Start:
    rate = _RATE_SHARE * _rate_at_batch(load_config(weights.config))
    settings = (Setting("init.source", name), *_tuning_settings(rate))
    why = f"{name}: a detector of {weights.trained_on}, as --weights says"
    return Start(weights.config, settings, why, FINE_TUNING, True, False)


def _start_backbone(name: str, weights: named.NamedWeights) -> Start:
    settings = (
        Setting("init.source", name),
        Setting("init.what", "backbone", "the heads start from random weights"),
        *_common_settings(_rate_at_batch(load_config(weights.config))),
    )
    why = f"{name}: a backbone of {weights.trained_on}, as --weights says"
    return Start(weights.config, settings, why, FROM_RANDOM, False, False)


def _start_from_run(folder: Path, run: RunInfo) -> Start:
    """The run's own network, priors, loss and rules."""
    why = f"{printable(folder)}: the run that --weights names"
    if _is_coco_detector(run.config):
        return _tune_coco_detector(str(folder), f"the run that --weights names, made of "
                                   f"{COCO_DETECTOR}")  # fmt: skip
    share = 1.0 if run.config.init.source else _RATE_SHARE
    tuning = _tuning_settings(share * _rate_at_batch(run.config))
    tuned = {each.name for each in tuning}
    kept = [each for each in _differences(run.config) if each.name not in tuned]
    kept[:1] = [each._replace(reason="as the run has it") for each in kept[:1]]
    settings = (*kept, Setting("init.source", str(folder)), *tuning)
    return Start(_BASE_CONFIG, settings, why, FINE_TUNING, True, False)


def _is_coco_detector(config: ConfigDict) -> bool:
    """Whether a run has the network and the priors of the COCO detector with a measured recipe."""
    ours = load_config(_COCO_CONFIG)
    return all(_plain(config[name]) == _plain(ours[name])
               for name in ("image_size", "model", "priors"))  # fmt: skip


def _plain(value: Any) -> Any:
    return value.to_dict() if isinstance(value, ConfigDict) else value


def _differences(config: ConfigDict) -> list[Setting]:
    """What a run's config has other than the base config."""
    base = flatten_fields(load_config(_BASE_CONFIG).to_dict())
    values = flatten_fields(config.to_dict())
    backbone = Setting("model.backbone", config.model.backbone.to_dict())
    changed = [
        Setting(name, value)
        for name, value in values.items()
        if not name.startswith("model.backbone") and not _is_of_the_recipe(name)
        and base.get(name, ...) != value
    ]  # fmt: skip
    return [*changed, *([backbone] if _has_other_backbone(base, values) else [])]


def _is_of_the_recipe(name: str) -> bool:
    return any(name == each or name.startswith(f"{each}.") for each in _OF_THE_RECIPE)


def _has_other_backbone(base: Mapping[str, Any], values: Mapping[str, Any]) -> bool:
    first, second = (
        {name: value for name, value in fields.items() if name.startswith("model.backbone")}
        for fields in (base, values)
    )
    return first != second


def _rate_at_batch(config: ConfigDict) -> float:
    """The learning rate of a config, in proportion to the batch."""
    return config.optim.learning_rate * BATCH_SIZE / config.batch_size


def _common_settings(rate: float) -> tuple[Setting, ...]:
    return (
        Setting("batch_size", BATCH_SIZE),
        Setting("optim.learning_rate", _round(rate), "not measured"),
        Setting("optim.clip_norm", 4.0, "a first step from new heads may be large"),
        Setting("optim.schedule", "cosine"),
        Setting("log_every", 10),
        Setting("save_every", 100),
    )


def _tuning_settings(rate: float) -> tuple[Setting, ...]:
    """What was measured with the COCO detector, for another one."""
    return (
        *_common_settings(rate),
        Setting("augment.geometric", ("iou_crop", "flip"), "zoom-out cost a little there"),
        Setting("init.lr_multiplier", 0.05, "where the source knows all classes: less is lost"),
        Setting("optim.ema_decay", 0.995, "averages forget less"),
    )


def _round(rate: float) -> float:
    """Two digits."""
    return round(rate, 1 - math.floor(math.log10(rate)))
