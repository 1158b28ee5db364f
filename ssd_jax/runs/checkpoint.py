"""Checkpoints of a run: saved through Orbax, verified, restored; of one device's copy of the state.

A run keeps two series: `latest` (the newest two checkpoints, to resume from) and `best` (the one
with the highest score). They are separate folders, so that no rule of retention replaces the best
by a later one. A score that is NaN is never best.

    latest/60/           a complete checkpoint: state/ by Orbax, and MANIFEST.json
    latest/60.tmp/       an incomplete one: the process was killed; removed at the next start
    latest/60.damaged/   one that could not be read, renamed when an older one could
"""

import dataclasses
import errno
import functools
import math
import shutil
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from ssd_jax.errors import CheckpointError, ResourceError
from ssd_jax.runs import manifest
from ssd_jax.runtime.devices import local_sharding
from ssd_jax.runtime.distributed import process_index_and_count
from ssd_jax.runtime.progress import log_line

State = Any
_RETENTION = {"latest": 2, "best": 1}
MAX_CHECKPOINTS = sum(_RETENTION.values())
_NOTHING_SAVED = "no checkpoints in {}: has this run saved one yet?"
_ORBAX_ERROR_DELAY_S = 1.0
# Field of the state in checkpoints of version 0.1 -> today's.
_RENAMED_FIELDS = {"skipped_in_a_row": "consecutive_skipped"}


class Checkpoints:
    """The checkpoints of one run, under `folder`. Close it, or use it as a context manager.

    A reader (`create=False`) changes nothing: what a live run is writing stays. A save that fails
    in the background raises ResourceError at the next call. `metadata` goes into every manifest.
    """

    def __init__(self, folder: Path, create: bool = True, metadata: dict | None = None):
        # Orbax requires absolute paths.
        self._folder, self._is_writer, self._metadata = folder.absolute(), create, metadata or {}
        if create:
            with _write_errors(folder):
                for name in _RETENTION:
                    (folder / name).mkdir(parents=True, exist_ok=True)
                for unfinished in folder.glob("*/*tmp*"):
                    shutil.rmtree(unfinished)
        elif not any((folder / name).is_dir() for name in _RETENTION):
            raise CheckpointError(_NOTHING_SAVED.format(folder))
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

        Arrays on a device must not be donated afterwards: `unreplicate` returns copies.
        """
        self._save("latest", state, step, {})

    def save_if_best(self, state: State, step: int, score: float) -> bool:
        """Save when `score` is higher than that of the best checkpoint; a NaN never is.

        Returns when the files are complete: a score that is logged next has its checkpoint.
        """
        if math.isnan(score) or score <= self.best_score():
            return False
        self._save("best", state, step, {"score": score})
        self._wait()
        self._best = score
        return True

    def best_score(self) -> float:
        """Score of the best checkpoint, -inf where none can be read."""
        if self._best is None:
            self._best = self._read_best_score()
        return self._best

    def latest_step(self) -> int | None:
        """Step of the newest checkpoint, damaged or not; None where there is none."""
        return max((int(path.name) for path in self._candidates("latest")), default=None)

    def check(self) -> None:
        """Raise ResourceError if a save has failed in the background; never waits."""
        if self._pending and self._pending.done():
            self._wait()

    def restore(self, which: str, like: State, partial: bool = False) -> State:
        """The state of "best", "latest" or a step number.

        Args:
            which: before the first evaluation, "best" is the latest.
            like: shapes and dtypes of the state.
            partial: `like` is a dict of some fields of the state; the others are not read.

        Every file is verified first. Where one is damaged, that is logged and the checkpoint
        before it is used. Raises CheckpointError where there is none, none can be read, or the
        arrays are not those of `like`.
        """
        self._wait()
        candidates = self._candidates(which)
        if not candidates:
            existing = ", ".join(f"{p.parent.name}/{p.name}" for p in self._candidates("latest"))
            if not existing:
                raise CheckpointError(_NOTHING_SAVED.format(self._folder))
            raise CheckpointError(
                f"no checkpoint {which!r} in {self._folder}; there are: {existing}"
            )
        unreadable = []
        for path in candidates:
            try:
                manifest.read_verified(path)
                problem, state = self._read(path / "state", like, partial)
            except Exception as error:  # whatever Orbax raises for files that it cannot read
                unreadable.append(path)
                log_line(f"checkpoint {path} cannot be restored: {str(error)[:300]}")
                continue
            if problem:
                raise CheckpointError(f"checkpoint {path} cannot be restored: {problem}")
            if unreadable:
                log_line(f"checkpoint {path} is used instead")
            for other in unreadable:
                self._quarantine(other)
            return state
        paths = ", ".join(map(str, unreadable))
        raise CheckpointError(
            f"none of these checkpoints can be restored: {paths}\n"
            "Copy one back from a backup, or start again with another --workdir"
        )

    def close(self) -> None:
        """Wait for a pending save and end the background thread."""
        try:
            self._wait()
        finally:
            self._background.shutdown()
            self._orbax.close()

    def _read(self, path: Path, like: State, partial: bool) -> tuple[str, State | None]:
        """("", the state), or (how its arrays differ from `like`, None)."""
        saved = self._orbax.metadata(path).item_metadata.tree
        old_names = {new: old for old, new in _RENAMED_FIELDS.items() if old in saved}
        saved = {_RENAMED_FIELDS.get(name, name): tree for name, tree in saved.items()}
        fields = _fields(like)
        if partial:
            saved = {name: saved.get(name) for name in fields}
        if problem := _differences(saved, fields):
            return problem, None
        target = jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=local_sharding()),
            {old_names.get(name, name): tree for name, tree in fields.items()
             if jax.tree.leaves(tree)},
        )  # fmt: skip
        arguments = ocp.args.PyTreeRestore(
            target, ocp.checkpoint_utils.construct_restore_args(target), partial_restore=True
        )
        restored = self._orbax.restore(path, args=arguments)
        restored = {_RENAMED_FIELDS.get(name, name): tree for name, tree in restored.items()}
        state = fields | restored
        return "", state if isinstance(like, dict) else type(like)(**state)

    def _save(self, series: str, state: State, step: int, notes: dict) -> None:
        self._wait()
        path = self._folder / series / str(step)
        if path.exists():
            return
        with _write_errors(self._folder):
            _check_disk_space(path.parent, sum(leaf.nbytes for leaf in jax.tree.leaves(state)))
        # Arrays on a device are fetched in the background.
        state = jax.tree.map(lambda x: x if isinstance(x, jax.Array) else np.array(x), state)
        self._pending = self._background.submit(self._write, path, state, {"step": step, **notes})

    def _write(self, path: Path, state: State, notes: dict) -> None:
        unfinished = path.with_name(f"{path.name}.tmp")
        try:
            arguments = ocp.args.PyTreeSave(_fields(jax.tree.map(np.asarray, state)))
            self._orbax.save(unfinished / "state", args=arguments)
            manifest.write(unfinished, notes | self._metadata)
            unfinished.rename(path)
        except BaseException:
            # TensorStore's other writes fail too, and log it: let them, before the folder goes.
            time.sleep(_ORBAX_ERROR_DELAY_S)
            shutil.rmtree(unfinished, ignore_errors=True)  # it may be what fills the disk
            raise
        for old in complete_checkpoints(path.parent)[_RETENTION[path.parent.name] :]:
            shutil.rmtree(old.rename(old.with_name(f"{old.name}.tmp")))

    def _wait(self) -> None:
        pending, self._pending = self._pending, None
        if pending:
            with _write_errors(self._folder):
                pending.result()

    def _candidates(self, which: str) -> list[Path]:
        """Checkpoints that "latest", "best" or a step number may mean, the first choice first."""
        latest, best = (complete_checkpoints(self._folder / name) for name in ("latest", "best"))
        if which == "best":
            return best + latest
        newest_first = sorted(latest + best, key=lambda path: -int(path.name))
        return [path for path in newest_first if which in ("latest", path.name)]

    def _read_best_score(self) -> float:
        for path in complete_checkpoints(self._folder / "best"):
            try:
                return float(manifest.read_verified(path)["score"])
            except (CheckpointError, KeyError) as error:
                log_line(f"the best checkpoint {path} is corrupted: {error}")
                self._quarantine(path)
        return -math.inf

    def _quarantine(self, path: Path) -> None:
        """Rename a checkpoint that cannot be read, so that its step can be saved again."""
        if self._is_writer:
            damaged = path.with_name(f"{path.name}.damaged")
            with _write_errors(self._folder):
                shutil.rmtree(damaged, ignore_errors=True)
                path.rename(damaged)


def _fields(state: State) -> dict[str, Any]:
    """The state, a dataclass or a dict, as a dict by field name, as it is in the files."""
    if isinstance(state, dict):
        return state
    return {field.name: getattr(state, field.name) for field in dataclasses.fields(state)}


def _orbax() -> ocp.Checkpointer:
    """A writer and reader of this process alone, which waits for no other process."""
    index, _ = process_index_and_count()
    alone = ocp.options.MultiprocessingOptions(primary_host=index, active_processes={index})
    handler = ocp.PyTreeCheckpointHandler(multiprocessing_options=alone)
    return ocp.Checkpointer(handler, multiprocessing_options=alone)


def complete_checkpoints(series: Path) -> list[Path]:
    """Folders of complete checkpoints, damaged or not, newest first."""
    paths = series.iterdir() if series.is_dir() else ()
    return sorted((p for p in paths if p.name.isdigit()), key=lambda p: -int(p.name))


def _check_disk_space(folder: Path, need: int) -> None:
    """Raise OSError where the disk has fewer free bytes; fails early, with a short message."""
    free = shutil.disk_usage(folder).free
    if free < need:
        sizes = f"a checkpoint needs {need / 1e6:.1f} MB, {free / 1e6:.1f} MB are free"
        raise OSError(errno.ENOSPC, f"No space left on device: {sizes}")


def _differences(saved: dict, target: dict) -> str:
    """The first arrays that differ in shape or dtype, or are missing; "" where all are equal."""

    def describe(tree: Any) -> dict[str, str]:
        leaves = jax.tree_util.tree_leaves_with_path(tree)
        name = functools.partial(jax.tree_util.keystr, simple=True, separator=".")
        return {name(path): f"{np.dtype(leaf.dtype)}{list(leaf.shape)}" for path, leaf in leaves}

    found, expected = describe(saved), describe(target)
    differing = [
        f"{name} is {found.get(name, 'absent')}, expected {expected.get(name, 'nothing')}"
        for name in sorted(found.keys() | expected.keys())
        if found.get(name) != expected.get(name)
    ]
    return f"{len(differing)} arrays differ: " + "; ".join(differing[:3]) if differing else ""


@contextmanager
def _write_errors(folder: Path) -> Iterator[None]:
    """Raise ResourceError for what a full or read-only disk raises, which TensorStore wraps in
    ValueError."""
    try:
        yield
    except (OSError, ValueError) as error:
        reason = ": ".join(str(error).split(": ")[-2:])  # before it, TensorStore names many files
        raise ResourceError(
            f"cannot write checkpoints to {folder}: {reason[:300]}\n"
            "Free disk space, then start the same command again; older checkpoints are intact"
        ) from error
