"""Checksums inside files: a JSON object or a NumPy array that shows whether it is intact.

Each file holds its own, so that a kill between the writes of two files never looks like damage.
CRC-32 detects all errors within 32 bits, and others with probability 1 - 2^-32; it does not
protect against intentional changes. A file of version 0.1, or one whose checksum was removed to
edit it, has none.

Errors are CheckpointErrors whose message follows the name of the file: "does not match …".
"""

import io
import json
import zlib
from typing import Any

import numpy as np

from ssd_jax.errors import CheckpointError
from ssd_jax.runtime.files import format_json, parse_json

_KEY = "crc32"
_DAMAGED = "does not match its checksum"


def format_object(content: dict[str, Any]) -> bytes:
    """Content of a JSON file: the object with the checksum of its other values."""
    return format_json(content | {_KEY: _of_json(content)})


def parse_object(text: bytes) -> tuple[dict[str, Any], bool]:
    """A JSON object without its checksum, and whether it had one.

    Raises CheckpointError where it is no object, or not intact.
    """
    try:
        content = parse_json(text)
        has_checksum = isinstance(content, dict) and _KEY in content
        is_intact = not has_checksum or content.pop(_KEY) == _of_json(content)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"is not JSON ({error})") from error
    if not isinstance(content, dict):
        raise CheckpointError("is not a JSON object")
    if not is_intact:
        raise CheckpointError(_DAMAGED)
    return content, has_checksum


def array_to_bytes(array: np.ndarray) -> bytes:
    """Content of a .npy file: the array, and behind it its checksum as a second array."""
    content = _save(array)
    return content + _of_bytes(content)


def parse_array(content: bytes) -> tuple[np.ndarray, bool]:
    """The array of a .npy file, and whether a checksum follows it.

    Raises CheckpointError where it is no array, or not intact.
    """
    file = io.BytesIO(content)
    try:
        array = np.load(file, allow_pickle=False)
    except Exception as error:  # whatever NumPy raises for a damaged header
        raise CheckpointError("is not a .npy file") from error
    end = file.tell()
    if content[end:] not in (b"", _of_bytes(content[:end])):
        raise CheckpointError(_DAMAGED)
    return array, end < len(content)


def _of_json(content: Any) -> str:
    return f"{zlib.crc32(json.dumps(content, sort_keys=True).encode()):08x}"


def _of_bytes(content: bytes) -> bytes:
    return _save(np.uint32(zlib.crc32(content)))


def _save(array: np.ndarray | np.generic) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()
