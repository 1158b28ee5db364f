"""The doctor's report by hand, its command, and damaged annotations of every format."""

import json
import tarfile
import time

import cv2
import fuzz
import numpy as np
import pytest
from commands import call_script
from image_files import write_image
from voc_folders import add, split, thing, xml

from ssd_jax.data.checks.dataset import check_dataset, format_report
from ssd_jax.data.formats import coco, csv_file, voc, yolo
from ssd_jax.data.formats.voc_xml import parse_annotation
from ssd_jax.data.scan import Scan
from ssd_jax.errors import DataError


def test_the_report_by_hand(tmp_path):
    boxes = [(1, 1, 100, 80), (1, 1, 10, 40), (91, 1, 100, 40), (1, 1, 50, 80), (51, 1, 100, 80)]
    add(tmp_path, "a", xml(*(thing(box=box) for box in boxes[:3])))
    add(tmp_path, "b", xml(*(thing("cat", box=box) for box in boxes[3:]), thing(difficult=1)))
    add(tmp_path, "c", xml())
    source = voc.read(tmp_path, "")
    priors = np.float32([[0, 0, 1, 1], [0, 0, 0.5, 1]])
    report = check_dataset(source.images, source.classes, [], priors, (160, 100))
    assert (report["images"], report["boxes"], report["ignored"]) == (3, 6, 1)
    assert report["images without boxes"] == 1
    assert report["most boxes"] == {"count": 3, "file": "a.jpg"}
    assert report["classes"] == {"cat": 2, "dog": 4}
    # An input of 160 rows stretches the images twice in height: 100x160, 2 of 10x80, 2 of 50x160
    # and thing()'s 40x40 pixels.
    np.testing.assert_allclose(report["sizes"]["50"], np.sqrt((50 * 160 + 40 * 40) / 2), rtol=0.5)
    sides = np.array([[100, 160], [10, 80], [10, 80], [50, 160], [50, 160], [40, 40]])
    for percent in ("1", "50", "99"):
        expected = np.percentile(np.sqrt(sides.prod(1)), int(percent))
        np.testing.assert_allclose(report["sizes"][percent], expected, rtol=1e-5)
        expected = np.percentile(sides[:, 0] / sides[:, 1], int(percent))
        np.testing.assert_allclose(report["aspect ratios"][percent], expected, rtol=1e-5)
    # The whole image and both halves (the right one by the whole image) have a prior.
    assert report["priors"]["recall"] == pytest.approx(3 / 6)
    np.testing.assert_allclose(report["priors"]["largest"], np.sqrt(16000), rtol=1e-5)
    assert report["errors"] == [] and "tune-priors" in report["warnings"][0]


def test_nothing_to_learn_is_an_error(tmp_path):
    add(tmp_path, "a", xml())
    source = voc.read(tmp_path, "", ("dog",))
    report = check_dataset(source.images, source.classes, [], None, (80, 100))
    assert report["errors"] == ["no image has a box: there is nothing to learn"]
    report = check_dataset([], ("dog",), [DataError("x: bad", "bad ones")], None, (80, 100))
    assert len(report["errors"]) == 2
    assert "refused    1: bad ones" in format_report(report)


@pytest.fixture
def folder(tmp_path):
    """A set of 10 training images, of which some are broken in two ways, and 2 for tests."""
    for number in range(12):
        add(tmp_path, f"p{number:02d}", xml(thing()))
    for number in (3, 5):
        path = tmp_path / "Annotations" / f"p{number:02d}.xml"
        path.write_text(xml(thing(box=(50, 21, 11, 40))))
    (tmp_path / "JPEGImages" / "p07.jpg").write_bytes(b"")
    split(tmp_path, "trainval", "".join(f"p{number:02d}\n" for number in range(10)))
    split(tmp_path, "test", "p10\np11\n")
    return tmp_path


def test_the_command_lists_all_that_is_wrong(folder, tmp_path):
    output = tmp_path / "report.json"
    arguments = (f"--config=configs/voc_folder.py:{folder}", f"--output={output}", "--decode")
    result = call_script("check_data", *arguments)
    assert result.returncode == 3, result.stderr
    assert "refused    2: reversed corners" in result.stdout
    assert "p05.xml: object 1 (dog): reversed" in result.stdout
    assert "not fit for training: train" in result.stderr
    report = json.loads(output.read_text())
    assert report["train"]["images"] == 7 and report["test"]["images"] == 2
    assert set(report["train"]["refused"]) == {
        "reversed corners",
        "files that are no image, or damaged",
    }
    assert not report["test"]["errors"]


def test_the_command_decodes_all_pixels_when_asked(folder, tmp_path):
    for number in (3, 5, 7):
        add(folder, f"p{number:02d}", xml(thing()))
    image = folder / "JPEGImages" / "p01.jpg"
    noise = np.random.default_rng(0).integers(0, 256, (80, 100, 3), np.uint8)
    data = bytearray(cv2.imencode(".jpg", noise)[1].tobytes())
    half = len(data) // 2
    data[half : half + 2] = b"\xff\xc4"  # a marker where none may be: OpenCV reads on
    image.write_bytes(bytes(data))
    arguments = (f"--config=configs/voc_folder.py:{folder}", f"--output={tmp_path / 'x'}")
    sound = call_script("check_data", *arguments)
    assert sound.returncode == 0, sound.stderr
    assert "test       sizes" in sound.stdout
    found = call_script("check_data", *arguments, "--decode")
    assert found.returncode == 3 and "p01.jpg: damaged inside" in found.stdout


def test_what_looks_like_a_mistake_is_asked(tmp_path):
    """Corners where width and height belong, and a class that is nearly another."""
    write_image(tmp_path / "it.jpg")
    boxes = [[10 + i / 2, 10, 60 + i / 2, 70] for i in range(60)]
    names = ["dog"] * 59 + ["Dogg"]
    content = {
        "images": [{"id": 1, "file_name": "it.jpg"}],
        "annotations": [
            {"id": i, "image_id": 1, "category_id": 1 + (name != "dog"), "bbox": box}
            for i, (box, name) in enumerate(zip(boxes, names))
        ],
        "categories": [{"id": 1, "name": "dog"}, {"id": 2, "name": "Dogg"}, {"id": 3, "name": "z"}],
    }
    content["annotations"].append(content["annotations"][0] | {"image_id": 7})
    (tmp_path / "b.json").write_text(json.dumps(content))
    scan = Scan(collect_errors=True)
    source = coco.read(tmp_path, tmp_path / "b.json", (), scan)
    report = check_dataset(source.images, source.classes, scan.errors, None, (80, 100))
    asked = " | ".join(report["warnings"])
    assert "boxes cross the border of their image: are they corners" in asked
    assert "class Dogg (1 boxes) resembles dog: a typo?" in asked and "no box of z" in asked
    (text,) = report["refused"]["annotations without image"]["all"]
    assert "b.json: annotation 0 is of image 7" in text


VOC = xml(thing(), thing("cat", difficult=1)).encode()
COCO = json.dumps(
    {
        "images": [{"id": 7, "file_name": "it.jpg", "width": 100, "height": 80}],
        "annotations": [
            {"id": 1, "image_id": 7, "category_id": 3, "bbox": [5, 6.5, 20, 20], "area": 400},
            {"id": 2, "image_id": 7, "category_id": 9, "bbox": [0, 0, 9, 9], "iscrowd": 1},
        ],
        "categories": [{"id": 3, "name": "dog"}, {"id": 9, "name": "cat"}],
    }
).encode()
CSV = b"filename,width,height,class,xmin,ymin,xmax,ymax\n" + b"it.jpg,100,80,dog,1,2,30,40\n" * 3
YOLO = b"0 .5 .5 .25 .125\n1 0.5 0.5 1.0 1.0\n" * 3
NAMES = b"path: .\ntrain: images\nval: images\nnames:\n  0: dog\n  1: cat\n"


@pytest.mark.parametrize(
    ("name", "data"),
    [("Annotations/it.xml", VOC), ("boxes.json", COCO), ("list.csv", CSV),
     ("labels/it.txt", YOLO), ("data.yaml", NAMES)],
)  # fmt: skip
def test_damaged_annotations_are_read_or_refused_by_name(tmp_path, name, data):
    """200 of each kind."""
    for folder in ("Annotations", "JPEGImages", "images", "labels"):
        (tmp_path / folder).mkdir()
    write_image(tmp_path / "images" / "it.jpg")
    write_image(tmp_path / "JPEGImages" / "it.jpg")
    (tmp_path / "data.yaml").write_bytes(NAMES)
    path = tmp_path / name
    read = {
        "it.xml": lambda: voc.read(tmp_path, ""),
        "boxes.json": lambda: coco.read(tmp_path / "images", path),
        "list.csv": lambda: csv_file.read(tmp_path / "images", path),
        "it.txt": lambda: yolo.read(tmp_path / "data.yaml", "train"),
        "data.yaml": lambda: yolo.read(path, "train"),
    }[path.name]

    path.write_bytes(data)
    read()
    assert 20 < fuzz.names_a_file(tmp_path, path.write_bytes, read, data, 200) < 200


@pytest.mark.slow
def test_all_of_voc2007_in_time(real_data, tmp_path, capsys):
    """9,963 real annotations with drawn images of their sizes; time is printed, not asserted."""
    (archive,) = (real_data / "voc2007").glob("*.tar.gz")
    with tarfile.open(archive) as files:
        files.extractall(tmp_path, filter="data")
    root = next(tmp_path.rglob("Annotations")).parent
    (root / "JPEGImages").mkdir()
    (root / "ImageSets" / "Main").mkdir(parents=True)
    names = sorted(path.stem for path in (root / "Annotations").glob("*.xml"))
    images = {}
    for name in names:
        path = root / "Annotations" / f"{name}.xml"
        size = parse_annotation(path.read_bytes(), name).size
        if size not in images:
            images[size] = cv2.imencode(".jpg", np.full((*size, 3), 90, np.uint8))[1].tobytes()
        (root / "JPEGImages" / f"{name}.jpg").write_bytes(images[size])
    split(root, "trainval", "\n".join(names[:-10]))
    split(root, "test", "\n".join(names[-10:]))
    began = time.monotonic()
    result = call_script(
        "check_data", f"--config=configs/voc_folder.py:{root}", f"--output={tmp_path / 'x'}"
    )
    with capsys.disabled():
        print(f"\n{len(names)} images in {time.monotonic() - began:.1f} s\n{result.stdout}")
    assert result.returncode == 0, result.stderr
    report = json.loads((tmp_path / "x").read_text())
    assert report["train"]["images"] == 9953
    assert report["train"]["boxes"] + report["test"]["boxes"] == 30638
