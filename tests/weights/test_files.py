"""Containers of tensors by name, whole and damaged."""

import io
import json
import struct
import zipfile

import fuzz
import numpy as np
import pytest

from ssd_jax.errors import CheckpointError
from ssd_jax.weights import files
from ssd_jax.weights.imported import ImportedWeights

VALUES = {
    "a/kernel": np.arange(6, dtype=np.float32).reshape(2, 3),
    "half": np.array([1.5, -2.0], np.float16),
    "double": np.array([[0.1]], np.float64),
    "count": np.array(7, np.int64),
    "none": np.zeros((0, 4), np.float32),
}
NAMES = {"f2": "F16", "f4": "F32", "f8": "F64", "i8": "I64"}


def safetensors(values, **changes):
    """An encoder of the published format."""
    header, body = {"__metadata__": {"made": "by hand"}}, b""
    for name, value in values.items():
        span = [len(body), len(body) + value.nbytes]
        header[name] = {"dtype": NAMES[value.dtype.str[1:]], "shape": value.shape,
                        "data_offsets": span}  # fmt: skip
        body += value.tobytes()
    for name, change in changes.items():
        header[name] |= change
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + body


def npz(values):
    file = io.BytesIO()
    np.savez(file, **values)
    return file.getvalue()


@pytest.fixture
def read(tmp_path):
    """Read bytes as a file of a kind."""

    def through_disk(data, suffix):
        path = tmp_path / f"weights{suffix}"
        path.write_bytes(data)
        return files.read_tensors(path)

    return through_disk


@pytest.mark.parametrize(("encode", "suffix"), [(safetensors, ".safetensors"), (npz, ".npz")])
def test_tensors_come_back_by_name_and_floats_as_float32(read, encode, suffix):
    found = read(encode(VALUES), suffix)
    assert found.keys() == VALUES.keys()
    for name, value in VALUES.items():
        np.testing.assert_array_equal(found[name], value.astype(found[name].dtype))
        assert found[name].dtype == (np.int64 if name == "count" else np.float32)


def test_bfloat16_is_the_upper_half_of_a_float32(read):
    values = {"x": np.array([1.0, -2.5, 3.140625], np.float32)}
    halves = {"x": (values["x"].view(np.uint32) >> np.uint32(16)).astype("<u2").view(np.float16)}
    data = safetensors(halves, x={"dtype": "BF16"})
    np.testing.assert_array_equal(read(data, ".safetensors")["x"], values["x"])


def test_a_column_major_array_keeps_its_order(read):
    value = np.asfortranarray(np.arange(6.0).reshape(2, 3))
    np.testing.assert_array_equal(read(npz({"x": value}), ".npz")["x"], value)


@pytest.mark.parametrize(
    "change",
    [
        {"shape": [3, 3]}, {"shape": [-2, -3]}, {"shape": [2, 3.0]}, {"shape": [True, 6]},
        {"shape": [1] * 99 + [6]}, {"dtype": "F4"}, {"data_offsets": [0, 20]},
        {"data_offsets": [0, 2**62], "shape": [2**60]}, {"data_offsets": [8, 32]},
        {"data_offsets": "ab"}, {"data_offsets": [0]}, {"shape": None},
    ],
)  # fmt: skip
def test_a_header_that_does_not_fit_its_file_is_refused(read, change):
    with pytest.raises(CheckpointError, match=r"weights\.safetensors: not a complete"):
        read(safetensors(VALUES, **{"a/kernel": change}), ".safetensors")


@pytest.mark.parametrize(
    "text",
    [b"[]", b"{", b'{"a": 1}', b"[" * 100_000, b'{"a": NaN}', b'{"x": {}, "x": {}}', b"\xff\xfe"],
)
def test_a_header_that_is_no_table_is_refused(read, text):
    with pytest.raises(CheckpointError):
        read(struct.pack("<Q", len(text)) + text, ".safetensors")


@pytest.mark.parametrize(("encode", "suffix"), [(safetensors, ".safetensors"), (npz, ".npz")])
def test_every_cut_and_a_thousand_corruptions_are_refused_or_read(read, encode, suffix):
    data = encode(VALUES)
    for cut in fuzz.cuts(data):
        with pytest.raises(CheckpointError):
            read(cut, suffix)
    refused = fuzz.survives(lambda damaged: read(damaged, suffix), data, 1000)
    assert 500 < refused <= 1000


def test_objects_are_never_unpickled(read):
    class Trap:
        def __reduce__(self):
            return pytest.fail, ("unpickled",)

    with pytest.raises(CheckpointError, match="not a complete .npz file"):
        read(npz({"x": np.array([Trap()], object)}), ".npz")


def test_an_archive_that_unpacks_to_more_than_it_says_is_refused(read):
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        header, {"descr": "<f4", "fortran_order": False, "shape": (2**40,)}
    )
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x.npy", header.getvalue() + b"\0" * 1000)
    with pytest.raises(CheckpointError, match="in 1000 bytes"):
        read(file.getvalue(), ".npz")


@pytest.mark.parametrize("suffix", [".safetensors", ".npz", ".h5", ""])
def test_what_is_no_weight_file_is_refused(read, tmp_path, suffix):
    for data in (b"", b"hello", b"<html></html>" * 100, b"\x80\x04K\x01."):
        with pytest.raises(CheckpointError, match=f"weights{suffix}"):
            read(data, suffix)
    with pytest.raises(CheckpointError, match="nowhere"):
        files.read_tensors(tmp_path / f"nowhere{suffix}")
    with pytest.raises(CheckpointError):
        files.read_tensors(tmp_path)


def test_our_own_names_make_a_round_trip(tmp_path):
    weights = ImportedWeights(
        {"backbone/a/kernel": VALUES["a/kernel"]}, {"backbone/a_norm/mean": np.ones(3, np.float32)},
        ("cat", "hot dog"), np.zeros((5, 4), np.float32),
    )  # fmt: skip
    files.write_npz(tmp_path / "x.npz", weights)
    back = files.parse_native(files.read_tensors(tmp_path / "x.npz"))
    assert back.classes == weights.classes and back.unused == {}
    np.testing.assert_array_equal(back.priors, weights.priors)
    for old, new in ((weights.params, back.params), (weights.batch_stats, back.batch_stats)):
        assert old.keys() == new.keys()
        for name in old:
            np.testing.assert_array_equal(old[name], new[name])
    bare = ImportedWeights(weights.params, {})
    files.write_npz(tmp_path / "y.npz", bare)
    assert files.parse_native(files.read_tensors(tmp_path / "y.npz"))[1:] == (
        {},
        (),
        None,
        False,
        (),
        {},
    )


def test_an_npz_of_other_names_is_refused():
    with pytest.raises(CheckpointError, match="'features.0.weight' .* none of params/"):
        files.parse_native({"features.0.weight": np.zeros((1, 2), np.float32)})
