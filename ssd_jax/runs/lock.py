"""The lock of a run folder: one live run at a time, whose processes all see the folder."""

import fcntl
import os
import uuid
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import IO

from ssd_jax.errors import ResourceError
from ssd_jax.runtime import distributed

_FILE_NAME = ".lock"


def lock_run_folder(folder: Path) -> AbstractContextManager:
    """Make the folder and lock it for this run, until the returned context ends.

    Raises ResourceError where it cannot be written, another run holds the lock, or a process of
    this run does not see the folder.
    """
    token = uuid.uuid4().hex
    lock = _acquire_lock(folder, token) if distributed.is_main_process() else nullcontext()
    token, *_ = distributed.allgather_json(token)
    sees_lock = distributed.allgather_json(read_token(folder) == token)
    if not all(sees_lock):
        raise ResourceError(
            f"process {sees_lock.index(False)} does not see the {folder} of process 0: "
            "name a --workdir on a file system that all machines share"
        )
    return lock


def _acquire_lock(folder: Path, token: str) -> IO:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # Not "w": the token of a run that holds the lock stays.
        handle = (folder / _FILE_NAME).open("a")
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            handle.truncate(0)
            handle.write(token)
            handle.flush()
            os.fsync(handle.fileno())
        except OSError:
            handle.close()
            raise
    except BlockingIOError as error:
        raise ResourceError(
            f"{folder} is in use by a live run; wait for it or choose another --workdir"
        ) from error
    except OSError as error:
        raise ResourceError(
            f"cannot write to {folder}: {error.strerror}; choose another --workdir"
        ) from error
    return handle


def read_token(folder: Path) -> str:
    """The random text that the newest run in the folder has written; "" before the first."""
    try:
        return (folder / _FILE_NAME).read_text(errors="replace")
    except OSError:
        return ""
