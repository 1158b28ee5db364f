"""A prepared data set of TensorFlow Datasets as a source, read without TensorFlow.

Any set that has `image` and `objects` with `bbox` and `label`, stored as ArrayRecord: `voc/2007`,
`voc/2012` and `coco/2017` as `scripts/prepare_tfds.py` or TFDS itself prepares them, or your own.
"""

import io
import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Int

from ssd_jax import decode
from ssd_jax.data import coco
from ssd_jax.data.records import Record, Records, checked_classes, fit
from ssd_jax.data.scan import Scan
from ssd_jax.data.voc_xml import convert
from ssd_jax.errors import DataError

PREPARED = ("voc/2007", "voc/2012", "coco/2017")  # by scripts/prepare_tfds.py
_INFO = "dataset_info.json"
_DIGITS = 3  # of a pixel: float32 of what was written with at most as many


def read(
    place: str | os.PathLike, argument: str, classes: Sequence[str] = (), scan: Scan | None = None
) -> Records:
    """One split of a prepared data set, checked before the first step.

    Args:
      place: its name below the data folder (`voc/2007`), which is `TFDS_DATA_DIR` or
        `~/tensorflow_datasets`, or its own folder; the newest version there is taken.
      argument: splits of the set, as TFDS writes them: `train`, `train+validation`, `train[:10%]`.
      classes: label i + 1 is classes[i]. Left out, they are the names of the set, in its order.

    Every record is read once at the start for its boxes and the header of its image, one to two
    thousand a second; pixels are decoded when asked for, by the decoder of every reader. `is_crowd`
    and `is_difficult` are `ignore`. TFDS keeps PASCAL VOC's 1-based numbers as they are, and they
    are read as `voc.read` reads them; boxes of other sets are taken as they are. COCO scores of
    `coco/…` come from `instances_….json` beside the records, and `summary()` says where it is
    missing. Raises DataError naming the folder, and what to do where there is none.
    """
    # A slice has a colon too.
    place, _, split = f"{place}:{argument}".partition(":")
    folder = _folder(place)
    # Costs a moment that most commands need not spend.
    import tensorflow_datasets as tfds

    builder = _open(tfds, folder)
    names = _class_names(builder.info.features, folder)
    try:
        data = builder.as_data_source(split, decoders={"image": tfds.decode.SkipDecoding()})
    except (OSError, RuntimeError, ValueError, AttributeError, NotImplementedError) as error:
        known = ", ".join(builder.info.splits)
        raise DataError(
            f"{folder}: cannot read {split!r} of {known}: {_first_line(error)}"
        ) from error
    classes = checked_classes(classes, dict.fromkeys(names, folder), names)
    label_of = np.array([classes.index(name) + 1 for name in names], np.int32)
    is_voc = builder.info.name == "voc"
    read = (scan or Scan()).gather(
        lambda i: _read(data, i, f"{folder}, record {i} of {split}", label_of, is_voc),
        range(len(data)),
    )
    numbers, records = list(read), [item.record for item in read.values()]
    image_ids = [item.image_id for item in read.values()]
    note, original = "", None
    if builder.info.name == "coco":
        note, original = _original(folder, split, image_ids, classes)
    return Records(
        builder.info.full_name, split, classes, records, note,
        crowds="is_crowd" in builder.info.features["objects"],
        original=original,
        load=lambda i: decode.decode(data[numbers[i]]["image"], f"{folder}, {records[i].path}"),
    )  # fmt: skip


class _Read(NamedTuple):
    record: Record
    image_id: int | None


def _read(data, i: int, where: str, label_of: Int[np.ndarray, " C"], is_voc: bool) -> _Read:
    try:
        example = data[i]
    except (OSError, RuntimeError, ValueError, IndexError) as error:
        raise DataError(f"{where}: damaged ({_first_line(error)}); prepare it again") from error
    objects = example["objects"]
    size = height, width = decode.header_in(io.BytesIO(example["image"]), where).size
    name = example.get("image/filename", b"").decode() or f"{example.get('image/id', i)}"
    # y_min, x_min, y_max, x_max
    stored = np.array(objects["bbox"], np.float64).reshape(-1, 4)
    rows = np.array(objects["label"], int).reshape(-1)
    if ((rows < 0) | (rows >= len(label_of))).any():
        raise DataError(f"{where} ({name}): a label outside the names of the set")
    scale = np.array([width, height, width, height])
    pixels = (stored[:, [1, 0, 3, 2]] * scale).round(_DIGITS)
    flat = (stored[:, :2] == stored[:, 2:]).any(axis=1)
    fitted = convert(pixels, size, rows) if is_voc else fit(pixels / scale, flat, rows)
    ignore = np.array(objects.get("is_crowd", objects.get("is_difficult", [])), bool)
    ignore = ignore if len(ignore) else np.zeros(len(rows), bool)
    record = Record(
        Path(name), size, fitted.boxes, label_of[rows][fitted.kept], ignore[fitted.kept],
        fitted.notes,
    )  # fmt: skip
    return _Read(record, example.get("image/id"))


def data_folder() -> Path:
    """Where prepared sets lie unless they are named by their folder: TFDS's own rule."""
    return Path(os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets").expanduser()


def _folder(place: str) -> Path:
    """The folder of the newest version of a set that is prepared, by its place or its name."""
    root = data_folder()
    for folder in (Path(place).expanduser(), root / place):
        versions = [path.parent for path in folder.glob(f"*/{_INFO}") if _version(path.parent)]
        if (folder / _INFO).is_file():
            return folder
        if versions:
            return max(versions, key=_version)
    known = place in PREPARED
    raise DataError(
        f"{root / place}: no prepared data set {place!r} there; name the data folder by "
        "TFDS_DATA_DIR, or prepare it: "
        + (
            f"python scripts/prepare_tfds.py --dataset={place} --manual_dir=ARCHIVES"
            if known
            else "by TFDS with file_format='array_record'"
        )
    )


def _version(folder: Path) -> tuple[int, ...]:
    parts = folder.name.split(".")
    return tuple(map(int, parts)) if all(map(str.isdigit, parts)) else ()


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


def _original(folder: Path, split: str, image_ids: list, classes: tuple[str, ...]):
    """What `summary()` says, and the reader of the annotation file where it lies beside the set."""
    short = {"train": "train", "validation": "val"}.get(split)
    files = sorted(folder.glob(f"instances_{short}*.json"))
    if files:
        return "", lambda: coco.original(files[0], image_ids, classes)
    note = "COCO scores come from boxes as read, not from the annotation file"
    return f"{note}: put instances_{short}….json into {folder}" if short else note, None


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__
