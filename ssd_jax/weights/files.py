"""Weight files of tensors by name: safetensors, npz, and PyTorch's pth. Nothing is unpickled.

Formats: huggingface/safetensors, README "Format"; numpy `lib/format.py`; `torch.load` with
`weights_only=True`. Every read is bounded by the size of the file.
"""

import json
import math
import struct
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from ssd_jax.errors import CheckpointError
from ssd_jax.weights.imported import ImportedWeights

_DTYPES = {
    "F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2", "I64": "<i8", "I32": "<i4",
    "I16": "<i2", "I8": "i1", "U8": "u1", "BOOL": "?",
}  # fmt: skip
_MAX_EXPANSION = 100  # that a file may grow when it is unpacked; trained weights hardly do


def read_tensors(path: Path) -> dict[str, np.ndarray]:
    """Tensors by name, floating ones as float32: by the suffix, .safetensors, .npz, .pth or .pt.

    Raises CheckpointError for a file that is damaged or none of these.
    """
    readers = {".safetensors": safetensors, ".npz": npz, ".pth": pth, ".pt": pth}
    if path.suffix not in readers:
        raise CheckpointError(f"{path}: unknown suffix; weight files are {', '.join(readers)}")
    with _unreadable_as_error(path):
        found = readers[path.suffix](path)
        with np.errstate(all="ignore"):  # numbers that are not finite are reported by name later
            return {
                name: value.astype(np.float32) if value.dtype.kind == "f" else value
                for name, value in found.items()
            }


@contextmanager
def _unreadable_as_error(path: Path) -> Iterator[None]:
    """Readers of other projects fail in every way on damaged files: all of them mean the same."""
    try:
        yield
    except CheckpointError:
        raise
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror or error})") from error
    except Exception as error:
        reason = f"{type(error).__name__}: {str(error)[:200]}"
        raise CheckpointError(f"{path}: not a whole {path.suffix} file ({reason})") from error


def safetensors(path: Path) -> dict[str, np.ndarray]:
    """Tensors of a safetensors file: 8 bytes of length, a JSON header, then the numbers."""
    data = np.memmap(path, np.uint8, "r") if path.stat().st_size else b""
    (length,) = struct.unpack_from("<Q", data)
    if length > len(data) - 8:
        raise ValueError(f"a header of {length} bytes in a file of {len(data)}")
    header = json.loads(bytes(data[8 : 8 + length]), object_pairs_hook=_without_repetition)
    header.pop("__metadata__", None)
    spans = sorted((entry["data_offsets"], name) for name, entry in header.items())
    found, end = {}, 0
    for (first, last), name in spans:
        dtype, shape = np.dtype(_DTYPES[header[name]["dtype"]]), header[name]["shape"]
        sizes = [first, last, *shape]
        if any(type(size) is not int or size < 0 for size in sizes) or first != end:
            raise ValueError(f"{name!r} is {shape} at {first} … {last}, after {end}")
        if math.prod(shape) * dtype.itemsize != last - first or 8 + length + last > len(data):
            raise ValueError(f"{name!r} {shape} has {last - first} bytes, or they are cut off")
        value = np.frombuffer(data, dtype, math.prod(shape), 8 + length + first).reshape(shape)
        if header[name]["dtype"] == "BF16":  # the upper half of a float32
            value = (value.astype(np.uint32) << np.uint32(16)).view(np.float32)
        found[name], end = value, last
    if 8 + length + end != len(data):
        raise ValueError(f"{len(data) - 8 - length - end} bytes too many")
    return found


def _without_repetition(pairs: list[tuple]) -> dict:
    if len(dict(pairs)) < len(pairs):
        raise ValueError("a name is there twice")
    return dict(pairs)


def npz(path: Path) -> dict[str, np.ndarray]:
    """Arrays of a NumPy archive; those of objects, which would be unpickled, are refused."""
    found, size = {}, path.stat().st_size
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        if sum(member.file_size for member in members) > _MAX_EXPANSION * size:
            raise ValueError(f"{size} bytes claim to hold far more")
        for member in members:
            name = member.filename.removesuffix(".npy")
            if name in found or member.compress_size > size:
                raise ValueError(f"{name!r} is there twice, or cut off")
            if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise ValueError(f"{name!r} is packed in a way that NumPy does not write")
            with archive.open(member) as file:
                found[name] = _npy(file, member.file_size)
    return found


def _npy(file, size: int) -> np.ndarray:
    version = np.lib.format.read_magic(file)
    read_header = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }[version]
    shape, by_column, dtype = read_header(file)
    content = b"" if dtype.hasobject else file.read(size)
    if dtype.itemsize * math.prod(shape) != len(content):
        raise ValueError(f"{shape} of {dtype} in {len(content)} bytes")
    return np.frombuffer(content, dtype).reshape(shape, order="F" if by_column else "C")


def pth(path: Path) -> dict[str, np.ndarray]:
    """Tensors of a PyTorch file, of its `model` or `state_dict` where it holds more."""
    try:
        import torch
    except ModuleNotFoundError as error:
        raise CheckpointError(
            f"{path} needs PyTorch to be read: pip install torch, or convert it to safetensors"
        ) from error
    state = torch.load(path, map_location="cpu", weights_only=True)
    for key in ("model", "state_dict"):
        state = state.get(key, state)
    values = {name: value for name, value in state.items() if isinstance(value, torch.Tensor)}
    numbers = sum(value.numel() for value in values.values())
    if not 0 < 4 * numbers <= _MAX_EXPANSION * path.stat().st_size:
        raise ValueError(f"{len(values)} tensors by name that claim to hold {numbers} numbers")
    floats = {name: v.float() if v.is_floating_point() else v for name, v in values.items()}
    return {name: value.detach().numpy() for name, value in floats.items()}


def parse_native(found: dict[str, np.ndarray]) -> ImportedWeights:
    """Tensors of an npz of our names (see `write_npz`)."""
    groups: dict[str, dict] = {"params": {}, "batch_stats": {}}
    classes, priors = (), None
    for name, value in found.items():
        group, _, rest = name.partition("/")
        if name == "classes" and value.dtype.kind == "U" and value.ndim == 1:
            classes = tuple(map(str, value))
        elif name == "priors" and value.ndim == 2:
            priors = value
        elif group in groups and rest:
            groups[group][rest] = value
        else:
            raise CheckpointError(
                f"{name!r} {list(value.shape)} is none of params/…, batch_stats/…, classes, priors"
            )
    return ImportedWeights(**groups, classes=classes, priors=priors)


def write_npz(path: Path, weights: ImportedWeights) -> None:
    """Write what `parse_native` reads back."""
    arrays = {f"params/{name}": value for name, value in weights.params.items()}
    arrays |= {f"batch_stats/{name}": value for name, value in weights.batch_stats.items()}
    if weights.classes:
        arrays["classes"] = np.array(weights.classes)
    if weights.priors is not None:
        arrays["priors"] = weights.priors
    np.savez(path, **arrays)
