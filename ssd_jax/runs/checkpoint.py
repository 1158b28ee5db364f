"""Checkpoints of a run: saved, verified, restored; what is kept, and what is done about damage.

A run keeps two series: `latest` (the newest two checkpoints, to resume from) and `best` (the one
with the highest score). They are separate folders, so that no rule of retention replaces the best
by a later one. A score that is NaN is never best.

    latest/60/           a complete checkpoint: state/ by Orbax, and MANIFEST.json
    latest/60.tmp/       an incomplete one: the process was killed; removed at the next start
    latest/60.damaged/   one that could not be read, renamed when an older one could
    best/60.other_test/  the best of another test set or other thresholds, when these changed
"""

import errno
import math
import re
import shutil
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

import jax
import numpy as np

from ssd_jax.config.versions import upgrade
from ssd_jax.errors import CheckpointError, ResourceError
from ssd_jax.runs import manifest
from ssd_jax.runs.state_files import State, StateFiles, num_bytes
from ssd_jax.runtime.progress import log_line

_RETENTION = {"latest": 2, "best": 1}
MAX_CHECKPOINTS = sum(_RETENTION.values())
_NOTHING_SAVED = "no checkpoints in {}: has this run saved one yet?"
_ORBAX_ERROR_DELAY_S = 1.0
_STEP = re.compile("0|[1-9][0-9]{0,17}")
_UNFINISHED = re.compile(rf"({_STEP.pattern})\.(tmp|orbax-checkpoint-tmp.*)")
_MAX_LISTINGS = 100  # by a reader, of a run that saves faster than it reads


class Checkpoints:
    """The checkpoints of one run, under `folder`. Close it, or use it as a context manager.

    A reader (`create=False`) changes nothing: what a live run is writing stays. A save that fails
    in the background raises ResourceError at the next call. `metadata` goes into every manifest.
    """

    def __init__(self, folder: Path, create: bool = True, metadata: dict | None = None):
        self._folder, self._is_writer = folder.absolute(), create
        self._metadata = dict(metadata or {})
        if create:
            with _write_errors(folder):
                for name in _RETENTION:
                    (folder / name).mkdir(parents=True, exist_ok=True)
                    for path in (folder / name).iterdir():
                        if _UNFINISHED.fullmatch(path.name):
                            _remove(path)
        elif not any((folder / name).is_dir() for name in _RETENTION):
            raise CheckpointError(_NOTHING_SAVED.format(folder))
        self._files = StateFiles(self._folder)
        self._background = ThreadPoolExecutor(1, "save")
        self._pending: Future | None = None
        self._best: float | None = None

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def add_metadata(self, values: dict) -> None:
        """Put more into the manifests of later checkpoints."""
        self._metadata |= values

    def save(self, state: State, step: int, notes: dict | None = None) -> None:
        """Save as the latest; returns before the first file is written.

        `notes` are JSON values that go into the manifest.
        Arrays on a device must not be donated afterwards: `unreplicate` returns copies.
        """
        self._save("latest", state, step, notes or {})

    def save_if_best(
        self, state: State, step: int, score: float, notes: dict | None = None
    ) -> bool:
        """Save when no score before was higher; a NaN never is best.

        Of equal scores the last is the best: a small set soon tells states no longer apart. But
        what a run started from, at step 0, stays until it is beaten. Returns when the files are
        complete: a score that is logged next has its checkpoint. A best checkpoint of other test
        data or thresholds than those of `metadata` is put aside.
        """
        best = self.best_score()
        if math.isnan(score) or score < best or (score == best and self.best_step() == 0):
            return False
        self._put_aside_other_bests()
        self._save("best", state, step, {"score": score} | (notes or {}))
        self._wait()
        self._best = score
        return True

    def best_score(self) -> float:
        """Score of the best checkpoint, -inf where none can be read or compared."""
        if self._best is None:
            self._best = self._read_best_score()
        return self._best

    def best_step(self) -> int | None:
        """Step of the best checkpoint; None where there is none."""
        return next((int(p.name) for p in complete_checkpoints(self._folder / "best")), None)

    def latest_step(self) -> int | None:
        """Step of the newest checkpoint, damaged or not; None where there is none."""
        return max((int(path.name) for path in self._candidates("latest")), default=None)

    def newest_manifest(self) -> dict | None:
        """Manifest of the newest checkpoint that has one; {} where all are damaged.

        None where there is no checkpoint. Its `metadata` is that of the run which saved it.
        """
        candidates = self._candidates("latest")
        for path in candidates:
            with suppress(CheckpointError):
                return manifest.read(path)
        return {} if candidates else None

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
        for _ in range(_MAX_LISTINGS):
            candidates = self._candidates(which)
            if not candidates:
                raise self._no_checkpoint(which)
            with suppress(_RotatedError):
                return self._restore_first(candidates, like, partial)
        raise CheckpointError(
            f"{self._folder} is saved to faster than it can be read: stop its run, or copy it"
        )

    def close(self) -> None:
        """Wait for a pending save and end the background thread."""
        try:
            self._wait()
        finally:
            self._background.shutdown()
            self._files.close()

    def _restore_first(self, candidates: list[Path], like: State, partial: bool) -> State:
        """The first that is intact. Raises _RotatedError where one is gone meanwhile."""
        unreadable = []
        for path in candidates:
            try:
                manifest.read_verified(path)
                problem, state = self._files.read(path / "state", like, partial)
                failure = None
            except Exception as error:  # whatever Orbax raises for files that it cannot read
                failure = str(error)[:300]
            if not path.exists():  # its files may have gone before they were read
                raise _RotatedError
            if failure is not None:
                unreadable.append(path)
                log_line(f"checkpoint {path} cannot be restored: {failure}")
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

    def _no_checkpoint(self, which: str) -> CheckpointError:
        existing = ", ".join(f"{p.parent.name}/{p.name}" for p in self._candidates("latest"))
        if not existing:
            return CheckpointError(_NOTHING_SAVED.format(self._folder))
        return CheckpointError(f"no checkpoint {which!r} in {self._folder}; there are: {existing}")

    def _save(self, series: str, state: State, step: int, notes: dict) -> None:
        self._wait()
        path = self._folder / series / str(step)
        if path.is_dir():
            return
        with _write_errors(self._folder):
            _check_disk_space(path.parent, num_bytes(state))
        # Arrays on a device are fetched in the background.
        state = jax.tree.map(lambda x: x if isinstance(x, jax.Array) else np.array(x), state)
        self._pending = self._background.submit(self._write, path, state, {"step": step, **notes})

    def _write(self, path: Path, state: State, notes: dict) -> None:
        unfinished = path.with_name(f"{path.name}.tmp")
        try:
            self._files.write(unfinished / "state", jax.tree.map(np.asarray, state))
            manifest.write(unfinished, notes | self._metadata)
            unfinished.rename(path)
        except BaseException:
            # TensorStore's other writes fail too, and log it: let them, before the folder goes.
            time.sleep(_ORBAX_ERROR_DELAY_S)
            shutil.rmtree(unfinished, ignore_errors=True)  # it may be what fills the disk
            raise
        for old in complete_checkpoints(path.parent)[_RETENTION[path.parent.name] :]:
            _remove(old.rename(old.with_name(f"{old.name}.tmp")))

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
                content = manifest.read_verified(path)
                score = float(content["score"])
            except (CheckpointError, KeyError, TypeError, ValueError) as error:
                log_line(f"the best checkpoint {path} is corrupted: {error}")
                self._quarantine(path)
                continue
            if _is_comparable(content, self._metadata):
                return score
            log_line(
                f"the best checkpoint {path} (score {score:.4f}) is of other test data or "
                "thresholds: the next evaluation is the best of these"
            )
        return -math.inf

    def _put_aside_other_bests(self) -> None:
        """Rename a best checkpoint that cannot be compared: the next one does not replace it."""
        if self.best_score() > -math.inf:
            return
        for path in complete_checkpoints(self._folder / "best"):
            self._rename(path, "other_test")

    def _quarantine(self, path: Path) -> None:
        """Rename a checkpoint that cannot be read, so that its step can be saved again."""
        if self._is_writer:
            self._rename(path, "damaged")

    def _rename(self, path: Path, suffix: str) -> None:
        target = path.with_name(f"{path.name}.{suffix}")
        with _write_errors(self._folder):
            _remove(target)
            path.rename(target)


class _RotatedError(Exception):
    """A checkpoint was removed by its run while it was read."""


def _is_comparable(saved: dict, own: dict) -> bool:
    """Whether scores of two runs are of the same test data and thresholds, by their metadata.

    Manifests of version 0.1 tell the test data by its name, later ones by its fingerprint too.
    What is not told is taken to be the same.
    """
    if not ("config" in saved and "config" in own):
        return True
    values, own_values = upgrade(saved["config"]), upgrade(own["config"])
    choices = _choosing_data(saved), _choosing_data(own)
    if all(choices):
        same_data = choices[0] == choices[1]
    else:
        same_data = values["data"]["test"] == own_values["data"]["test"]
    return same_data and values["postprocess"] == own_values["postprocess"]


def _choosing_data(metadata: dict) -> str | None:
    """The fingerprint of the set that chooses the best checkpoint; None where it is not told."""
    return metadata.get("val_data") or metadata.get("test_data")


def complete_checkpoints(series: Path) -> list[Path]:
    """Folders of complete checkpoints, damaged or not, newest first."""
    paths = series.iterdir() if series.is_dir() else ()
    steps = (p for p in paths if _STEP.fullmatch(p.name) and p.is_dir())
    return sorted(steps, key=lambda p: -int(p.name))


def _remove(path: Path) -> None:
    """Remove a folder with all in it; a file or a link itself; nothing where there is none."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _check_disk_space(folder: Path, need: int) -> None:
    """Raise OSError where the disk has fewer free bytes; fails early, with a short message."""
    free = shutil.disk_usage(folder).free
    if free < need:
        sizes = f"a checkpoint needs {need / 1e6:.1f} MB, {free / 1e6:.1f} MB are free"
        raise OSError(errno.ENOSPC, f"No space left on device: {sizes}")


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
