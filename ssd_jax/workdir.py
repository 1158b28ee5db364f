"""The run folder: what it holds, and whether a run may be continued in it.

config.json      the experiment        run.json     classes, data, versions, commit
priors.npy       boxes [A, 4]          metrics.jsonl, tensorboard/
checkpoints/     latest/ and best/     pictures/    what the network saw and found
results.json     the newest scores     .lock        held while a run is alive
"""

import fcntl
import json
import os
import platform
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from importlib import metadata
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
from ml_collections import ConfigDict

from ssd_jax import config as configs
from ssd_jax import parallel
from ssd_jax.errors import CheckpointError, ConfigError, MachineError

_PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "numpy")


def lock(workdir: Path) -> AbstractContextManager:
    """Make the folder and hold it for this run; keep the result alive.

    Raises MachineError when it cannot be written, another run holds it, or a process of this run
    does not see it.
    """
    token = uuid.uuid4().hex
    held = _hold(workdir, token) if parallel.is_lead() else nullcontext()
    token, *_ = parallel.everyone(token)
    sees = parallel.everyone(_holder(workdir) == token)
    if not all(sees):
        raise MachineError(
            f"process {sees.index(False)} does not see the {workdir} of process 0: "
            "name a --workdir on a file system that all machines share"
        )
    return held


def _hold(workdir: Path, token: str) -> IO:
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
    handle.write(token)
    handle.flush()
    os.fsync(handle.fileno())
    return handle


def _holder(workdir: Path) -> str:
    try:
        return (workdir / ".lock").read_text()
    except OSError:
        return ""


class Run(NamedTuple):
    """What a run folder says about itself."""

    config: ConfigDict
    classes: tuple[str, ...]
    data: str  # fingerprint of the training data
    priors: np.ndarray  # [A, 4]


def begin(workdir: Path, run: Run) -> None:
    """Write what describes the run."""
    with _disk_trouble(workdir):
        np.save(workdir / "priors.npy", run.priors)
    told = about(run.config)
    write_json(workdir / "config.json", told["config"])
    described = {"classes": run.classes, "data": run.data, "versions": told["versions"]}
    # Last, since its presence says that the folder is a run.
    write_json(workdir / "run.json", described)


def about(config: ConfigDict) -> dict[str, Any]:
    """What a run or a checkpoint was made with: config, package versions, git commit, command."""
    made_with = versions() | {"commit": _commit(), "command": " ".join(sys.argv)}
    return {"config": configs.to_dict(config), "versions": made_with}


def load(workdir: Path) -> Run:
    """What describes the run. Raises CheckpointError where the folder is not a whole run."""
    try:
        described = json.loads((workdir / "run.json").read_text())
        return Run(
            config=configs.load(workdir / "config.json"),
            classes=tuple(described["classes"]),
            data=described["data"],
            priors=np.load(workdir / "priors.npy", allow_pickle=False),
        )
    except FileNotFoundError as error:
        raise CheckpointError(
            f"{workdir} is not a run: it has no {Path(error.filename).name}. "
            "Train into it first, or mend --workdir"
        ) from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(
            f"{workdir} is a damaged run ({type(error).__name__}: {error}); train into another"
        ) from error


def check_same(workdir: Path, config: ConfigDict, data: dict[str, Any] | None = None) -> None:
    """Raise ConfigError naming the fields in which the run is another experiment.

    `data` holds what else must agree, by the names of `Run`: classes, data.
    """
    run = load(workdir)
    old = configs.identity(run.config) | {name: getattr(run, name) for name in data or {}}
    differing = configs.differences(old, configs.identity(config) | (data or {}))
    if differing:
        lines = "\n  ".join(differing)
        raise ConfigError(
            f"{workdir} holds another experiment; choose another --workdir, or undo:\n  {lines}"
        )


def write_json(path: Path, value: Any) -> None:
    """Write atomically. Raises MachineError when the disk refuses."""
    partial = path.with_name(path.name + ".tmp")
    with _disk_trouble(path):
        partial.write_text(json.dumps(value, indent=2) + "\n")
        os.replace(partial, path)


@contextmanager
def _disk_trouble(place: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise MachineError(f"cannot write {place}: {error.strerror}") from error


def versions() -> dict[str, str]:
    """Of Python and of the packages that a result depends on."""
    return {"python": platform.python_version()} | {
        name: metadata.version(name) for name in _PACKAGES
    }


def _commit() -> str:
    """The commit that this code is of, "-dirty" where it was changed; "" outside a checkout."""
    root = Path(__file__).resolve().parents[1]
    if not (root / ".git").exists():  # installed, perhaps below a checkout of something else
        return ""
    command = ["git", "-C", root, "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True).stdout.strip()
    except OSError:  # no git here
        return ""
