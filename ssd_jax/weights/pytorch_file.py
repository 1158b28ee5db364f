"""PyTorch's files of tensors, read without PyTorch and without unpickling.

A `.pth` or `.pt` file is a zip archive: `data.pkl` says in Python's pickle format which tensors
there are, `data/0`, `data/1`, … hold their numbers. A pickle is a program for a stack machine that
may call anything. The machine below knows the instructions and the five constructors that tensors
by name need. It imports nothing, and it ends at anything else.

Source: PyTorch 2.13, `torch/serialization.py`, `torch/_utils.py`; Python, `pickletools`.
"""

import pickletools
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import ml_dtypes  # gives NumPy bfloat16
import numpy as np

from ssd_jax.errors import CheckpointError

_MAX_EXPANSION = 100  # numbers that views may make of those in the file
_MAX_PICKLE_BYTES = 1 << 26
_MAX_AXES = 8
_DTYPES = {
    "FloatStorage": "<f4", "DoubleStorage": "<f8", "HalfStorage": "<f2",
    "BFloat16Storage": ml_dtypes.bfloat16, "LongStorage": "<i8", "IntStorage": "<i4",
    "ShortStorage": "<i2", "CharStorage": "i1", "ByteStorage": "u1", "BoolStorage": "?",
}  # fmt: skip


def read(path: Path) -> dict[str, np.ndarray]:
    """Tensors by name, of its `model` or `state_dict` where the file holds more.

    Raises CheckpointError for a file of another format, or one that asks for anything but tensors,
    and ValueError or whatever `zipfile` raises for a damaged one.
    """
    with path.open("rb") as file:
        if not zipfile.is_zipfile(file):
            raise CheckpointError(
                f"{path}: not a complete {path.suffix} file: damaged, or of PyTorch before 1.6, "
                "whose files are no zip archives. Where PyTorch is installed, convert it: "
                "torch.save(torch.load(FILE, weights_only=True), FILE)"
            )
        with zipfile.ZipFile(file) as archive:
            try:
                return _read_archive(archive, path.stat().st_size)
            except CheckpointError as error:
                raise CheckpointError(f"{path} {error}") from error


def _read_archive(archive: zipfile.ZipFile, file_size: int) -> dict[str, np.ndarray]:
    members = {member.filename: member for member in archive.infolist()}
    if len(members) < len(archive.infolist()):
        raise ValueError("a member is there twice")
    programs = [name for name in members if name == "data.pkl" or name.endswith("/data.pkl")]
    if len(programs) != 1:
        raise ValueError(f"{len(programs)} members data.pkl")
    prefix = programs[0].removesuffix("data.pkl")

    def content(name: str, limit: int) -> bytes:
        member = members.get(prefix + name)
        if member is None or member.compress_type != zipfile.ZIP_STORED:
            raise ValueError(f"{name} is absent, or packed")
        if max(member.file_size, member.compress_size) > min(limit, file_size):
            raise ValueError(f"{name} claims {member.file_size} bytes")
        return archive.read(member)

    if prefix + "byteorder" in members and content("byteorder", 10) != b"little":
        raise ValueError("numbers in big-endian order")
    state = _run(content("data.pkl", _MAX_PICKLE_BYTES))
    for key in ("model", "state_dict"):
        if isinstance(state, dict) and isinstance(state.get(key), dict):
            state = state[key]
    found = {name: value for name, value in _items(state) if isinstance(value, _Tensor)}
    if not found:
        raise ValueError("no tensors by name")
    storages: dict[str, np.ndarray] = {}
    numbers = 0
    for tensor in found.values():
        storage = tensor.storage
        if storage.key not in storages:
            # A storage is never larger than the file, since it is not packed.
            data = content(f"data/{storage.key}", storage.size * storage.dtype.itemsize)
            storages[storage.key] = np.frombuffer(data, storage.dtype)
        numbers += int(np.prod(tensor.shape, dtype=object))
        if numbers > _MAX_EXPANSION * sum(map(len, storages.values())):
            raise ValueError("views that repeat few numbers many times")
    return {name: _array(tensor, storages[tensor.storage.key]) for name, tensor in found.items()}


def _items(state: Any) -> list[tuple[str, Any]]:
    if not isinstance(state, dict):
        raise ValueError("no dict of tensors")
    return [(name, value) for name, value in state.items() if isinstance(name, str)]


class _Storage(NamedTuple):
    key: str
    dtype: np.dtype
    size: int


class _Tensor(NamedTuple):
    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def _array(tensor: _Tensor, numbers: np.ndarray) -> np.ndarray:
    storage, offset, shape, strides = tensor
    if storage.dtype != numbers.dtype or len(numbers) != storage.size:
        raise ValueError(f"storage {storage.key} has other numbers than it says")
    last = offset + sum((size - 1) * stride for size, stride in zip(shape, strides))
    if 0 not in shape and last >= len(numbers):
        raise ValueError(f"a tensor {shape} reaches beyond its storage")
    steps = [stride * numbers.itemsize for stride in strides]
    view = np.lib.stride_tricks.as_strided(numbers[offset:], shape, steps, writeable=False)
    return view.astype(np.float32) if storage.dtype == ml_dtypes.bfloat16 else view


# The constructors. Their arguments come from the file.


def _ordered_dict(*pairs: Any) -> dict:
    if pairs:
        raise ValueError("a dict made of arguments")
    return {}


def _rebuild_tensor(storage, offset, shape, strides, *_: Any) -> _Tensor:
    numbers = (offset, *shape, *strides)
    if (
        not isinstance(storage, _Storage)
        or not all(type(number) is int and 0 <= number < 1 << 48 for number in numbers)
        or len(shape) != len(strides)
        or len(shape) > _MAX_AXES
    ):
        raise ValueError("arguments that are not those of a tensor")
    return _Tensor(storage, offset, tuple(shape), tuple(strides))


def _rebuild_parameter(tensor, *_: Any) -> _Tensor:
    if not isinstance(tensor, _Tensor):
        raise ValueError("a parameter that is no tensor")
    return tensor


class _Constructor(NamedTuple):
    call: Callable


_GLOBALS: dict[str, Any] = {
    "collections OrderedDict": _Constructor(_ordered_dict),
    "torch._utils _rebuild_tensor_v2": _Constructor(_rebuild_tensor),
    "torch._utils _rebuild_parameter": _Constructor(_rebuild_parameter),
    "torch Size": _Constructor(lambda *sizes: tuple(sizes[0]) if sizes else ()),
    **{f"torch {name}": np.dtype(dtype) for name, dtype in _DTYPES.items()},
}


def _find_global(name: str) -> Any:
    if name not in _GLOBALS:
        raise CheckpointError(
            f"asks for {name.replace(' ', '.')[:100]}, which is no tensor; nothing was run. Of "
            "your own training, save the tensors alone: torch.save(model.state_dict(), FILE)"
        )
    return _GLOBALS[name]


def _find_storage(reference: Any) -> _Storage:
    kind, dtype, key, _, size = reference
    if kind != "storage" or not isinstance(dtype, np.dtype) or not isinstance(key, str):
        raise ValueError("a reference that is not to numbers")
    if not key.isalnum() or type(size) is not int or not 0 <= size < 1 << 48:
        raise ValueError(f"storage {key[:20]!r} of size {size}")
    return _Storage(key, dtype, size)


class _Mark:
    """Where the arguments of an instruction begin on the stack."""


_MARK = _Mark()


def _run(program: bytes) -> Any:
    """What the program of a pickle leaves on its stack."""
    machine = _Machine()
    for instruction, argument, _ in pickletools.genops(program):
        if instruction.name == "STOP":
            return machine.result()
        machine.step(instruction.name, argument)
    raise ValueError("a program without an end")


class _Machine:
    """The stack machine of a pickle, as far as tensors by name need it."""

    def __init__(self):
        self._stack: list[Any] = []
        self._memo: dict[int, Any] = {}

    def result(self) -> Any:
        (value,) = self._stack
        return value

    def step(self, name: str, argument: Any) -> None:
        stack, memo = self._stack, self._memo
        match name:
            case "PROTO" | "FRAME":
                pass
            case "MARK":
                stack.append(_MARK)
            case "NONE" | "NEWTRUE" | "NEWFALSE":
                stack.append({"NONE": None, "NEWTRUE": True, "NEWFALSE": False}[name])
            case "EMPTY_DICT" | "EMPTY_LIST" | "EMPTY_TUPLE":
                stack.append({"EMPTY_DICT": dict, "EMPTY_LIST": list, "EMPTY_TUPLE": tuple}[name]())
            case (
                "BINUNICODE" | "SHORT_BINUNICODE" | "BININT" | "BININT1" | "BININT2" | "LONG1"
                | "BINFLOAT"
            ):  # fmt: skip
                stack.append(argument)
            case "TUPLE":
                stack.append(tuple(self._pop_marked()))
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                stack.append(tuple(self._pop(int(name[-1]))))
            case "APPEND":
                items = self._pop(1)
                self._top(list).extend(items)
            case "APPENDS":
                items = self._pop_marked()
                self._top(list).extend(items)
            case "SETITEM":
                self._set_items(self._pop(2))
            case "SETITEMS":
                self._set_items(self._pop_marked())
            case "BINPUT" | "LONG_BINPUT":
                memo[argument] = stack[-1]
            case "MEMOIZE":
                memo[len(memo)] = stack[-1]
            case "BINGET" | "LONG_BINGET":
                stack.append(memo[argument])
            case "GLOBAL":
                stack.append(_find_global(argument))
            case "STACK_GLOBAL":
                module, attribute = self._pop(2)
                stack.append(_find_global(f"{module} {attribute}"))
            case "BINPERSID":
                stack.append(_find_storage(*self._pop(1)))
            case "REDUCE":
                constructor, arguments = self._pop(2)
                if not isinstance(constructor, _Constructor) or not isinstance(arguments, tuple):
                    raise ValueError("a call of what is no constructor")
                stack.append(constructor.call(*arguments))
            case "BUILD":  # attributes of a state dict, which tell versions of modules
                self._pop(1)
                self._top(dict)
            case _:
                raise ValueError(f"the instruction {name}, which no file of tensors needs")

    def _pop(self, count: int) -> list[Any]:
        if len(self._stack) < count or any(each is _MARK for each in self._stack[-count:]):
            raise ValueError("an instruction without its arguments")
        values = self._stack[-count:]
        del self._stack[-count:]
        return values

    def _pop_marked(self) -> list[Any]:
        at = len(self._stack) - 1
        while self._stack[at] is not _MARK:
            at -= 1
            if at < 0:
                raise ValueError("an instruction without its arguments")
        values = self._stack[at + 1 :]
        del self._stack[at:]
        return values

    def _top(self, kind: type) -> Any:
        if not self._stack or not isinstance(self._stack[-1], kind):
            raise ValueError(f"no {kind.__name__} where one is filled")
        return self._stack[-1]

    def _set_items(self, items: list[Any]) -> None:
        target = self._top(dict)
        for key, value in zip(items[::2], items[1::2], strict=True):
            if not isinstance(key, str | int):
                raise ValueError("a key that is no name")
            target[key] = value
