"""Files of a data set: read with errors that name them, and told apart by their paths."""

import errno
import io
import os
import stat
from collections.abc import Hashable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from ssd_jax.data.messages import printable
from ssd_jax.errors import DataError

_MISSING = "files that are missing or cannot be read"
Key = TypeVar("Key", bound=Hashable)


@contextmanager
def named_errors(path: str | os.PathLike, what: str, reason: str = _MISSING) -> Iterator[None]:
    """Turn errors of the file system into DataError: "PATH: cannot read `what` (why)".

    A path that no file can have is one of them: with a zero byte, or with half a character.
    """
    try:
        yield
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        raise DataError(f"{printable(path)}: cannot read {what} ({why})", reason) from error


def is_possible_path(path: str) -> bool:
    """Whether a file could have this path: no zero byte, no half of a character."""
    try:
        return b"\0" not in os.fsencode(path)
    except UnicodeEncodeError:
        return False


def file_status(path: str | os.PathLike) -> os.stat_result:
    """`os.stat` of a regular file. Raises OSError for any other: a pipe has no end to wait for."""
    status = os.stat(path)
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "not a regular file")
    return status


def open_file(path: str | os.PathLike) -> io.BufferedIOBase:
    """A regular file, opened for reading. Errors: those of the file system."""
    file_status(path)
    return open(path, "rb")


def read_bytes(path: str | os.PathLike, what: str, reason: str = _MISSING) -> bytes:
    """The content of a regular file. Raises DataError, see `named_errors`."""
    with named_errors(path, what, reason):
        size = file_status(path).st_size
        # Without a buffer, and with the size known, it takes half of the system calls.
        with open(path, "rb", buffering=0) as file:
            content = file.read(size + 1)
            return content if len(content) == size else content + file.read()


def read_text(path: str | os.PathLike, what: str) -> str:
    """The content of a UTF-8 file, without its byte order mark. Raises DataError."""
    with named_errors(path, what):
        return read_bytes(path, what).decode("utf-8-sig")


def read_lines(path: str | os.PathLike, what: str) -> list[str]:
    """The lines of a UTF-8 file, stripped; empty ones too. Raises DataError.

    Only line feeds and carriage returns end a line: a name may hold U+0085 and the like.
    """
    return [line.strip() for line in io.StringIO(read_text(path, what), newline=None)]


def file_keys(paths: Mapping[Key, Path]) -> dict[Key, str]:
    """A text for each path that is the same for all spellings of it: relative, with `..`, …

    Links of folders are followed. Links to files are not: each has a name, and may have labels,
    of its own.
    """
    folders: dict[str, str] = {}
    keys = {}
    for key, path in paths.items():
        folder, name = os.path.split(path)
        if folder not in folders:
            try:
                folders[folder] = os.path.realpath(folder)
            except ValueError:  # no file can have such a path: reading it will say so
                folders[folder] = folder
        keys[key] = os.path.join(folders[folder], name)
    return keys


def repeated_files(paths: Mapping[Key, Path]) -> dict[Key, Key]:
    """The keys whose file an earlier one names, by any spelling -> that earlier key."""
    first: dict[str, Key] = {}
    firsts = {key: first.setdefault(text, key) for key, text in file_keys(paths).items()}
    return {key: other for key, other in firsts.items() if other != key}
