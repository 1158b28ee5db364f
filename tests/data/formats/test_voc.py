"""PASCAL VOC folders: every bad input is caught before the first step, by file name."""

import re
import shutil
import tarfile
from pathlib import Path

import cv2
import numpy as np
import pytest
from voc_folders import add, split, thing, xml

from ssd_jax.data.formats import voc
from ssd_jax.data.formats.voc_xml import parse_annotation, pixels_to_boxes
from ssd_jax.errors import ConfigError, DataError
from ssd_jax.types import DIFFICULT, PLAIN


@pytest.fixture
def root(tmp_path) -> Path:
    """Images a, b (cat, difficult), c (no object); train = a, c; val = b."""
    add(tmp_path, "a", xml(thing()))
    add(tmp_path, "b", xml(thing("cat", difficult=1), thing()), suffix=".png")
    add(tmp_path, "c", xml(), suffix=".jpeg")
    split(tmp_path, "train", "a\nc\n")
    split(tmp_path, "val", "b\n")
    return tmp_path


def test_example_in_the_package_form(root):
    source = voc.read(root, "val")
    example = source[0]
    np.testing.assert_allclose(example["boxes"], [[0.1, 0.25, 0.5, 0.5]] * 2, rtol=1e-6)
    np.testing.assert_array_equal(example["labels"], [1, 2])
    np.testing.assert_array_equal(example["flags"], [DIFFICULT, PLAIN])
    assert example["boxes"].dtype == np.float32 and example["labels"].dtype == np.int32
    assert example["image"].shape == (80, 100, 3) and example["size"] == (80, 100)
    assert example["image_id"] == 0 and source.name(0) == "b.png"
    assert source.classes == ("cat", "dog") and source.max_boxes == 2


def test_classes_agree_between_splits_and_empty_images_stay(root):
    train = voc.read(root, "train")
    assert train.classes == voc.read(root, "val").classes == ("cat", "dog")
    assert train[1]["boxes"].shape == (0, 4) and train[1]["labels"].shape == (0,)
    assert train.summary() == (
        f"{root.name} train: 2 images, 1 boxes (0 difficult), 1 images without boxes; cat 0, dog 1"
    )


def test_given_classes_set_the_labels(root):
    source = voc.read(root, "val", classes=["dog", "bird", "cat"])
    np.testing.assert_array_equal(source[0]["labels"], [3, 1])


def stems(root, split):
    source = voc.read(root, split)
    return tuple(source.name(i).rpartition(".")[0] for i in range(len(source)))


def test_without_lists_every_fifth_photograph_is_the_test_set(tmp_path):
    for number in range(11):
        add(tmp_path, f"p{number:02d}", xml(thing()))
    shutil.rmtree(tmp_path / "ImageSets")
    test, trainval = stems(tmp_path, "test"), stems(tmp_path, "trainval")
    assert test == ("p04", "p09")
    assert "without annotation" not in voc.read(tmp_path, "test").summary()
    (tmp_path / "Annotations" / "p03.xml").unlink()
    summary = voc.read(tmp_path, "trainval").summary()
    assert "1 images without annotation left out (p03)" in summary
    add(tmp_path, "p03", xml(thing()))
    shutil.rmtree(tmp_path / "ImageSets")
    assert sorted(test + trainval) == [f"p{number:02d}" for number in range(11)]


def put(root, image, annotation=None, text=None):
    """An image of 100x80 pixels and its annotation, anywhere below a folder."""
    for name in filter(None, (image, annotation)):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(root / image), np.full((80, 100, 3), 90, np.uint8))
    if annotation:
        (root / annotation).write_text(text or xml(thing()), encoding="utf-8")


@pytest.mark.parametrize(
    ("images", "annotations"),
    [("images", "annots"), (".", "."), ("JPEGImages", "xmls"), ("a/b c", "é/x"), ("all", "all")],
)
def test_images_and_annotations_lie_below_any_folders(tmp_path, images, annotations):
    put(tmp_path, f"{images}/b.JPG", f"{annotations}/b.XML", xml(thing("cat"), thing()))
    put(tmp_path, f"{images}/a.webp", f"{annotations}/a.xml", xml())
    put(tmp_path, f"{images}/lone.png")
    for name in (".hidden/b.xml", "__MACOSX/b.xml", "thumbs/b.jpg", f"{annotations}/._b.xml"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"\0")
    source = voc.read(tmp_path, "")
    assert [source.name(i) for i in range(2)] == ["a.webp", "b.JPG"] and len(source) == 2
    assert source.classes == ("cat", "dog")
    np.testing.assert_allclose(source[1]["boxes"], [[0.1, 0.25, 0.5, 0.5]] * 2, rtol=1e-6)
    assert "1 images without annotation left out (lone)" in source.summary()
    assert stems(tmp_path, "trainval") == ("a", "b")


@pytest.mark.parametrize(
    "form", ["{split}/{name}", "{kind}/{split}/{name}", "{split}/{kind}/{name}"]
)
def test_folders_may_be_splits(tmp_path, form):
    """Every split has the classes of all, and the stems of two splits may be the same."""
    for split_name, label in (("train", "cat"), ("valid", "dog")):
        paths = [form.format(kind=kind, split=split_name, name=name)
                 for kind, name in (("JPEGImages", "a.jpg"), ("Annotations", "a.xml"))]  # fmt: skip
        put(tmp_path, *paths, xml(thing(label)))
    for split_name, label in (("train", 1), ("valid", 2)):
        source = voc.read(tmp_path, split_name)
        assert source.classes == ("cat", "dog") and source[0]["labels"].tolist() == [label]
        assert split_name in source.images[0].path.parts
    with pytest.raises(DataError, match="no annotations in a folder 'test'; there are: train, val"):
        voc.read(tmp_path, "test")
    with pytest.raises(DataError, match="a: several annotation files .*train.*a.xml, .*valid"):
        voc.read(tmp_path, "")
    with pytest.raises(DataError, match="a: several annotation files"):
        voc.read(tmp_path, "train+valid")


def test_images_of_all_splits_may_lie_in_one_folder(tmp_path):
    for name, split_name in (("a", "train"), ("b", "test"), ("c", "test")):
        put(tmp_path, f"images/{name}.jpg", f"xml/{split_name}/{name}.xml")
    assert stems(tmp_path, "test") == ("b", "c") and stems(tmp_path, "") == ("a", "b", "c")
    assert stems(tmp_path, "test+train") == ("a", "b", "c")


def test_lists_of_a_folder_in_another_layout(tmp_path):
    for name in "ab":
        put(tmp_path, f"images/{name}.jpg", f"train/{name}.xml")
    (tmp_path / "ImageSets" / "Main").mkdir(parents=True)
    split(tmp_path, "train", "b\n")
    assert stems(tmp_path, "train") == ("b",)


def test_annotations_without_any_image_are_refused_as_before(tmp_path):
    (tmp_path / "xml").mkdir()
    (tmp_path / "xml" / "a.xml").write_text(xml(thing()))
    with pytest.raises(DataError, match="Annotations: No such file.*a PASCAL VOC folder holds"):
        voc.read(tmp_path, "")


def test_splits_are_joined_in_order(root):
    assert stems(root, "val+train") == ("b", "a", "c")
    assert stems(root, "") == ("a", "b", "c")


def test_second_column_of_a_class_list_is_not_an_id(root):
    add(root, "with space 1", xml())
    split(root, "dog_train", "a  1\r\nb -1\r\n\nc  0\nwith space 1\n")
    assert stems(root, "dog_train") == ("a", "b", "c", "with space 1")


def test_a_list_with_byte_order_mark(root):
    (root / "ImageSets/Main/bom.txt").write_bytes(b"\xef\xbb\xbfa\n")
    assert stems(root, "bom") == ("a",)


def test_names_beyond_ascii_and_hidden_files(root):
    add(root, "bild é 图", xml(thing()))
    (root / "Annotations" / "._a.xml").write_bytes(b"\0\5\26\7")
    (root / "JPEGImages" / "._a.jpg").write_bytes(b"\0")
    split(root, "odd", "bild é 图\n")
    assert voc.read(root, "odd")[0]["image"].shape == (80, 100, 3)
    assert len(voc.read(root, "")) == 4


def test_dropped_and_clipped_boxes_are_counted(root):
    boxes = [(30, 30, 30, 60), (5, 5, 5, 5), (101, 1, 140, 9), (0, 0, 120, 80), (1, 1, 100, 80)]
    add(root, "odd", xml(*(thing(box=box) for box in boxes), size=(200, 160)))
    split(root, "x", "odd\n")
    source = voc.read(root, "x")
    np.testing.assert_array_equal(source[0]["boxes"], [[0, 0, 1, 1], [0, 0, 1, 1]])
    assert len(source[0]["flags"]) == 2
    assert source.summary().splitlines()[1] == (
        "2 boxes without area dropped (odd); 1 boxes outside the image dropped (odd); "
        "1 boxes clipped at the border (odd); 1 wrong sizes in annotations, the image's "
        "used (odd)"
    )


def test_conversion_counts_pixels_from_one():
    pixels = np.array([[1, 1, 10, 20], [3.5, 2, 4.5, 20], [7, 7, 8, 8]], np.float64)
    converted = pixels_to_boxes(pixels, (20, 10))
    expected = [[0, 0, 1, 1], [0.25, 0.05, 0.45, 1], [0.6, 0.3, 0.8, 0.4]]
    np.testing.assert_allclose(converted.boxes, expected, rtol=1e-6)
    assert converted.kept.all()
    assert converted.corrections == {}


def test_parts_of_an_object_are_not_objects(root):
    part = "<part><name>head</name><bndbox><xmin>9</xmin></bndbox></part>"
    one = parse_annotation(xml(thing(extra=part)).encode(), "a.xml")
    assert one.names == ("dog",) and one.size == (80, 100)
    np.testing.assert_array_equal(one.pixels, [[11, 21, 50, 40]])


BAD_XML = {
    "<annotation>\n<object>\n</annotation>": "line 3",
    "": "line 1",
    "<html></html>": "root <html>",
    '<!DOCTYPE a [<!ENTITY x "y">]>' + xml(thing("&x;")): "DOCTYPE",
    '<!DOCTYPE a SYSTEM "a.dtd">' + xml(): "DOCTYPE",
    xml(thing(" ")): "object 1 has no name",
    xml(thing(), "<object><name>cat</name></object>"): "object 2 \\(cat\\) has no bndbox/xmin",
    xml(thing(box=(1, 2, 3))): "no bndbox/ymax",
    xml(thing(box=(1, "two", 3, 4))): "ymin is 'two'",
    xml(thing(box=(1, "nan", 3, 4))): "ymin is 'nan'",
    xml(thing(box=(1, 2, "inf", 4))): "xmax is 'inf'",
    xml(thing(box=(1, "", 3, 4))): "ymin is ''",
    xml(thing(box=(9, 2, 3, 4))): "reversed",
    xml(thing(box=(1, 9, 3, 4))): "reversed",
    xml(thing(difficult="maybe")): "difficult is 'maybe'",
    xml(thing(difficult="1" * 5000)): "difficult is '1+\\.\\.\\.1+'",
    xml(thing(box=(1, 2, "9" * 5000, 4))): "xmax is '9+\\.\\.\\.9+'",
}


@pytest.mark.parametrize("text", BAD_XML)
def test_bad_annotations_name_the_file(root, text):
    add(root, "bad", text)
    with pytest.raises(DataError, match=f"bad\\.xml.*{BAD_XML[text]}"):
        voc.read(root, "")


@pytest.mark.parametrize("digits", [400, 5000])
def test_sizes_of_any_length(root, digits):
    """What Python reads as a number is compared, what it does not read says nothing."""
    add(root, "a", xml(thing(), size=("9" * digits, 80)))
    if digits > 4300:
        assert voc.read(root, "train")[0]["size"] == (80, 100)
    else:
        with pytest.raises(DataError, match=r"a.jpg: 100x80 pixels, .*of 9+\.\.\.9+x80:"):
            voc.read(root, "train")


def test_deep_xml_is_read(root):
    deep = "<part>" * 100_000 + "</part>" * 100_000
    add(root, "a", xml(thing(extra=deep)))
    assert voc.read(root, "train")[0]["labels"] == [2]


def test_what_is_no_file_is_not_read(root):
    (root / "Annotations" / "d.xml").mkdir()
    with pytest.raises(DataError, match=r"d.xml: cannot read the annotation \(not a regular file"):
        voc.read(root, "")
    (root / "ImageSets" / "Main" / "x.txt").mkdir()
    with pytest.raises(DataError, match=r"x.txt: cannot read the list"):
        voc.read(root, "x")
    with pytest.raises(DataError, match="no such split"):
        voc.read(root, "x" * 300)


def test_declared_entities_are_refused_in_any_encoding():
    text = '<?xml version="1.0" encoding="utf-16"?><!DOCTYPE a [<!ENTITY x "y">]><annotation/>'
    with pytest.raises(DataError, match="wide.xml.*DOCTYPE"):
        parse_annotation(text.encode("utf-16"), "wide.xml")


def test_annotations_of_other_splits_count_only_where_classes_are_inferred(root):
    (root / "Annotations" / "b.xml").write_text("broken")
    with pytest.raises(DataError, match="b.xml"):
        voc.read(root, "train")
    assert len(voc.read(root, "train", classes=["dog"])) == 2


def test_unknown_class_lists_both_sides(root):
    with pytest.raises(DataError, match="unknown class 'cat' in .*b.xml; known: dog, horse"):
        voc.read(root, "val", classes=["dog", "horse"])
    with pytest.raises(ConfigError, match="twice"):
        voc.read(root, "val", classes=["dog", "dog"])


@pytest.mark.parametrize(
    "damage", [lambda data: b"", lambda data: data[: len(data) // 2], lambda data: b"<html>"]
)
@pytest.mark.parametrize("name", ["a.jpg", "b.png"])
def test_damaged_images_are_found_at_the_start(root, name, damage):
    path = root / "JPEGImages" / name
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(DataError, match=re.escape(name)):
        voc.read(root, "train+val")


def test_missing_files_are_found_at_the_start(root):
    split(root, "train", "a\nzebra\n")
    with pytest.raises(DataError, match="zebra: the annotation is missing"):
        voc.read(root, "train")
    (root / "JPEGImages" / "b.png").unlink()
    with pytest.raises(DataError, match="b: the image is missing"):
        voc.read(root, "val")


def test_two_images_of_one_name(root):
    add(root, "a", None, suffix=".png")
    with pytest.raises(DataError, match="a: several image files \\(a.jpg, a.png\\)"):
        voc.read(root, "train")


def test_only_five_problems_are_shown(root):
    split(root, "train", "".join(f"no{i:02}\n" for i in range(22)))
    with pytest.raises(DataError) as error:
        voc.read(root, "train")
    lines = str(error.value).splitlines()
    assert len(lines) == 6 and lines[-1] == "and 17 more"


def test_bad_lists(root):
    with pytest.raises(DataError, match="tset.txt: no such split; there are: train, val"):
        voc.read(root, "tset")
    with pytest.raises(DataError, match="no such split"):
        voc.read(root, "train+")
    split(root, "empty", "\n \n")
    with pytest.raises(DataError, match="empty.txt: the list is empty"):
        voc.read(root, "empty")
    with pytest.raises(DataError, match="listed twice: b"):
        voc.read(root, "val+train+val")


def test_missing_folders(tmp_path):
    with pytest.raises(DataError, match="Annotations: No such file"):
        voc.read(tmp_path, "train")
    add(tmp_path, "a", xml())
    (tmp_path / "ImageSets" / "Main").rmdir()
    with pytest.raises(DataError, match="no such folder, so no split 'train'"):
        voc.read(tmp_path, "train")
    with pytest.raises(DataError, match="no object in any annotation"):
        voc.read(tmp_path, "")
    assert len(voc.read(tmp_path, "", classes=["dog"])) == 1


def test_fingerprint_follows_contents(root):
    before = voc.read(root, "train").fingerprint
    assert before == voc.read(root, "train").fingerprint
    assert before != voc.read(root, "val").fingerprint
    assert before != voc.read(root, "train", classes=["dog", "cat"]).fingerprint
    (root / "Annotations" / "a.xml").write_text(xml(thing(box=(12, 21, 50, 40))))
    assert before != voc.read(root, "train").fingerprint


def test_examples_are_independent_and_indices_bounded(root):
    source = voc.read(root, "val")
    source[0]["boxes"][:] = 0
    assert source[0]["boxes"].any()
    with pytest.raises(IndexError):
        source[1]


def test_an_image_replaced_during_use(root):
    source = voc.read(root, "train")
    pixels = cv2.imencode(".jpg", np.zeros((9, 9, 3), np.uint8))[1].tobytes()
    (root / "JPEGImages" / "a.jpg").write_bytes(pixels)
    with pytest.raises(DataError, match="a.jpg: the image changed"):
        source[0]


def test_real_blood_cells(real_data):
    trainval = voc.read(real_data / "bccd", "trainval")
    test = voc.read(real_data / "bccd", "test")
    assert (len(trainval), len(test)) == (292, 72)
    assert trainval.classes == test.classes == ("Platelets", "RBC", "WBC")
    assert "3941 boxes" in trainval.summary() and "945 boxes" in test.summary()
    assert "2 boxes without area dropped (BloodImage_00338, BloodImage_00343)" in trainval.summary()
    assert "dropped" not in test.summary()
    assert test[0]["image"].shape == (480, 640, 3)


def test_real_voc2007_annotations(real_data):
    """The first 500 files of the archive, read as a stream."""
    found = []
    with tarfile.open(real_data / "voc2007" / "voc2007_annotations_9963.tar.gz", "r|gz") as tar:
        for member in tar:
            if member.name.endswith(".xml"):
                found.append(parse_annotation(tar.extractfile(member).read(), member.name))
            if len(found) == 500:
                break
    assert len({name for one in found for name in one.names}) == 20
    for one in found:
        converted = pixels_to_boxes(one.pixels, one.size)
        assert converted.kept.all() and not converted.corrections
        height, width = one.size
        sides = np.array([width, height, width, height])
        back = converted.boxes * sides + np.array([1, 1, 0, 0])
        np.testing.assert_allclose(back, one.pixels, atol=1e-3)
    assert any(one.difficult.any() for one in found)
