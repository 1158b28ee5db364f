"""A prepared data set of TensorFlow Datasets as a source, read without TensorFlow.

Any set that has `image` and `objects` with `bbox` and `label`, stored as ArrayRecord: `voc/2007`,
`voc/2012` and `coco/2017` as `scripts.prepare_tfds` or TFDS itself prepares them, or your own.
"""

import io
import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Int

from ssd_jax.data import decode
from ssd_jax.data.annotated_image import (
    AnnotatedImage,
    ImageFileSource,
    clip_and_filter,
    resolve_classes,
)
from ssd_jax.data.formats import coco
from ssd_jax.data.formats.voc_xml import pixels_to_boxes
from ssd_jax.data.scan import Scan
from ssd_jax.errors import ConfigError, DataError
from ssd_jax.types import CROWD, DIFFICULT, PLAIN

PREPARED = ("voc/2007", "voc/2012", "coco/2017")  # by scripts.prepare_tfds
_INFO_FILE = "dataset_info.json"
_DIGITS = 3  # of a pixel: float32 of what was written with at most as many


def read(
    place: str | os.PathLike, argument: str, classes: Sequence[str] = (), scan: Scan | None = None
) -> ImageFileSource:
    """One split of a prepared data set, checked before the first step.

    Args:
      place: its name below the data folder (`voc/2007`), which is `TFDS_DATA_DIR` or
        `~/tensorflow_datasets`, or its own folder; the newest version there is taken.
      argument: splits of the set, as TFDS writes them: `train`, `train+validation`, `train[:10%]`.
      classes: label i + 1 is classes[i]. Left out, they are the names of the set, in its order.

    Every record is read once at the start for its boxes and the header of its image, one to two
    thousand a second; pixels are decoded when asked for, by the decoder of every reader. `is_crowd`
    and `is_difficult` become flags. TFDS keeps PASCAL VOC's 1-based numbers as they are, and they
    are read as `voc.read` reads them; boxes of other sets are taken as they are. COCO scores of
    `coco/…` come from `instances_….json` beside the records, and `summary()` says where it is
    missing. Raises DataError naming the folder, and what to do where there is none.
    """
    # A slice has a colon too.
    place, _, split = f"{place}:{argument}".partition(":")
    folder = _find_folder(place)
    try:  # costs a moment that most commands need not spend
        import tensorflow_datasets as tfds
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"tfds:{place} needs TensorFlow Datasets: "
            "pip install tensorflow-datasets importlib_resources"
        ) from error

    builder = _open(tfds, folder)
    names = _class_names(builder.info.features, folder)
    try:
        data = builder.as_data_source(split, decoders={"image": tfds.decode.SkipDecoding()})
    except (OSError, RuntimeError, ValueError, AttributeError, NotImplementedError) as error:
        known = ", ".join(builder.info.splits)
        raise DataError(
            f"{folder}: cannot read {split!r} of {known}: {_first_line(error)}"
        ) from error
    classes = resolve_classes(classes, dict.fromkeys(names, folder), names)
    label_of = np.array([classes.index(name) + 1 for name in names], np.int32)
    is_voc = builder.info.name == "voc"
    scan = scan or Scan()
    read = scan.map_collecting_errors(
        lambda i: _read(data, i, f"{folder}, record {i} of {split}", label_of, is_voc),
        range(len(data)),
    )
    numbers, images = list(read), [item.image for item in read.values()]
    image_ids = [item.image_id for item in read.values()]
    note, inputs = "", None
    if builder.info.name == "coco":
        note, inputs = _scoring_source(folder, split, image_ids, classes, scan)
    return ImageFileSource(
        builder.info.full_name, split, classes, images, note,
        scoring_inputs=inputs,
        load_pixels=lambda i: decode.decode_image(
            data[numbers[i]]["image"], f"{folder}, {images[i].path}"
        ),
    )  # fmt: skip


class _Read(NamedTuple):
    image: AnnotatedImage
    image_id: int | None


def _read(data, i: int, where: str, label_of: Int[np.ndarray, " C"], is_voc: bool) -> _Read:
    try:
        example = data[i]
    except (OSError, RuntimeError, ValueError, IndexError) as error:
        raise DataError(f"{where}: damaged ({_first_line(error)}); prepare it again") from error
    objects = example["objects"]
    size = height, width = decode.parse_header(io.BytesIO(example["image"]), where).size
    name = example.get("image/filename", b"").decode(errors="replace")
    name = name or f"{example.get('image/id', i)}"
    # y_min, x_min, y_max, x_max
    stored = np.array(objects["bbox"], np.float64).reshape(-1, 4)
    rows = np.array(objects["label"], int).reshape(-1)
    if ((rows < 0) | (rows >= len(label_of))).any():
        raise DataError(f"{where} ({name}): a label outside the names of the set")
    scale = np.array([width, height, width, height])
    pixels = (stored[:, [1, 0, 3, 2]] * scale).round(_DIGITS)
    flat = (stored[:, :2] == stored[:, 2:]).any(axis=1)
    clipped = (
        pixels_to_boxes(pixels, size, rows)
        if is_voc
        else clip_and_filter(pixels / scale, flat, rows)
    )
    image = AnnotatedImage(
        Path(name), size, clipped.boxes, label_of[rows][clipped.kept],
        _flags(objects, len(rows))[clipped.kept],
        clipped.corrections,
    )  # fmt: skip
    return _Read(image, example.get("image/id"))


def _flags(objects: dict, count: int) -> Int[np.ndarray, " N"]:
    for name, flag in (("is_crowd", CROWD), ("is_difficult", DIFFICULT)):
        if len(objects.get(name, [])):
            return np.where(np.array(objects[name], bool), flag, PLAIN).astype(np.int8)
    return np.full(count, PLAIN, np.int8)


def data_dir() -> Path:
    """Where prepared sets lie unless they are named by their folder: TFDS's own rule."""
    return Path(os.path.expanduser(os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets"))


def _find_folder(place: str) -> Path:
    """The folder of the newest version of a set that is prepared, by its place or its name."""
    root = data_dir()
    for folder in (Path(os.path.expanduser(place)), root / place):
        if not os.path.isdir(folder):
            continue
        versions = [path.parent for path in folder.glob(f"*/{_INFO_FILE}") if _version(path.parent)]
        if (folder / _INFO_FILE).is_file():
            return folder
        if versions:
            return max(versions, key=_version)
    known = place in PREPARED
    raise DataError(
        f"{root / place}: no prepared data set {place!r} there; name the data folder by "
        "TFDS_DATA_DIR, or prepare it: "
        + (
            f"python -m scripts.prepare_tfds --dataset={place} --manual_dir=ARCHIVES"
            if known
            else "by TFDS with file_format='array_record'"
        )
    )


def _version(folder: Path) -> tuple[int, ...]:
    parts = folder.name.split(".")
    return tuple(map(int, parts)) if all(map(str.isdecimal, parts)) else ()


def _open(tfds, folder: Path):
    try:
        builder = tfds.builder_from_directory(folder)
        stored = builder.info.file_format.value
    except Exception as error:  # whatever a damaged JSON file makes TFDS raise
        raise DataError(f"{folder}: damaged ({_first_line(error)}); prepare it again") from error
    if stored != "array_record":
        raise DataError(
            f"{folder}: stored as {stored}, which only TensorFlow reads; prepare it again with "
            "file_format='array_record'"
        )
    return builder


def _class_names(features, folder: Path) -> tuple[str, ...]:
    found = set(features.keys())
    if "objects" in features and hasattr(features["objects"], "keys"):
        found |= set(map("objects/{}".format, features["objects"].keys()))
    missing = {"image", "objects/bbox", "objects/label"} - found
    if missing or not hasattr(features["objects"]["label"], "names"):
        raise DataError(
            f"{folder}: no boxes with class names: it needs image, objects/bbox and objects/label, "
            f"and has {', '.join(sorted(found))}"
        )
    return tuple(features["objects"]["label"].names)


def _scoring_source(
    folder: Path, split: str, image_ids: list, classes: tuple[str, ...], scan: Scan
):
    """What `summary()` says, and the reader of the annotation file where it lies beside the set."""
    short = {"train": "train", "validation": "val"}.get(split)
    found = sorted(folder.glob(f"instances_{short}*.json"))
    if found:
        return "", coco.read_scoring_inputs(found[0], image_ids, classes, scan)
    note = "COCO scores are computed from boxes as read, not from the annotation file"
    return f"{note}: put instances_{short}….json into {folder}" if short else note, None


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__
