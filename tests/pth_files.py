"""An encoder of PyTorch's zip files, for tests without PyTorch.

`pickle` writes the program: objects that it reduces to calls of PyTorch's constructors, whose
modules and names are all that reaches the file.
"""

import io
import pickle
import sys
import types
import zipfile
from collections import OrderedDict

import numpy as np

_STORAGES = {
    "<f4": "FloatStorage", "<f8": "DoubleStorage", "<f2": "HalfStorage", "<i8": "LongStorage",
    "<i4": "IntStorage", "|u1": "ByteStorage", "|b1": "BoolStorage",
}  # fmt: skip


def _module(name, **attributes):
    module = types.ModuleType(name)
    for key, value in attributes.items():
        value.__module__, value.__qualname__, value.__name__ = name, key, key
        setattr(module, key, value)
    return module


def _rebuild_tensor_v2(*_):
    """Only its name is written."""


_TORCH = _module("torch", **{name: type(name, (), {}) for name in _STORAGES.values()})
_UTILS = _module("torch._utils", _rebuild_tensor_v2=_rebuild_tensor_v2)


class _Storage:
    def __init__(self, key, array):
        self.reference = (
            "storage", getattr(_TORCH, _STORAGES[array.dtype.str]), key, "cpu", array.size
        )  # fmt: skip


class _Tensor:
    def __init__(self, key, array):
        self.storage = _Storage(key, array)
        self.shape = array.shape
        self.strides = tuple(step // array.itemsize for step in array.strides)

    def __reduce__(self):
        arguments = (self.storage, 0, self.shape, self.strides, False, OrderedDict())
        return _UTILS._rebuild_tensor_v2, arguments


class _Pickler(pickle.Pickler):
    def persistent_id(self, obj):
        return obj.reference if isinstance(obj, _Storage) else None


def program(content, protocol=2):
    """`data.pkl` of anything, with arrays as tensors where they are made by `tensors`."""
    file = io.BytesIO()
    real = {name: sys.modules.get(name) for name in ("torch", "torch._utils")}
    sys.modules.update({"torch": _TORCH, "torch._utils": _UTILS})
    try:
        _Pickler(file, protocol).dump(content)
    finally:
        for name, module in real.items():
            if module is None:
                del sys.modules[name]
            else:
                sys.modules[name] = module
    return file.getvalue()


def archive(data_pkl, storages=(), **others):
    """The zip file around a program and the bytes of its storages."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as target:
        target.writestr("archive/data.pkl", data_pkl)
        target.writestr("archive/byteorder", "little")
        for key, data in enumerate(storages):
            target.writestr(f"archive/data/{key}", data)
        for name, data in others.items():
            target.writestr(f"archive/{name}", data)
        target.writestr("archive/version", "3\n")
    return file.getvalue()


def encode(arrays, wrap=lambda state: state, protocol=2):
    """What `torch.save(wrap(state_dict))` writes for arrays by name."""
    arrays = {name: np.asarray(value) for name, value in arrays.items()}
    state = OrderedDict(
        (name, _Tensor(str(key), value)) for key, (name, value) in enumerate(arrays.items())
    )
    state._metadata = OrderedDict({"": {"version": 1}})  # as PyTorch's state dicts have it
    # The bytes in memory order: a transposed array keeps its strides, as a transposed tensor does.
    storages = [value.ravel(order="K").tobytes() for value in arrays.values()]
    return archive(program(wrap(state), protocol), storages)
