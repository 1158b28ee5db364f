"""What makes two configs the same experiment, and what differs between two of them."""

from typing import Any

from ml_collections import ConfigDict

from ssd_jax.config.serialization import to_dict

# A run continues only with the same values of these and the same training data. Test data,
# logging, cadence, device layout, postprocessing and the number of steps may differ.
_EXPERIMENT = (
    "seed", "batch_size", "image_size", "data.classes", "augment", "model", "init", "priors",
    "matching", "loss", "optim",
)  # fmt: skip


def experiment_fields(config: ConfigDict) -> dict[str, Any]:
    """The fields that make the experiment: {"config.optim.momentum": 0.9, …}."""
    return {
        f"config.{name}": value
        for name, value in flatten_fields(to_dict(config)).items()
        if any(name == prefix or name.startswith(f"{prefix}.") for prefix in _EXPERIMENT)
    }


def differences(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """What differs between two flat dicts, one line each: `name: old -> new`."""
    absent = "(absent)"
    pairs = {
        name: (old.get(name, absent), new.get(name, absent))
        for name in sorted(old.keys() | new.keys())
    }
    return [f"{name}: {before} -> {after}" for name, (before, after) in pairs.items()
            if before != after]  # fmt: skip


def flatten_fields(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested dict -> flat dict with dotted names: {"a": {"b": 1}} -> {"a.b": 1}."""
    flat = {}
    for name, value in values.items():
        if isinstance(value, dict) and value:
            flat |= flatten_fields(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = value
    return flat
