"""Saved configs of older versions: fields that were renamed, and fields that came later.

`CONFIG_VERSION` rises with every change of fields. The value of a field that came later is the one
that reproduces the behavior before it existed. It is written here on that day and never changed,
whatever the base config's default becomes.
"""

import copy
from typing import Any

from ssd_jax.errors import ConfigError

CONFIG_VERSION = 3  # version 1 is that of 0.1, whose configs do not name their version

# Version that renamed them -> {old name: new name}.
_RENAMED = {
    2: {
        "priors.steps": "priors.strides",
        "priors.truncate": "priors.floor_sizes",
        "matching.contested": "matching.conflict_resolution",
        "optim.decayed": "optim.weight_decay_params",
        "optim.bias_rate": "optim.bias_lr_multiplier",
        "optim.decay_at": "optim.lr_decay_fractions",
        "optim.decay_rate": "optim.lr_decay_rate",
        "optim.ema": "optim.ema_decay",
    },
}
# Version that renamed them -> {field: {old value: new value}}.
_RENAMED_VALUES = {
    2: {"model.name": {"mobilenet": "mobilenet_v1"}},
}
# Version that introduced them -> {field: value that reproduces the behavior before it}.
_ADDED: dict[int, dict[str, Any]] = {
    3: {
        "data.bad": "refuse",
        "data.cache": "",
        "data.cache_gib": 64.0,
        "data.orientation": "stored",
        "data.split": (),
        "data.val": (),
        "data.workers": 0,
        "eval_batch_size": 0,
        "init.lr_multiplier": 1.0,
        "loss.focal.alpha": 0.25,
        "loss.focal.gamma": 2.0,
        "model.norm_batch_size": 0,
        "optim.ema_warmup": True,
        "patience": 0,
        "postprocess.class_agnostic": False,
    },
}

# Every old name -> today's.
RENAMED_FIELDS = {old: new for names in _RENAMED.values() for old, new in names.items()}


def upgrade(saved: dict[str, Any]) -> dict[str, Any]:
    """A saved config, nested, with the fields of today and without its version.

    Raises ConfigError for a config of a newer version.
    """
    values = copy.deepcopy(saved)
    version = values.pop("config_version", 1)
    if version > CONFIG_VERSION:
        raise ConfigError(
            f"this config has version {version}, and this ssd_jax reads up to {CONFIG_VERSION}: "
            "it was saved by a newer ssd_jax, use that one"
        )
    for number in range(version + 1, CONFIG_VERSION + 1):
        for old, new in _RENAMED.get(number, {}).items():
            _rename(values, old, new)
        for field, names in _RENAMED_VALUES.get(number, {}).items():
            _replace_value(values, field, names)
        for field, value in _ADDED.get(number, {}).items():
            block, name = _find(values, field)
            block.setdefault(name, value)
    return values


def upgrade_overrides(overrides: dict[str, Any]) -> dict[str, Any]:
    """Overrides by full name, `config.optim.ema`, with the names and values of today."""
    upgraded = {}
    for full_name, value in overrides.items():
        name = full_name.removeprefix("config.")
        name = RENAMED_FIELDS.get(name, name)
        for fields in _RENAMED_VALUES.values():
            if isinstance(value, str):
                value = fields.get(name, {}).get(value, value)
        upgraded[f"config.{name}"] = value
    return upgraded


def _rename(values: dict[str, Any], old: str, new: str) -> None:
    block, name = _find(values, old)
    if name in block:
        value = block.pop(name)
        block, name = _find(values, new)
        block[name] = value


def _replace_value(values: dict[str, Any], field: str, names: dict[str, str]) -> None:
    block, name = _find(values, field)
    if isinstance(block.get(name), str):
        block[name] = names.get(block[name], block[name])


def _find(values: dict[str, Any], field: str) -> tuple[dict[str, Any], str]:
    """The block that a dotted field is in, made where it is missing, and the field's own name."""
    *blocks, name = field.split(".")
    for block in blocks:
        values = values.setdefault(block, {})
    return values, name
