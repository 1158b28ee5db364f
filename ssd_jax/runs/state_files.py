"""The files of one state, written and read through Orbax; of one device's copy of the state."""

import dataclasses
import functools
import glob
import tempfile
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from ssd_jax.errors import ResourceError
from ssd_jax.runtime.devices import local_sharding
from ssd_jax.runtime.distributed import process_index_and_count

State = Any
# Field of the state in checkpoints of version 0.1 -> today's.
_RENAMED_FIELDS = {"skipped_in_a_row": "consecutive_skipped"}


class StateFiles:
    """Writes and reads states in folders below `root`, for this process alone. Close it."""

    def __init__(self, root: Path):
        self._root = root.absolute()  # Orbax requires absolute paths
        self._alias = _alias(self._root)
        index, _ = process_index_and_count()
        alone = ocp.options.MultiprocessingOptions(primary_host=index, active_processes={index})
        handler = ocp.PyTreeCheckpointHandler(multiprocessing_options=alone)
        self._orbax = ocp.Checkpointer(handler, multiprocessing_options=alone)
        self._was_read_back = False

    def close(self) -> None:
        self._orbax.close()
        if self._alias:
            self._alias.cleanup()

    def write(self, folder: Path, state: State) -> None:
        """Write a state, a dataclass or a dict of host arrays. Raises what Orbax raises.

        The first one is read back: raises ResourceError where that fails.
        """
        fields = _fields(state)
        self._orbax.save(self._orbax_path(folder), args=ocp.args.PyTreeSave(fields))
        if not self._was_read_back:
            self._read_back(folder, fields)
            self._was_read_back = True

    def read(self, folder: Path, like: State, partial: bool = False) -> tuple[str, State | None]:
        """("", the state), or (how its arrays differ from `like`, None). Raises what Orbax raises.

        Args:
            like: shapes and dtypes of the state.
            partial: `like` is a dict of some fields of the state; the others are not read.
        """
        path = self._orbax_path(folder)
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

    def _read_back(self, folder: Path, fields: dict[str, Any]) -> None:
        """Raise ResourceError unless the smallest field is read as it was written.

        What makes all states unreadable here then ends a run at its first save.
        """
        sizes = {name: num_bytes(tree) for name, tree in fields.items() if jax.tree.leaves(tree)}
        smallest = min(sizes, key=lambda name: sizes[name])
        written = {smallest: fields[smallest]}
        try:
            problem, found = self.read(folder, written, partial=True)
            if not problem and not jax.tree.all(jax.tree.map(np.array_equal, found, written)):
                problem = f"{smallest} has other values"
        except Exception as error:  # whatever Orbax raises for files that it cannot read
            problem = str(error)[:300]
        if problem:
            raise ResourceError(
                f"a checkpoint written to {self._root} cannot be read back ({problem}): choose a "
                "--workdir on another file system, or with another name"
            )

    def _orbax_path(self, folder: Path) -> Path:
        folder = folder.absolute()
        if self._alias is None:
            return folder
        return Path(self._alias.name, "root", folder.relative_to(self._root))


def num_bytes(state: State) -> int:
    """Size of all arrays."""
    return sum(leaf.nbytes for leaf in jax.tree.leaves(state))


def _fields(state: State) -> dict[str, Any]:
    """The state, a dataclass or a dict, as a dict by field name, as it is in the files."""
    if isinstance(state, dict):
        return state
    return {field.name: getattr(state, field.name) for field in dataclasses.fields(state)}


def _alias(root: Path) -> tempfile.TemporaryDirectory | None:
    """A folder with a link to `root`, where Orbax would misread the name of `root`; else None.

    Orbax globs below its path, and TensorStore takes a backslash for a slash and only UTF-8.
    """
    name = str(root)
    is_text = name.encode(errors="ignore").decode() == name
    if is_text and glob.escape(name) == name and "\\" not in name:
        return None
    try:
        alias = tempfile.TemporaryDirectory(prefix="ssd_jax_")
        Path(alias.name, "root").symlink_to(root, target_is_directory=True)
    except OSError as error:
        raise ResourceError(
            f"Orbax cannot take the name {root}, and no link to it can be made in "
            f"{tempfile.gettempdir()} ({error.strerror}): choose a --workdir without *?[]\\"
        ) from error
    return alias


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
