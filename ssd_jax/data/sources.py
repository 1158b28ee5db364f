"""Data sets by name, and several of them concatenated.

A source is a random-access set of examples (see `types`); `voc:FOLDER:SPLIT`,
`coco:IMAGES:ANNOTATIONS.json`, `csv:IMAGES:LIST.csv`, `yolo:DATA.yaml:SPLIT`, `tfds:NAME:SPLIT`
and `shapes:SPLIT:COUNT` name one; each format has a module.
"""

import hashlib
import os
from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from typing import Protocol, runtime_checkable

from ml_collections import ConfigDict

from ssd_jax.data import files
from ssd_jax.data.annotated_image import AnnotatedImage, ImageFileSource
from ssd_jax.data.formats import coco, csv_file, shapes, tfds, voc, yolo
from ssd_jax.data.messages import shorten
from ssd_jax.data.scan import Scan
from ssd_jax.errors import ConfigError, DataError
from ssd_jax.types import Example

_FORMATS = {"voc": voc, "coco": coco, "csv": csv_file, "yolo": yolo, "tfds": tfds}
_MAX_DIGITS = 9  # of a number of scenes: samples are numbered in 32 bits


@runtime_checkable
class Source(Protocol):
    """What every reader returns: examples by index.

    A source may have `scoring_inputs` too, see `ImageFileSource`.
    """

    classes: tuple[str, ...]
    max_boxes: int
    fingerprint: str
    images: Sequence[AnnotatedImage]  # empty where scenes are drawn

    def __len__(self) -> int: ...
    def __getitem__(self, index: int) -> Example: ...
    def ground_truth(self, index: int) -> Example: ...
    def name(self, index: int) -> str: ...
    def summary(self) -> str: ...


class ConcatSource:
    """Several sources with the same class list, one after the other."""

    def __init__(self, parts: Sequence[Source]):
        self.classes = parts[0].classes
        self.max_boxes = max(part.max_boxes for part in parts)
        fingerprints = " ".join(part.fingerprint for part in parts)
        self.fingerprint = hashlib.sha256(fingerprints.encode()).hexdigest()[:16]
        self.images = [image for part in parts for image in part.images]
        self._parts = parts
        self._ends = list(accumulate(map(len, parts)))

    def __len__(self) -> int:
        return self._ends[-1]

    def __getitem__(self, index: int) -> Example:
        part, inner = self._locate(index)
        return part[inner] | {"image_id": index}

    def ground_truth(self, index: int) -> Example:
        part, inner = self._locate(index)
        return part.ground_truth(inner)

    def name(self, index: int) -> str:
        part, inner = self._locate(index)
        return part.name(inner)

    def summary(self) -> str:
        lines = [part.summary() for part in self._parts]
        if any(getattr(part, "scoring_inputs", None) for part in self._parts):
            lines.append(
                "joined: COCO scores are computed from boxes as read, not from annotation files"
            )
        return "\n".join(lines)

    def subset(self, indices: Sequence[int], split: str) -> "Source":
        """The images of these ascending indices; a source without any is left out."""
        inner: dict[int, list[int]] = {}
        for index in indices:
            number, position = self._position(index)
            inner.setdefault(number, []).append(position)
        parts = [subset(self._parts[number], each, split) for number, each in inner.items()]
        return ConcatSource(parts) if len(parts) > 1 else parts[0]

    def _locate(self, index: int) -> tuple[Source, int]:
        number, position = self._position(index)
        return self._parts[number], position

    def _position(self, index: int) -> tuple[int, int]:
        """The number of the source of an example, and its index there."""
        number = bisect_right(self._ends, index)
        return number, index - (self._ends[number - 1] if number else 0)


def subset(source: Source, indices: Sequence[int], split: str) -> Source:
    """Some images of a source, called part `split` of it. Raises ConfigError for drawn scenes."""
    check_has_files(source)
    assert isinstance(source, ImageFileSource | ConcatSource)  # the others have no files
    return source.subset(indices, split)


def check_has_files(source: Source) -> None:
    """Raise ConfigError where a source has drawn scenes."""
    if len(source.images) != len(source):
        raise ConfigError(
            "drawn scenes have no names by which config.data.split could divide them: name sets, "
            "as shapes:val:100"
        )


def make_source(
    specs: Sequence[str],
    config: ConfigDict,
    classes: tuple[str, ...] = (),
    scan: Scan | None = None,
) -> Source:
    """The source that `specs` name, concatenated where there are several.

    `classes` sets the class list; empty, it is the source's own. `scan` reads the files. Raises
    ConfigError for a text that names no source, and DataError where concatenated sources have
    other classes.
    """
    scan = scan or Scan(orientation=config.data.orientation)
    parts = [_open_source(spec, config, classes, scan) for spec in specs]
    for part, spec in zip(parts, specs):
        if part.classes != parts[0].classes:
            raise DataError(
                f"{specs[0]} has classes {parts[0].classes} and {spec} has {part.classes}: "
                "name the list they share in config.data.classes"
            )
    return ConcatSource(parts) if len(parts) > 1 else parts[0]


def _open_source(spec: str, config: ConfigDict, classes: tuple[str, ...], scan: Scan) -> Source:
    kind, _, rest = spec.partition(":")
    place, argument = map(os.path.expanduser, rest.rpartition(":")[::2])
    if kind in _FORMATS and place and files.is_possible_path(rest):
        return _FORMATS[kind].read(place, argument, classes, scan)
    if kind == "shapes" and place and argument.isdecimal() and len(argument) <= _MAX_DIGITS:
        return shapes.Shapes(place, int(argument), config.image_size)
    raise ConfigError(
        f"data set {shorten(spec)}: write voc:FOLDER:SPLIT (as voc:VOCdevkit/VOC2007:trainval), "
        "coco:IMAGES:ANNOTATIONS.json, csv:IMAGES:LIST.csv, yolo:DATA.yaml:SPLIT, "
        "yolo:FOLDER:CLASSES.txt, tfds:voc/2007:train+validation, or shapes:train:COUNT"
    )
