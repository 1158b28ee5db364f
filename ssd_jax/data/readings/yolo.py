"""Folders with label files of YOLO: with a data.yaml, with lists of Darknet, or without either."""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from ssd_jax.data import files
from ssd_jax.data.formats import yolo
from ssd_jax.data.readings.contents import Contents
from ssd_jax.data.readings.reading import Part, Reading, make_reading
from ssd_jax.data.split_names import SPLIT_OF, is_split_name, split_folder
from ssd_jax.errors import ConfigError, DataError

_NAMES_FILES = ("classes.txt", "obj.names", "_darknet.labels", "names.txt", "class_names.txt",
                "labels.txt")  # fmt: skip
_YAML_FILES = ("data.yaml", "data.yml", "dataset.yaml", "dataset.yml")


def find(contents: Contents) -> list[Reading]:
    """Readings by the first of these that finds any: data.yaml, lists of images, folders."""
    if not contents.images:
        return []
    for find_by in (_by_yaml, _by_lists, _by_folders):
        if readings := find_by(contents):
            return readings
    return []


def _by_yaml(contents: Contents) -> list[Reading]:
    readings: list[Reading] = []
    seen: list[set[Path]] = []
    for path in contents.with_suffix(".yaml", ".yml"):
        parts = {name: part for name in SPLIT_OF if (part := _part(path, name, contents))}
        images = {image for part in parts.values() for image in part.images}
        reading = _make(parts, [path], contents)
        if reading and images not in seen:  # copies of one file occur
            readings.append(reading)
            seen.append(images)
    return readings


def _by_lists(contents: Contents) -> list[Reading]:
    """Lists of images beside the file of names, as Darknet has them."""
    readings = []
    for names in _names_files(contents):
        lists = [
            path
            for path in contents.with_suffix(".txt")
            if path.parent == names.parent and is_split_name(path.stem)
        ]
        parts = {path.stem: part for path in lists if (part := _part(path, str(names), contents))}
        readings.append(_make(parts, [names], contents))
    return [reading for reading in readings if reading]


def _by_folders(contents: Contents) -> list[Reading]:
    """Images with label files: a split for each folder that is called as splits are."""
    labeled = [path for path in contents.images if os.path.exists(yolo.label_file(path))]
    if not _are_labels(map(yolo.label_file, labeled)):
        return []
    groups: dict[str, list[Path]] = {}
    for path in labeled:
        groups.setdefault(split_folder(contents.relative(path)), []).append(path)
    if len(groups) > 1:
        groups.pop("", None)
    parts, used = {}, []
    for split, images in groups.items():
        place = Path(os.path.commonpath([path.parent for path in images]))
        if split and split not in contents.relative(place).parts:
            return _by_inner_folders(contents)
        names = _nearest_names(place, yolo.label_file(images[0]).parent, contents)
        used += [names] if names else []
        part = _part(place, str(names or ""), contents)
        parts |= {split: part} if part else {}
    reading = _make(parts, used, contents)
    return [reading] if reading else []


def _by_inner_folders(contents: Contents) -> list[Reading]:
    """Readings of several data sets, each in a folder of its own."""
    depth = len(contents.folder.parts)
    folders = {path.parents[len(path.parts) - depth - 2] for path in contents.images
               if len(path.parts) > depth + 1}  # fmt: skip
    return [each for folder in sorted(folders) for each in _by_folders(contents.below(folder))]


def _part(place: Path, argument: str, contents: Contents) -> Part | None:
    """A split whose images are there, and of which at least one has a label file."""
    try:
        names, images = yolo.find_images(place, argument)
    except ConfigError:  # data.yaml has no such split
        return None
    except DataError as error:
        if place.name in _YAML_FILES:
            contents.problems.append(str(error))
        return None
    images = [path for path in images if os.path.isfile(path)]
    if not any(os.path.exists(yolo.label_file(path)) for path in images):
        return None
    return Part(place, argument, images, names)


def _make(parts: dict[str, Part], names: Sequence[Path], contents: Contents) -> Reading | None:
    images = {path for part in parts.values() for path in part.images}
    labels = {label for path in images if os.path.exists(label := yolo.label_file(path))}
    where = "no names, so classes are numbers"
    if names:
        where = f"names in {contents.describe_files(sorted({*names}))}"
    found = (
        f"YOLO: {len(images)} photographs in {contents.describe_places(images)}, "
        f"{len(labels)} label files in {contents.describe_places(labels)}, {where}"
    )
    return make_reading("yolo", found, parts)


def _are_labels(paths: Iterable[Path]) -> bool:
    """Whether the first file that is not empty has numbers: captions may lie beside images too."""
    any_file = False
    for path in paths:
        any_file = True
        try:
            lines = [line.split() for line in files.read_lines(path, "it") if line]
        except DataError:
            continue
        if lines:
            return len(lines[0]) >= 5 and all(map(_is_number, lines[0]))
    return any_file


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _names_files(contents: Contents) -> list[Path]:
    """Files with a class name a line that are not empty."""
    found = [path for path in contents.files
             if path.name.lower() in _NAMES_FILES or path.suffix.lower() == ".names"]  # fmt: skip
    return [path for path in found if path.is_file() and path.stat().st_size]


def _nearest_names(place: Path, labels: Path, contents: Contents) -> Path | None:
    """The file of names in the folders of labels and images, or above them; or a data.yaml's."""
    yamls = [path for path in contents.files if path.name.lower() in _YAML_FILES]
    found = [*_names_files(contents), *filter(yolo.has_names, yamls)]
    for folder in (labels, place, *place.parents):
        beside = [path for path in found if path.parent == folder]
        if beside:
            return beside[0]
        if folder == contents.folder:
            break
    return found[0] if len(found) == 1 else None
