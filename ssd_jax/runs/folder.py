"""The run folder: the files that describe a run, and whether a run may be continued in it.

config.json      the experiment        run.json     classes, data, versions, commit
priors.npy       boxes [A, 4]          metrics.jsonl, tensorboard/
checkpoints/     latest/ and best/     pictures/    training input and detections
results.json     the newest scores     .lock        held while a run is alive
sets.json        names of the images of each set, where the config does not tell them

The first three hold their own checksums. Where one is lost or damaged, training makes it again:
the priors from the config, the other two from the manifest of the newest checkpoint.
"""

import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
from ml_collections import ConfigDict

from ssd_jax.config.comparison import detector_fields, differences, experiment_fields
from ssd_jax.config.serialization import from_saved, to_saved
from ssd_jax.errors import CheckpointError, ConfigError
from ssd_jax.runtime.checksum import array_to_bytes, format_object, parse_array, parse_object
from ssd_jax.runtime.distributed import is_main_process
from ssd_jax.runtime.files import read_if_possible, write_bytes
from ssd_jax.runtime.progress import log_line

_PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "numpy")
_CONFIG, _RUN, _PRIORS, _SETS = "config.json", "run.json", "priors.npy", "sets.json"
_Content = TypeVar("_Content")
_REPAIR = (
    "Start the run's training again, which makes the file again from the newest checkpoint, or "
    "copy it back from a backup"
)


class RunInfo(NamedTuple):
    """What a run folder says about its run."""

    config: ConfigDict
    classes: tuple[str, ...]  # without the background
    data: str  # fingerprint of the training data
    priors: np.ndarray  # [A, 4]
    weights: dict[str, Any] = {}  # where those come from that it started from; {}: random ones
    sets: dict[str, Any] = {}  # what a start keeps of its sets, see `data.sets.Sets.kept`


def check_run_folder(folder: Path, run: RunInfo, manifest: dict[str, Any] | None) -> None:
    """Check that `run` continues what is in a folder, and say which of its files are damaged.

    They are made again by `write_run_files`. `manifest` is that of the newest checkpoint, None
    where there is no checkpoint. Raises ConfigError where the checkpoints are of another
    experiment, and CheckpointError where that cannot be told.
    """
    damage: list[_DamagedError] = []
    if manifest is not None:
        (config, classes, data), damage = _saved_experiment(folder, manifest)
        _check_equal(
            experiment_fields(config) | {"classes": classes, "data": data},
            experiment_fields(run.config) | {"classes": run.classes, "data": run.data},
            f"{folder} holds another experiment; choose another --workdir, or undo:",
        )
        try:
            _read(folder / _PRIORS, parse_array)
        except _DamagedError as error:
            damage.append(error)
    for error in damage:
        log_line(f"{error}: made again")


def with_saved_orientation(config: ConfigDict, folder: Path) -> ConfigDict:
    """The config with the `data.orientation` of the run in a folder, if there is one.

    A run of a version without the field goes on with the pixels that it was trained on, though the
    config that it is started with has the default of today.
    """
    saved = read_saved_config(folder)
    if saved is None or saved.data.orientation == config.data.orientation:
        return config
    config = config.copy_and_resolve_references()
    config.data.orientation = saved.data.orientation
    return config


def read_saved_config(folder: Path) -> ConfigDict | None:
    """The config of the run in a folder; None where there is none, or it cannot be read."""
    try:
        return _read(folder / _CONFIG, _parse_config)[0]
    except CheckpointError:
        return None


def read_saved_classes(folder: Path) -> tuple[str, ...]:
    """The classes of the run in a folder; () where there is none, or they cannot be read."""
    try:
        return _read(folder / _RUN, _parse_run)[0][0]
    except CheckpointError:
        return ()


def read_kept_sets(folder: Path) -> dict[str, Any]:
    """`data.sets.Sets.kept` of the run in a folder; {} where there is none.

    A damaged file is said, and counts as none: a split is made again by the same names.
    """
    try:
        return parse_object((folder / _SETS).read_bytes())[0]
    except FileNotFoundError:
        return {}
    except (OSError, CheckpointError) as error:
        log_line(f"{folder / _SETS} cannot be used ({error}): made again")
        return {}


def is_run(folder: Path) -> bool:
    """Whether a run has begun in a folder."""
    return os.path.exists(folder / _RUN)  # False, too, for a name that no file can have


@contextmanager
def remove_failed_start(folder: Path, is_main: bool | None = None) -> Iterator[None]:
    """Remove what a start leaves that fails before `folder` is a run, and was not there before.

    The main process does so. `is_main` tells it before the processes of a run have joined.
    """
    is_new = (is_main_process() if is_main is None else is_main) and not folder.exists()
    new_parents = [each for each in folder.parents if not each.exists()]
    try:
        yield
    except BaseException:
        if is_new and not is_run(folder):
            shutil.rmtree(folder, ignore_errors=True)
            with suppress(OSError):  # one that is no longer empty stays
                for each in new_parents:
                    each.rmdir()
        raise


def write_run_files(folder: Path, run: RunInfo, metadata: dict[str, Any]) -> None:
    """Write priors.npy, config.json, run.json, and sets.json where a run has `sets` to keep.

    Each is written whole; a file that is equal stays. `metadata` is that of `run_metadata`, and may
    have the origin of `weights`.
    Raises ResourceError where that fails.
    """
    described = {"classes": run.classes, "data": run.data, "versions": metadata["versions"]}
    described |= {"weights": metadata["weights"]} if metadata.get("weights") else {}
    contents = {
        _PRIORS: array_to_bytes(run.priors),
        _CONFIG: format_object(metadata["config"]),
        **({_SETS: format_object(run.sets)} if run.sets else {}),
        _RUN: format_object(described),  # last: a folder with this file is a run
    }
    for name, content in contents.items():
        path = folder / name
        if read_if_possible(path) != content:
            write_bytes(path, content)


def run_metadata(config: ConfigDict) -> dict[str, Any]:
    """What a run or a checkpoint was made with: config, package versions, git commit, command."""
    versions = package_versions() | {"commit": _commit(), "command": " ".join(sys.argv)}
    return {"config": to_saved(config), "versions": versions}


def read_run_info(folder: Path) -> RunInfo:
    """What a run folder says about its run.

    Raises CheckpointError where the folder is no run, damaged, or of a newer version.
    """
    if not is_run(folder):
        raise CheckpointError(
            f"{folder} is not a run: it has no {_RUN}. Name the folder of a training, or of an "
            "import (ssd-jax import); a training that lost the file makes it "
            "again when it is started again"
        )
    try:
        config, config_verified = _read(folder / _CONFIG, _parse_config)
        (classes, data, weights), run_verified = _read(folder / _RUN, _parse_run)
        priors, priors_verified = _read(folder / _PRIORS, parse_array)
    except _DamagedError as error:
        raise CheckpointError(f"{error}. {_REPAIR}") from error
    verified = {_CONFIG: config_verified, _RUN: run_verified, _PRIORS: priors_verified}
    if (names := [name for name in verified if not verified[name]]) and is_main_process():
        log_line(f"{folder}: {', '.join(names)} without checksum: damage would not be noticed")
    return RunInfo(config, classes, data, priors, weights)


class _DamagedError(CheckpointError):
    """A file that describes the run is absent or damaged; its message begins with the path."""


def _read(path: Path, parse: Callable[[bytes], _Content]) -> _Content:
    try:
        return parse(path.read_bytes())
    except FileNotFoundError as error:
        raise _DamagedError(f"{path} is absent") from error
    except OSError as error:
        raise _DamagedError(f"{path} cannot be read ({error.strerror})") from error
    except ConfigError as error:  # of a newer version, not damaged
        raise CheckpointError(f"{path}: {error}") from error
    except CheckpointError as error:
        raise _DamagedError(f"{path} is damaged: it {error}") from error


def _parse_config(text: bytes) -> tuple[ConfigDict, bool]:
    content, has_checksum = parse_object(text)
    try:
        return from_saved(content), has_checksum
    except (TypeError, ValueError, KeyError, AttributeError, RecursionError) as error:
        raise CheckpointError(f"is no config ({error})") from error


def _parse_run(text: bytes) -> tuple[tuple[tuple[str, ...], str, dict[str, Any]], bool]:
    """(classes, fingerprint of the training data, origin of the weights), and whether the file has
    a checksum."""
    content, has_checksum = parse_object(text)
    if unknown := content.keys() - {"classes", "data", "versions", "weights"}:
        raise CheckpointError(f"has the unknown {', '.join(sorted(unknown))}")
    weights = content.get("weights", {})
    if not isinstance(weights, dict):
        raise CheckpointError("has weights that tell no origin")
    return (*_classes_and_data(content), weights), has_checksum


def _classes_and_data(content: dict[str, Any]) -> tuple[tuple[str, ...], str]:
    classes, data = content.get("classes"), content.get("data")
    if not isinstance(classes, list) or not isinstance(data, str):
        raise CheckpointError("has no classes, or no data")
    if not classes or not all(isinstance(name, str) for name in classes):
        raise CheckpointError("has classes that are no names")
    return tuple(classes), data


def _saved_experiment(
    folder: Path, manifest: dict[str, Any]
) -> tuple[tuple[ConfigDict, tuple[str, ...], str], list[_DamagedError]]:
    """Config, classes and data of the run in `folder`, and what is wrong with its files.

    What a file does not tell is in the manifest of a checkpoint; those of version 0.1 tell only
    the config.
    """
    damage = []
    try:
        config, _ = _read(folder / _CONFIG, _parse_config)
    except _DamagedError as error:
        if "config" not in manifest:
            raise _no_source(error) from error
        config = from_saved(manifest["config"])
        damage.append(error)
    try:
        (classes, data, _), _ = _read(folder / _RUN, _parse_run)
    except _DamagedError as error:
        if "classes" not in manifest:
            raise _no_source(error) from error
        classes, data = _classes_and_data(manifest)
        damage.append(error)
    return (config, classes, data), damage


def _no_source(error: _DamagedError) -> CheckpointError:
    return CheckpointError(
        f"{error}, and the newest checkpoint does not tell it: copy the file back from a backup"
    )


def check_same_detector(folder: Path, saved: ConfigDict, config: ConfigDict) -> None:
    """Raise ConfigError naming the fields in which the run `saved` is another detector.

    Fields that only training reads may differ: seed, batch size, augmentation, optimizer.
    """
    _check_equal(
        detector_fields(saved),
        detector_fields(config),
        f"{folder} holds another detector; correct --config, or undo:",
    )


def _check_equal(saved: dict[str, Any], given: dict[str, Any], problem: str) -> None:
    if lines := differences(saved, given):
        changed = saved.get("data") != given.get("data")
        explained = ["(data: files, sizes or boxes of the training set have changed)"] * changed
        raise ConfigError("\n  ".join([problem, *lines, *explained]))


def package_versions() -> dict[str, str]:
    """Versions of Python and of the packages that a result depends on."""
    return {"python": platform.python_version()} | {name: version(name) for name in _PACKAGES}


def _commit() -> str:
    """The commit of this code, with "-dirty" where it was changed; "" outside a checkout."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():  # installed, perhaps below a checkout of something else
        return ""
    command = ["git", "-C", root, "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True).stdout.strip()
    except OSError:  # no git here
        return ""
