"""Caffe's binary files of SSD on VGG16, and of the reduced VGG16 that it was trained from.

The protobuf is read in place, and of its schema only layers' names and blobs, in both layer
messages. Source: weiliu89/caffe, branch ssd, `src/caffe/proto/caffe.proto`; the released
`VGG_ILSVRC_16_layers_fc_reduced.caffemodel`, `VGG_*_SSD_300x300` and `_512x512`.
"""

import math
import re
from collections.abc import Iterator

import numpy as np
from ml_collections import ConfigDict

from ssd_jax.errors import CheckpointError
from ssd_jax.weights.imported import ImportedWeights, check_normalization

# Numbers of protobuf fields.
_NEW_LAYER = 100
_LAYERS = {2: (4, 6), _NEW_LAYER: (1, 7)}  # NetParameter's layers, old and new: (name, blobs)
_OLD_SHAPE, _DATA, _SHAPE, _DIM = (1, 2, 3, 4), 5, 7, 1  # of BlobProto; dim of BlobShape
_DOUBLES = 8
_PRIOR_BOX, _MIN_SIZE, _MAX_SIZE = 203, 1, 2  # of a new layer, and of its PriorBoxParameter
_MOST_AXES = 8

_CONV = re.compile(r"(?:conv\d+_[123]|fc6|fc7)")
_HEAD = re.compile(r"(?:conv4_3_norm|fc7|conv(\d+)_2)_mbox_(loc|conf)")
_PRIORS = re.compile(r"(?:conv4_3_norm|fc7|conv(\d+)_2)_mbox_priorbox")
_CLASSIFIER = re.compile(r"fc8\w*")


def read(tensors: dict[str, np.ndarray], config: ConfigDict) -> ImportedWeights:
    """The detector, or of the classifier what the backbone has: no extra layers, no heads.

    Kernels turn from [out, in, H, W] to [H, W, in, out], and the first one's input from BGR to
    RGB. Heads need no other order: Caffe flattens its maps and priors as `heads.py` does.
    """
    check_normalization(config, mean=(123.0, 117.0, 104.0), std=(1.0, 1.0, 1.0))
    params, unused = {}, {}
    sizes: dict[int, np.ndarray] = {}
    for name, value in tensors.items():
        layer, _, blob = name.rpartition("/")
        if head := _HEAD.fullmatch(layer):
            level = int(head[1]) - 4 if head[1] else int(layer.startswith("fc7"))
            kind = {"loc": "localization", "conf": "classification"}[head[2]]
            _add(params, f"heads/{kind}_{level}", value, blob)
        elif priors := _PRIORS.fullmatch(layer):
            level = int(priors[1]) - 4 if priors[1] else int(layer.startswith("fc7"))
            sizes[level] = value
        elif _CONV.fullmatch(layer):
            _add(params, f"backbone/{layer}", value, blob)
        elif name == "conv4_3_norm/0":
            params["backbone/conv4_3_norm/scale"] = value.reshape(-1)
        elif _CLASSIFIER.fullmatch(layer):
            unused[name] = "ImageNet's classifier"
        else:
            raise CheckpointError(f"{name} {list(value.shape)} is of another architecture")
    first = "backbone/conv1_1/kernel"
    if first in params:
        params[first] = params[first][:, :, ::-1]
    return ImportedWeights(params, {}, prior_sizes=_prior_sizes(sizes), unused=unused)


def _prior_sizes(levels: dict[int, np.ndarray]) -> tuple[float, ...]:
    """Each level's smaller size, and the larger of the last; () where the file has no priors."""
    found = [levels[level] for level in sorted(levels)]
    if any(len(sizes) != 2 for sizes in found):
        raise CheckpointError("a prior box layer without one smallest and one largest size")
    return (*(float(sizes[0]) for sizes in found), float(found[-1][1])) if found else ()


def _add(params: dict, layer: str, value: np.ndarray, blob: str) -> None:
    if blob == "0" and value.ndim == 4:
        params[f"{layer}/kernel"] = value.transpose(2, 3, 1, 0)
    elif blob == "1":
        params[f"{layer}/bias"] = value.reshape(-1)  # (1, 1, 1, N) in old files
    else:
        raise CheckpointError(f"blob {blob} {list(value.shape)} of {layer} is of no convolution")


def tensors(data: bytes) -> dict[str, np.ndarray]:
    """Blobs by layer and number, "conv1_1/0" and "conv1_1/1", in the order of the file.

    And of a prior box layer "NAME/sizes", its smallest and its largest size in pixels.

    Raises CheckpointError for bytes that are no such file, at whatever place they are damaged.
    """
    try:
        return _blobs(memoryview(data))
    except (ValueError, IndexError, TypeError, OverflowError) as error:
        raise CheckpointError(f"not a complete Caffe file ({error})") from error


def _blobs(data: memoryview) -> dict[str, np.ndarray]:
    found = {}
    for field, layer in _messages(data, tuple(_LAYERS)):
        name_field, blob_field = _LAYERS[field]
        name = b"".join(bytes(text) for _, text in _messages(layer, (name_field,))).decode()
        for i, (_, blob) in enumerate(_messages(layer, (blob_field,))):
            if f"{name}/{i}" in found:
                raise ValueError(f"{name!r} is there twice")
            found[f"{name}/{i}"] = _value(blob, name)
        for _, priors in _messages(layer, (_PRIOR_BOX,) if field == _NEW_LAYER else ()):
            found[f"{name}/sizes"] = _floats(priors, (_MIN_SIZE, _MAX_SIZE))
    if not found:
        raise ValueError("no layer with blobs")
    return found


def _value(blob: memoryview, name: str) -> np.ndarray:
    fields = list(_fields(blob))
    packed = [value for field, value in fields if field == _DATA]
    if not all(isinstance(value, memoryview) for value in packed) or any(
        field == _DOUBLES for field, _ in fields
    ):
        raise ValueError(f"numbers of {name!r} are not packed floats")
    numbers = np.frombuffer(b"".join(packed), "<f4")
    shapes = [value for field, value in fields if field == _SHAPE]
    if shapes:
        shape = [number for shape in shapes for number in _dims(shape)]
    else:
        old = dict(fields)
        shape = [old.get(field, 1) for field in _OLD_SHAPE]
    if len(shape) > _MOST_AXES or math.prod(shape) != len(numbers) or not len(numbers):
        raise ValueError(f"{name!r} is {shape[:_MOST_AXES]} in {len(numbers)} numbers")
    return numbers.reshape(shape)


def _floats(message: memoryview, fields: tuple[int, ...]) -> np.ndarray:
    """The floats of repeated fields, field by field."""
    values = list(_fields(message))
    data = [bytes(value) for want in fields for field, value in values
            if field == want and isinstance(value, memoryview)]  # fmt: skip
    return np.frombuffer(b"".join(data), "<f4")


def _dims(shape: memoryview) -> Iterator[int]:
    for field, value in _fields(shape):
        if field == _DIM and isinstance(value, memoryview):  # packed
            at = 0
            while at < len(value):
                number, at = _varint(value, at)
                yield number
        elif field == _DIM:
            yield value


def _messages(data: memoryview, wanted: tuple[int, ...]) -> Iterator[tuple[int, memoryview]]:
    """Fields with these numbers, which are messages or text."""
    for field, value in _fields(data):
        if field in wanted:
            if not isinstance(value, memoryview):
                raise ValueError(f"field {field} is a number")
            yield field, value


def _fields(data: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """(number, value) of each field of a message: an int, or the bytes of any other."""
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        field, kind = key >> 3, key & 7
        if kind == 0:
            value, at = _varint(data, at)
        elif kind in (1, 2, 5):
            size = {1: 8, 5: 4}.get(kind)
            if size is None:
                size, at = _varint(data, at)
            if at + size > len(data):
                raise ValueError(f"{size} bytes of field {field} are cut off")
            value, at = data[at : at + size], at + size
        else:
            raise ValueError(f"wire type {kind} of field {field}")
        yield field, value


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    number = 0
    for shift in range(0, 70, 7):
        byte = data[at]
        number, at = number | (byte & 0x7F) << shift, at + 1
        if byte < 0x80:
            return number, at
    raise ValueError("an endless number")
