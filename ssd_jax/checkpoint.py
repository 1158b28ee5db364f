"""Checkpoints through Orbax: the only file that imports it. Holds unreplicated state only.

A run keeps two series: `latest` (the newest two saves, to resume from) and `best` (the one save
with the highest score). The series are separate folders, so that no retention rule can trade
the best for a later one, and a score that is not a number is never best.

    latest/60/           a whole save: state/ by Orbax, and MANIFEST.json
    latest/60.tmp/       one that was cut, cleared at the next start
    latest/60.damaged/   one that could not be read, put aside when an older one could
"""

import errno
import math
import shutil
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from ssd_jax import logs, manifest
from ssd_jax.errors import CheckpointError, MachineError
from ssd_jax.parallel import home, process

State = Any
_KEPT = {"latest": 2, "best": 1}
MOST_KEPT = sum(_KEPT.values())


class Checkpoints:
    """The checkpoints of one run, under `folder`. Close it, or use it as a context manager.

    A reader (`create=False`) changes nothing: a save that a live run is writing stays. A save
    that fails in the background raises MachineError at the next call. `about` goes into every
    manifest.
    """

    def __init__(self, folder: Path, create: bool = True, about: dict | None = None):
        # Orbax takes absolute paths alone.
        self._folder, self._writes, self._about = folder.absolute(), create, about or {}
        if create:
            with _disk_trouble(folder):
                for name in _KEPT:
                    (folder / name).mkdir(parents=True, exist_ok=True)
                for unfinished in folder.glob("*/*tmp*"):  # of saves that were cut
                    shutil.rmtree(unfinished)
        elif not any((folder / name).is_dir() for name in _KEPT):
            raise CheckpointError(f"no checkpoints in {folder}: has this run saved one yet?")
        self._orbax = _orbax()
        self._background = ThreadPoolExecutor(1, "save")
        self._pending: Future | None = None
        self._best: float | None = None

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def save(self, state: State, step: int) -> None:
        """Save as the latest; returns before the first file is written.

        Arrays of a device must not be donated afterwards: `unreplicate` gives such.
        """
        self._save("latest", state, step, {})

    def save_if_best(self, state: State, step: int, score: float) -> bool:
        """Save when `score` is higher than the best one's; a NaN never is.

        Returns when the files are complete: whoever notes the score next notes what is there.
        """
        if math.isnan(score) or score <= self.best_score():
            return False
        self._save("best", state, step, {"score": score})
        self._wait()
        self._best = score
        return True

    def best_score(self) -> float:
        """Score of the best save, -inf where there is none that can be read."""
        if self._best is None:
            self._best = self._read_best_score()
        return self._best

    def latest_step(self) -> int | None:
        """Step of the newest save, damaged or not; None where there is none."""
        return max((int(place.name) for place in self._saves("latest")), default=None)

    def check(self) -> None:
        """Raise MachineError if a save has failed in the meantime; never waits."""
        if self._pending and self._pending.done():
            self._wait()

    def restore(self, which: str, like: State) -> State:
        """The state of "best", "latest" or a step number; `like` gives shapes and dtypes.

        Before the first evaluation the latest is the best. Every file is verified first; where one
        is damaged that is said, and the save before is taken. Raises CheckpointError where there
        is none, none that can be read, or it does not fit.
        """
        self._wait()
        target = jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=home()), like
        )
        if not (candidates := self._saves(which)):
            have = ", ".join(f"{p.parent.name}/{p.name}" for p in self._saves("latest"))
            raise CheckpointError(f"no checkpoint {which!r} in {self._folder}; there are: {have}")
        failed = []
        for place in candidates:
            try:
                manifest.verified(place)
                differing = _differences(self._orbax.metadata(place / "state"), target)
                if not differing:
                    arguments = ocp.args.StandardRestore(target)
                    state = self._orbax.restore(place / "state", args=arguments)
            except Exception as error:  # whatever Orbax raises for files that it cannot read
                failed.append(place)
                logs.say(f"checkpoint {place} cannot be restored: {str(error)[:300]}")
                continue
            if differing:
                raise CheckpointError(f"checkpoint {place} cannot be restored: {differing}")
            if failed:
                logs.say(f"checkpoint {place} is taken instead")
            for other in failed:
                self._put_aside(other)
            return state
        places = ", ".join(map(str, failed))
        raise CheckpointError(
            f"none of these checkpoints can be restored: {places}\n"
            "Bring one back from a copy, or start again with another --workdir"
        )

    def close(self) -> None:
        """Wait for a pending save and end the background thread."""
        try:
            self._wait()
        finally:
            self._background.shutdown()
            self._orbax.close()

    def _save(self, series: str, state: State, step: int, notes: dict) -> None:
        self._wait()
        place = self._folder / series / str(step)
        if place.exists():
            return
        with _disk_trouble(self._folder):
            _check_room(place.parent, sum(leaf.nbytes for leaf in jax.tree.leaves(state)))
        # Arrays of a device are fetched in the background.
        state = jax.tree.map(lambda x: x if isinstance(x, jax.Array) else np.array(x), state)
        self._pending = self._background.submit(self._write, place, state, {"step": step, **notes})

    def _write(self, place: Path, state: State, notes: dict) -> None:
        unfinished = place.with_name(f"{place.name}.tmp")
        try:
            arguments = ocp.args.StandardSave(jax.tree.map(np.asarray, state))
            self._orbax.save(unfinished / "state", args=arguments)
            manifest.write(unfinished, notes | self._about)
            unfinished.rename(place)
        except BaseException:
            time.sleep(1.0)  # until TensorStore's other writes have failed too, loudly
            shutil.rmtree(unfinished, ignore_errors=True)  # it may be what fills the disk
            raise
        for old in _whole(place.parent)[_KEPT[place.parent.name] :]:
            shutil.rmtree(old.rename(old.with_name(f"{old.name}.tmp")))

    def _wait(self) -> None:
        pending, self._pending = self._pending, None
        if pending:
            with _disk_trouble(self._folder):
                pending.result()

    def _saves(self, which: str) -> list[Path]:
        """Saves that "latest", "best" or a step number may mean, the first choice first."""
        latest, best = (_whole(self._folder / name) for name in ("latest", "best"))
        if which == "best":
            return best + latest
        newest_first = sorted(latest + best, key=lambda place: -int(place.name))
        return [place for place in newest_first if which in ("latest", place.name)]

    def _read_best_score(self) -> float:
        for place in _whole(self._folder / "best"):
            try:
                return float(manifest.verified(place)["score"])
            except (CheckpointError, KeyError) as error:
                logs.say(f"checkpoint {place} is no longer the best: {error}")
                self._put_aside(place)
        return -math.inf

    def _put_aside(self, place: Path) -> None:
        """Rename a save that cannot be read, so that its step can be saved again."""
        if self._writes:
            aside = place.with_name(f"{place.name}.damaged")
            with _disk_trouble(self._folder):
                shutil.rmtree(aside, ignore_errors=True)
                place.rename(aside)


def _orbax() -> ocp.Checkpointer:
    """A writer and reader that waits for no other process: whoever writes does so alone."""
    this, _ = process()
    alone = ocp.options.MultiprocessingOptions(primary_host=this, active_processes={this})
    handler = ocp.StandardCheckpointHandler(multiprocessing_options=alone)
    return ocp.Checkpointer(handler, multiprocessing_options=alone)


def _whole(series: Path) -> list[Path]:
    """Folders of whole saves, damaged or not, newest first."""
    places = series.iterdir() if series.is_dir() else ()
    return sorted((p for p in places if p.name.isdigit()), key=lambda p: -int(p.name))


def _check_room(folder: Path, need: int) -> None:
    """Raise OSError for a disk without so many bytes; found out by writing, it costs more words."""
    free = shutil.disk_usage(folder).free
    if free < need:
        sizes = f"a save needs {need / 1e6:.1f} MB, {free / 1e6:.1f} MB are free"
        raise OSError(errno.ENOSPC, f"No space left on device: {sizes}")


def _differences(saved: Any, target: State) -> str:
    """The first arrays that differ in shape or dtype, or are not there; "" when all fit."""

    def describe(tree: Any) -> dict[str, str]:
        leaves = jax.tree_util.tree_leaves_with_path(tree)
        name = partial(jax.tree_util.keystr, simple=True, separator=".")
        return {name(path): f"{np.dtype(leaf.dtype)}{list(leaf.shape)}" for path, leaf in leaves}

    have, want = describe(saved.item_metadata.tree), describe(target)
    differing = [
        f"{name} is {have.get(name, 'absent')}, expected {want.get(name, 'nothing')}"
        for name in sorted(have.keys() | want.keys())
        if have.get(name) != want.get(name)
    ]
    return f"{len(differing)} arrays differ: " + "; ".join(differing[:3]) if differing else ""


@contextmanager
def _disk_trouble(folder: Path) -> Iterator[None]:
    """What a disk that refuses raises, and TensorStore wraps in ValueError."""
    try:
        yield
    except (OSError, ValueError) as error:
        reason = ": ".join(str(error).split(": ")[-2:])  # before it, TensorStore names many files
        raise MachineError(
            f"cannot write checkpoints to {folder}: {reason[:300]}\n"
            "Free the disk, then start the same command again; older checkpoints are intact"
        ) from error
