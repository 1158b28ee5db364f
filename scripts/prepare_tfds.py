"""Prepare PASCAL VOC or COCO from the official archives, for `tfds:NAME:SPLIT`.

    python -m scripts.prepare_tfds --dataset=voc/2007|voc/2012|coco/2017 --manual_dir=ARCHIVES \
        [--data_dir=FOLDER]

Download the archives yourself into ARCHIVES, under their official names; size and SHA-256 of each
are checked. They are read in place, nothing is unpacked. The set is written as ArrayRecord by
`scripts/tfds_builders.py`, without TensorFlow. FOLDER is `TFDS_DATA_DIR` or
`~/tensorflow_datasets`. COCO's annotation files are copied beside the records, because scores are
computed from them.
"""

import hashlib
import shutil
import zipfile
from pathlib import Path
from typing import NamedTuple

import tensorflow_datasets as tfds
from absl import flags

from scripts.tfds_builders import COCO_PARTS, Coco, Voc
from ssd_jax.data.formats.tfds import PREPARED, data_dir
from ssd_jax.errors import DataError
from ssd_jax.runtime import command_line


class Archive(NamedTuple):
    """An official file; without one that is not required, its split is left out."""

    size: int  # bytes
    sha256: str
    required: bool = True


_VOC_SITE, _COCO_SITE = "http://host.robots.ox.ac.uk/pascal/VOC/", "http://images.cocodataset.org/"
# Sizes and checksums: tensorflow/datasets, url_checksums/voc.txt and coco.txt.
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


def prepare(
    dataset: str, manual_dir: Path, data_dir: Path, archives: dict[str, Archive] | None = None
) -> Path:
    """Write a data set below `data_dir`, unless it is there, and return its folder.

    `archives` are those expected in `manual_dir`, by default the official ones. Raises DataError
    for an archive that is missing or is another file.
    """
    paths = check_archives(dataset, manual_dir, OFFICIAL[dataset] if archives is None else archives)
    name, _, year = dataset.partition("/")
    builder = {"voc": Voc, "coco": Coco}[name](
        paths, config=year, data_dir=str(data_dir), file_format="array_record"
    )
    builder.download_and_prepare()
    if name == "coco":
        _copy_annotations(paths[-1], Path(builder.data_dir))
    return Path(builder.data_dir)


def check_archives(dataset: str, folder: Path, archives: dict[str, Archive]) -> list[Path]:
    """Paths of the archives in `folder`, after comparing size and checksum of each."""
    paths = []
    for name, expected in archives.items():
        path = folder / name
        if not path.is_file():
            if expected.required:
                site = _VOC_SITE if dataset.startswith("voc") else _COCO_SITE
                raise DataError(f"{path}: no such archive ({expected.size} bytes, from {site})")
            print(f"{name} is not in {folder}: its split is left out")
            continue
        size = path.stat().st_size
        if size != expected.size:
            raise DataError(
                f"{path}: {size} bytes, and the official one has {expected.size}: download it again"
            )
        print(f"checking {path}")
        with path.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        if sha256 != expected.sha256:
            raise DataError(
                f"{path}: SHA-256 is {sha256}, and that of the official one is {expected.sha256}: "
                "download it again"
            )
        paths.append(path)
    return paths


def _copy_annotations(archive: Path, folder: Path) -> None:
    """Copy COCO's annotation files out of the archive; a name appears when its file is complete."""
    with zipfile.ZipFile(archive) as files:
        for part in COCO_PARTS.values():
            path = folder / f"instances_{part}.json"
            partial = path.with_suffix(".partial")
            with files.open(f"annotations/{path.name}") as source, partial.open("wb") as target:
                shutil.copyfileobj(source, target)
            partial.rename(path)


def main() -> None:
    """The command."""
    given = flags.FLAGS
    target = Path(given.data_dir) if given.data_dir else data_dir()
    folder = prepare(given.dataset, Path(given.manual_dir), target)
    splits = tfds.builder_from_directory(folder).info.splits
    counts = ", ".join(f"{name} {info.num_examples}" for name, info in splits.items())
    print(f"{folder}: {counts} images; name it tfds:{given.dataset}:train")


if __name__ == "__main__":
    flags.DEFINE_enum("dataset", None, PREPARED, "What to prepare.", required=True)
    flags.DEFINE_string("manual_dir", None, "Folder of the official archives.", required=True)
    flags.DEFINE_string("data_dir", None, "Folder of prepared sets.")
    command_line.run(main)
