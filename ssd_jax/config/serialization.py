"""Configs as JSON, on disk and in reports."""

import json
from typing import Any

from ml_collections import ConfigDict

from ssd_jax.config.versions import CONFIG_VERSION, upgrade


def to_dict(config: ConfigDict) -> dict[str, Any]:
    """Nested dict of JSON values: tuples are lists."""
    return json.loads(json.dumps(config.to_dict()))


def to_saved(config: ConfigDict) -> dict[str, Any]:
    """`to_dict` with the version of the format, which `from_saved` of later versions reads."""
    return {"config_version": CONFIG_VERSION} | to_dict(config)


def from_saved(values: dict[str, Any]) -> ConfigDict:
    """A locked ConfigDict, with tuples for lists, of what this or an older version saved.

    Raises ConfigError for a config of a newer version.
    """
    return ConfigDict(_lists_to_tuples(upgrade(values))).lock()


def _lists_to_tuples(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _lists_to_tuples(part) for name, part in value.items()}
    if isinstance(value, list):
        return tuple(_lists_to_tuples(part) for part in value)
    return value
