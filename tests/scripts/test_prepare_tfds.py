"""Small archives in the official layout: the records are TFDS's own, without TensorFlow."""

import hashlib
import json
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets
from tfds_archives import (
    TEST,
    TEST_2012,
    TRAINVAL,
    TRAINVAL_2012,
    coco_contents,
    picture,
    prepare,
    voc_xml,
    write_coco,
    write_tar,
    write_voc,
)

from scripts import prepare_tfds
from ssd_jax.data.formats import tfds
from ssd_jax.errors import DataError


@pytest.fixture
def voc2007(tmp_path):
    """Prepared from tars with three images of two splits and one of the test set."""
    cat, dog = ("cat", (1, 1, 50, 40), False), ("dog", (6, 11, 25, 30), True)
    images = {key: picture() for key in ("000001", "000002", "000003")}
    xmls = {"000001": voc_xml(cat, dog), "000002": voc_xml(), "000003": voc_xml(dog)}
    lists = {"train": ["000001", "000002"], "val": ["000003"]}
    write_voc(tmp_path / TRAINVAL, "2007", lists, images, xmls)
    write_voc(tmp_path / TEST, "2007", {"test": ["000009"]}, {"000009": picture()},
              {"000009": voc_xml(cat)})  # fmt: skip
    return prepare("voc/2007", tmp_path)


def test_voc_has_the_features_of_tfds(voc2007):
    assert voc2007.parts[-4:] == ("data", "voc", "2007", "5.0.0")
    builder = tensorflow_datasets.builder_from_directory(voc2007)
    counts = {name: info.num_examples for name, info in builder.info.splits.items()}
    assert counts == {"train": 2, "validation": 1, "test": 1}
    data = builder.as_data_source("train")
    (example,) = (each for each in data if each["image/filename"] == b"000001.jpg")
    names = builder.info.features["objects"]["label"].names
    assert len(names) == 20 and names == sorted(names)
    objects = example["objects"]
    assert [names[label] for label in objects["label"]] == ["cat", "dog"]
    # y_min, x_min, y_max, x_max: the 1-based numbers as they are, by the size
    expected = [[1 / 40, 1 / 50, 1, 1], [11 / 40, 6 / 50, 30 / 40, 25 / 50]]
    np.testing.assert_allclose(objects["bbox"], expected, atol=1e-7)
    np.testing.assert_array_equal(objects["is_difficult"], [False, True])
    np.testing.assert_array_equal(objects["is_truncated"], [True, True])
    assert list(objects["pose"]) == [2, 2]  # left
    assert [names[label] for label in example["labels"]] == ["cat", "dog"]
    assert [names[label] for label in example["labels_no_difficult"]] == ["cat"]


def test_2012_without_its_test_archive_has_no_test_split(tmp_path, capsys):
    xmls = {"a": voc_xml(("cat", (1.5, 1, 50, 40), False)), "b": voc_xml()}
    images = {"a": picture(), "b": picture()}
    write_voc(tmp_path / TRAINVAL_2012, "2012", {"train": ["a"], "val": ["b"]}, images, xmls)
    folder = prepare("voc/2012", tmp_path)
    assert "VOC2012test.tar is not in" in capsys.readouterr().out
    assert sorted(tensorflow_datasets.builder_from_directory(folder).info.splits) == [
        "train", "validation",
    ]  # fmt: skip
    np.testing.assert_allclose(tfds.read(folder, "train")[0]["boxes"], [[0.01, 0, 1, 1]], atol=1e-7)


def test_the_test_set_of_2012_has_no_annotations(tmp_path):
    images = {"a": picture(), "b": picture()}
    xmls = {"a": voc_xml(), "b": voc_xml()}
    write_voc(tmp_path / TRAINVAL_2012, "2012", {"train": ["a"], "val": ["b"]}, images, xmls)
    write_voc(tmp_path / TEST_2012, "2012", {"test": ["t"]}, {"t": picture()}, {})
    source = tfds.read(prepare("voc/2012", tmp_path), "test")
    assert len(source) == 1 and source[0]["boxes"].shape == (0, 4)


def test_coco_has_the_features_of_tfds_and_its_annotation_files(tmp_path):
    contents = {"train2017": coco_contents([[5, 10, 20, 20], [0, 0, 60, 9]]),
                "val2017": coco_contents([])}  # fmt: skip
    write_coco(tmp_path, {part: {"10.jpg": picture()} for part in contents}, contents)
    folder = prepare("coco/2017", tmp_path)
    assert folder.parts[-4:] == ("data", "coco", "2017", "1.1.0")
    builder = tensorflow_datasets.builder_from_directory(folder)
    (example,) = builder.as_data_source("train")
    assert example["image/id"] == 10 and example["image/filename"] == b"10.jpg"
    objects = example["objects"]
    # a box past the border is cut there: TFDS takes none outside 0 … 1
    expected = [[0.25, 0.1, 0.75, 0.5], [0, 0, 0.225, 1]]
    np.testing.assert_allclose(objects["bbox"], expected, atol=1e-7)
    np.testing.assert_array_equal(objects["label"], [1, 1])
    np.testing.assert_array_equal(objects["is_crowd"], [False, True])
    np.testing.assert_array_equal(objects["area"], [1024, 1024])
    np.testing.assert_array_equal(objects["id"], [5, 6])
    for part, content in contents.items():
        assert json.loads((folder / f"instances_{part}.json").read_text()) == content
    assert not list(folder.glob("*.partial"))


def test_a_second_start_changes_nothing(voc2007, tmp_path):
    before = {path: path.stat().st_mtime_ns for path in voc2007.iterdir()}
    assert prepare("voc/2007", tmp_path) == voc2007
    assert {path: path.stat().st_mtime_ns for path in voc2007.iterdir()} == before


def test_archives_that_are_missing_or_not_the_official_ones(tmp_path):
    with pytest.raises(DataError, match=rf"{TRAINVAL}: no such archive \(460032000 bytes, from"):
        prepare_tfds.prepare("voc/2007", tmp_path, tmp_path / "data")
    (tmp_path / TRAINVAL).write_bytes(b"abc")
    with pytest.raises(DataError, match="3 bytes, and the official one has 460032000"):
        prepare_tfds.prepare("voc/2007", tmp_path, tmp_path / "data")
    wrong = prepare_tfds.Archive(3, "0" * 64)
    got = hashlib.sha256(b"abc").hexdigest()
    with pytest.raises(DataError, match=f"SHA-256 is {got}, and that of the official one is 000"):
        prepare_tfds.check_archives("voc/2007", tmp_path, {TRAINVAL: wrong})
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("link", ["JPEGImages", "Annotations"])
def test_a_link_in_an_archive_is_not_followed(tmp_path, link):
    secret = tmp_path / "secret"
    secret.write_bytes(picture() if link == "JPEGImages" else voc_xml())
    write_voc(tmp_path / TRAINVAL, "2007", {"train": ["a"], "val": ["a"]}, {"a": picture()},
              {"a": voc_xml()})  # fmt: skip
    with tarfile.open(tmp_path / TRAINVAL) as tar:
        files = {item.name: tar.extractfile(item).read() for item in tar}
    (name,) = (name for name in files if f"/{link}/" in name)
    del files[name]
    write_tar(tmp_path / TRAINVAL, files)
    with tarfile.open(tmp_path / TRAINVAL, "a") as tar:
        info = tarfile.TarInfo(name)
        info.type, info.linkname = tarfile.SYMTYPE, str(secret)
        tar.addfile(info)
    write_voc(tmp_path / TEST, "2007", {"test": []}, {}, {})
    with pytest.raises(DataError, match=f"no {name}"):
        prepare("voc/2007", tmp_path)


def test_the_command_names_a_missing_archive_without_tensorflow(tmp_path):
    root = Path(__file__).resolve().parents[2]
    command = [sys.executable, "-m", "scripts.prepare_tfds", "--dataset=voc/2007",
               f"--manual_dir={tmp_path}", f"--data_dir={tmp_path / 'data'}"]  # fmt: skip
    done = subprocess.run(command, cwd=root, capture_output=True, text=True)
    assert done.returncode == DataError.exit_code
    assert TRAINVAL in done.stderr and "Traceback" not in done.stderr


def test_nothing_imports_tensorflow(voc2007):
    """In a process of its own: the script, TFDS, and a record read."""
    code = (
        "import sys; from scripts import prepare_tfds; from ssd_jax.data.formats import tfds; "
        f"source = tfds.read({str(voc2007)!r}, 'train'); source[0]; "
        "assert 'tensorflow' not in sys.modules, 'tensorflow'"
    )
    root = Path(__file__).resolve().parents[2]
    subprocess.run([sys.executable, "-c", code], cwd=root, check=True)
