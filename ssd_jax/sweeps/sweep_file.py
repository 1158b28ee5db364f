"""`sweep.json`, the plan that a sweep's folder keeps: written once, read by reports and restarts.

    {"config": FILE[:ARGUMENT], "overrides": {…}, "base": config, "runs": [{"id", "overrides"}, …]}

The base config says its version; in files of version 0.1 it has none, and fields have older names.
"""

import json
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from ssd_jax.config.comparison import differences
from ssd_jax.config.serialization import from_saved, to_saved
from ssd_jax.config.versions import upgrade_overrides
from ssd_jax.errors import ConfigError, DataError
from ssd_jax.runtime.files import read_json, write_json
from ssd_jax.sweeps import hyper
from ssd_jax.sweeps.plan import Sweep, SweepRun, flatten_config, format_overrides

_ORIENTATION = "config.data.orientation"
_MAX_LISTED = 20  # differences in a message


def write_sweep(sweep: Sweep, folder: Path) -> None:
    """Write sweep.json into a folder that has none.

    Raises ConfigError, with the differences, where the folder holds another sweep.
    """
    path = _path(folder)
    if path.exists():
        with_saved_ids(sweep, folder)
        return
    write_json(
        path,
        {
            "config": sweep.file,
            "overrides": sweep.overrides,
            "base": to_saved(sweep.base),
            "runs": [{"id": run.id, "overrides": run.overrides} for run in sweep.runs],
        },
    )


def read_sweep(folder: Path) -> Sweep:
    """The sweep that a folder holds. Raises DataError where there is none that can be read."""
    path = _path(folder)
    try:
        saved = read_json(path)
        base = from_saved(saved["base"])
        runs = []
        for run in saved["runs"]:
            overrides = _read_overrides(run["overrides"])
            runs.append(SweepRun(run["id"], overrides, _apply_overrides(base, overrides)))
        return Sweep(saved["config"], _read_overrides(saved["overrides"]), base, tuple(runs))
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file; is --workdir a sweep's folder?") from error
    except ConfigError as error:
        raise DataError(f"{path}: {error}") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f"{path} is damaged ({error}): start the sweep in another folder"
        ) from error


def with_saved_ids(sweep: Sweep, folder: Path) -> Sweep:
    """The sweep with the run ids of the folder that holds it; unchanged where none does.

    An older version computed ids from the names that fields had then, and its runs keep the
    `data.orientation` of that version. Raises ConfigError, with the
    differences, where the folder holds another sweep.
    """
    if not _path(folder).exists():
        return sweep
    saved = read_sweep(folder)
    sweep = _with_orientation(sweep, saved.base.data.orientation)
    lines = differences(flatten_config(saved.base), flatten_config(sweep.base))
    old, new = ({_overrides_key(run): run for run in each.runs} for each in (saved, sweep))
    lines += [f"removed: {format_overrides(old[key].overrides)}" for key in old if key not in new]
    lines += [f"added: {format_overrides(new[key].overrides)}" for key in new if key not in old]
    if lines:
        more = [f"… and {len(lines) - _MAX_LISTED} more"] if len(lines) > _MAX_LISTED else []
        listed = "\n  ".join(lines[:_MAX_LISTED] + more)
        raise ConfigError(
            f"{folder} holds another sweep; choose another --workdir, or undo:\n  {listed}"
        )
    return sweep._replace(runs=tuple(run._replace(id=old[key].id) for key, run in new.items()))


def _with_orientation(sweep: Sweep, orientation: str) -> Sweep:
    """The sweep with this `data.orientation` in every run, as an override of all."""
    if sweep.base.data.orientation == orientation:
        return sweep
    override = {_ORIENTATION: orientation}
    runs = [
        run if _ORIENTATION in run.overrides
        else run._replace(config=_apply_overrides(run.config, override))
        for run in sweep.runs
    ]  # fmt: skip
    return sweep._replace(
        overrides=sweep.overrides | override,
        base=_apply_overrides(sweep.base, override),
        runs=tuple(runs),
    )


def _path(folder: Path) -> Path:
    return folder / "sweep.json"


def _read_overrides(saved: dict[str, Any]) -> dict[str, Any]:
    """Overrides by today's names, with tuples for JSON's lists."""
    return upgrade_overrides({name: hyper.to_config_value(value) for name, value in saved.items()})


def _apply_overrides(base: ConfigDict, overrides: dict[str, Any]) -> ConfigDict:
    config = ConfigDict(base.to_dict()).lock()
    config.update_from_flattened_dict(overrides, strip_prefix="config.")
    return config


def _overrides_key(run: SweepRun) -> str:
    return json.dumps(run.overrides, sort_keys=True)
