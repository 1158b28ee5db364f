"""MANIFEST.json of a checkpoint's folder: the size and checksum of every file in it.

Orbax does not notice a flipped bit, it reads another weight. Checksums are therefore computed when
files are written and compared before they are read.
"""

import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from ssd_jax.errors import CheckpointError
from ssd_jax.runtime.checksum import format_object, parse_object

_FILE_NAME = "MANIFEST.json"
_BLOCK_BYTES = 1 << 20


def write(folder: Path, metadata: dict) -> None:
    """Write the manifest of a folder whose other files are complete; `metadata` goes into it."""
    content = metadata | {"files": _checksums(folder, _files(folder))}
    (folder / _FILE_NAME).write_bytes(format_object(content))


def read(folder: Path) -> dict:
    """The manifest of a folder; the other files are not compared.

    Raises CheckpointError where it is absent or damaged.
    """
    try:
        content, has_checksum = parse_object((folder / _FILE_NAME).read_bytes())
    except FileNotFoundError as error:
        raise CheckpointError(f"{_FILE_NAME} is absent") from error
    except (OSError, CheckpointError) as error:
        raise CheckpointError(f"{_FILE_NAME} is damaged") from error
    if not has_checksum or not isinstance(content.get("files"), dict):
        raise CheckpointError(f"{_FILE_NAME} is damaged")
    return content


def read_verified(folder: Path) -> dict:
    """The manifest of a folder, after comparing the checksums of all files in it.

    Raises CheckpointError naming the first file that is damaged or missing.
    """
    content = read(folder)
    expected = content["files"]
    try:
        found = _checksums(folder, [name for name in expected if (folder / name).is_file()])
    except OSError as error:
        raise CheckpointError(f"{error.filename} cannot be read ({error.strerror})") from error
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
