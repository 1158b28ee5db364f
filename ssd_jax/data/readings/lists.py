"""Folders with boxes in a few files: COCO's JSON, and lists of CSV."""

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from ssd_jax.data import files
from ssd_jax.data.folder import file_name, index_images, locate_images
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
    """The folder from which most images of a list are found, see `folder.locate_images`.

    Of several, it is the one from which the list has their paths; then the list's own, or one that
    has the split of the list in its path.
    """
    direct, located = _count_found(names[:: len(names) // _TRIED + 1], path.parent, contents)
    split = SPLIT_OF.get(split_word(contents.relative(path)).lower())

    def rank(folder: Path) -> tuple[int, int, bool, bool, int]:
        words = map(str.lower, contents.relative(folder).parts)
        is_split = bool(split) and split in map(SPLIT_OF.get, words)
        is_own = folder == path.parent
        return located[folder], direct[folder], is_own, is_split, len(folder.parts)

    return max(sorted({contents.folder, *located}), key=rank)


def _count_found(
    names: Iterable[str], own: Path, contents: Contents
) -> tuple[Counter[Path], Counter[Path]]:
    """Folder -> how many images lie as they are called relative to it, and how many it finds."""
    by_name = index_images(contents.images)
    known = {str(image) for image in contents.images}
    direct: Counter[Path] = Counter()
    located: Counter[Path] = Counter()
    for name in names:
        images, parts = by_name.get(file_name(name), []), Path(name).parts
        exact = {image.parents[len(parts) - 1] for image in images
                 if not os.path.isabs(name) and image.parts[-len(parts) :] == parts}  # fmt: skip
        exact |= {each for each in (contents.folder, own) if os.path.normpath(each / name) in known}
        exact = {each for each in exact if contents.holds(each)}
        below = Counter(each for image in images for each in image.parents if contents.holds(each))
        direct.update(exact)
        located.update(exact | {each for each, count in below.items() if count == 1})
    return direct, located


def _group(format: str, lists: list[_List], contents: Contents) -> list[Reading]:
    """Lists of splits that belong together, by their names, and each other list by itself.

    A list that only has images of the splits is left out, and so is a copy of another. A list of
    other images, beside one of validation or of test, is that of training.
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
            loose.append(each)
            seen.append(images)
    if len(loose) == len(groups) == 1 and "train" not in splits and not seen[0] & seen[1]:
        groups = {"": [loose.pop()._replace(split="train"), *named]}
    together = [*groups.values(), *([each] for each in loose)]
    return [reading for group in together if (reading := _make(format, group, contents))]


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
