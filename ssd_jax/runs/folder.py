"""The run folder: its files, its lock, and whether a run may be continued in it.

config.json      the experiment        run.json     classes, data, versions, commit
priors.npy       boxes [A, 4]          metrics.jsonl, tensorboard/
checkpoints/     latest/ and best/     pictures/    training input and detections
results.json     the newest scores     .lock        held while a run is alive
"""

import fcntl
import io
import json
import os
import platform
import subprocess
import sys
import uuid
from contextlib import AbstractContextManager, nullcontext
from importlib.metadata import version
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
from ml_collections import ConfigDict

from ssd_jax.config.comparison import detector_fields, differences, experiment_fields
from ssd_jax.config.serialization import load_config, to_saved
from ssd_jax.errors import CheckpointError, ConfigError, ResourceError
from ssd_jax.runtime import distributed
from ssd_jax.runtime.files import write_bytes, write_json

_PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "numpy")


class RunInfo(NamedTuple):
    """What a run folder says about its run."""

    config: ConfigDict
    classes: tuple[str, ...]  # without the background
    data: str  # fingerprint of the training data
    priors: np.ndarray  # [A, 4]


def lock_run_folder(folder: Path) -> AbstractContextManager:
    """Make the folder and lock it for this run, until the returned context ends.

    Raises ResourceError where it cannot be written, another run holds the lock, or a process of
    this run does not see the folder.
    """
    token = uuid.uuid4().hex
    lock = _acquire_lock(folder, token) if distributed.is_main_process() else nullcontext()
    token, *_ = distributed.allgather_json(token)
    sees_lock = distributed.allgather_json(_read_token(folder) == token)
    if not all(sees_lock):
        raise ResourceError(
            f"process {sees_lock.index(False)} does not see the {folder} of process 0: "
            "name a --workdir on a file system that all machines share"
        )
    return lock


def _acquire_lock(folder: Path, token: str) -> IO:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = (folder / ".lock").open("w")
    except OSError as error:
        raise ResourceError(
            f"cannot write to {folder}: {error.strerror}; choose another --workdir"
        ) from error
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        handle.close()
        raise ResourceError(
            f"{folder} is in use by a live run; wait for it or choose another --workdir"
        ) from error
    handle.write(token)
    handle.flush()
    os.fsync(handle.fileno())
    return handle


def _read_token(folder: Path) -> str:
    try:
        return (folder / ".lock").read_text()
    except OSError:
        return ""


def prepare_run_folder(
    folder: Path, run: RunInfo, metadata: dict[str, Any], has_checkpoint: bool
) -> None:
    """Write the files that describe the run; `metadata` as of `run_metadata`.

    Raises ConfigError where the folder has a checkpoint of another experiment.
    """
    if has_checkpoint:
        check_same_experiment(folder, run.config, {"classes": run.classes, "data": run.data})
    write_run_files(folder, run, metadata)


def write_run_files(folder: Path, run: RunInfo, metadata: dict[str, Any]) -> None:
    """Write priors.npy, config.json and run.json. Raises ResourceError where that fails."""
    priors = io.BytesIO()
    np.save(priors, run.priors)
    write_bytes(folder / "priors.npy", priors.getvalue())
    write_json(folder / "config.json", metadata["config"])
    described = {"classes": run.classes, "data": run.data, "versions": metadata["versions"]}
    # Last, since a folder with this file is a run.
    write_json(folder / "run.json", described)


def run_metadata(config: ConfigDict) -> dict[str, Any]:
    """What a run or a checkpoint was made with: config, package versions, git commit, command."""
    versions = package_versions() | {"commit": _commit(), "command": " ".join(sys.argv)}
    return {"config": to_saved(config), "versions": versions}


def read_run_info(folder: Path) -> RunInfo:
    """What a run folder says about its run.

    Raises CheckpointError where the folder is no run, damaged, or of a newer version.
    """
    try:
        described = json.loads((folder / "run.json").read_text())
        return RunInfo(
            config=load_config(folder / "config.json"),
            classes=tuple(described["classes"]),
            data=described["data"],
            priors=np.load(folder / "priors.npy", allow_pickle=False),
        )
    except FileNotFoundError as error:
        raise CheckpointError(
            f"{folder} is not a run: it has no {Path(error.filename).name}. "
            "Name the folder of a training, or of an import (python -m scripts.import_weights)"
        ) from error
    except ConfigError as error:
        raise CheckpointError(f"{folder / 'config.json'}: {error}") from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(
            f"{folder} is a damaged run ({type(error).__name__}: {error}); train into another"
        ) from error


def check_same_experiment(
    folder: Path, config: ConfigDict, data: dict[str, Any] | None = None
) -> None:
    """Raise ConfigError naming the fields in which the folder's run is another experiment.

    `data` holds what else must be equal, by the names of `RunInfo`: classes, data.
    """
    run = read_run_info(folder)
    saved = experiment_fields(run.config) | {name: getattr(run, name) for name in data or {}}
    _check_equal(
        saved,
        experiment_fields(config) | (data or {}),
        f"{folder} holds another experiment; choose another --workdir, or undo:",
    )


def check_same_detector(folder: Path, config: ConfigDict) -> None:
    """Raise ConfigError naming the fields in which the folder's run is another detector.

    Fields that only training reads may differ: seed, batch size, augmentation, optimizer.
    """
    _check_equal(
        detector_fields(read_run_info(folder).config),
        detector_fields(config),
        f"{folder} holds another detector; correct --config, or undo:",
    )


def _check_equal(saved: dict[str, Any], given: dict[str, Any], problem: str) -> None:
    if lines := differences(saved, given):
        raise ConfigError("\n  ".join([problem, *lines]))


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
