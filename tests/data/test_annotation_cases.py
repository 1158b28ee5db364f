"""Every line of the table in docs/data.md, by a fixture."""

import io
import json
import re
import time
from pathlib import Path

import cv2
import micro
import numpy as np
import pytest
from image_files import encode_picture, write_image
from ml_collections import ConfigDict
from PIL import Image
from voc_folders import add, split, thing, xml

from ssd_jax.data import decode, sources
from ssd_jax.data.checks.dataset import (
    check_dataset,
    check_sets,
    read_check,
    shared_images,
    write_check,
)
from ssd_jax.data.formats import coco, csv_file, voc, yolo
from ssd_jax.data.scan import Scan
from ssd_jax.errors import DataError
from ssd_jax.runtime.checksum import format_object
from ssd_jax.types import CROWD, DIFFICULT

TABLE = Path(__file__).resolve().parents[2] / "docs" / "data.md"
CASES = {}


def case(name):
    def keep(function):
        CASES[name] = function
        return function

    return keep


def test_the_table_has_these_cases():
    lines = TABLE.read_text().split("| case | outcome |\n|---|---|\n")[1].split("\n\n")[0]
    assert [re.match(r"\| (.*?) \|", line)[1] for line in lines.splitlines()] == list(CASES)


@pytest.mark.parametrize("name", CASES)
def test_case(name, tmp_path):
    CASES[name](tmp_path)


def look(folder, *objects, split_name="", **options):
    """Annotate image "it" of 100 x 80 pixels beside a sound one: the report, and its record."""
    add(folder, "sound", xml(thing()))
    add(folder, "it", xml(*objects, **options))
    return examined(folder)


def examined(folder, read=None):
    scan = Scan(collect_errors=True)
    source = (read or (lambda scan: voc.read(folder, "", ("dog", "cat"), scan)))(scan)
    report = check_dataset(source.images, source.classes, scan.errors, None, (80, 100))
    found = {record.path.stem: record for record in source.images}
    return report, found.get("it")


def corrected(report):
    return {note: (n["count"], n["first"]) for note, n in report["corrected"].items()}


def refused(report):
    return {reason: each["all"] for reason, each in report["refused"].items()}


@case("image without boxes")
def _(folder):
    report, record = look(folder)
    assert report["images without boxes"] == 1 and record.boxes.shape == (0, 4)
    assert not report["errors"]


@case("box without area")
def _(folder):
    report, record = look(folder, thing(), thing(box=(9, 9, 9, 20)))
    assert corrected(report) == {"boxes without area dropped": (1, ["it.jpg"])}
    assert len(record.boxes) == 1 and not report["errors"]
    report, _ = look(folder, *[thing(box=(9, 9, 9, y)) for y in range(20, 26)])
    assert "6 boxes of 7 are without area or outside" in report["errors"][0]


@case("box outside the image")
def _(folder):
    report, record = look(folder, thing(box=(101, 5, 130, 20)))
    assert corrected(report) == {"boxes outside the image dropped": (1, ["it.jpg"])}
    assert not len(record.boxes)


@case("box across the border")
def _(folder):
    report, record = look(folder, thing(box=(51, 41, 130, 80)))
    assert corrected(report) == {"boxes clipped at the border": (1, ["it.jpg"])}
    np.testing.assert_allclose(record.boxes, [[0.5, 0.5, 1, 1]])


@case("reversed corners")
def _(folder):
    report, _ = look(folder, thing(), thing(box=(50, 21, 11, 40)))
    assert "it.xml: object 2 (dog): reversed" in refused(report)["reversed corners"][0]
    assert report["errors"] == ["1 refused: correct the files that are named, or remove them"]


@case("coordinate that is not a number")
def _(folder):
    for value in ("nan", "inf", "", "x"):
        report, _ = look(folder, thing(box=(value, 21, 50, 40)))
        (text,) = refused(report)["values that are no such numbers"]
        assert f"it.xml: object 1 (dog): xmin is '{value}', not a number" in text


@case("fractions instead of pixels, or pixels instead of fractions")
def _(folder):
    report, _ = look(folder, *[thing(box=(0.1, 0.1, 0.9, 0.1 + i / 10)) for i in range(2, 9)])
    assert "are their numbers fractions of the image?" in report["errors"][0]
    with pytest.raises(DataError, match="it.txt, line 1: 50 40 20 20 are not shares"):
        labeled(folder, "0 50 40 20 20")


def labeled(folder, text, **image):
    """A YOLO folder with one image and its labels."""
    (folder / "yolo").mkdir(exist_ok=True)
    write_image(folder / "yolo" / "it.jpg", **image)
    (folder / "yolo" / "it.txt").write_text(text)
    (folder / "names.txt").write_text("dog\n")
    return yolo.read(folder / "yolo", str(folder / "names.txt"))


@case("1-based corners (VOC, CSV)")
def _(folder):
    _, record = look(folder, thing(box=(1, 1, 100, 80)))
    np.testing.assert_array_equal(record.boxes, [[0, 0, 1, 1]])
    write_image(folder / "it.jpg")
    (folder / "list.csv").write_text("filename,class,xmin,ymin,xmax,ymax\nit.jpg,dog,1,1,100,80\n")
    np.testing.assert_array_equal(
        csv_file.read(folder, folder / "list.csv").images[0].boxes, record.boxes
    )


@case("difficult object")
def _(folder):
    report, record = look(folder, thing(difficult=1))
    assert (record.flags == DIFFICULT).all() and report["ignored"] == 1


def annotated(folder, images, annotations, **categories):
    """A COCO file."""
    names = [{"id": key, "name": name} for key, name in (categories or {"dog": 7}).items()]
    names = [{"id": each["name"], "name": each["id"]} for each in names]
    content = {"images": images, "annotations": annotations, "categories": names}
    (folder / "boxes.json").write_text(json.dumps(content))
    return coco.read(folder, folder / "boxes.json")


@case("crowd")
def _(folder):
    write_image(folder / "it.jpg")
    row = {"id": 1, "image_id": 5, "category_id": 7, "bbox": [0, 0, 9, 9], "iscrowd": 1}
    source = annotated(folder, [{"id": 5, "file_name": "it.jpg"}], [row])
    assert (source[0]["flags"] == CROWD).all()  # test_data_loader.py leaves it out


@case("`iscrowd` that is not 0 or 1, area that is negative or no number")
def _(folder):
    write_image(folder / "it.jpg")
    row = {"id": 4, "image_id": 5, "category_id": 7, "bbox": [0, 0, 9, 9]}
    for wrong in ({"iscrowd": "0"}, {"iscrowd": None}, {"area": -1}, {"area": None}):
        with pytest.raises(DataError, match="boxes.json: annotation 4 of it.jpg: (iscrowd|area)"):
            annotated(folder, [{"id": 5, "file_name": "it.jpg"}], [row | wrong])


@case("unknown class")
def _(folder):
    add(folder, "it", xml(thing("dgo")))
    with pytest.raises(DataError, match="unknown class 'dgo' in .*it.xml; known: dog, cat"):
        voc.read(folder, "", ("dog", "cat"))


@case("class name that is empty or has a control character")
def _(folder):
    add(folder, "it", xml(thing("do\tg")))
    with pytest.raises(DataError, match=r"class name 'do\\tg' in .*it.xml has a control character"):
        voc.read(folder, "")
    with pytest.raises(DataError, match="class name ' ' in .*boxes.json is empty"):
        annotated(folder, [], [], **{" ": 1})
    add(folder, "it", xml(thing("家\u200d族")))
    assert voc.read(folder, "").classes == ("家\u200d族",)


@case("class without box")
def _(folder):
    report, _ = look(folder)
    assert report["classes"] == {"dog": 1, "cat": 0} and report["warnings"] == ["no box of cat"]


@case("rare class whose name resembles a common one")
def _(folder):
    add(folder, "it", xml(*[thing(box=(i, 1, i + 9, 80)) for i in range(1, 91)], thing("Dog")))
    source = voc.read(folder, "")
    report = check_dataset(source.images, source.classes, [], None, (80, 100))
    assert "class Dog (1 boxes) resembles dog: a typo?" in report["warnings"]


@case("more than a quarter of the boxes cross the border")
def _(folder):
    report, _ = look(folder, *[thing(box=(i, 1, 120, 80)) for i in range(1, 31)])
    assert any("are they corners" in text for text in report["warnings"])
    report, _ = look(folder, *[thing(box=(i, 1, 100, 80)) for i in range(1, 31)])
    assert not any("are they corners" in text for text in report["warnings"])


@case("label file without image (YOLO)")
def _(folder):
    labeled(folder, "0 .5 .5 .5 .5")
    (folder / "yolo" / "lone.txt").write_text("")
    source = yolo.read(folder / "yolo", str(folder / "names.txt"))
    assert "1 label files without image (lone.txt)" in source.summary()


@case("image with many more boxes than the others")
def _(folder):
    report, record = look(folder, *[thing(box=(i, 1, i + 9, 80)) for i in range(1, 91)])
    assert len(record.boxes) == 90 and report["most boxes"] == {"count": 90, "file": "it.jpg"}


@case("same box twice")
def _(folder):
    report, record = look(folder, thing(), thing("cat"), thing(), thing(box=(11, 21, 50, 41)))
    assert corrected(report) == {"boxes that occur twice dropped": (1, ["it.jpg"])}
    np.testing.assert_array_equal(record.labels, [1, 2, 1])


@case("EXIF rotation")
def _(folder):
    look(folder)
    write_image(folder / "JPEGImages" / "it.jpg", orientation=6)
    report, record = examined(folder)
    assert record.size == (80, 100) and not record.upright and not report["corrected"]
    assert decode.read_image(record.path)[10, 10].min() > 200


@case("EXIF rotation, annotation without a size")
def _(folder):
    source = labeled(folder, "0 .25 .5 .5 1", orientation=6)
    example, summary = source[0], source.summary()
    assert example["size"] == (100, 80) and example["image"][10, 70].min() > 200
    np.testing.assert_allclose(example["boxes"], [[0, 0, 0.5, 1]])
    assert "1 images rotated by EXIF, as viewers show them (it)" in summary
    names = str(folder / "names.txt")
    stored = yolo.read(folder / "yolo", names, scan=Scan(orientation="stored"))
    assert stored[0]["size"] == (80, 100) and stored[0]["image"][10, 10].min() > 200
    assert stored.fingerprint != source.fingerprint
    assert "1 images whose EXIF rotation is ignored (it)" in stored.summary()
    write_image(folder / "yolo" / "it.jpg", orientation=3)  # upside down, of the same size
    example = yolo.read(folder / "yolo", names)[0]
    assert example["size"] == (80, 100) and example["image"][70, 90].min() > 200
    (folder / "yolo" / "it.jpg").write_bytes(encode_picture("JPEG", xmp=6))
    assert "rotation" not in yolo.read(folder / "yolo", str(folder / "names.txt")).summary()


@case("EXIF rotation, annotation has the rotated size")
def _(folder):
    look(folder, thing(box=(1, 1, 40, 50)), size=(80, 100))
    for orientation, corner in ((6, (10, 70)), (8, (90, 10))):  # where the white corner goes
        write_image(folder / "JPEGImages" / "it.jpg", orientation=orientation)
        report, record = examined(folder)
        assert record.size == (100, 80) and record.upright
        assert corrected(report) == {
            "images rotated by EXIF, as their annotations are": (1, ["it.jpg"])
        }
        source = voc.read(folder, "", ("dog", "cat"))
        (example,) = (source[i] for i in range(2) if source.name(i) == "it.jpg")
        assert example["image"].shape == (100, 80, 3) and example["image"][corner].min() > 200
        np.testing.assert_allclose(example["boxes"], [[0, 0, 0.5, 0.5]])


@case("annotation has the wrong size, aspect ratio agrees")
def _(folder):
    report, record = look(folder, thing(), size=(200, 160))
    assert record.size == (80, 100)
    assert corrected(report) == {"wrong sizes in annotations, the image's used": (1, ["it.jpg"])}
    assert not look(folder, thing(), size=(0, 0))[0]["corrected"]  # it says nothing


@case("annotation has the wrong size, aspect ratio differs")
def _(folder):
    report, _ = look(folder, thing(), size=(80, 100))
    (text,) = refused(report)["size and annotation disagree"]
    assert "it.jpg: 100x80 pixels, and its annotation is of 80x100" in text


def spoiled(folder, data):
    look(folder)
    (folder / "JPEGImages" / "it.jpg").write_bytes(data)
    report, record = examined(folder)
    assert record is None
    ((reason, (text,)),) = refused(report).items()
    assert "it.jpg" in text
    return reason


@case("image missing")
def _(folder):
    look(folder)
    (folder / "JPEGImages" / "it.jpg").unlink()
    ((text,),) = refused(examined(folder)[0]).values()
    assert "it: the image is missing" in text


def jpeg(side=(80, 100)):
    return cv2.imencode(".jpg", np.full((*side, 3), 90, np.uint8))[1].tobytes()


@case("image truncated")
def _(folder):
    assert spoiled(folder, jpeg()[:-10]) == "truncated images"


@case("data behind the end of an image, as phones append them")
def _(folder):
    look(folder)
    image = folder / "JPEGImages" / "it.jpg"
    expected = examined(folder)[1]
    for appended in (b"\xff\xd9\xff\xda ftypmp4", b"\xff\xda" + bytes(9), image.read_bytes()[:99]):
        image.write_bytes(jpeg() + appended)
        assert examined(folder)[1].size == expected.size
        assert decode.read_image(image).shape == (80, 100, 3)


@case("image that OpenCV does not decode: TIFF of floats, TGA, ICO, PCX …")
def _(folder):
    for kind, mode in (("TIFF", "F"), ("TGA", "RGB"), ("ICO", "RGB"), ("PCX", "RGB")):
        data = encode_picture(kind, mode=mode)
        assert spoiled(folder, data) == "files that are no image, or damaged"


@case("folder or pipe in the place of a file")
def _(folder):
    look(folder)
    add(folder, "third", xml(thing()))
    image, other = (folder / place for place in ("JPEGImages/it.jpg", "Annotations/sound.xml"))
    for path in (image, other):
        path.unlink()
        path.mkdir()
    report, _ = examined(folder)
    assert refused(report) == {
        "images that are missing or cannot be opened": [
            f"{image}: cannot read the image (not a regular file)"
        ],
        "files that are missing or cannot be read": [
            f"{other}: cannot read the annotation (not a regular file)"
        ],
    }  # test_files.py has a pipe


@case("image damaged, empty, or not an image")
def _(folder):
    for data in (b"", b"<html>not found</html>", b"\xff\xd8\xff\xe0" + bytes(90) + b"\xff\xd9"):
        assert spoiled(folder, data) in (
            "empty image files", "files that are no image, or damaged"
        )  # fmt: skip


@case("image below 2 pixels, or above 89 million")
def _(folder):
    assert spoiled(folder, jpeg((1, 50))) == "images too small"
    small = io.BytesIO()
    Image.new("1", (30_000, 3_000)).save(small, "PNG")
    assert spoiled(folder, small.getvalue()) == "images above the pixel limit"


@case("gray, palette, alpha, CMYK, 16 bits")
def _(folder):
    for mode in ("L", "P", "RGBA", "LA", "I;16", "1"):
        data = io.BytesIO()
        Image.new(mode, (100, 80)).save(data, "PNG")
        assert decode.decode_image(data.getvalue(), "x").shape == (80, 100, 3)  # see test_decode.py


@case("XML with DOCTYPE or ENTITY")
def _(folder):
    look(folder)
    text = f'<!DOCTYPE a [<!ENTITY b "c">]>{xml()}'
    (folder / "Annotations" / "it.xml").write_text(text)
    ((text,),) = refused(examined(folder)[0]).values()
    assert "it.xml: a DOCTYPE or ENTITY declaration is not accepted" in text


@case("not XML, JSON, CSV or YAML")
def _(folder):
    look(folder)
    (folder / "Annotations" / "it.xml").write_text("<annotation>\n<object></annotation>")
    ((text,),) = refused(examined(folder)[0]).values()
    assert "it.xml, line 2: bad XML" in text
    for name, read in (("b.json", coco.read), ("b.csv", csv_file.read)):
        (folder / name).write_bytes(b'{"a": \xff')
        with pytest.raises(DataError, match=name):
            read(folder, folder / name)
    for text in ("names: [a\n", "[" * 100_000):
        (folder / "b.yaml").write_text(text)
        with pytest.raises(DataError, match=r"b.yaml: not YAML"):
            yolo.read(folder / "b.yaml", "train")
    (folder / "b.json").write_text("[" * 100_000)
    with pytest.raises(DataError, match="b.json: not JSON"):
        coco.read(folder, folder / "b.json")


@case("image listed twice")
def _(folder):
    look(folder)
    split(folder, "train", "it\nsound\nit\n")
    with pytest.raises(DataError, match="images listed twice: it"):
        voc.read(folder, "train")
    (folder / "b.yaml").write_text("train: list.txt\nnames: [dog]\n")
    (folder / "list.txt").write_text("JPEGImages/it.jpg\nImageSets/../JPEGImages/it.jpg\n")
    with pytest.raises(DataError, match=r"twice: .*/ImageSets/../JPEGImages/it.jpg \(as .*it.jpg"):
        yolo.read(folder / "b.yaml", "train")
    images = [{"id": i, "file_name": f"{'./' * i}JPEGImages/it.jpg"} for i in range(2)]
    with pytest.raises(DataError, match="'JPEGImages/it.jpg' and './JPEGImages/it.jpg'"):
        annotated(folder, images, [])


@case("two images with the same name")
def _(folder):
    look(folder)
    (folder / "JPEGImages" / "it.png").write_bytes(b"")
    ((text,),) = refused(examined(folder)[0]).values()
    assert "it.jpg" in text and "it.png" in text


@case("file name with spaces or non-Latin letters")
def _(folder):
    add(folder, "图 é x", xml(thing()))
    assert voc.read(folder, "")[0]["image"].shape == (80, 100, 3)


@case("file name that no file can have: a zero byte, half a character, too long")
def _(folder):
    for name in ("a\0.jpg", "\ud800.jpg", "a" * 300):
        with pytest.raises(DataError, match=f"{folder}/.*: cannot read the image"):
            annotated(folder, [{"id": 5, "file_name": name}], [])


@case("path of an image that does not exist (COCO, CSV)")
def _(folder):
    write_image(folder / "it.jpg")
    (folder / "b.csv").write_text("filename,class,xmin,ymin,xmax,ymax\nold/it.jpg,dog,1,1,9,9\n")
    images = [{"id": 1, "file_name": "../old/it.jpg"}]
    assert annotated(folder, images, []).name(0) == "it.jpg"
    assert csv_file.read(folder, folder / "b.csv").name(0) == "it.jpg"
    (folder / "deep").mkdir()
    write_image(folder / "deep" / "it.jpg")
    with pytest.raises(DataError, match="old/it.jpg: cannot read the image"):
        annotated(folder, images, [])
    with pytest.raises(DataError, match="old/it.jpg: cannot read the image"):
        csv_file.read(folder, folder / "b.csv")


@case("category of COCO that only names a group, without boxes (Roboflow)")
def _(folder):
    write_image(folder / "it.jpg")
    categories = [{"id": 0, "name": "pets", "supercategory": "none"},
                  {"id": 1, "name": "dog", "supercategory": "pets"}]  # fmt: skip
    row = {"id": 3, "image_id": 1, "category_id": 1, "bbox": [0, 0, 9, 9]}
    content = {"images": [{"id": 1, "file_name": "it.jpg"}], "annotations": [row]}
    (folder / "boxes.json").write_text(json.dumps(content | {"categories": categories}))
    assert coco.read(folder, folder / "boxes.json").classes == ("dog",)


@case("columns of a CSV list that may mean two things")
def _(folder):
    (folder / "b.csv").write_text("image,path,class,xmin,ymin,xmax,ymax\na,b,dog,1,1,9,9\n")
    with pytest.raises(DataError, match="b.csv: its header has image, path, and it is not clear"):
        csv_file.read(folder, folder / "b.csv")


@case("class without name (YOLO)")
def _(folder):
    write_image(folder / "it.jpg")
    (folder / "it.txt").write_text("2 .5 .5 .2 .2")
    assert yolo.read(folder, "").classes == ("class0", "class1", "class2")
    assert yolo.read(folder, "", ("cat", "cow", "dog"))[0]["labels"] == [3]


@case("COCO ids with gaps")
def _(folder):
    write_image(folder / "it.jpg")
    row = {"id": 3, "image_id": 90, "category_id": 44, "bbox": [0, 0, 9, 9]}
    source = annotated(folder, [{"id": 90, "file_name": "it.jpg"}], [row], dog=3, cat=44)
    assert source.classes == ("dog", "cat") and source[0]["labels"] == [2]
    content, image_ids, category_ids = source.scoring_inputs()
    assert image_ids == [1] and category_ids == [1, 2]
    assert content["annotations"][0]["category_id"] == 2


@case("COCO ids that are lists, fractions, `null` …, or numbers and texts in one list")
def _(folder):
    for name in ("it", "other"):
        write_image(folder / f"{name}.jpg")
    for wrong in ([1], 1.5, None, True, {}):
        with pytest.raises(DataError, match="boxes.json: image 1 of its list has .*id"):
            annotated(folder, [{"id": wrong, "file_name": "it.jpg"}], [])
    images = [{"id": 1, "file_name": "it.jpg"}, {"id": "2", "file_name": "other.jpg"}]
    with pytest.raises(DataError, match="some ids of images are numbers and some texts"):
        annotated(folder, images, [])


@case("two COCO categories or images with one id")
def _(folder):
    images = [{"id": 5, "file_name": f"{name}.jpg"} for name in ("it", "other")]
    with pytest.raises(DataError, match="the images 'it.jpg' and 'other.jpg' have the same id 5"):
        annotated(folder, images, [])
    with pytest.raises(DataError, match="the categories 'dog' and 'cat' have the same id 3"):
        annotated(folder, images[:1], [], dog=3, cat=3)


@case("data set that does not exist")
def _(folder):
    for spec in (f"voc:{folder}/x:train", f"coco:{folder}:{folder}/x.json", f"tfds:{folder}/x:a",
                 f"csv:{folder}:{folder}/x.csv", f"yolo:{folder}/x.yaml:train"):  # fmt: skip
        began = time.monotonic()
        with pytest.raises(DataError, match=re.escape(f"{folder}/x")):
            sources.make_source((spec,), micro.get_config())
        print(spec, time.monotonic() - began)


@case("image in both sets")
def _(folder):
    records = voc_records(folder)
    assert shared_images(records, records[:1]) == ["it.jpg"]
    assert shared_images(records[:1], records[1:]) == []
    (folder / "link").symlink_to("JPEGImages")
    for spelling in ("link", "JPEGImages/../link", "./JPEGImages"):
        other = records[0]._replace(path=folder / spelling / "it.jpg")
        assert shared_images(records, [other]) == ["it.jpg"]


def voc_records(folder):
    look(folder)
    return voc.read(folder, "", ("dog", "cat")).images


@case("data changed since the last start")
def _(folder):
    look(folder)
    path = folder / "check.json"
    config = ConfigDict({"image_size": (80, 100)})

    def start():
        last_check = read_check(path)
        scan = Scan(last_check.get("images"))
        source = voc.read(folder, "", ("dog", "cat"), scan)
        priors = np.float32([[0, 0, 1, 1]])
        check = check_sets({"train": source}, {}, scan, last_check, priors, config)
        if check:
            write_check(path, check)
        return not check

    assert [start(), start()] == [False, True]
    (folder / "Annotations" / "it.xml").write_text(xml(thing()))
    assert [start(), start()] == [False, True]
    image = folder / "JPEGImages" / "it.jpg"
    image.write_bytes(image.read_bytes() + b"\xff\xd9")
    assert [start(), start()] == [False, True]
    add(folder, "another", xml())
    assert [start(), start()] == [False, True]
    check = read_check(path)
    (name, *_) = check["images"]
    for other in (
        b"{",
        b"\xff\xfe",
        b"[" * 100_000,
        b"[]",
        b"7",
        b"{}",
        format_object(check | {"version": 1}),
        format_object(check | {"images": [1]}),
        format_object(check | {"fingerprint": None}),
        format_object({key: check[key] for key in check if key != "version"}),
        format_object({key: check[key] for key in check if key != "images"}),
        format_object(check | {"images": {name: [1]}}),
        format_object(check | {"images": {name: [*check["images"][name][:4], True]}}),
        json.dumps(check).encode(),  # without a checksum
        path.read_bytes().replace(b"100", b"101"),
    ):
        path.write_bytes(other)
        assert [start(), start()] == [False, True]
    path.unlink()
    path.mkdir()
    assert read_check(path) == {}
