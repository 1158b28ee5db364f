"""TFDS builders that read PASCAL VOC and COCO from the official archives. No command.

Features and versions are those of TFDS's own `voc` and `coco`, so that either's records can be
read. Used by `scripts.prepare_tfds`.
"""

import io
import json
import tarfile
import xml.etree.ElementTree as ET
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import tensorflow_datasets as tfds

from ssd_jax.data import decode
from ssd_jax.data.formats import voc_xml
from ssd_jax.errors import DataError

VOC_CLASSES = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow",
    "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train",
    "tvmonitor",
)  # fmt: skip
_POSES = ("frontal", "rear", "left", "right", "unspecified")
COCO_PARTS = {"train": "train2017", "validation": "val2017"}


class Voc(tfds.core.GeneratorBasedBuilder):
    """`voc` as TFDS defines it: boxes are 1-based pixels divided by the size of the image.

    `archives` are those of training and validation, and of the test set if there is one.
    """

    BUILDER_CONFIGS = [
        tfds.core.BuilderConfig(name=year, version=tfds.core.Version("5.0.0"))
        for year in ("2007", "2012")
    ]

    def __init__(self, archives: list[Path], **kwargs):
        self._archives = archives
        super().__init__(**kwargs)

    def _info(self) -> tfds.core.DatasetInfo:
        label = tfds.features.ClassLabel(names=VOC_CLASSES)
        objects = {
            "label": label,
            "bbox": tfds.features.BBoxFeature(),
            "pose": tfds.features.ClassLabel(names=_POSES),
            "is_truncated": np.bool_,
            "is_difficult": np.bool_,
        }
        return tfds.core.DatasetInfo(
            builder=self,
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(),
                    "image/filename": tfds.features.Text(),
                    "objects": tfds.features.Sequence(objects),
                    "labels": tfds.features.Sequence(label),
                    "labels_no_difficult": tfds.features.Sequence(label),
                }
            ),
        )

    def _split_generators(self, dl_manager) -> dict:
        trainval, *test = self._archives
        splits = {"train": (trainval, "train"), "validation": (trainval, "val")}
        if test:
            splits["test"] = (test[0], "test")
        return {split: self._generate_examples(*source) for split, source in splits.items()}

    def _generate_examples(self, archive: Path, image_set: str) -> Iterator[tuple[str, dict]]:
        with tarfile.open(archive) as tar:
            members = {member.name: member for member in tar if member.isfile()}
            root = f"VOCdevkit/VOC{self.builder_config.name}"

            def read(name: str) -> bytes:
                if f"{root}/{name}" not in members:
                    raise DataError(f"{archive}: no {root}/{name} in it")
                return tar.extractfile(members[f"{root}/{name}"]).read()

            # The test set of 2012 has no annotations.
            is_annotated = image_set != "test" or self.builder_config.name == "2007"
            for line in read(f"ImageSets/Main/{image_set}.txt").decode().split("\n"):
                if line.strip():
                    image_id = line.split()[0]
                    image = read(f"JPEGImages/{image_id}.jpg")
                    xml = read(f"Annotations/{image_id}.xml") if is_annotated else None
                    yield image_id, voc_example(image_id, image, xml)


def voc_example(image_id: str, image: bytes, xml: bytes | None) -> dict:
    """One image and its annotation as TFDS stores them."""
    height, width = decode.parse_header(io.BytesIO(image), image_id).size
    objects = []
    if xml is not None:
        annotation = voc_xml.parse_annotation(xml, f"{image_id}.xml")
        nodes = ET.fromstring(xml).findall("object")
        scaled = np.clip(annotation.pixels / (width, height, width, height), 0, 1)
        objects = [
            {
                "label": name.lower(),
                "bbox": tfds.features.BBox(y_min, x_min, y_max, x_max),
                "pose": (node.findtext("pose") or "unspecified").lower(),
                "is_truncated": node.findtext("truncated") == "1",
                "is_difficult": bool(difficult),
            }
            for name, (x_min, y_min, x_max, y_max), difficult, node in zip(
                annotation.names, scaled.tolist(), annotation.difficult, nodes
            )
        ]
    not_difficult = [each for each in objects if not each["is_difficult"]]
    return {
        "image": image,
        "image/filename": f"{image_id}.jpg",
        "objects": objects,
        "labels": sorted({each["label"] for each in objects}),
        "labels_no_difficult": sorted({each["label"] for each in not_difficult}),
    }


class Coco(tfds.core.GeneratorBasedBuilder):
    """`coco` as TFDS defines it, without the test split, which has no annotations.

    `archives` are those of the images of each split, and last that of the annotations.
    """

    BUILDER_CONFIGS = [
        tfds.core.BuilderConfig(name="2017", version=tfds.core.Version("1.1.0")),
    ]

    def __init__(self, archives: list[Path], **kwargs):
        *self._image_archives, self._annotation_archive = archives
        super().__init__(**kwargs)

    def _info(self) -> tfds.core.DatasetInfo:
        categories = _read_annotations(self._annotation_archive, "val2017")["categories"]
        names = [category["name"] for category in categories]
        objects = {
            "id": np.int64,
            "area": np.int64,
            "bbox": tfds.features.BBoxFeature(),
            "label": tfds.features.ClassLabel(names=names),
            "is_crowd": np.bool_,
        }
        return tfds.core.DatasetInfo(
            builder=self,
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(encoding_format="jpeg"),
                    "image/filename": tfds.features.Text(),
                    "image/id": np.int64,
                    "objects": tfds.features.Sequence(objects),
                }
            ),
        )

    def _split_generators(self, dl_manager) -> dict:
        return {
            split: self._generate_examples(archive, part)
            for archive, (split, part) in zip(self._image_archives, COCO_PARTS.items())
        }

    def _generate_examples(self, archive: Path, part: str) -> Iterator[tuple[int, dict]]:
        content = _read_annotations(self._annotation_archive, part)
        names = {category["id"]: category["name"] for category in content["categories"]}
        by_image = {image["id"]: [] for image in content["images"]}
        for annotation in content["annotations"]:
            by_image[annotation["image_id"]].append(annotation)
        with zipfile.ZipFile(archive) as files:
            for image in content["images"]:
                data = files.read(f"{part}/{image['file_name']}")
                yield image["id"], coco_example(image, data, by_image[image["id"]], names)


def coco_example(image: dict, data: bytes, annotations: list[dict], names: dict[int, str]) -> dict:
    """One image and its annotations as TFDS stores them; `names` by category id."""
    height, width = decode.parse_header(io.BytesIO(data), image["file_name"]).size
    objects = []
    for annotation in annotations:
        x, y, w, h = annotation["bbox"]
        corners = np.clip([y / height, x / width, (y + h) / height, (x + w) / width], 0, 1)
        objects.append(
            {
                "id": annotation["id"],
                "area": int(annotation["area"]),
                "bbox": tfds.features.BBox(*corners.tolist()),
                "label": names[annotation["category_id"]],
                "is_crowd": annotation["iscrowd"] == 1,
            }
        )
    return {
        "image": data,
        "image/filename": image["file_name"],
        "image/id": image["id"],
        "objects": objects,
    }


def _read_annotations(archive: Path, part: str) -> dict:
    with zipfile.ZipFile(archive) as files:
        return json.loads(files.read(f"annotations/instances_{part}.json"))
