"""Checkpoints through Orbax: the only file that imports it. Holds unreplicated state only.

A run keeps two series: `latest` (the newest two saves, to resume from) and `best` (the one save
with the highest score). The series are separate folders, so that no retention rule can trade
the best for a later one, and a score that is not a number is never best.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from ssd_jax.errors import CheckpointError, MachineError
from ssd_jax.parallel import home, process

State = Any
_KEPT = {"latest": 2, "best": 1}


class Checkpoints:
    """The checkpoints of one run, under `folder`. Close it, or use it as a context manager.

    A reader (`create=False`) changes nothing: a save that a live run is writing stays. A save
    that fails, at once or in the background, raises MachineError at the next call.
    """

    def __init__(self, folder: Path, create: bool = True):
        self._folder = folder
        names = [name for name in _KEPT if create or (folder / name).is_dir()]
        if not names:
            raise CheckpointError(f"no checkpoints in {folder}: has this run saved one yet?")
        with _disk_trouble(folder):
            self._series = {name: _manager(folder / name, _KEPT[name], create) for name in names}

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def save(self, state: State, step: int) -> None:
        """Save as the latest; returns before the files are complete."""
        self._save("latest", state, step, {})

    def save_if_best(self, state: State, step: int, score: float) -> bool:
        """Save when `score` is higher than the best one's; a NaN never is.

        Returns when the files are complete: whoever notes the score next notes what is there.
        """
        if math.isnan(score) or score <= self.best_score():
            return False
        self._save("best", state, step, {"score": score})
        with _disk_trouble(self._folder):
            self._series["best"].wait_until_finished()
        return True

    def best_score(self) -> float:
        """Score of the best save, -inf where there is none."""
        manager = self._series["best"]
        step = manager.latest_step()
        if step is None:
            return -math.inf
        with _disk_trouble(self._folder):
            manager.wait_until_finished()
        return float(
            manager.restore(step, args=ocp.args.Composite(notes=_READ_NOTES)).notes["score"]
        )

    def latest_step(self) -> int | None:
        """Step of the newest save to resume from, None where there is none."""
        return self._series["latest"].latest_step()

    def restore(self, which: str, like: State) -> State:
        """The state of "best", "latest" or a step number; `like` gives shapes and dtypes.

        Before the first evaluation the latest is the best. Raises CheckpointError where there is
        none or it does not fit.
        """
        manager, step = self._find(which)
        with _disk_trouble(self._folder):
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
            with _disk_trouble(self._folder):
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
        with _disk_trouble(self._folder):
            manager.save(step, args=arguments, force=True)

    def _find(self, which: str) -> tuple[ocp.CheckpointManager, int]:
        order = ("best", "latest") if which == "best" else ("latest", "best")
        for name in order:
            manager = self._series.get(name)
            step = manager.latest_step() if manager else None
            if step is None:
                continue
            if which == name or which == "best":
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


def _manager(folder: Path, kept: int, create: bool) -> ocp.CheckpointManager:
    if create:
        folder.mkdir(parents=True, exist_ok=True)
    me, _ = process()  # whoever opens a series does so alone, and nobody waits for the others
    alone = ocp.options.MultiprocessingOptions(primary_host=me, active_processes={me})
    options = ocp.CheckpointManagerOptions(
        max_to_keep=kept, create=False, read_only=not create, cleanup_tmp_directories=create,
        multiprocessing_options=alone,
    )  # fmt: skip
    handlers = {
        "state": ocp.StandardCheckpointHandler(multiprocessing_options=alone),
        "notes": ocp.JsonCheckpointHandler(multiprocessing_options=alone),
    }
    return ocp.CheckpointManager(folder.resolve(), options=options, item_handlers=handlers)


@contextmanager
def _disk_trouble(folder: Path) -> Iterator[None]:
    """What Orbax raises when it cannot write, and TensorStore wraps in ValueError."""
    try:
        yield
    except (OSError, ValueError) as error:
        raise MachineError(
            f"cannot write checkpoints to {folder}: {str(error)[:300]}\n"
            "Free the disk, then start the same command again; older checkpoints are intact"
        ) from error
