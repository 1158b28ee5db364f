"""Prepare PASCAL VOC or COCO from the official archives, for `tfds:NAME:SPLIT`.

    python scripts/prepare_tfds.py --dataset=voc/2007|voc/2012|coco/2017 --manual_dir=ARCHIVES \
        [--data_dir=FOLDER]

ARCHIVES holds the archives under their official names, downloaded by you; each is checked by size
and SHA-256. They are read in place, nothing is extracted. The set is written as ArrayRecord, with
the features and the versions of TFDS's own `voc` and `coco`, and without TensorFlow. FOLDER is
`TFDS_DATA_DIR` or `~/tensorflow_datasets`. COCO's annotation files are put beside the records,
because scores are computed with them.
"""

import hashlib
import io
import json
import shutil
import sys
import tarfile
import xml.etree.ElementTree as ET
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tensorflow_datasets as tfds
from absl import flags

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from ssd_jax import cli, decode
from ssd_jax.data import voc_xml
from ssd_jax.data.tfds import PREPARED, data_folder
from ssd_jax.errors import DataError


class Archive(NamedTuple):
    """One official file."""

    size: int  # bytes
    sha256: str
    required: bool = True


_VOC_SITE, _COCO_SITE = "http://host.robots.ox.ac.uk/pascal/VOC/", "http://images.cocodataset.org/"
# Sizes and sums: tensorflow/datasets, url_checksums/voc.txt and coco.txt.
OFFICIAL = {
    "voc/2007": {
        "VOCtrainval_06-Nov-2007.tar": Archive(
            460032000, "7d8cd951101b0957ddfd7a530bdc8a94f06121cfc1e511bb5937e973020c7508"
        ),
        "VOCtest_06-Nov-2007.tar": Archive(
            451020800, "6836888e2e01dca84577a849d339fa4f73e1e4f135d312430c4856b5609b4892"
        ),
    },
    "voc/2012": {
        "VOCtrainval_11-May-2012.tar": Archive(
            1999639040, "e14f763270cf193d0b5f74b169f44157a4b0c6efa708f4dd0ff78ee691763bcb"
        ),
        "VOC2012test.tar": Archive(  # behind a login, and without annotations
            1850626560, "f08582b1935816c5eab3bbb1eb6d06201a789eaa173cdf1cf400c26f0cac2fb3", False
        ),
    },
    "coco/2017": {
        "train2017.zip": Archive(
            19336861798, "69a8bb58ea5f8f99d24875f21416de2e9ded3178e903f1f7603e283b9e06d929"
        ),
        "val2017.zip": Archive(
            815585330, "4f7e2ccb2866ec5041993c9cf2a952bbed69647b115d0f74da7ce8f4bef82f05"
        ),
        "annotations_trainval2017.zip": Archive(
            252907541, "113a836d90195ee1f884e704da6304dfaaecff1f023f49b6ca93c4aaae470268"
        ),
    },
}
_VOC_CLASSES = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow",
    "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train",
    "tvmonitor",
)  # fmt: skip
_POSES = ("frontal", "rear", "left", "right", "unspecified")
_COCO_PARTS = {"train": "train2017", "validation": "val2017"}


def prepare(
    dataset: str, manual_dir: Path, data_dir: Path, archives: dict[str, Archive] | None = None
) -> Path:
    """Write a data set below `data_dir`, unless it is there, and return its folder.

    `archives` are those that are looked for in `manual_dir`, the official ones unless given.
    Raises DataError for an archive that is missing or is not the official one.
    """
    found = checked(dataset, manual_dir, OFFICIAL[dataset] if archives is None else archives)
    name, _, year = dataset.partition("/")
    builder = {"voc": Voc, "coco": Coco}[name](
        found, config=year, data_dir=str(data_dir), file_format="array_record"
    )
    builder.download_and_prepare()
    if name == "coco":
        _keep_annotations(found, Path(builder.data_dir))
    return Path(builder.data_dir)


def checked(dataset: str, folder: Path, archives: dict[str, Archive]) -> list[Path]:
    """The archives that are there, each of the size and sum that it must have."""
    found = []
    for name, expected in archives.items():
        path = folder / name
        if not path.is_file():
            if expected.required:
                site = _VOC_SITE if dataset.startswith("voc") else _COCO_SITE
                raise DataError(f"{path}: no such archive ({expected.size} bytes, from {site})")
            print(f"{name} is not in {folder}: its split is left out")
            continue
        if path.stat().st_size != expected.size:
            got = path.stat().st_size
            raise DataError(
                f"{path}: {got} bytes, and the official one has {expected.size}: download it again"
            )
        print(f"checking {path}")
        with open(path, "rb") as file:
            got = hashlib.file_digest(file, "sha256").hexdigest()
        if got != expected.sha256:
            raise DataError(
                f"{path}: SHA-256 is {got}, and that of the official one is {expected.sha256}: "
                "download it again"
            )
        found.append(path)
    return found


class Voc(tfds.core.GeneratorBasedBuilder):
    """`voc` as TFDS defines it: boxes are 1-based pixels over the size of the image."""

    BUILDER_CONFIGS = [
        tfds.core.BuilderConfig(name=year, version=tfds.core.Version("5.0.0"))
        for year in ("2007", "2012")
    ]

    def __init__(self, archives: list[Path], **kwargs):
        self._archives = archives
        super().__init__(**kwargs)

    def _info(self) -> tfds.core.DatasetInfo:
        label = tfds.features.ClassLabel(names=_VOC_CLASSES)
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
        names = ("train", "validation", "test")  # without its archive, there is no test split
        first, last = self._archives[0], self._archives[-1]
        splits = dict(zip(names, ((first, "train"), (first, "val"), (last, "test"))))
        if first == last:
            del splits["test"]
        return {split: self._generate_examples(*source) for split, source in splits.items()}

    def _generate_examples(self, archive: Path, listed: str) -> Iterator[tuple[str, dict]]:
        with tarfile.open(archive) as tar:
            members = {member.name: member for member in tar if member.isfile()}
            root = f"VOCdevkit/VOC{self.builder_config.name}"

            def content(name: str) -> bytes:
                if f"{root}/{name}" not in members:
                    raise DataError(f"{archive}: no {root}/{name} in it")
                return tar.extractfile(members[f"{root}/{name}"]).read()

            # The test set of 2012 has no annotations.
            annotated = listed != "test" or self.builder_config.name == "2007"
            for line in content(f"ImageSets/Main/{listed}.txt").decode().split("\n"):
                if line.strip():
                    image_id = line.split()[0]
                    image = content(f"JPEGImages/{image_id}.jpg")
                    xml = content(f"Annotations/{image_id}.xml") if annotated else None
                    yield image_id, voc_example(image_id, image, xml)


def voc_example(image_id: str, image: bytes, xml: bytes | None) -> dict:
    """One image and its annotation as TFDS stores them."""
    height, width = decode.header_in(io.BytesIO(image), image_id).size
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
    easy = [each for each in objects if not each["is_difficult"]]
    return {
        "image": image,
        "image/filename": f"{image_id}.jpg",
        "objects": objects,
        "labels": sorted({each["label"] for each in objects}),
        "labels_no_difficult": sorted({each["label"] for each in easy}),
    }


class Coco(tfds.core.GeneratorBasedBuilder):
    """`coco` as TFDS defines it, without the test split, which has no annotations."""

    BUILDER_CONFIGS = [
        tfds.core.BuilderConfig(name="2017", version=tfds.core.Version("1.1.0")),
    ]

    def __init__(self, archives: list[Path], **kwargs):
        *self._images, self._annotations = archives
        super().__init__(**kwargs)

    def _info(self) -> tfds.core.DatasetInfo:
        names = [row["name"] for row in _annotations(self._annotations, "val2017")["categories"]]
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
            for archive, (split, part) in zip(self._images, _COCO_PARTS.items())
        }

    def _generate_examples(self, archive: Path, part: str) -> Iterator[tuple[int, dict]]:
        content = _annotations(self._annotations, part)
        names = {row["id"]: row["name"] for row in content["categories"]}
        rows = {image["id"]: [] for image in content["images"]}
        for row in content["annotations"]:
            rows[row["image_id"]].append(row)
        with zipfile.ZipFile(archive) as files:
            for image in content["images"]:
                data = files.read(f"{part}/{image['file_name']}")
                yield image["id"], coco_example(image, data, rows[image["id"]], names)


def coco_example(image: dict, data: bytes, rows: list[dict], names: dict[int, str]) -> dict:
    """One image and its annotations as TFDS stores them."""
    height, width = decode.header_in(io.BytesIO(data), image["file_name"]).size
    objects = []
    for row in rows:
        x, y, w, h = row["bbox"]
        corners = np.clip([y / height, x / width, (y + h) / height, (x + w) / width], 0, 1)
        objects.append(
            {
                "id": row["id"],
                "area": int(row["area"]),
                "bbox": tfds.features.BBox(*corners.tolist()),
                "label": names[row["category_id"]],
                "is_crowd": row["iscrowd"] == 1,
            }
        )
    return {
        "image": data,
        "image/filename": image["file_name"],
        "image/id": image["id"],
        "objects": objects,
    }


def _annotations(archive: Path, part: str) -> dict:
    with zipfile.ZipFile(archive) as files:
        return json.loads(files.read(f"annotations/instances_{part}.json"))


def _keep_annotations(archives: list[Path], folder: Path) -> None:
    """Copy the annotation files; a name appears only when its file is whole."""
    with zipfile.ZipFile(archives[-1]) as files:
        for part in _COCO_PARTS.values():
            path = folder / f"instances_{part}.json"
            partial = path.with_suffix(".partial")
            with files.open(f"annotations/{path.name}") as source, open(partial, "wb") as target:
                shutil.copyfileobj(source, target)
            partial.rename(path)


def main() -> None:
    """The command."""
    given = flags.FLAGS
    data_dir = Path(given.data_dir) if given.data_dir else data_folder()
    folder = prepare(given.dataset, Path(given.manual_dir), data_dir)
    splits = tfds.builder_from_directory(folder).info.splits
    counts = ", ".join(f"{name} {info.num_examples}" for name, info in splits.items())
    print(f"{folder}: {counts} images; name it tfds:{given.dataset}:train")


if __name__ == "__main__":
    flags.DEFINE_enum("dataset", None, PREPARED, "What to prepare.", required=True)
    flags.DEFINE_string("manual_dir", None, "Folder of the official archives.", required=True)
    flags.DEFINE_string("data_dir", None, "Folder of prepared sets.")
    cli.run(main)
