"""The functions with which a config file writes its sweep: `def get_hyper(hyper)`.

Each returns a list of settings, dicts from a field's full name (`config.priors.formula.s_min`) to
its value. Names and behavior are those of the Google JAX codebases (Scenic, big_vision), whose
sweep files therefore work as they are.
"""

import itertools
from collections.abc import Iterable
from typing import Any

import numpy as np

from ssd_jax.errors import ConfigError

Settings = list[dict[str, Any]]


def sweep(name: str, values: Iterable[Any]) -> Settings:
    """A setting for each value of one field."""
    return [{name: to_config_value(value)} for value in values]


def product(parts: Iterable[Iterable[dict[str, Any]]]) -> Settings:
    """Each setting of the first part with each of the second, and so on; the last varies fastest.

    Raises ConfigError when two parts set one field.
    """
    return [_merge(settings) for settings in itertools.product(*map(list, parts))]


def zipit(parts: Iterable[Iterable[dict[str, Any]]]) -> Settings:
    """The first settings of all parts as one, then the second, and so on.

    A part of one setting goes with all. Raises ConfigError for parts of other lengths, and when two
    parts set one field.
    """
    lists = [list(part) for part in parts]
    longest = max(map(len, lists), default=0)
    if any(len(part) not in (1, longest) for part in lists):
        lengths = ", ".join(str(len(part)) for part in lists)
        raise ConfigError(f"zipit of {lengths} settings: give all parts as many, or one")
    return [_merge(part[i % len(part)] for part in lists) for i in range(longest)]


def chainit(parts: Iterable[Iterable[dict[str, Any]]]) -> Settings:
    """The settings of all parts, one part after the other."""
    return [dict(setting) for part in parts for setting in part]


def to_config_value(value: Any) -> Any:
    """A value as a config has it: tuples for lists and arrays, Python's numbers for NumPy's."""
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, list | tuple):
        return tuple(to_config_value(part) for part in value)
    return value


def _merge(settings: Iterable[dict[str, Any]]) -> dict[str, Any]:
    merged: dict[str, Any] = {}
    for setting in settings:
        if twice := sorted(merged.keys() & setting):
            raise ConfigError(
                f"two parts of a sweep set {', '.join(twice)}: set a field in one part only"
            )
        merged |= setting
    return merged
