"""Records: what readers of files make, a source of examples whose boxes are already in memory."""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from ssd_jax import boxes as box_ops
from ssd_jax import decode
from ssd_jax.data.scan import some
from ssd_jax.errors import ConfigError, DataError

_FLAT, _OUTSIDE = "boxes without area dropped", "boxes outside the image dropped"
DROPPED, CLIPPED = (_FLAT, _OUTSIDE), "boxes clipped at the border"


class Record(NamedTuple):
    """One image file and its boxes."""

    path: Path  # or the name alone, where there is no file of its own
    size: tuple[int, int]  # (H, W)
    boxes: Float[np.ndarray, "N 4"]  # normalized corners
    labels: Int[np.ndarray, " N"]
    ignore: Bool[np.ndarray, " N"]
    notes: dict[str, int]  # what was corrected -> how often
    upright: bool = False  # the boxes are of the picture as EXIF turns it


class Records:
    """A source over image files: `title` and `split` name it, label i + 1 is classes[i].

    `note` is what the reader has to say beside what the records' own notes count. `crowds` says
    that `ignore` marks crowds, not difficult objects. `original` reads the content of the COCO file
    that the records are from, the image ids in their order, and the category ids in that of the
    classes: COCO scores are computed with these. `load` gives the pixels of record i, which are
    those of its file otherwise.
    The fingerprint changes with the classes, the files' names, their sizes and all boxes.
    """

    def __init__(
        self,
        title: str,
        split: str,
        classes: tuple[str, ...],
        records: list[Record],
        note: str = "",
        crowds: bool = False,
        original: Callable[[], tuple[dict, list, list]] | None = None,
        load: Callable[[int], np.ndarray] | None = None,
    ):
        if not records:
            raise DataError(f"{title} {split}: no images")
        self.classes, self.records, self._note = classes, records, note
        self._crowds, self.original = crowds, original
        self._load = load or (lambda i: decode.read(records[i].path, records[i].upright))
        self._title = f"{title} {split or 'all'}"
        self.max_boxes = max(len(record.labels) for record in records)
        digest = hashlib.sha256(repr(classes).encode())
        for record in records:
            digest.update(repr((record.path.name, record.size)).encode())
            for rows in (record.boxes, record.labels, record.ignore):
                digest.update(rows.tobytes())
        self.fingerprint = digest.hexdigest()[:16]

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, i: int) -> dict:
        """Example `i`: image, boxes, labels, ignore, crowds, image_id, size."""
        if not 0 <= i < len(self):
            raise IndexError(i)
        record = self.records[i]
        image = self._load(i)
        if image.shape[:2] != record.size:
            raise DataError(f"{record.path}: the image changed while it was in use; start again")
        return self.truths(i) | {"image": image, "image_id": int(i), "size": record.size}

    def truths(self, i: int) -> dict:
        """Boxes, labels, ignore and crowds of example `i`, without its pixels."""
        record = self.records[i]
        rows = {name: getattr(record, name).copy() for name in ("boxes", "labels", "ignore")}
        return rows | {"crowds": self._crowds}

    def name(self, i: int) -> str:
        """File name of image `i`, for messages."""
        return self.records[i].path.name

    def summary(self) -> str:
        """Images, boxes and classes in one line, and in a second what was corrected."""
        labels = np.concatenate([record.labels for record in self.records])
        ignored = sum(int(record.ignore.sum()) for record in self.records)
        kind = "crowds" if self._crowds else "difficult"
        empty = sum(not len(record.labels) for record in self.records)
        counts = np.bincount(labels, minlength=len(self.classes) + 1)[1:]
        per_class = ", ".join(f"{name} {n}" for name, n in zip(self.classes, counts))
        first = (
            f"{self._title}: {len(self)} images, {len(labels)} boxes "
            f"({ignored} {kind}), {empty} images without boxes; {per_class}"
        )
        totals, files = Counter(), {}
        for record in self.records:
            totals.update(record.notes)
            for note in record.notes:
                files.setdefault(note, []).append(record.path.stem)
        notes = [f"{n} {note} ({some(files[note], ', ')})" for note, n in totals.items()]
        notes += [self._note] if self._note else []
        return "\n".join([first, "; ".join(notes)] if notes else [first])


class Fitted(NamedTuple):
    """Boxes of one image cut at its borders, and what happened to each raw box."""

    boxes: Float[np.ndarray, "K 4"]  # normalized corners, float32
    kept: Bool[np.ndarray, " N"]
    notes: dict[str, int]


def fit(
    corners: Float[np.ndarray, "N 4"], flat: Bool[np.ndarray, " N"], kinds: Iterable | None = None
) -> Fitted:
    """Drop boxes without area in the file's numbers (`flat`) or outside the image; clip others.

    `corners` are normalized. Of equal boxes of equal `kinds`, where given, the first is kept.
    """
    inside = box_ops.clip(corners)
    outside = ~flat & (inside[:, :2] >= inside[:, 2:]).any(axis=1)
    again = np.zeros(len(corners), bool)
    if kinds is not None:
        first = {}
        rows = [
            first.setdefault((*box, kind), i)
            for i, (box, kind) in enumerate(zip(corners.tolist(), kinds))
        ]
        again = ~flat & ~outside & (np.array(rows, int) != np.arange(len(corners)))
    kept = ~flat & ~outside & ~again
    notes = {
        _FLAT: flat,
        _OUTSIDE: outside,
        "boxes that occur twice dropped": again,
        CLIPPED: kept & (inside != corners).any(axis=1),
    }
    counts = {note: int(which.sum()) for note, which in notes.items() if which.any()}
    return Fitted(inside[kept].astype(np.float32), kept, counts)


def checked_classes(
    given: Sequence[str], found: dict[str, object], default: Iterable[str]
) -> tuple[str, ...]:
    """The `given` names if they cover all that was found, else `default`.

    `found` tells a place where each name was seen. Raises DataError for a name that is not
    given, and ConfigError for one given twice.
    """
    if not given:
        return tuple(default)
    if len(set(given)) < len(given):
        raise ConfigError(f"classes: a name occurs twice in {', '.join(given)}")
    unknown = [f"{name!r} in {found[name]}" for name in found if name not in given]
    if unknown:
        raise DataError(
            f"unknown class {some(unknown, ', ')}; known: {', '.join(given)}; add the name "
            "to the classes or correct the file"
        )
    return tuple(given)
