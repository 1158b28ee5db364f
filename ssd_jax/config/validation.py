"""Validation of a config by itself: no model, data set or device is needed."""

import difflib
from fnmatch import fnmatchcase
from itertools import accumulate
from typing import Any

from ml_collections import ConfigDict

from ssd_jax.config.comparison import flatten_fields
from ssd_jax.config.schema import CROSS_FIELD_RULES, FIELDS
from ssd_jax.config.versions import RENAMED_FIELDS
from ssd_jax.errors import ConfigError

_MAX_CHARACTERS = 100  # of a value in a message


def validate(config: ConfigDict) -> None:
    """Raise ConfigError with a line for each problem of the config.

    Each field must be known, present and valid by its rule in `schema.FIELDS`; and fields must
    meet `schema.CROSS_FIELD_RULES` where each of them is valid by itself.
    """
    values = flatten_fields(config.to_dict())
    invalid = {name: text for name, value in values.items() if (text := _field_error(name, value))}
    lines = [f"config.{name}{text}" for name, text in invalid.items()]
    lines += [
        f"config.{name} is missing: add it, as in the base config"
        for name in _missing_fields(values)
    ]
    for fields, is_valid, message in CROSS_FIELD_RULES:
        are_valid = all(name in values and name not in invalid for name in fields)
        if are_valid and not is_valid(*(values[name] for name in fields)):
            first, *others = (f"config.{name}={short_repr(values[name])}" for name in fields)
            lines.append(f"{first} {message} ({', '.join(others)})")
    if lines:
        raise ConfigError("\n".join(lines))


def _field_error(name: str, value: Any) -> str:
    """What is wrong with one field, as text that follows its name; "" for nothing."""
    inside = [field for field in FIELDS if field.startswith(f"{name}.")]
    if inside:
        is_empty_block = value == {} and inside == [f"{name}.*"]
        first = f"config.{inside[0]}"
        return (
            "" if is_empty_block else f"={short_repr(value)} must be a block of fields, as {first}"
        )
    for pattern, field in FIELDS.items():
        if fnmatchcase(name, pattern):
            is_valid = field.rule.is_valid(value)
            return "" if is_valid else f"={short_repr(value)} must be {field.rule.description}"
    if name in RENAMED_FIELDS:
        return f" is now called config.{RENAMED_FIELDS[name]}"
    (nearest,) = difflib.get_close_matches(name, FIELDS, n=1, cutoff=0)
    return f" is unknown: remove it, or did you mean config.{nearest}?"


def _missing_fields(values: dict[str, Any]) -> list[str]:
    """Known fields that a flat config lacks; a block's name where all of it is missing."""
    present = {prefix for name in values for prefix in _prefixes(name)}
    missing = {}  # ordered, without repetition
    for field in FIELDS:
        absent = [each for each in _prefixes(field.removesuffix(".*")) if each not in present]
        # A block that is a plain value gets one message, which is not this one.
        if absent and absent[0].rpartition(".")[0] not in values:
            missing[absent[0]] = None
    return list(missing)


def _prefixes(name: str) -> list[str]:
    """`a.b.c` -> a, a.b, a.b.c."""
    return list(accumulate(name.split("."), "{}.{}".format))


def short_repr(value: Any) -> str:
    """repr on one line, cut where it is long."""
    text = " ".join(repr(value).split())
    return text if len(text) <= _MAX_CHARACTERS else f"{text[:_MAX_CHARACTERS]}…"
