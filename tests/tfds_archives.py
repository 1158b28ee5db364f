"""Small archives in the official layout of PASCAL VOC and COCO, and data sets made of them."""

import hashlib
import io
import json
import tarfile
import zipfile

from PIL import Image

from scripts import prepare_tfds

TRAINVAL, TEST = "VOCtrainval_06-Nov-2007.tar", "VOCtest_06-Nov-2007.tar"
TRAINVAL_2012, TEST_2012 = "VOCtrainval_11-May-2012.tar", "VOC2012test.tar"


def picture(width=50, height=40, kind="JPEG"):
    buffer = io.BytesIO()
    Image.new("RGB", (width, height), (200, 30, 90)).save(buffer, kind)
    return buffer.getvalue()


def voc_xml(*objects, size=(50, 40)):
    """Objects are (name, (x_min, y_min, x_max, y_max), difficult)."""
    text = f"<annotation><size><width>{size[0]}</width><height>{size[1]}</height></size>"
    for name, corners, difficult in objects:
        box = "".join(f"<{key}>{value}</{key}>"
                      for key, value in zip(("xmin", "ymin", "xmax", "ymax"), corners))  # fmt: skip
        text += (
            f"<object><name>{name}</name><pose>Left</pose><truncated>1</truncated>"
            f"<difficult>{int(difficult)}</difficult><bndbox>{box}</bndbox></object>"
        )
    return (text + "</annotation>").encode()


def write_tar(path, files):
    with tarfile.open(path, "w") as tar:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))


def write_voc(path, year, lists, images, xmls):
    """A tar of a devkit: split lists, images and annotations by image id."""
    root = f"VOCdevkit/VOC{year}"
    files = {f"{root}/ImageSets/Main/{name}.txt": "".join(f"{key}\n" for key in keys).encode()
             for name, keys in lists.items()}  # fmt: skip
    files |= {f"{root}/JPEGImages/{key}.jpg": data for key, data in images.items()}
    files |= {f"{root}/Annotations/{key}.xml": data for key, data in xmls.items()}
    write_tar(path, files)


def write_coco(folder, parts, contents):
    """The three zips: `parts` is train2017 -> {file name: bytes}, `contents` the JSON of each."""
    for part, files in parts.items():
        with zipfile.ZipFile(folder / f"{part}.zip", "w") as archive:
            for name, data in files.items():
                archive.writestr(f"{part}/{name}", data)
    with zipfile.ZipFile(folder / "annotations_trainval2017.zip", "w") as archive:
        for part, content in contents.items():
            archive.writestr(f"annotations/instances_{part}.json", json.dumps(content))


def checksums(dataset, folder):
    """Sizes and checksums of the small archives of a test, in place of the official ones."""
    expected = {}
    for name, official in prepare_tfds.OFFICIAL[dataset].items():
        data = (folder / name).read_bytes() if (folder / name).exists() else b""
        digest = hashlib.sha256(data).hexdigest()
        expected[name] = official._replace(size=len(data), sha256=digest)
    return expected


def prepare(dataset, folder):
    return prepare_tfds.prepare(dataset, folder, folder / "data", checksums(dataset, folder))


def coco_contents(boxes):
    """JSON of one image 10.jpg and one box each, ids with holes."""
    rows = [{"id": 5 + i, "image_id": 10, "category_id": 18, "bbox": bbox, "area": 1024.5,
             "iscrowd": i % 2} for i, bbox in enumerate(boxes)]  # fmt: skip
    return {
        "images": [{"id": 10, "file_name": "10.jpg", "height": 40, "width": 50}],
        "categories": [{"id": 3, "name": "cat"}, {"id": 18, "name": "dog"}],
        "annotations": rows,
    }
