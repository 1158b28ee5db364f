"""The plan of a sweep: a config file's `get_hyper` -> the list of its runs."""

import hashlib
import importlib.util
import json
from typing import Any, NamedTuple

from absl import flags
from ml_collections import ConfigDict, config_flags

from ssd_jax.config.comparison import flatten_fields
from ssd_jax.config.serialization import to_dict
from ssd_jax.config.validation import validate
from ssd_jax.errors import ConfigError
from ssd_jax.sweeps import hyper


class SweepRun(NamedTuple):
    """One run: its overrides by full name (`config.seed`), and the config that they make."""

    id: str
    overrides: dict[str, Any]
    config: ConfigDict


class Sweep(NamedTuple):
    """All runs, and the config that they start from."""

    file: str  # value of --config: FILE[:ARGUMENT]
    overrides: dict[str, Any]  # of all runs, from the command line
    base: ConfigDict  # of the file, with these overrides
    runs: tuple[SweepRun, ...]


def expand(file: str, overrides: dict[str, Any]) -> Sweep:
    """The runs of a config file's `get_hyper`, in its order.

    Settings with the same config are one run, the first. Each config is made by the parser of the
    run's own command line, so that it is what the run will have. Raises ConfigError with a line
    for every problem of every setting.
    """
    base = parse_config(file, overrides)
    settings = _load_settings(file)
    if not settings:
        raise ConfigError(f"{file}: get_hyper returns no setting")
    checked = [(setting, *_check_setting(file, overrides, setting)) for setting in settings]
    # A problem of the base is one of every setting, and is reported once.
    common = set.intersection(*(set(lines) for *_, lines in checked)) if len(checked) > 1 else set()
    problems = [f"every setting: {line}" for line in checked[0][2] if line in common]
    for setting, _, lines in checked:
        problems += [f"{format_overrides(setting)}: {line}" for line in lines if line not in common]
    if problems:
        raise ConfigError("\n".join(problems))
    runs = {}
    for setting, config, _ in checked:
        key = json.dumps(to_dict(config), sort_keys=True)
        runs.setdefault(key, SweepRun(run_id(setting), setting, config))
    return Sweep(file, overrides, base, tuple(runs.values()))


def run_id(overrides: dict[str, Any]) -> str:
    """Eight hexadecimal digits that depend on the overrides alone, not on their order."""
    text = json.dumps(overrides, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def command_line_flags(file: str, overrides: dict[str, Any]) -> list[str]:
    """The flags with which `ssd_jax.main` gets this config."""
    return [f"--config={file}", *(f"--{name}={value}" for name, value in overrides.items())]


def parse_config(file: str, overrides: dict[str, Any]) -> ConfigDict:
    """The config that the parser of every command line makes of `command_line_flags`."""
    command = ["", *command_line_flags(file, overrides)]
    values = flags.FlagValues()
    config_flags.DEFINE_config_file(
        "config", None, "", flag_values=values, lock_config=True, sys_argv=command
    )
    values(command)
    return values.config


def format_overrides(overrides: dict[str, Any]) -> str:
    """Overrides on one line, `config.seed=0 config.steps=10`."""
    return " ".join(f"{name}={value}" for name, value in overrides.items()) or "no override"


def flatten_config(config: ConfigDict) -> dict[str, Any]:
    """All fields by full name, {"config.seed": 0, …}; tuples stay tuples."""
    return flatten_fields(config.to_dict(), "config.")


def _load_settings(file: str) -> hyper.Settings:
    """What `get_hyper` of a config file returns. Raises ConfigError where that fails."""
    path = file.partition(":")[0]
    spec = importlib.util.spec_from_file_location("sweep_config", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    if not hasattr(module, "get_hyper"):
        raise ConfigError(f"{path} has no get_hyper(hyper): see configs/sweeps for files that do")
    try:
        return [
            {name: hyper.to_config_value(value) for name, value in setting.items()}
            for setting in module.get_hyper(hyper)
        ]
    except (TypeError, ValueError, AttributeError, LookupError) as error:
        raise ConfigError(f"{path}: get_hyper fails, {type(error).__name__}: {error}") from error


def _check_setting(
    file: str, overrides: dict[str, Any], setting: dict[str, Any]
) -> tuple[ConfigDict | None, list[str]]:
    """The config of a setting, and a line for each problem; `overrides` are the command line's."""
    problems = [
        f"{name} is not a field: write it as config.{name}"
        for name in setting
        if not name.startswith("config.")
    ]
    problems += [f"{name} is set on the command line too" for name in setting if name in overrides]
    if problems:
        return None, problems
    try:
        config = parse_config(file, overrides | setting)
        validate(config)
    except (flags.Error, AttributeError, KeyError, TypeError, ValueError, ConfigError) as error:
        return None, [line for line in str(error).strip("'\"").splitlines() if line]
    fields = flatten_config(config)
    return config, [
        f"{name}={value!r} would become {fields.get(name)!r}: give a value of the field's type"
        for name, value in setting.items()
        if fields.get(name) != value
    ]
