"""Weight files of tensors by name: safetensors, npz, and PyTorch's pth. Nothing is unpickled.

Formats: the `safetensors` package; numpy `lib/format.py`; `pytorch_file`.
Every read is bounded by the size of the file.
"""

import math
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import ml_dtypes  # gives NumPy bfloat16
import numpy as np
from safetensors.numpy import load_file

from ssd_jax.errors import CheckpointError
from ssd_jax.weights import pytorch_file
from ssd_jax.weights.imported import ImportedWeights

_MAX_EXPANSION = 100  # that a file may grow when it is unpacked; trained weights hardly do


def read_tensors(path: Path) -> dict[str, np.ndarray]:
    """Tensors by name, floating ones as float32: by the suffix, .safetensors, .npz, .pth or .pt.

    Raises CheckpointError for a file that is damaged or none of these.
    """
    readers = {
        ".safetensors": safetensors, ".npz": npz, ".pth": pytorch_file.read,
        ".pt": pytorch_file.read,
    }  # fmt: skip
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
        raise CheckpointError(f"{path}: not a complete {path.suffix} file ({reason})") from error


def safetensors(path: Path) -> dict[str, np.ndarray]:
    """Tensors of a safetensors file, bfloat16 as float32."""
    tensors = load_file(path)
    bfloat16 = np.dtype(ml_dtypes.bfloat16)
    return {k: v.astype(np.float32) if v.dtype == bfloat16 else v for k, v in tensors.items()}


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
