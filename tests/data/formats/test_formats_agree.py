"""The same photographs in every format give the same pixels and the same boxes."""

import io
import json
from typing import NamedTuple

import cv2
import numpy as np
import pytest
import yaml
from PIL import Image
from tfds_archives import TEST, TRAINVAL, prepare, voc_xml, write_coco, write_voc

from ssd_jax.data.formats import coco, csv_file, tfds, voc, yolo
from ssd_jax.data.scan import Scan
from ssd_jax.types import CROWD, DIFFICULT, PLAIN

CLASSES = ("cat", "dog")


class Photo(NamedTuple):
    """An encoded image and its objects: name, 1-based inclusive corners, difficult."""

    data: bytes
    size: tuple[int, int]  # W, H
    objects: list


def encoded(image, kind, **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def made():
    """Every kind of image that one decoder must bring to RGB, of odd sizes."""
    rng = np.random.default_rng(0)
    colors = Image.fromarray(cv2.resize(rng.integers(0, 256, (4, 5, 3), np.uint8), (351, 233)))
    turned = Image.Exif()
    turned[0x0112] = 6
    deep = np.linspace(0, 65535, 351 * 233).reshape(233, 351).astype(np.uint16)
    return {
        "cmyk": encoded(colors.convert("CMYK"), "JPEG"),
        "sixteen": cv2.imencode(".png", deep)[1].tobytes(),
        "palette": encoded(colors.convert("P"), "PNG"),
        "alpha": encoded(colors.convert("RGBA"), "PNG"),
        "gray": encoded(colors.convert("L"), "JPEG"),
        "turned": encoded(colors, "JPEG", exif=turned),
        "thin": encoded(colors.resize((1021, 3)), "PNG"),
    }


def real(folder):
    """Photographs, two of them gray."""
    raccoons = [folder / "raccoon" / "images" / f"raccoon-{n}.jpg" for n in (1, 150, 161)]
    files = [*raccoons, *sorted((folder / "bccd" / "JPEGImages").glob("*.jpg"))[:2]]
    return {path.stem: path.read_bytes() for path in files}


def photos(images):
    """Images by name -> the same with random boxes of whole pixels, and one without boxes."""
    rng = np.random.default_rng(1)
    found = {}
    for name, data in images.items():
        width, height = Image.open(io.BytesIO(data)).size
        objects = []
        for number in range(5):
            low = rng.integers(1, (width, height))
            high = rng.integers(low, (width, height)) + 1
            difficult = bool(number == 4)
            objects.append((str(rng.choice(CLASSES)), (*low.tolist(), *high.tolist()), difficult))
        objects.append((CLASSES[0], (1, 1, width, height), False))
        found[name] = Photo(data, (width, height), objects)
    return found | {"empty": found[name]._replace(objects=[])}


@pytest.fixture(scope="module", params=["made", "real"])
def sets(request, tmp_path_factory):
    """The source of every format: its name -> {image name: example}, and the photographs."""
    is_made = request.param == "made"
    given = photos(made() if is_made else real(request.getfixturevalue("real_data")))
    folder = tmp_path_factory.mktemp("formats")
    found = {
        "voc": as_voc(folder / "voc", given),
        "coco": as_coco(folder / "coco", given),
        "yolo": as_yolo(folder / "yolo", given),
        "csv": as_csv(folder / "csv", given),
        "tfds voc": as_tfds_voc(folder / "tfds_voc", given),
        "tfds coco": as_tfds_coco(folder / "tfds_coco", given),
    }
    by_name = {}
    for kind, source in found.items():
        assert "dropped" not in source.summary() and "clipped" not in source.summary(), kind
        examples = {source.name(i).removesuffix(".jpg"): source[i] for i in range(len(source))}
        assert len(examples) == len(source) == len(given)
        by_name[kind] = {
            name: example | {"names": [source.classes[label - 1] for label in example["labels"]]}
            for name, example in examples.items()
        }
    return by_name, given


def write_images(folder, given):
    folder.mkdir(parents=True)
    for name, photo in given.items():
        (folder / f"{name}.jpg").write_bytes(photo.data)


def as_voc(folder, given):
    write_images(folder / "JPEGImages", given)
    (folder / "Annotations").mkdir()
    for name, photo in given.items():
        xml = voc_xml(*photo.objects, size=photo.size)
        (folder / "Annotations" / f"{name}.xml").write_bytes(xml)
    return voc.read(folder, "")


def as_coco(folder, given):
    write_images(folder, given)
    (folder / "boxes.json").write_text(json.dumps(coco_content(given)))
    return coco.read(folder, folder / "boxes.json")


def coco_content(given):
    images, annotations = [], []
    for image_id, (name, photo) in enumerate(given.items(), 7):
        width, height = photo.size
        images.append(
            {"id": image_id, "file_name": f"{name}.jpg", "width": width, "height": height}
        )
        for label, (x0, y0, x1, y1), difficult in photo.objects:
            box = [x0 - 1, y0 - 1, x1 - x0 + 1, y1 - y0 + 1]
            annotations.append(
                {"id": len(annotations) + 1, "image_id": image_id, "bbox": box,
                 "category_id": 10 + CLASSES.index(label), "iscrowd": int(difficult),
                 "area": box[2] * box[3]}
            )  # fmt: skip
    categories = [{"id": 10 + i, "name": name} for i, name in enumerate(CLASSES)]
    return {"images": images, "annotations": annotations, "categories": categories}


def as_yolo(folder, given):
    """Six digits, as is usual."""
    write_images(folder / "images", given)
    (folder / "labels").mkdir()
    for name, photo in given.items():
        lines = ""
        for label, (x0, y0, x1, y1), _ in photo.objects:
            center_size = [(x0 - 1 + x1) / 2, (y0 - 1 + y1) / 2, x1 - x0 + 1, y1 - y0 + 1]
            shares = np.array(center_size) / (photo.size * 2)
            lines += f"{CLASSES.index(label)} " + " ".join(f"{share:.6f}" for share in shares)
            lines += "\n"
        (folder / "labels" / f"{name}.txt").write_text(lines)
    content = {"train": "images", "names": list(CLASSES)}
    (folder / "data.yaml").write_text(yaml.safe_dump(content))
    # Its labels tell no size; these are of the stored pixels.
    return yolo.read(folder / "data.yaml", "train", scan=Scan(orientation="stored"))


def as_csv(folder, given):
    write_images(folder, given)
    lines = ["filename,width,height,class,xmin,ymin,xmax,ymax"]
    for name, photo in given.items():
        width, height = photo.size
        for label, corners, _ in photo.objects:
            lines.append(f"{name}.jpg,{width},{height},{label},{','.join(map(str, corners))}")
        if not photo.objects:
            lines.append(f"{name}.jpg,{width},{height},,,,,")
    (folder / "list.csv").write_text("\n".join(lines))
    return csv_file.read(folder, folder / "list.csv")


def as_tfds_voc(folder, given):
    folder.mkdir()
    names = list(given)
    write_voc(
        folder / TRAINVAL, "2007", {"train": names[:4], "val": names[4:]},
        {name: photo.data for name, photo in given.items()},
        {name: voc_xml(*photo.objects, size=photo.size) for name, photo in given.items()},
    )  # fmt: skip
    write_voc(folder / TEST, "2007", {"test": ["empty"]}, {"empty": given["empty"].data},
              {"empty": voc_xml()})  # fmt: skip
    return tfds.read(prepare("voc/2007", folder), "train+validation")


def as_tfds_coco(folder, given):
    folder.mkdir()
    files = {f"{name}.jpg": photo.data for name, photo in given.items()}
    contents = {
        "train2017": coco_content(given),
        "val2017": coco_content({"empty": given["empty"]}),
    }
    write_coco(folder, {part: files for part in contents}, contents)
    return tfds.read(prepare("coco/2017", folder), "train")


FORMATS = ("voc", "coco", "yolo", "csv", "tfds voc", "tfds coco")


@pytest.mark.parametrize("kind", FORMATS)
def test_boxes_are_those_that_were_written(sets, kind):
    """To a thousandth of a pixel; the classes by name, in their order."""
    examples, given = sets
    for name, photo in given.items():
        example = examples[kind][name]
        expected = np.array([corners for _, corners, _ in photo.objects], float).reshape(-1, 4)
        expected[:, :2] -= 1
        assert np.abs(example["boxes"] * (photo.size * 2) - expected).max(initial=0) <= 1e-3, name
        assert example["names"] == [label for label, _, _ in photo.objects]
        assert example["size"] == photo.size[::-1]


@pytest.mark.parametrize("kind", FORMATS[1:])
def test_pixels_are_the_same(sets, kind):
    examples, given = sets
    for name in given:
        image = examples[kind][name]["image"]
        assert image.dtype == np.uint8 and image.shape[2] == 3
        np.testing.assert_array_equal(image, examples["voc"][name]["image"], err_msg=name)


@pytest.mark.parametrize("kind", ["voc", "coco", "tfds voc", "tfds coco"])
def test_difficult_objects_and_crowds_are_marked(sets, kind):
    """YOLO and CSV files have no place for them."""
    examples, given = sets
    for name, photo in given.items():
        example = examples[kind][name]
        flag = CROWD if "coco" in kind else DIFFICULT
        expected = [flag if is_marked else PLAIN for *_, is_marked in photo.objects]
        assert example["flags"].tolist() == expected
