"""Sources by name, and several joined into one.

A source is a random-access set of examples (see the contracts); `voc:FOLDER:SPLIT`,
`coco:IMAGES:ANNOTATIONS.json`, `csv:IMAGES:LIST.csv`, `yolo:DATA.yaml:SPLIT`, `tfds:NAME:SPLIT`
and `shapes:SPLIT:COUNT` name one; each format has a module.
"""

import hashlib
from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from typing import Protocol, runtime_checkable

from ml_collections import ConfigDict

from ssd_jax.data import coco, csv_lists, shapes, tfds, voc, yolo
from ssd_jax.errors import ConfigError, DataError

_READERS = {"voc": voc, "coco": coco, "csv": csv_lists, "yolo": yolo, "tfds": tfds}


@runtime_checkable
class Source(Protocol):
    """What a reader offers."""

    classes: tuple[str, ...]
    max_boxes: int
    fingerprint: str

    def __len__(self) -> int: ...
    def __getitem__(self, index: int) -> dict: ...
    def truths(self, index: int) -> dict: ...
    def name(self, index: int) -> str: ...
    def summary(self) -> str: ...


class Joined:
    """Several sources of one class list, one after the other."""

    def __init__(self, parts: Sequence[Source]):
        self.classes = parts[0].classes
        self.max_boxes = max(part.max_boxes for part in parts)
        prints = " ".join(part.fingerprint for part in parts)
        self.fingerprint = hashlib.sha256(prints.encode()).hexdigest()[:16]
        self._parts = parts
        self._ends = list(accumulate(map(len, parts)))

    def __len__(self) -> int:
        return self._ends[-1]

    def __getitem__(self, index: int) -> dict:
        part, inner = self._locate(index)
        return part[inner] | {"image_id": index}

    def truths(self, index: int) -> dict:
        part, inner = self._locate(index)
        return part.truths(inner)

    def name(self, index: int) -> str:
        part, inner = self._locate(index)
        return part.name(inner)

    def summary(self) -> str:
        lines = [part.summary() for part in self._parts]
        if any(getattr(part, "original", None) for part in self._parts):
            lines.append("joined: COCO scores come from boxes as read, not from annotation files")
        return "\n".join(lines)

    def _locate(self, index: int) -> tuple[Source, int]:
        part = bisect_right(self._ends, index)
        return self._parts[part], index - (self._ends[part - 1] if part else 0)


def make(specs: Sequence[str], config: ConfigDict, classes: tuple[str, ...] = ()) -> Source:
    """The source that `specs` name, joined where there are several.

    `classes` fixes the class list; empty, it is the source's own. Raises ConfigError for a spec
    that cannot be read as one and DataError when joined sets disagree about the classes.
    """
    if not specs:
        raise ConfigError("config.data.train and config.data.test name at least one set each")
    parts = [_open(spec, config, classes) for spec in specs]
    for part, spec in zip(parts, specs):
        if part.classes != parts[0].classes:
            raise DataError(
                f"{specs[0]} has classes {parts[0].classes} and {spec} has {part.classes}: "
                "name the list they share in config.data.classes"
            )
    return Joined(parts) if len(parts) > 1 else parts[0]


def _open(spec: str, config: ConfigDict, classes: tuple[str, ...]) -> Source:
    kind, _, rest = spec.partition(":")
    place, _, argument = rest.rpartition(":")
    if kind in _READERS and place:
        return _READERS[kind].read(place, argument, classes)
    if kind == "shapes" and place and argument.isdigit():
        return shapes.Shapes(place, int(argument), config.image_size)
    raise ConfigError(
        f"data set {spec!r}: write voc:FOLDER:SPLIT (as voc:VOCdevkit/VOC2007:trainval), "
        "coco:IMAGES:ANNOTATIONS.json, csv:IMAGES:LIST.csv, yolo:DATA.yaml:SPLIT, "
        "yolo:FOLDER:CLASSES.txt, tfds:voc/2007:train+validation, or shapes:train:COUNT"
    )
