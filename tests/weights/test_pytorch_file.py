"""PyTorch's files without PyTorch: round trips, and files that want to run something."""

import builtins
import io
import os
import pickle
import subprocess
import zipfile
from collections import OrderedDict

import fuzz
import numpy as np
import pth_files
import pytest

from ssd_jax.errors import CheckpointError
from ssd_jax.weights import files

VALUES = {
    "features.0.weight": np.arange(24, dtype=np.float32).reshape(2, 3, 2, 2),
    "turned": np.arange(6, dtype=np.float64).reshape(2, 3).T,
    "half": np.array([1.5, -2.0], np.float16),
    "bn.num_batches_tracked": np.array(7, np.int64),
    "none": np.zeros((0, 4), np.float32),
}


@pytest.fixture
def read(tmp_path):
    def through_disk(data):
        path = tmp_path / "x.pth"
        path.write_bytes(data)
        return files.read_tensors(path)

    return through_disk


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: state,
        lambda state: {"model": state, "epoch": 3, "best": 0.5, "names": ["a", None, True]},
        lambda state: {"state_dict": state},
    ],
)
def test_tensors_come_back_by_name(read, wrap, protocol):
    found = read(pth_files.encode(VALUES, wrap, protocol))
    assert found.keys() == VALUES.keys()
    for name, value in VALUES.items():
        np.testing.assert_array_equal(found[name], value.astype(found[name].dtype))
        assert found[name].dtype == (np.int64 if "tracked" in name else np.float32)


def test_files_of_pytorch_itself(tmp_path):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    path = tmp_path / "x.pt"
    base = torch.arange(12.0)
    state = {
        "a": base.reshape(3, 4).T, "b": torch.ones(2, dtype=torch.bfloat16), "view": base[4:8],
        "parameter": torch.nn.Parameter(torch.full((2,), 3.0)),
    }  # fmt: skip
    for content in (state, {"model": state, "epoch": 3}, torch.nn.Conv2d(1, 2, 3).state_dict()):
        torch.save(content, path)
        wanted = content.get("model", content)
        found = files.read_tensors(path)
        assert found.keys() == wanted.keys()
        for name, value in wanted.items():
            np.testing.assert_array_equal(found[name], value.detach().float().numpy())
    torch.save(state, path, _use_new_zipfile_serialization=False)
    with pytest.raises(CheckpointError, match="before 1.6"):
        files.read_tensors(path)
    for content in ({"a": pytest.fail}, {"epoch": 3}, [1], {"a": torch.ones(1).expand(2**40)}):
        torch.save(content, path)
        with pytest.raises(CheckpointError, match=r"x\.pt"):
            files.read_tensors(path)


class Call:
    """Pickled as a call of a function."""

    def __init__(self, function, *arguments):
        self.reduced = function, arguments

    def __reduce__(self):
        return self.reduced


@pytest.mark.parametrize(
    "content",
    [
        Call(os.system, "touch /tmp/never"), Call(eval, "1/0"), Call(subprocess.Popen, "true"),
        Call(getattr, "a", "b"), Call(builtins.__import__, "this"), Call(pickle.loads, b"N."),
        Call(np.load, "x.npy"), Call(os.path.join, "a"), np.zeros(3), os.system,
    ],
)  # fmt: skip
@pytest.mark.parametrize("wrap", [lambda x: x, lambda x: {"a": [x]}, lambda x: {"state_dict": x}])
@pytest.mark.parametrize("protocol", [2, 4])
def test_a_call_is_named_and_not_made(read, monkeypatch, content, wrap, protocol):
    data = pth_files.archive(pth_files.program(wrap(content), protocol))
    for module, name in ((os, "system"), (subprocess, "Popen"), (pickle, "loads")):
        monkeypatch.setattr(module, name, lambda *_: pytest.fail("called"))
    monkeypatch.setattr(pickle, "Unpickler", lambda *_: pytest.fail("unpickled"))
    with pytest.raises(CheckpointError, match="which is no tensor; nothing was run"):
        read(data)


TENSOR = b"ctorch._utils\n_rebuild_tensor_v2\n"
ATTACKS = {
    "no module": b"cos\nsystem\n(X\x04\x00\x00\x00true" + b"tR.",
    "inst": b"(X\x04\x00\x00\x00truei" + b"os\nsystem\n.",
    "obj": b"(cos\nsystem\nX\x04\x00\x00\x00trueo.",
    "newobj of a constructor": TENSOR + b")\x81.",
    "build of a constructor": TENSOR + b"}(X\x08\x00\x00\x00__code__Nub.",
    "build with a slot state": b"ccollections\nOrderedDict\nN}X\x04\x00\x00\x00callNs\x86b.",
    "reduce of a type": b"ctorch\nFloatStorage\n)R.",
    "reduce of a text": b"X\x02\x00\x00\x00os)R.",
    "attribute of a constructor": b"\x8c\x0ccollections\x8c\x14OrderedDict.fromkeys\x93.",
    "a dotted module": b"ctorch._utils._rebuild_tensor_v2\n__globals__\n.",
    "a tensor of texts": TENSOR + b"(X\x01\x00\x00\x00aK\x00))tR.",
    "a dict from arguments": b"ccollections\nOrderedDict\n(]tR.",
    "extension": b"\x82\x01.",
    "a text as reference": b"Pstorage\n.",
    "a reference to a dict": b"}Q.",
    "memo of nothing": b"h\x05.",
    "two values left": b"}}.",
    "nothing left": b".",
    "no end": b"}",
    "pop below a mark": b"(0.",
    "append to a tuple": b")Na.",
    "a key that is a dict": b"}}Ns.",
    "an odd number of items": b"}(X\x01\x00\x00\x00au.",
    "dup": b"}2.",
    "no mark": b"}t.",
    "a long number": b"\x8b\xff\xff\xff\x7f.",
    "not a pickle": b"<html>",
    "empty": b"",
}


@pytest.mark.parametrize("data", ATTACKS.values(), ids=ATTACKS)
def test_a_program_by_hand_is_refused(read, data):
    for start in (b"\x80\x02", b""):
        with pytest.raises(CheckpointError):
            read(pth_files.archive(start + data))


def test_a_list_inside_itself_ends(read):
    with pytest.raises(CheckpointError):
        read(pth_files.archive(b"\x80\x02]q\x00h\x00a."))
    with pytest.raises(CheckpointError):
        read(pth_files.archive(b"\x80\x02}q\x00X\x05\x00\x00\x00modelh\x00s."))


def tensor(shape, strides, offset=0, key="0", size=6, dtype="FloatStorage"):
    """A program of one tensor; pickle writes the numbers."""

    class Storage:
        reference = ("storage", getattr(pth_files._TORCH, dtype), key, "cpu", size)

    class Pickled:
        def __reduce__(self):
            arguments = (pth_files._Storage.__new__(pth_files._Storage), offset, shape, strides)
            arguments[0].reference = Storage.reference
            return pth_files._UTILS._rebuild_tensor_v2, (*arguments, False, OrderedDict())

    return pth_files.archive(pth_files.program({"a": Pickled()}), [np.arange(6, dtype="<f4")])


def test_a_view_of_its_numbers_is_read(read):
    np.testing.assert_array_equal(read(tensor((2, 2), (3, 1), 1))["a"], [[1, 2], [4, 5]])


@pytest.mark.parametrize(
    "change",
    [
        {"shape": (7,), "strides": (1,)}, {"shape": (2,), "strides": (6,)}, {"offset": 6},
        {"shape": (2,), "strides": (-1,)}, {"shape": (-1,)}, {"shape": (2, 3)}, {"offset": -1},
        {"shape": (2**40,), "strides": (0,)}, {"size": 7}, {"size": 5}, {"size": 2**47},
        {"key": "../0"}, {"key": "1"}, {"key": ""}, {"dtype": "DoubleStorage"}, {"size": -6},
        {"shape": (1,) * 9, "strides": (1,) * 9}, {"shape": (True,)}, {"shape": (1.0,)},
    ],
)  # fmt: skip
def test_a_tensor_that_does_not_fit_its_numbers_is_refused(read, change):
    with pytest.raises(CheckpointError):
        read(tensor(**({"shape": (6,), "strides": (1,)} | change)))


def test_a_packed_archive_or_one_without_a_program_is_refused(read):
    data = pth_files.encode(VALUES)
    file = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(data)) as source,
        zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as packed,
    ):
        for member in source.infolist():
            packed.writestr(member.filename, source.read(member))
    with pytest.raises(CheckpointError, match="packed"):
        read(file.getvalue())
    empty = io.BytesIO()
    zipfile.ZipFile(empty, "w").close()
    with pytest.raises(CheckpointError, match="0 members data.pkl"):
        read(empty.getvalue())


def test_every_cut_and_hundreds_of_corruptions_are_refused_or_read(read):
    data = pth_files.encode({"a": VALUES["half"], "b": VALUES["turned"]})
    for cut in fuzz.cuts(data):
        with pytest.raises(CheckpointError):
            read(cut)
    refused = fuzz.survives(read, data, 400)
    assert 100 < refused <= 400


def test_a_file_that_is_absent_or_no_archive(read, tmp_path):
    with pytest.raises(CheckpointError, match="cannot be read"):
        files.read_tensors(tmp_path / "nowhere.pth")
    with pytest.raises(CheckpointError, match=r"before 1\.6.*torch\.save"):
        read(b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.")
