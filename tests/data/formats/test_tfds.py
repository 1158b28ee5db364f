"""Prepared sets of TFDS: boxes, crowds, scores, and what a folder that is none answers."""

import json
import shutil
import subprocess
import sys
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import micro
import numpy as np
import pytest
import tensorflow_datasets
from tfds_archives import (
    TEST,
    TRAINVAL,
    TRAINVAL_2012,
    coco_contents,
    picture,
    prepare,
    voc_xml,
    write_coco,
    write_voc,
)  # fmt: skip

from ssd_jax import evaluate
from ssd_jax.data import sources
from ssd_jax.data.formats import coco, tfds
from ssd_jax.data.scan import Scan
from ssd_jax.errors import ConfigError, DataError
from ssd_jax.types import CROWD, DIFFICULT, PLAIN


class Boxes(tensorflow_datasets.core.GeneratorBasedBuilder):
    """A set of somebody: `rows` are (image, labels, corners) of one split."""

    VERSION = tensorflow_datasets.core.Version("1.0.0")

    def __init__(self, rows, names=("cat", "dog"), extra=None, **kwargs):
        self._rows, self._names, self._extra = rows, names, extra or {}
        super().__init__(**kwargs)

    def _info(self):
        kinds = tensorflow_datasets.features
        objects = {"bbox": kinds.BBoxFeature(), "label": kinds.ClassLabel(names=self._names)}
        features = {"image": kinds.Image(), "objects": kinds.Sequence(objects)} | self._extra
        if None in self._names:
            del features["objects"]
        return tensorflow_datasets.core.DatasetInfo(
            builder=self, features=kinds.FeaturesDict(features)
        )

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples()}

    def _generate_examples(self):
        for number, (image, labels, corners) in enumerate(self._rows):
            objects = [
                {"label": label, "bbox": tensorflow_datasets.features.BBox(*box)}
                for label, box in zip(labels, corners)
            ]
            yield number, {"image": image} | ({} if None in self._names else {"objects": objects})


def boxes_set(folder, rows, **options):
    builder = Boxes(rows, data_dir=str(folder), file_format="array_record", **options)
    builder.download_and_prepare()
    return Path(builder.data_dir)


def by_name(source):
    return {source.name(i): source[i] for i in range(len(source))}


@pytest.fixture
def voc2007(tmp_path):
    cat, dog = ("cat", (1, 1, 50, 40), False), ("dog", (6, 11, 25, 30), True)
    flat, fine = ("cow", (7, 9, 7, 30), False), ("cow", (45.7, 2.25, 49, 39), False)
    images = {key: picture() for key in ("000001", "000002", "000003")}
    xmls = {"000001": voc_xml(cat, dog), "000002": voc_xml(), "000003": voc_xml(flat, fine)}
    lists = {"train": ["000001", "000002"], "val": ["000003"]}
    write_voc(tmp_path / TRAINVAL, "2007", lists, images, xmls)
    write_voc(tmp_path / TEST, "2007", {"test": ["000009"]}, {"000009": picture(70, 30)},
              {"000009": voc_xml(cat)})  # fmt: skip
    return prepare("voc/2007", tmp_path)


def with_ignore(example):
    """Ground truth as the metrics take it."""
    return example | {"ignore": example["flags"] != PLAIN}


def test_boxes_of_voc_are_one_based(voc2007, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(voc2007.parents[2]))
    source = sources.make_source(("tfds:voc/2007:train+validation",), micro.get_config())
    assert len(source) == 3 and len(source.classes) == 20
    examples = by_name(source)
    first, second, third = (examples[f"00000{i}.jpg"] for i in (1, 2, 3))
    expected = [[0, 0, 1, 1], [0.1, 0.25, 0.5, 0.75]]
    np.testing.assert_allclose(first["boxes"], expected, atol=1e-7)
    names = [source.classes[label - 1] for label in first["labels"]]
    assert names == ["cat", "dog"]
    np.testing.assert_array_equal(first["flags"], [PLAIN, DIFFICULT])
    assert second["boxes"].shape == (0, 4)
    np.testing.assert_allclose(third["boxes"] * [50, 40, 50, 40], [[44.7, 1.25, 49, 39]], atol=1e-3)
    summary = source.summary()
    assert "(1 difficult)" in summary and "1 boxes without area dropped (000003)" in summary
    assert "clipped" not in summary  # 50 / 50 and 40 / 40 in float32, less than 1 pixel is lost


def test_two_years_are_joined(voc2007, tmp_path, monkeypatch):
    cat = ("cat", (1, 1, 25, 20), False)
    images, xmls = {key: picture() for key in "ab"}, {key: voc_xml(cat) for key in "ab"}
    lists = {"train": ["a"], "val": ["b"]}
    write_voc(tmp_path / TRAINVAL_2012, "2012", lists, images, xmls)
    prepare("voc/2012", tmp_path)
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "data"))
    specs = tuple(f"tfds:voc/{year}:train+validation" for year in (2007, 2012))
    source = sources.make_source(specs, micro.get_config())
    assert len(source) == 5 and sorted(map(source.name, (3, 4))) == ["a.jpg", "b.jpg"]
    np.testing.assert_allclose(source[4]["boxes"], [[0, 0, 0.5, 0.5]], atol=1e-7)
    assert source.summary().count("train+validation: ") == 2


def test_splits_slices_and_given_classes(voc2007):
    assert len(tfds.read(voc2007, "train[:50%]")) == 1
    config = micro.get_config()
    assert len(sources.make_source((f"tfds:{voc2007}:train[1:]+test",), config)) == 2
    classes = ("dog", "zebra", *(name for name in tfds.read(voc2007, "test").classes
                                 if name != "dog"))  # fmt: skip
    source = tfds.read(voc2007.parent, "train", classes)
    assert source.classes == classes
    assert by_name(source)["000001.jpg"]["labels"][1] == 1
    with pytest.raises(DataError, match="unknown class 'aeroplane'"):
        tfds.read(voc2007, "train", ("cat", "dog"))


def test_the_newest_version_is_read(voc2007, tmp_path):
    source = tfds.read(voc2007.parent, "test")
    for version in ("4.0.0", "10.0.0"):
        shutil.copytree(voc2007, voc2007.with_name(version))
    (voc2007.parent / "10.0.0.tmp").mkdir()
    assert tfds.read(voc2007.parent, "test").fingerprint == source.fingerprint
    shutil.rmtree(voc2007.with_name("10.0.0"))
    (voc2007.with_name("10.0.0")).mkdir()  # not prepared
    assert len(tfds.read(voc2007.parent, "test")) == 1
    (voc2007 / "dataset_info.json").unlink()
    (voc2007.with_name("4.0.0") / "dataset_info.json").unlink()
    with pytest.raises(DataError, match="no prepared data set"):
        tfds.read(voc2007.parent, "test")


def test_a_set_of_somebody(tmp_path):
    """Plain boxes, no file names, and images of every kind that are not decoded by TFDS."""
    rows = [(picture(50, 40, kind), ["dog"], [(0.25, 0.1, 0.75, 0.5)]) for kind in ("PNG", "BMP")]
    source = tfds.read(boxes_set(tmp_path, rows), "train")
    assert source.classes == ("cat", "dog") and len(source) == 2
    for i in range(2):
        np.testing.assert_allclose(source[i]["boxes"], [[0.1, 0.25, 0.5, 0.75]], atol=1e-7)
        assert source[i]["labels"] == [2] and not source[i]["flags"].any()
        np.testing.assert_array_equal(source[i]["image"][0, 0], (200, 30, 90))
    assert source.summary().startswith("boxes/1.0.0 train: 2 images, 2 boxes (0 difficult)")


def test_many_threads_read_the_same(tmp_path):
    rng = np.random.default_rng(0)
    rows = [(picture(*rng.integers(8, 60, 2)), [], []) for _ in range(40)]
    source = tfds.read(boxes_set(tmp_path, rows), "train")
    expected = [source[i]["image"] for i in range(40)]
    order = rng.integers(0, 40, 600).tolist()
    with ThreadPoolExecutor(8) as pool:
        for i, image in zip(order, pool.map(lambda i: source[i]["image"], order)):
            np.testing.assert_array_equal(image, expected[i])


@pytest.fixture
def coco2017(tmp_path):
    """Prepared, beside the files that the reader of COCO itself needs."""
    boxes = [[5.25, 10.5, 20.1, 20.33], [30, 5, 15, 30], [0, 0, 50, 40], [2, 3, 0, 9]]
    contents = {"train2017": coco_contents([]), "val2017": coco_contents(boxes)}
    write_coco(tmp_path, {part: {"10.jpg": picture()} for part in contents}, contents)
    (tmp_path / "val2017").mkdir()
    (tmp_path / "val2017" / "10.jpg").write_bytes(picture())
    (tmp_path / "val.json").write_text(json.dumps(contents["val2017"]))
    return prepare("coco/2017", tmp_path)


def test_coco_is_what_the_reader_of_its_files_gives(coco2017, tmp_path):
    source = tfds.read(coco2017, "validation")
    expected = coco.read(tmp_path / "val2017", tmp_path / "val.json")
    assert source.classes == expected.classes == ("cat", "dog")
    assert source[0].keys() == expected[0].keys() and CROWD in source[0]["flags"]
    for name in ("image", "labels", "flags", "size"):
        np.testing.assert_array_equal(source[0][name], expected[0][name])
    difference = (source[0]["boxes"] - expected[0]["boxes"]) * [50, 40, 50, 40]
    assert np.abs(difference).max() < 1e-3
    found = [{"boxes": expected[0]["boxes"], "labels": expected[0]["labels"],
              "scores": np.float32([0.9, 0.8, 0.7])}]  # fmt: skip
    scores = [
        dict(evaluate.coco_scores(each, [with_ignore(each[0])], found))
        for each in (source, expected)
    ]
    np.testing.assert_equal(*scores)
    assert scores[0]["coco/AP_medium"] > 0  # areas of 1024.5 pixels, where the boxes have 450


def test_a_coco_file_that_does_not_fit_its_records_is_refused_at_the_start(coco2017):
    path = coco2017 / "instances_val2017.json"
    content = json.loads(path.read_text())
    for changes, words in (
        ({"images": []}, "annotation .* is of image 10, which is not in the file"),
        ({"images": [], "annotations": []}, "no image has the id 10"),
        ({"annotations": [{"id": 1, "image_id": 10, "category_id": 18}]}, "bbox None"),
        ({"categories": [{"id": 18, "name": "cow"}], "annotations": []}, "unknown class 'cow'"),
    ):
        path.write_text(json.dumps(content | changes))
        with pytest.raises(DataError, match=f"{words}") as error:
            tfds.read(coco2017, "validation")
        assert "instances_val2017.json" in str(error.value)
    scan = Scan(collect_errors=True)
    path.write_text(json.dumps(content | {"images": [], "annotations": []}))
    tfds.read(coco2017, "validation", (), scan)
    assert [str(error).partition(": ")[2] for error in scan.errors] == ["no image has the id 10"]


def test_coco_scores_find_the_images_whatever_their_order(tmp_path):
    """Records lie in another order than the annotation file; every box is found where it is."""
    ids = [3, 1, 40, 17, 9, 5]
    content = coco_contents([]) | {
        "images": [{"id": key, "file_name": f"{key}.jpg"} for key in ids],
        "annotations": [{"id": i, "image_id": key, "category_id": 18, "area": 1024.5, "iscrowd": 0,
                         "bbox": [key, 2, 6 + i, 30 - i]} for i, key in enumerate(ids, 1)],
    }  # fmt: skip
    files = {f"{key}.jpg": picture() for key in ids}
    parts = ("train2017", "val2017")
    write_coco(tmp_path, {part: files for part in parts}, {part: content for part in parts})
    source = tfds.read(prepare("coco/2017", tmp_path), "train")
    assert [source.name(i) for i in range(6)] != list(files)
    truths = [with_ignore(source[i]) for i in range(6)]
    found = [truth | {"scores": np.float32([0.9])} for truth in truths]
    scores = dict(evaluate.coco_scores(source, truths, found))
    assert scores["coco/AP"] == scores["coco/AP_medium"] == pytest.approx(1)


def test_coco_without_its_annotation_file_says_so(coco2017):
    assert "COCO scores" not in tfds.read(coco2017, "validation").summary()
    part = tfds.read(coco2017, "validation[:100%]")
    assert "COCO scores are computed from boxes" in part.summary()
    (coco2017 / "instances_val2017.json").unlink()
    source = tfds.read(coco2017, "validation")
    assert source.scoring_inputs is None
    assert f"put instances_val….json into {coco2017}" in source.summary()


def test_what_is_not_prepared_is_answered_with_the_command(tmp_path, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    with pytest.raises(DataError) as error:
        tfds.read("voc/2007", "train")
    assert str(tmp_path / "voc" / "2007") in str(error.value)
    assert "scripts.prepare_tfds --dataset=voc/2007 --manual_dir=" in str(error.value)
    with pytest.raises(DataError, match="file_format='array_record'"):
        tfds.read("kitti", "train")
    monkeypatch.delenv("TFDS_DATA_DIR")
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(DataError, match=f"{tmp_path}/tensorflow_datasets/voc/2012: no prepared"):
        tfds.read("voc/2012", "train")


def test_without_the_extra_it_is_said_what_to_install(voc2007, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
    with pytest.raises(ConfigError, match="pip install tensorflow-datasets importlib_resources"):
        tfds.read(voc2007, "train")


def test_a_missing_set_loads_neither_tfds_nor_tensorflow(tmp_path):
    """So the answer does not wait for the network, which TFDS asks for minutes."""
    code = (
        "import sys\nfrom ssd_jax.data.formats import tfds\nfrom ssd_jax.errors import DataError\n"
        f"try:\n    tfds.read({str(tmp_path / 'none')!r}, 'train')\n"
        "except DataError:\n"
        "    assert not {'tensorflow', 'tensorflow_datasets'} & set(sys.modules)\n"
        "else:\n    sys.exit('read')\n"
    )
    root = Path(__file__).resolve().parents[3]
    subprocess.run([sys.executable, "-c", code], cwd=root, check=True)


@pytest.mark.parametrize("split", ["", "trian", "train[", "train[:0]"])
def test_a_split_that_is_none_is_answered_with_those_there_are(voc2007, split):
    with pytest.raises(DataError, match="of test, train, validation|of train, validation, test"):
        tfds.read(voc2007, split)


def test_a_damaged_set_is_named(voc2007):
    (shard,) = voc2007.glob("*-train.array_record*")
    whole = shard.read_bytes()
    shard.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=str(voc2007)):
        tfds.read(voc2007, "train")
    shard.unlink()
    with pytest.raises(DataError, match=str(voc2007)):
        tfds.read(voc2007, "train")
    (voc2007 / "dataset_info.json").write_text("{")
    with pytest.raises(DataError, match=f"{voc2007}: damaged"):
        tfds.read(voc2007, "train")


def test_what_cannot_be_read_without_tensorflow_is_said(voc2007):
    path = voc2007 / "dataset_info.json"
    path.write_text(path.read_text().replace("array_record", "tfrecord"))
    with pytest.raises(DataError, match="stored as tfrecord"):
        tfds.read(voc2007, "train")


def test_a_set_without_boxes_is_refused(tmp_path):
    folder = boxes_set(tmp_path, [(picture(), [], [])], names=(None,))
    with pytest.raises(
        DataError, match="needs image, objects/bbox and objects/label, and has image"
    ):
        tfds.read(folder, "train")


def test_a_truncated_or_huge_image_is_refused_before_it_is_decoded(tmp_path):
    folder = boxes_set(tmp_path, [(picture()[:-30], [], [])])
    with pytest.raises(DataError, match="record 0 of train: truncated"):
        tfds.read(folder, "train")
    bomb = bytearray(picture(kind="PNG"))
    bomb[16:24] = 2 * (40_000).to_bytes(4, "big")  # width and height: 1.6 Gpx
    bomb[29:33] = zlib.crc32(bytes(bomb[12:29])).to_bytes(4, "big")
    folder = boxes_set(tmp_path / "huge", [(bytes(bomb), [], [])])
    with pytest.raises(DataError, match="record 0 of train: .*1600000000 pixels"):
        tfds.read(folder, "train")
