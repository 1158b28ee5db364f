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
        if content.pop("crc32") != _sum_of(content):
            raise ValueError("the checksum differs")
        expected = content["files"]
    except FileNotFoundError as error:
        raise CheckpointError(f"{_NAME} is absent") from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{_NAME} is damaged ({error})") from error
    names = [name for name in expected if (folder / name).is_file()]
    found = _sums(folder, names)
    for name, (size, checksum) in expected.items():
        if name not in found:
            raise CheckpointError(f"{name} is absent")
        if found[name][0] != size:
            raise CheckpointError(f"{name} has {found[name][0]} bytes, not {size}")
        if found[name][1] != checksum:
            raise CheckpointError(f"{name} is damaged: its checksum differs")
    return content


def _files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


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
