"""What makes two configs the same experiment, and what differs between two of them."""

from typing import Any

from ml_collections import ConfigDict

from ssd_jax.config.serialization import to_dict

# Weights belong to these: a run is evaluated only with the same values.
_DETECTOR = ("image_size", "data.classes", "model", "priors", "matching", "loss")
# A run continues only with the same values of these and the same training data. Test data,
# logging, cadence, device layout, postprocessing and the number of steps may differ.
_EXPERIMENT = (*_DETECTOR, "seed", "batch_size", "augment", "init", "optim")


def experiment_fields(config: ConfigDict) -> dict[str, Any]:
    """The fields that make the experiment: {"config.optim.momentum": 0.9, …}."""
    return _fields_below(config, _EXPERIMENT)


def detector_fields(config: ConfigDict) -> dict[str, Any]:
    """The fields of the experiment that make the detector: {"config.image_size": 300, …}."""
    return _fields_below(config, _DETECTOR)


def differences(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """What differs between two flat dicts, one line each: `name: old -> new`."""
    absent = "(absent)"
    pairs = {
        name: (old.get(name, absent), new.get(name, absent))
        for name in sorted(old.keys() | new.keys())
    }
    return [f"{name}: {before} -> {after}" for name, (before, after) in pairs.items()
            if before != after]  # fmt: skip


def _fields_below(config: ConfigDict, prefixes: tuple[str, ...]) -> dict[str, Any]:
    return {
        f"config.{name}": value
        for name, value in flatten_fields(to_dict(config)).items()
        if any(name == prefix or name.startswith(f"{prefix}.") for prefix in prefixes)
    }


def flatten_fields(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested dict -> flat dict with dotted names: {"a": {"b": 1}} -> {"a.b": 1}."""
    flat = {}
    for name, value in values.items():
        if isinstance(value, dict) and value:
            flat |= flatten_fields(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = value
    return flat
