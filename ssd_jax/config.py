"""Configs on disk, and what makes two of them the same experiment.

An experiment is a locked `ConfigDict` made by `get_config()` of a file in `configs/`.
"""

import json
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from ssd_jax.errors import ConfigError

# A run continues only under the same values of these and the same training data. Test data,
# logging, cadence, device layout, postprocessing and the number of steps may differ.
_IDENTITY = (
    "seed", "batch_size", "image_size", "data.classes", "augment", "model", "priors", "matching",
    "loss", "optim",
)  # fmt: skip


_CHOICES = {
    "matching.matcher": ("best_prior", "bipartite"),
    "matching.difficult": ("train", "ignore"),
    "optim.schedule": ("step", "cosine"),
    "priors.extra_square": ("second", "last", "none"),
    "model.dtype": ("float32", "bfloat16"),
    "parallel": ("pmap", "jit"),
}
_POSITIVE = (
    "batch_size", "steps", "log_every", "optim.learning_rate", "loss.negative_ratio",
    "matching.threshold", "postprocess.top_k", "postprocess.top_k_per_class",
)  # fmt: skip
_NOT_NEGATIVE = ("seed", "eval_every", "save_every", "optim.warmup_steps", "optim.weight_decay")


def check(config: ConfigDict) -> None:
    """Raise ConfigError naming every value that cannot work. Needs no device."""
    flat = _flatten(config.to_dict())
    problems = [
        f"{name}={flat[name]!r} is not one of {', '.join(choices)}"
        for name, choices in _CHOICES.items()
        if flat[name] not in choices
    ]
    # Written so that a NaN is a problem too.
    problems += [f"{name}={flat[name]} must be above 0" for name in _POSITIVE if not flat[name] > 0]
    problems += [
        f"{name}={flat[name]} must not be below 0" for name in _NOT_NEGATIVE if not flat[name] >= 0
    ]
    warmup, decays = flat["optim.warmup_steps"], (1.0,)
    if flat["optim.schedule"] == "step":
        decays = flat["optim.decay_at"]
    if warmup >= min(decays, default=1.0) * flat["steps"]:
        problems.append(
            f"optim.warmup_steps={warmup} reaches the first decay of {flat['steps']} steps"
        )
    if len(flat["image_size"]) != 2:  # a tuple flag that is given twice is joined
        problems.append(f"image_size={flat['image_size']} is not (height, width)")
    if problems:
        raise ConfigError("\n".join(f"config.{problem}" for problem in problems))


def to_dict(config: ConfigDict) -> dict[str, Any]:
    """Plain nested dict with lists for tuples, as JSON has them."""
    return json.loads(json.dumps(config.to_dict()))


def from_dict(values: dict[str, Any]) -> ConfigDict:
    """Inverse of `to_dict`: a locked ConfigDict with tuples for lists."""
    return ConfigDict(_with_tuples(values)).lock()


def load(path: Path) -> ConfigDict:
    """A config saved as JSON."""
    return from_dict(json.loads(path.read_text()))


def identity(config: ConfigDict) -> dict[str, Any]:
    """The fields that make the experiment, flat: `config.optim.momentum` -> 0.9."""
    flat = _flatten(to_dict(config))
    return {
        f"config.{name}": value
        for name, value in flat.items()
        if any(name == same or name.startswith(f"{same}.") for same in _IDENTITY)
    }


def differences(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """What differs between two flat dicts, one line each: `name: old -> new`."""
    absent = "(absent)"
    pairs = {
        name: (old.get(name, absent), new.get(name, absent))
        for name in sorted(old.keys() | new.keys())
    }
    return [f"{name}: {was} -> {now}" for name, (was, now) in pairs.items() if was != now]


def _with_tuples(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _with_tuples(part) for name, part in value.items()}
    if isinstance(value, list):
        return tuple(_with_tuples(part) for part in value)
    return value


def _flatten(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat = {}
    for name, value in values.items():
        if isinstance(value, dict):
            flat |= _flatten(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = value
    return flat
