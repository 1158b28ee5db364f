"""Files that appear whole or not at all."""

import json
import os
from pathlib import Path
from typing import Any

from ssd_jax.errors import ResourceError


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file, and the folders above it, so that a reader sees all of it or the old one.

    Raises ResourceError where it cannot be written.
    """
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.tmp")
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


def write_json(path: Path, value: Any) -> None:
    """`write_bytes` of a JSON value, indented."""
    write_bytes(path, (json.dumps(value, indent=2) + "\n").encode())
