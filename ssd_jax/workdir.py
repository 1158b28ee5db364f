"""The run folder: what it holds, and whether a run may be continued in it.

config.json      the experiment        run.json     classes, data, versions
priors.npy       boxes [A, 4]          metrics.jsonl, tensorboard/
checkpoints/     latest/ and best/     pictures/    what the network saw and found
results.json     the newest scores     .lock        held while a run is alive
"""

import fcntl
import json
import os
import platform
import sys
from importlib import metadata
from pathlib import Path
from typing import IO, Any

import numpy as np
from ml_collections import ConfigDict

from ssd_jax import config as configs
from ssd_jax.errors import CheckpointError, ConfigError, MachineError

_PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "numpy")


def lock(workdir: Path) -> IO:
    """Make the folder and hold it for this process; keep the result alive.

    Raises MachineError when it cannot be written or another run holds it.
    """
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        handle = (workdir / ".lock").open("w")
    except OSError as error:
        raise MachineError(
            f"cannot write to {workdir}: {error.strerror}; choose another --workdir"
        ) from error
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        handle.close()
        raise MachineError(
            f"{workdir} is in use by a live run; wait for it or choose another --workdir"
        ) from error
    return handle


def open_for_training(
    workdir: Path,
    config: ConfigDict,
    classes: tuple[str, ...],
    fingerprint: str,
    priors: np.ndarray,
) -> None:
    """Write what describes the run, or check that the run already there is this experiment.

    Raises ConfigError naming the differing fields when it is another one.
    """
    if (workdir / "run.json").exists():
        check_same(workdir, config)
        old = describe(workdir)
        run = {"classes": list(classes), "data": fingerprint}
        _refuse(workdir, configs.differences({name: old[name] for name in run}, run))
    run = {"classes": classes, "data": fingerprint, "versions": _versions()}
    np.save(workdir / "priors.npy", priors)
    write_json(workdir / "config.json", configs.to_dict(config))
    # Last, since its presence says that the folder is a run.
    write_json(workdir / "run.json", run)


def check_same(workdir: Path, config: ConfigDict) -> None:
    """Raise ConfigError naming the fields in which the run is another experiment than `config`."""
    old = configs.load(workdir / "config.json")
    _refuse(workdir, configs.differences(configs.identity(old), configs.identity(config)))


def describe(workdir: Path) -> dict[str, Any]:
    """What `run.json` says. Raises CheckpointError where the folder is not a run."""
    try:
        return json.loads((workdir / "run.json").read_text())
    except FileNotFoundError as error:
        raise CheckpointError(
            f"{workdir} is not a run: it has no run.json. Train into it first, or mend --workdir"
        ) from error


def write_json(path: Path, value: Any) -> None:
    """Write atomically. Raises MachineError when the disk refuses."""
    partial = path.with_name(path.name + ".tmp")
    try:
        partial.write_text(json.dumps(value, indent=2) + "\n")
        os.replace(partial, path)
    except OSError as error:
        raise MachineError(f"cannot write {path}: {error.strerror}") from error


def _refuse(workdir: Path, differing: list[str]) -> None:
    if differing:
        lines = "\n  ".join(differing)
        raise ConfigError(
            f"{workdir} holds another experiment; choose another --workdir, or undo:\n  {lines}"
        )


def _versions() -> dict[str, str]:
    versions = {name: metadata.version(name) for name in _PACKAGES}
    return {"python": platform.python_version(), **versions, "command": " ".join(sys.argv)}
