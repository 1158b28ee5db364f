"""TensorFlow Lite files of TensorFlow's `ssd_mobilenet_v1`: MobileNetV1-SSD, norms folded.

The flatbuffer is read in place, and of its schema only what names, shapes and quantizes constant
tensors. Source: tensorflow/tensorflow, `lite/schema/schema.fbs`, version 3.
"""

import math
import re
import struct

import numpy as np
from ml_collections import ConfigDict

from ssd_jax.errors import CheckpointError
from ssd_jax.multibox import boxes as box_ops
from ssd_jax.weights.imported import ImportedWeights, check_normalization

# Of `TensorType`: the number formats of weights, biases and anchors.
_DTYPES: dict[int, np.dtype] = {
    0: np.dtype("<f4"),
    2: np.dtype("<i4"),
    3: np.dtype("u1"),
    9: np.dtype("i1"),
}
_LONGEST_NAME, _MOST_AXES = 1000, 8

_KERNEL, _BIAS = r"weights_quant/FakeQuantWithMinMaxVars", r"(?:Conv2D|depthwise)(?:_Fold)?_bias"
_LAYER = re.compile(rf"FeatureExtractor/(?:\w+/)+(Conv2d_\w+)/(?:({_KERNEL})|{_BIAS})")
_HEAD = re.compile(rf"BoxPredictor_(\d+)/(BoxEncoding|Class)Predictor/(?:({_KERNEL})|{_BIAS})")
_SHAPE = re.compile(r"BoxPredictor_\d+/stack(_1)?|Squeeze_shape")
_MOST_8_BIT_VALUES = 256
_EPSILON = 1e-3  # of the norms in models/mobilenet_v1.py


def read(tensors: dict[str, np.ndarray], config: ConfigDict) -> ImportedWeights:
    """The whole detector. A folded bias becomes the norm's, whose scale and deviation are 1.

    Kernels turn from [out, H, W, in] to [H, W, in, out], offsets from (y, x, h, w) to ours.
    Column 0 is the background; the scores are sigmoids, and the file has no class names.
    """
    check_normalization(config, mean=(127.5,) * 3, std=(127.5,) * 3)
    if config.loss.classification == "softmax":
        raise CheckpointError("these weights have sigmoid scores: config.loss.classification")
    params, batch_stats, unused = {}, {}, {}
    priors, is_rounded = None, False
    for name, value in tensors.items():
        if layer := _LAYER.fullmatch(name):
            _add_layer(params, batch_stats, value, layer[1], is_kernel=bool(layer[2]))
        elif head := _HEAD.fullmatch(name):
            _add_head(params, value, int(head[1]), head[2], is_kernel=bool(head[3]))
        elif name == "anchors" and value.shape[1:] == (4,) and value.dtype.kind == "f":
            priors = box_ops.to_corners(value[:, [1, 0, 3, 2]])
            is_rounded = len(np.unique(value)) <= _MOST_8_BIT_VALUES
        elif _SHAPE.fullmatch(name):
            unused[name] = "the shape of a reshape, no weight"
        else:
            raise CheckpointError(f"{name} {list(value.shape)} is of another architecture")
    return ImportedWeights(
        params, batch_stats, priors=priors, has_rounded_priors=is_rounded, unused=unused
    )


def _add_layer(params, batch_stats, value, layer, is_kernel) -> None:
    if is_kernel:
        axes = (1, 2, 0, 3) if layer.endswith("depthwise") else (1, 2, 3, 0)
        params[f"backbone/{layer}/kernel"] = _transposed(value, axes)
        return
    value = _transposed(value, (0,))
    norm = f"backbone/{layer}_BatchNorm"
    params[f"{norm}/bias"] = value
    params[f"{norm}/scale"] = np.ones_like(value)
    batch_stats[f"{norm}/mean"] = np.zeros_like(value)
    batch_stats[f"{norm}/var"] = np.full_like(value, 1 - _EPSILON)


def _add_head(params, value, level, kind, is_kernel) -> None:
    value = _transposed(value, (1, 2, 3, 0) if is_kernel else (0,))
    if kind == "BoxEncoding":
        if value.shape[-1] % 4:
            raise CheckpointError(f"box predictor {level} has {value.shape[-1]} columns, not 4 n")
        value = value.reshape(*value.shape[:-1], -1, 4)[..., [1, 0, 3, 2]].reshape(value.shape)
    group = {"BoxEncoding": "localization", "Class": "classification"}[kind]
    params[f"heads/{group}_{level}/{'kernel' if is_kernel else 'bias'}"] = value


def _transposed(value: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
    if value.ndim != len(axes):
        raise CheckpointError(f"{list(value.shape)} where {len(axes)} axes were expected")
    return value.transpose(axes)


def tensors(data: bytes) -> dict[str, np.ndarray]:
    """Constant tensors of the first graph by name, dequantized: scale * (q - zero point).

    Raises CheckpointError for bytes that are no such file, at whatever place they are damaged.
    """
    try:
        return _constants(_Table.root(data), len(data))
    except (ValueError, IndexError, OverflowError, struct.error) as error:
        raise CheckpointError(f"not a complete TensorFlow Lite file ({error})") from error


def _constants(model: "_Table", budget: int) -> dict[str, np.ndarray]:
    buffers, found = model.tables(4), {}
    for tensor in model.tables(2)[0].tables(0):
        name, raw = tensor.text(3), buffers[tensor.number(2, "<I")].array(0, "u1")
        if not len(raw):
            continue  # computed, not constant
        budget -= len(raw)  # every byte of the file is at most one tensor's
        if budget < 0 or name in found:
            raise ValueError(f"{name!r} is there twice")
        found[name] = _value(tensor, raw)
    return found


def _value(tensor: "_Table", raw: np.ndarray) -> np.ndarray:
    shape, dtype = tensor.array(0, "<i4"), _DTYPES.get(tensor.number(1, "<b"))
    if dtype is None:
        raise ValueError(f"{tensor.text(3)!r} has no number format of weights")
    shape = tuple(map(int, shape[:_MOST_AXES]))
    if min(shape, default=1) < 1 or math.prod(shape) * dtype.itemsize != len(raw):
        raise ValueError(f"{tensor.text(3)!r} is {shape} in {len(raw)} bytes")
    value = np.frombuffer(raw, dtype).reshape(shape)
    quantization = tensor.table(4)
    scales = quantization.array(2, "<f4") if quantization else ()
    if dtype.kind == "f" or not len(scales):
        return value
    zeros = quantization.array(3, "<i8")
    if len(scales) > 1 or len(zeros) > 1:
        raise ValueError(f"{tensor.text(3)!r} is quantized by channel, which is not read")
    with np.errstate(all="ignore"):  # numbers that are not finite are reported by name later
        return scales[0] * (value.astype(np.float32) - np.float32(zeros[0] if len(zeros) else 0))


class _Table:
    """A table of a flatbuffer: fields by number, None where absent. Every read is bounded."""

    def __init__(self, data: bytes, at: int):
        self._data, self._at = data, at
        self._fields = at - self._number("<i", at)
        if not 0 <= self._fields < len(data):
            raise ValueError(f"table at byte {at} points outside the file")
        self._size = self._number("<H", self._fields)

    @classmethod
    def root(cls, data: bytes) -> "_Table":
        if data[4:8] != b"TFL3":
            raise ValueError("no TFL3 in its head")
        return cls(data, struct.unpack_from("<I", data)[0])

    def number(self, field: int, form: str, default: int = 0) -> int:
        place = self._place(field)
        return default if place is None else self._number(form, place)

    def table(self, field: int) -> "_Table | None":
        place = self._place(field)
        return None if place is None else _Table(self._data, self._follow(place))

    def tables(self, field: int) -> list["_Table"]:
        start, count = self._vector(field, 4)
        return [_Table(self._data, self._follow(start + 4 * i)) for i in range(count)]

    def array(self, field: int, dtype: str) -> np.ndarray:
        start, count = self._vector(field, np.dtype(dtype).itemsize)
        return np.frombuffer(self._data, dtype, count, start)

    def text(self, field: int) -> str:
        start, count = self._vector(field, 1)
        if count > _LONGEST_NAME:
            raise ValueError(f"a name of {count} letters")
        return self._data[start : start + count].decode()

    def _place(self, field: int) -> int | None:
        entry = 4 + 2 * field
        if entry + 2 > self._size:
            return None
        offset = self._number("<H", self._fields + entry)
        return self._at + offset if offset else None

    def _vector(self, field: int, itemsize: int) -> tuple[int, int]:
        place = self._place(field)
        if place is None:
            return 0, 0
        start = self._follow(place)
        count = self._number("<I", start)
        if start + 4 + count * itemsize > len(self._data):
            raise ValueError(f"{count} items at byte {start} reach beyond the end")
        return start + 4, count

    def _follow(self, place: int) -> int:
        return place + self._number("<I", place)

    def _number(self, form: str, at: int) -> int:
        if at < 0:
            raise ValueError("a place before the file")
        return struct.unpack_from(form, self._data, at)[0]
