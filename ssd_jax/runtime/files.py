"""Files that appear whole or not at all, and JSON files."""

import json
import os
import uuid
from pathlib import Path
from typing import Any

from ssd_jax.errors import ResourceError


def user_cache_folder() -> Path:
    """$XDG_CACHE_HOME/ssd_jax, or ~/.cache/ssd_jax. Raises RuntimeError where there is no home."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ssd_jax"


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file, and the folders above it, so that a reader sees all of it or the old one.

    Raises ResourceError where it cannot be written.
    """
    # A short name: that of `path` may be as long as the file system allows.
    unfinished = path.with_name(f".{uuid.uuid4().hex}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            unfinished.write_bytes(content)
            unfinished.replace(path)
        finally:
            unfinished.unlink(missing_ok=True)
    except OSError as error:
        raise ResourceError(
            f"cannot write {path} ({error.strerror}): free disk space or choose a folder that can "
            "be written"
        ) from error


def read_if_possible(path: Path) -> bytes | None:
    """The content of a file; None where it is absent or cannot be read."""
    try:
        return path.read_bytes()
    except OSError:
        return None


def write_json(path: Path, value: Any) -> None:
    """`write_bytes` of a JSON value, indented."""
    write_bytes(path, format_json(value))


def format_json(value: Any) -> bytes:
    """A JSON value as the content of a file, indented."""
    return (json.dumps(value, indent=2) + "\n").encode()


def parse_json(text: str | bytes) -> Any:
    """A JSON value. Raises ValueError for anything else, and for values nested too deep."""
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError("nested too deep") from error


def read_json(path: Path) -> Any:
    """The value of a JSON file. Raises OSError or ValueError."""
    return parse_json(path.read_bytes())
