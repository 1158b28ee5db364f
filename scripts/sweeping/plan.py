"""A config file's `get_hyper` -> the list of runs, which a sweep's folder then keeps for good."""

import hashlib
import importlib.util
import json
from pathlib import Path
from typing import Any, NamedTuple

from absl import flags
from ml_collections import ConfigDict, config_flags

from scripts.sweeping import hyper
from ssd_jax import config as configs
from ssd_jax import workdir
from ssd_jax.errors import ConfigError, DataError

_SHOWN = 20  # differences in a message


class Run(NamedTuple):
    """One setting: its overrides by full name (`config.seed`), and the config that they make."""

    id: str
    overrides: dict[str, Any]
    config: ConfigDict


class Sweep(NamedTuple):
    """All runs. `file` is the value of --config, `given` what else the command line set."""

    file: str
    given: dict[str, Any]
    base: ConfigDict
    runs: tuple[Run, ...]


def expand(file: str, given: dict[str, Any]) -> Sweep:
    """The runs of a config file's `get_hyper`, in its order.

    Settings that come to the same config are one run, the first. Each config is made by the
    parser that the run's own command line will meet, so that it is what the run will have.

    Raises ConfigError with a line for everything that is wrong with any setting.
    """
    base = parse(file, given)
    checked = [(each, *_checked(file, given, each)) for each in _settings(file)]
    if not checked:
        raise ConfigError(f"{file}: get_hyper returns no setting")
    # A mistake of the base is that of every setting, and is said once.
    common = set.intersection(*(set(wrong) for *_, wrong in checked)) if len(checked) > 1 else set()
    problems = [f"every setting: {line}" for line in checked[0][2] if line in common]
    for overrides, _, wrong in checked:
        problems += [f"{words(overrides)}: {line}" for line in wrong if line not in common]
    if problems:
        raise ConfigError("\n".join(problems))
    runs = {}
    for overrides, made, _ in checked:
        same = json.dumps(configs.to_dict(made), sort_keys=True)
        runs.setdefault(same, Run(run_id(overrides), overrides, made))
    return Sweep(file, given, base, tuple(runs.values()))


def run_id(overrides: dict[str, Any]) -> str:
    """Eight hexadecimal digits that depend on the overrides alone, not on their order."""
    text = json.dumps(overrides, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def arguments(file: str, overrides: dict[str, Any]) -> list[str]:
    """The flags that give `ssd_jax.main` this config."""
    return [f"--config={file}", *(f"--{name}={value}" for name, value in overrides.items())]


def parse(file: str, overrides: dict[str, Any]) -> ConfigDict:
    """What the flags of `arguments` make of a config file, in the parser of every command line."""
    command = ["", *arguments(file, overrides)]
    values = flags.FlagValues()
    config_flags.DEFINE_config_file(
        "config", None, "", flag_values=values, lock_config=True, sys_argv=command
    )
    values(command)
    return values.config


def claim(sweep: Sweep, folder: Path) -> None:
    """Write sweep.json, or check that the folder's is this very sweep.

    Raises ConfigError, with what differs, where it is another.
    """
    path = folder / "sweep.json"
    if path.exists():
        check_same(sweep, folder)
        return
    folder.mkdir(parents=True, exist_ok=True)
    runs = [{"id": run.id, "overrides": run.overrides} for run in sweep.runs]
    document = {"config": sweep.file, "overrides": sweep.given}
    workdir.write_json(path, document | {"base": configs.to_dict(sweep.base), "runs": runs})


def check_same(sweep: Sweep, folder: Path) -> None:
    """Raise ConfigError, with what differs, where the folder holds another sweep; none is fine."""
    if not (folder / "sweep.json").exists():
        return
    before = load(folder)
    lines = configs.differences(_flat(before.base), _flat(sweep.base))
    old, new = ({run.id: run for run in each.runs} for each in (before, sweep))
    lines += [f"no longer: {words(run.overrides)}" for name, run in old.items() if name not in new]
    lines += [f"new: {words(run.overrides)}" for name, run in new.items() if name not in old]
    if lines:
        more = [f"… and {len(lines) - _SHOWN} more"] if len(lines) > _SHOWN else []
        listed = "\n  ".join(lines[:_SHOWN] + more)
        raise ConfigError(
            f"{folder} holds another sweep; choose another --workdir, or undo:\n  {listed}"
        )


def load(folder: Path) -> Sweep:
    """The sweep that a folder holds. Raises DataError where there is none."""
    path = folder / "sweep.json"
    try:
        document = json.loads(path.read_text())
        base = document["base"]
        runs = [
            (run["id"], {name: hyper.plain(value) for name, value in run["overrides"].items()})
            for run in document["runs"]
        ]
        made = tuple(Run(name, values, _applied(base, values)) for name, values in runs)
        given = {name: hyper.plain(value) for name, value in document["overrides"].items()}
        return Sweep(document["config"], given, configs.from_dict(base), made)
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file; is --workdir a sweep's folder?") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{path} is damaged ({error}): start the sweep in another") from error


def words(overrides: dict[str, Any]) -> str:
    """Overrides on a line, `config.seed=0 config.steps=10`."""
    return " ".join(f"{name}={value}" for name, value in overrides.items()) or "no override"


def _settings(file: str) -> hyper.Settings:
    path = file.partition(":")[0]
    spec = importlib.util.spec_from_file_location("sweep_config", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    if not hasattr(module, "get_hyper"):
        raise ConfigError(f"{path} has no get_hyper(hyper): see configs/sweeps for files that do")
    try:
        settings = module.get_hyper(hyper)
        return [{name: hyper.plain(value) for name, value in each.items()} for each in settings]
    except (TypeError, ValueError, AttributeError, LookupError) as error:
        raise ConfigError(f"{path}: get_hyper fails, {type(error).__name__}: {error}") from error


def _checked(file: str, given: dict, overrides: dict) -> tuple[ConfigDict | None, list[str]]:
    """The config of a setting, and what is wrong with it."""
    wrong = [
        f"{name} is not a field: write it as config.{name}"
        for name in overrides
        if not name.startswith("config.")
    ]
    wrong += [f"{name} is set on the command line too" for name in overrides if name in given]
    if wrong:
        return None, wrong
    try:
        made = parse(file, given | overrides)
        configs.validate(made)
    except (flags.Error, AttributeError, KeyError, TypeError, ValueError, ConfigError) as error:
        return None, [line for line in str(error).strip("'\"").splitlines() if line]
    flat = _flat(made)
    return made, [
        f"{name}={value!r} would become {flat.get(name)!r}: give a value of the field's type"
        for name, value in overrides.items()
        if flat.get(name) != value
    ]


def _flat(config: ConfigDict) -> dict[str, Any]:
    """`config.seed` -> 0, tuples as they are."""
    return configs.flatten(config.to_dict(), "config.")


def _applied(base: dict, overrides: dict[str, Any]) -> ConfigDict:
    config = configs.from_dict(base)
    config.update_from_flattened_dict(overrides, strip_prefix="config.")
    return config
