"""What the folder of a checkpoint holds, in its MANIFEST.json: the checksum of every file.

Orbax reads a flipped bit as another weight and says nothing, so files are summed when they are
written and again before they are read. CRC-32 finds every damage of up to 32 bits in a row, and
another with probability 1 - 2^-32; it guards against decay, not against forgery.
"""

import json
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from ssd_jax.errors import CheckpointError

_NAME = "MANIFEST.json"
_BLOCK = 1 << 20  # bytes


def write(folder: Path, about: dict) -> None:
    """Sum the files under `folder`, which is complete but for this; `about` is kept with them."""
    content = about | {"files": _sums(folder, _files(folder))}
    content["crc32"] = _sum_of(content)
    (folder / _NAME).write_text(json.dumps(content, indent=1) + "\n")


def verified(folder: Path) -> dict:
    """The manifest of `folder`, all of whose files are as they were written.

    Raises CheckpointError naming the first file that is not.
    """
    try:
        content = json.loads((folder / _NAME).read_text())
        whole = content.pop("crc32") == _sum_of(content)
    except FileNotFoundError as error:
        raise CheckpointError(f"{_NAME} is absent") from error
    except (ValueError, KeyError, TypeError, AttributeError):
        whole = False
    if not whole:
        raise CheckpointError(f"{_NAME} is damaged")
    expected = content["files"]
    found = _sums(folder, [name for name in expected if (folder / name).is_file()])
    for name in expected:
        if found.get(name) != expected[name]:
            what = f"damaged: {found[name]}, not {expected[name]}" if name in found else "absent"
            raise CheckpointError(f"{name} is {what} (bytes, CRC-32)")
    return content


def _files(folder: Path) -> list[str]:
    paths = (path for path in folder.rglob("*") if path.is_file() and path.name != _NAME)
    return sorted(str(path.relative_to(folder)) for path in paths)


def _sums(folder: Path, names: list[str]) -> dict[str, list]:
    """Name -> [bytes, CRC-32], several files at once."""
    with ThreadPoolExecutor(4) as pool:
        return dict(zip(names, pool.map(lambda name: _sum(folder / name), names)))


def _sum(path: Path) -> list:
    size = checksum = 0
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            size, checksum = size + len(block), zlib.crc32(block, checksum)
    return [size, f"{checksum:08x}"]


def _sum_of(content: dict) -> str:
    return f"{zlib.crc32(json.dumps(content, sort_keys=True).encode()):08x}"
