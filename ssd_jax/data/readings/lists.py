"""Folders with boxes in a few files: COCO's JSON, and lists of CSV."""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from ssd_jax.data import files
from ssd_jax.data.folder import last_part, locate_images
from ssd_jax.data.formats import coco_json, csv_file
from ssd_jax.data.readings.contents import Contents
from ssd_jax.data.readings.reading import Part, Reading, make_reading
from ssd_jax.data.scan import Scan
from ssd_jax.data.split_names import SPLIT_OF, split_word
from ssd_jax.errors import DataError

_KEYS = (b'"images"', b'"annotations"', b'"categories"')
# Files of COCO that lie beside those of boxes and have other annotations of the same images.
_NO_BOXES = ("captions_", "image_info_", "panoptic_", "person_keypoints_", "stuff_")
_TRIED = 200  # names by which the folder of images is found


class _List(NamedTuple):
    path: Path
    split: str  # as the path calls it; "" for none
    part: Part
    missing: int  # images that are not there


def find_coco(contents: Contents) -> list[Reading]:
    """Readings of the COCO files below a folder."""
    paths = contents.with_suffix(".json")
    has_instances = any(path.name.startswith("instances_") for path in paths)
    paths = [path for path in paths if not (has_instances and path.name.startswith(_NO_BOXES))]
    found = [_read_list("coco", path, contents) for path in paths if _has_keys(path)]
    return _group("coco", [each for each in found if each], contents)


def find_csv(contents: Contents) -> list[Reading]:
    """Readings of the CSV lists below a folder."""
    found = [_read_list("csv", path, contents) for path in contents.with_suffix(".csv")]
    return _group("csv", [each for each in found if each], contents)


def _has_keys(path: Path) -> bool:
    try:
        content = files.read_bytes(path, "it")
    except DataError:
        return False
    return all(key in content for key in _KEYS)


def _read_list(format: str, path: Path, contents: Contents) -> _List | None:
    """A list of which at least one image is there."""
    try:
        names, classes = _names_in_coco(path) if format == "coco" else csv_file.list_names(path)
    except DataError as error:
        contents.problems.append(str(error))
        return None
    folder = _image_folder(names, path, contents)
    located = locate_images(folder, dict(enumerate(names))).values()
    images = [image for image in located if os.path.isfile(image)]
    if not images:
        contents.problems.append(f"{path}: none of its {len(names)} images is there")
        return None
    part = Part(folder, str(path), images, classes)
    word = split_word(contents.relative(path))
    return _List(path, word, part, len(names) - len(images))


def _names_in_coco(path: Path) -> tuple[list[str], list[str]]:
    content = coco_json.load(path, Scan(collect_errors=True))
    if not any(len(found.labels) for found in content.annotations.values()):
        raise DataError(f"{path}: no annotations")
    names = [image.file_name for image in content.images.values()]
    return names, list(content.categories.values())


def _image_folder(names: Sequence[str], path: Path, contents: Contents) -> Path:
    """The folder below which most images lie as a list has their paths, or else by their names.

    Of several, it is the list's own, or one that has the split of the list in its path.
    """
    tried = names[:: len(names) // _TRIED + 1]
    by_name: dict[str, list[Path]] = {}
    for image in contents.images:
        by_name.setdefault(image.name, []).append(image)
        by_name.setdefault(image.stem, []).append(image)
    known = {str(image) for image in contents.images}
    split = SPLIT_OF.get(split_word(contents.relative(path)).lower())

    def rank(folder: Path) -> tuple[int, int, bool, bool, int]:
        direct = sum(os.path.normpath(folder / name) in known for name in tried)
        named = sum(_lies_once(by_name.get(last_part(name), []), folder) for name in tried)
        words = map(str.lower, folder.relative_to(contents.folder).parts)
        is_split = bool(split) and split in map(SPLIT_OF.get, words)
        return direct, named, folder == path.parent, is_split, len(folder.parts)

    folders = {contents.folder, path.parent}
    for image in {image.parent: image for image in contents.images}.values():
        folders |= {each for each in image.parents if contents.folder in each.parents}
    return max(sorted(folders), key=rank)


def _lies_once(images: Iterable[Path], folder: Path) -> bool:
    return sum(folder in image.parents for image in images) == 1


def _group(format: str, lists: list[_List], contents: Contents) -> list[Reading]:
    """Lists of splits that belong together, by their names, and each other list by itself.

    A list that only has images of the splits is left out, and so is a copy of another.
    """
    named = [each for each in lists if each.split]
    splits = [SPLIT_OF[each.split.lower()] for each in named]
    groups: dict[str, list[_List]] = {}
    for each in named:
        # Where each split has one list, these belong together.
        key = "" if len({*splits}) == len(splits) else _name_without_split(each, contents)
        groups.setdefault(key, []).append(each)
    seen = [{image for each in group for image in each.part.images} for group in groups.values()]
    loose = []
    for each in lists:
        images = set(each.part.images)
        if not each.split and not any(images <= others for others in seen):
            loose.append([each])
            seen.append(images)
    readings = [_make(format, group, contents) for group in [*groups.values(), *loose]]
    return [reading for reading in readings if reading]


def _name_without_split(each: _List, contents: Contents) -> str:
    return str(contents.relative(each.path)).lower().replace(each.split.lower(), "*")


def _make(format: str, group: Sequence[_List], contents: Contents) -> Reading | None:
    parts = {each.split: each.part for each in group}
    images = {image for each in group for image in each.part.images}
    found = (
        f"{format.upper()}: {len(images)} photographs in {contents.describe_places(images)}, "
        f"boxes in {contents.describe_files(each.path for each in group)}"
    )
    missing = sum(each.missing for each in group)
    return make_reading(format, found + (f", {missing} photographs missing" if missing else ""),
                        parts)  # fmt: skip
