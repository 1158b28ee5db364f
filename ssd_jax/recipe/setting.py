"""A field of a config that a recipe sets, and why."""

from collections.abc import Iterable
from typing import Any, NamedTuple

from ml_collections import ConfigDict


class Setting(NamedTuple):
    """`config.NAME = value`."""

    name: str
    value: Any  # a block of fields is a dict
    reason: str = ""  # a comment in the written file


def apply_settings(config: ConfigDict, settings: Iterable[Setting]) -> None:
    """Set the fields of a config."""
    for name, value, _ in settings:
        block, _, field = name.rpartition(".")
        parent = config[block] if block else config
        parent[field] = ConfigDict(value) if isinstance(value, dict) else value
