"""Any folder in PASCAL VOC layout as a source of examples, checked before the first step.

The layout: `JPEGImages/<id>.jpg` (or .jpeg, .png), `Annotations/<id>.xml` and
`ImageSets/Main/<split>.txt`.
"""

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from ssd_jax import decode
from ssd_jax.data.voc_files import SUFFIXES, checked_list, files_in, listed, single, some
from ssd_jax.data.voc_xml import Annotation, convert, parse_annotation
from ssd_jax.errors import ConfigError, DataError

_THREADS = 16  # reading waits for the disk


class _Read(NamedTuple):
    path: Path
    annotation: Annotation
    digest: bytes


class _Record(NamedTuple):
    path: Path
    size: tuple[int, int]  # (H, W)
    boxes: Float[np.ndarray, "N 4"]
    labels: Int[np.ndarray, " N"]
    ignore: Bool[np.ndarray, " N"]
    notes: dict[str, int]  # what was corrected -> how often


class VocFolder:
    """Images and boxes of one split of a folder in PASCAL VOC layout.

    Args:
      root: the folder that holds JPEGImages and Annotations.
      split: a list in ImageSets/Main, or several joined with "+" ("train+val"), in the order of
        the lists. "" takes every annotation file, sorted by name; only "" works without
        ImageSets, so that training and test are never the same images by accident.
      classes: names without background; label i + 1 is classes[i]. Left out, they are the sorted
        names in all of Annotations, whatever the split, so that every split agrees.
      image_ids: takes these images instead of a list; `split` is then only a name.

    The constructor reads the annotations, and the header and end of every image, and raises a
    DataError that names up to five bad files. An object marked difficult has `ignore`. A box
    without area in the file's own numbers is dropped, one outside the image too, and one across
    the border is clipped; `summary()` counts them. The size that counts is the image file's.
    Nothing is ever written.
    """

    def __init__(
        self,
        root: str | os.PathLike,
        split: str,
        classes: Sequence[str] = (),
        image_ids: Sequence[str] | None = None,
    ):
        self.root, self.split = Path(root), split
        xmls = files_in(self.root / "Annotations", (".xml",))
        images = files_in(self.root / "JPEGImages", SUFFIXES)
        if image_ids is None:
            image_ids = listed(self.root, split, xmls) if split else sorted(xmls)
        self.image_ids = checked_list(image_ids, f"{self.root}, split {split!r}")

        needed = self.image_ids if classes else sorted({*xmls, *self.image_ids})
        found = _gather(lambda key: _annotation(key, xmls, self.root), needed)
        self.classes = _class_names(classes, found, self.root)
        read = dict(zip(needed, found))
        index = {name: i + 1 for i, name in enumerate(self.classes)}
        self._records = _gather(
            lambda key: _record(single(key, images, self.root, "image"), read[key], index),
            self.image_ids,
        )
        self.max_boxes = max(len(record.labels) for record in self._records)
        seen = [(key, record.size) for key, record in zip(self.image_ids, self._records)]
        digest = hashlib.sha256(repr((self.classes, seen)).encode())
        digest.update(b"".join(read[key].digest for key in self.image_ids))
        self.fingerprint = digest.hexdigest()[:16]

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, i: int) -> dict:
        """Example `i`: image, boxes, labels, ignore, image_id, size."""
        if not 0 <= i < len(self):
            raise IndexError(i)
        record = self._records[i]
        image = decode.read(record.path)
        if image.shape[:2] != record.size:
            raise DataError(f"{record.path}: the image changed while it was in use; start again")
        return {
            "image": image,
            "boxes": record.boxes.copy(),
            "labels": record.labels.copy(),
            "ignore": record.ignore.copy(),
            "image_id": int(i),
            "size": record.size,
        }

    def name(self, i: int) -> str:
        """File name of image `i`, for messages."""
        return self._records[i].path.name

    def summary(self) -> str:
        """Images, boxes and classes in one line, and in a second what was corrected."""
        labels = np.concatenate([record.labels for record in self._records])
        difficult = sum(int(record.ignore.sum()) for record in self._records)
        empty = sum(not len(record.labels) for record in self._records)
        counts = np.bincount(labels, minlength=len(self.classes) + 1)[1:]
        per_class = ", ".join(f"{name} {n}" for name, n in zip(self.classes, counts))
        first = (
            f"{self.root.name} {self.split or 'all'}: {len(self)} images, {len(labels)} boxes "
            f"({difficult} difficult), {empty} images without boxes; {per_class}"
        )
        totals, files = Counter(), {}
        for key, record in zip(self.image_ids, self._records):
            totals.update(record.notes)
            for note in record.notes:
                files.setdefault(note, []).append(key)
        notes = [f"{n} {note} ({some(files[note], ', ')})" for note, n in totals.items()]
        return "\n".join([first, "; ".join(notes)] if notes else [first])


def _annotation(key: str, xmls: dict[str, list[Path]], root: Path) -> _Read:
    path = single(key, xmls, root, "annotation")
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot read the annotation ({error.strerror})") from error
    return _Read(path, parse_annotation(data, str(path)), hashlib.sha256(data).digest())


def _class_names(classes: Sequence[str], found: list[_Read], root: Path) -> tuple[str, ...]:
    """The given names if they cover what was found, or the sorted names found."""
    first_file = {}
    for item in found:
        for name in item.annotation.names:
            first_file.setdefault(name, item.path)
    if not classes:
        if not first_file:
            raise DataError(f"{root}: no object in any annotation, so no classes; name them")
        return tuple(sorted(first_file))
    if len(set(classes)) < len(classes):
        raise ConfigError(f"classes: a name occurs twice in {', '.join(classes)}")
    unknown = [f"{name!r} in {first_file[name]}" for name in first_file if name not in classes]
    if unknown:
        raise DataError(
            f"unknown class {some(unknown, ', ')}; known: {', '.join(classes)}; add the name "
            "to the classes or correct the file"
        )
    return tuple(classes)


def _record(path: Path, read: _Read, index: dict[str, int]) -> _Record:
    """Boxes and labels of one image whose header and end are sound."""
    annotation, size = read.annotation, decode.size(path)
    converted = convert(annotation.pixels, size)
    notes = {
        "boxes without area dropped": converted.flat,
        "boxes outside the image dropped": converted.outside,
        "boxes clipped at the border": converted.clipped,
        "wrong sizes in XML, the image's taken": int(annotation.size not in (None, size)),
    }
    return _Record(
        path,
        size,
        converted.boxes,
        np.array([index[name] for name in annotation.names], np.int32)[converted.kept],
        annotation.difficult[converted.kept],
        {note: n for note, n in notes.items() if n},
    )


def _gather(function: Callable, keys: Sequence[str]) -> list:
    """`function` of every key, by several threads; one DataError for all that fail."""

    def attempt(key: str):
        try:
            return function(key)
        except DataError as error:
            return error

    with ThreadPoolExecutor(_THREADS) as pool:
        results = list(pool.map(attempt, keys))
    problems = [str(result) for result in results if isinstance(result, DataError)]
    if problems:
        raise DataError(some(problems, "\n"))
    return results
