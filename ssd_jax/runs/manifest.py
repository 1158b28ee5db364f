"""MANIFEST.json of a checkpoint's folder: the size and checksum of every file in it.

Orbax does not notice a flipped bit, it reads another weight. Checksums are therefore computed when
files are written and compared before they are read. CRC-32 detects all errors within 32 bits, and
others with probability 1 - 2^-32; it does not protect against intentional changes.
"""

import json
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from ssd_jax.errors import CheckpointError

_FILE_NAME = "MANIFEST.json"
_BLOCK_BYTES = 1 << 20


def write(folder: Path, metadata: dict) -> None:
    """Write the manifest of a folder whose other files are complete; `metadata` goes into it."""
    content = metadata | {"files": _checksums(folder, _files(folder))}
    content["crc32"] = _content_checksum(content)
    (folder / _FILE_NAME).write_text(json.dumps(content, indent=1) + "\n")


def read_verified(folder: Path) -> dict:
    """The manifest of a folder, after comparing the checksums of all files in it.

    Raises CheckpointError naming the first file that is damaged or missing.
    """
    try:
        content = json.loads((folder / _FILE_NAME).read_text())
        is_intact = content.pop("crc32") == _content_checksum(content)
    except FileNotFoundError as error:
        raise CheckpointError(f"{_FILE_NAME} is absent") from error
    except (ValueError, KeyError, TypeError, AttributeError):
        is_intact = False
    if not is_intact:
        raise CheckpointError(f"{_FILE_NAME} is damaged")
    expected = content["files"]
    found = _checksums(folder, [name for name in expected if (folder / name).is_file()])
    for name in expected:
        if found.get(name) != expected[name]:
            what = f"damaged: {found[name]}, not {expected[name]}" if name in found else "absent"
            raise CheckpointError(f"{name} is {what} (bytes, CRC-32)")
    return content


def _files(folder: Path) -> list[str]:
    paths = (path for path in folder.rglob("*") if path.is_file() and path.name != _FILE_NAME)
    return sorted(str(path.relative_to(folder)) for path in paths)


def _checksums(folder: Path, names: list[str]) -> dict[str, list]:
    """Name -> [bytes, CRC-32], several files at once."""
    with ThreadPoolExecutor(4) as pool:
        return dict(zip(names, pool.map(lambda name: _checksum(folder / name), names)))


def _checksum(path: Path) -> list:
    size = checksum = 0
    with path.open("rb") as file:
        while block := file.read(_BLOCK_BYTES):
            size, checksum = size + len(block), zlib.crc32(block, checksum)
    return [size, f"{checksum:08x}"]


def _content_checksum(content: dict) -> str:
    return f"{zlib.crc32(json.dumps(content, sort_keys=True).encode()):08x}"
