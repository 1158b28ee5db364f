"""Checkpoints through Orbax: the only file that imports it. Holds unreplicated state only.

A run keeps two series: `latest` (the newest two saves, to resume from) and `best` (the one save
with the highest score). The series are separate folders, so that no retention rule can trade
the best for a later one, and a score that is not a number is never best.
"""

import math
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from ssd_jax.errors import CheckpointError, MachineError
from ssd_jax.parallel import home

State = Any
_KEPT = {"latest": 2, "best": 1}


class Checkpoints:
    """The checkpoints of one run, under `folder`. Close it, or use it as a context manager."""

    def __init__(self, folder: Path, create: bool = True):
        if not create and not folder.is_dir():
            raise CheckpointError(f"no checkpoints in {folder}: has this run saved one yet?")
        self._folder = folder
        self._series = {name: _manager(folder / name, kept) for name, kept in _KEPT.items()}

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def save(self, state: State, step: int) -> None:
        """Save as the latest; returns before the files are complete."""
        self._save("latest", state, step, {})

    def save_if_best(self, state: State, step: int, score: float) -> bool:
        """Save when `score` is higher than the best one's; a NaN never is."""
        if math.isnan(score) or score <= self.best_score():
            return False
        self._save("best", state, step, {"score": score})
        return True

    def best_score(self) -> float:
        """Score of the best save, -inf where there is none."""
        manager = self._series["best"]
        step = manager.latest_step()
        if step is None:
            return -math.inf
        manager.wait_until_finished()
        return float(
            manager.restore(step, args=ocp.args.Composite(notes=_READ_NOTES)).notes["score"]
        )

    def latest_step(self) -> int | None:
        """Step of the newest save to resume from, None where there is none."""
        return self._series["latest"].latest_step()

    def restore(self, which: str, like: State) -> State:
        """The state of "best", "latest" or a step number; `like` gives shapes and dtypes.

        Raises CheckpointError where there is none or it does not fit.
        """
        manager, step = self._find(which)
        manager.wait_until_finished()
        place = manager.directory / str(step)
        target = jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=home()), like
        )
        arguments = ocp.args.Composite(state=ocp.args.StandardRestore(target))
        try:
            _check_fits(manager.item_metadata(step).state, target)
            return manager.restore(step, args=arguments).state
        except Exception as error:
            reason = str(error)[:300]
            raise CheckpointError(f"checkpoint {place} cannot be restored: {reason}") from error

    def close(self) -> None:
        """Wait for pending saves and end the background threads."""
        for manager in self._series.values():
            manager.close()

    def _save(self, series: str, state: State, step: int, notes: dict) -> None:
        manager = self._series[series]
        if step in manager.all_steps():
            return
        # Copies, because the next step reuses the memory of this state.
        state = jax.tree.map(np.array, state)
        arguments = ocp.args.Composite(
            state=ocp.args.StandardSave(state), notes=ocp.args.JsonSave({"step": step, **notes})
        )
        try:
            manager.save(step, args=arguments, force=True)
        except OSError as error:
            raise MachineError(f"cannot save step {step} in {self._folder}: {error}") from error

    def _find(self, which: str) -> tuple[ocp.CheckpointManager, int]:
        for name, manager in self._series.items():
            step = manager.latest_step()
            if which == name and step is not None:
                return manager, step
            if which.isdigit() and int(which) in manager.all_steps():
                return manager, int(which)
        have = {name: manager.all_steps() for name, manager in self._series.items()}
        raise CheckpointError(f"no checkpoint {which!r} in {self._folder}; there are: {have}")


_READ_NOTES = ocp.args.JsonRestore()


def _check_fits(saved: Any, target: State) -> None:
    """Raise ValueError naming the first arrays that differ in shape or dtype, or are not there."""

    def describe(tree: Any) -> dict[str, str]:
        leaves = jax.tree_util.tree_leaves_with_path(tree)
        name = partial(jax.tree_util.keystr, simple=True, separator=".")
        return {name(path): f"{np.dtype(leaf.dtype)}{list(leaf.shape)}" for path, leaf in leaves}

    have, want = describe(getattr(saved, "tree", saved)), describe(target)
    differing = [
        f"{name} is {have.get(name, 'absent')}, expected {want.get(name, 'nothing')}"
        for name in sorted(have.keys() | want.keys())
        if have.get(name) != want.get(name)
    ]
    if differing:
        raise ValueError(f"{len(differing)} arrays differ: " + "; ".join(differing[:3]))


def _manager(folder: Path, kept: int) -> ocp.CheckpointManager:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise MachineError(f"cannot write checkpoints to {folder}: {error}") from error
    options = ocp.CheckpointManagerOptions(max_to_keep=kept, cleanup_tmp_directories=True)
    handlers = {"state": ocp.StandardCheckpointHandler(), "notes": ocp.JsonCheckpointHandler()}
    return ocp.CheckpointManager(folder.resolve(), options=options, item_handlers=handlers)
