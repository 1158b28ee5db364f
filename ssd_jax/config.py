"""Configs on disk, and what makes two of them the same experiment.

An experiment is a locked `ConfigDict` made by `get_config()` of a file in `configs/`.
"""

import difflib
import json
from fnmatch import fnmatchcase
from itertools import accumulate
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from ssd_jax import schema
from ssd_jax.errors import ConfigError

_SHOWN = 100  # characters of a value in a message

# A run continues only under the same values of these and the same training data. Test data,
# logging, cadence, device layout, postprocessing and the number of steps may differ.
_IDENTITY = (
    "seed", "batch_size", "image_size", "data.classes", "augment", "model", "init", "priors",
    "matching", "loss", "optim",
)  # fmt: skip


def validate(config: ConfigDict) -> None:
    """Raise ConfigError with a line for everything that cannot work. Needs no device.

    Checks each field against `schema.FIELDS`: unknown, missing, or not as its rule wants; and then
    what must fit together, where each part is right by itself.
    """
    flat = flatten(config.to_dict())
    wrong = {name: text for name, value in flat.items() if (text := _problem(name, value))}
    lines = [f"config.{name}{text}" for name, text in wrong.items()]
    lines += [
        f"config.{name} is missing: add it, as the base config has it" for name in _missing(flat)
    ]
    for fields, holds, message in schema.TOGETHER:
        sound = all(name in flat and name not in wrong for name in fields)
        if sound and not holds(*(flat[name] for name in fields)):
            first, *others = (f"config.{name}={_shown(flat[name])}" for name in fields)
            lines.append(f"{first} {message} ({', '.join(others)})")
    if lines:
        raise ConfigError("\n".join(lines))


def _problem(name: str, value: Any) -> str:
    """What is wrong with one field, as it follows its name; "" for nothing."""
    inside = [field for field in schema.FIELDS if field.startswith(f"{name}.")]
    if inside:
        fine = value == {} and inside == [f"{name}.*"]
        return "" if fine else f"={_shown(value)} must be a block of fields, as config.{inside[0]}"
    for field, rule in schema.FIELDS.items():
        if fnmatchcase(name, field):
            return "" if rule.holds(value) else f"={_shown(value)} must be {rule.wants}"
    (nearest,) = difflib.get_close_matches(name, schema.FIELDS, n=1, cutoff=0)
    return f" is unknown: remove it, or did you mean config.{nearest}?"


def _missing(flat: dict[str, Any]) -> list[str]:
    """Known fields that a flat config lacks; a block's name where all of it is absent."""
    present = {prefix for name in flat for prefix in _prefixes(name)}
    missing = {}  # in order, none twice
    for field in schema.FIELDS:
        absent = [each for each in _prefixes(field.removesuffix(".*")) if each not in present]
        # Within what should be a block and is a value, one message is enough.
        if absent and absent[0].rpartition(".")[0] not in flat:
            missing[absent[0]] = None
    return list(missing)


def _prefixes(name: str) -> list[str]:
    """`a.b.c` -> a, a.b, a.b.c."""
    return list(accumulate(name.split("."), "{}.{}".format))


def _shown(value: Any) -> str:
    """A value on one line that is not too long."""
    text = " ".join(repr(value).split())
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


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
    flat = flatten(to_dict(config))
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


def flatten(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested dict -> flat one with dotted names: {"a": {"b": 1}} -> {"a.b": 1}."""
    flat = {}
    for name, value in values.items():
        if isinstance(value, dict) and value:
            flat |= flatten(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = value
    return flat
