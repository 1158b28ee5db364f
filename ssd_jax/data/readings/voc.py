"""Folders with annotations of PASCAL VOC: in its layout, and in any other."""

import os
from collections.abc import Iterable
from pathlib import Path

from ssd_jax.data import files
from ssd_jax.data.folder import is_foreign
from ssd_jax.data.formats import voc_layout
from ssd_jax.data.formats.voc_xml import parse_annotation
from ssd_jax.data.messages import printable
from ssd_jax.data.readings.contents import Contents
from ssd_jax.data.readings.reading import Part, Reading, make_reading
from ssd_jax.data.split_names import is_split_name, split_folder
from ssd_jax.errors import DataError


def find(contents: Contents) -> list[Reading]:
    """A reading for each folder in the layout of PASCAL VOC, or that has its lists.

    Without any, one for all annotations below the folder.
    """
    xmls = contents.with_suffix(".xml")
    if not xmls:
        return []
    roots = {path.parent.parent for path in xmls if path.parent.name == "Annotations"}
    standard = {root for root in roots if voc_layout.is_standard(root)}
    with_lists = {path.parents[2] for path in contents.with_suffix(".txt")
                  if path.parts[-3:-1] == ("ImageSets", "Main")}  # fmt: skip
    inner = [root for root in sorted(standard | with_lists) if not _is_split(root, contents)]
    readings = [reading for root in inner if (reading := _read_root(root, contents))]
    whole = [] if readings else [_read_root(contents.folder, contents)]
    return [reading for reading in [*readings, *whole] if reading]


def _is_split(root: Path, contents: Contents) -> bool:
    """Whether a folder lies in one that is called as a split is, or is one."""
    return bool(split_folder(contents.relative(root / "Annotations")))


def _read_root(root: Path, contents: Contents) -> Reading | None:
    if voc_layout.is_standard(root):
        xmls = [path for path in root.joinpath("Annotations").iterdir() if _is_xml(path)]
    else:
        xmls = contents.below(root).with_suffix(".xml")
    stems = {path.stem for path in contents.images}
    lone = [path for path in xmls if path.stem not in stems and voc_layout.is_annotation(path)]
    xmls = [path for path in xmls if path.stem in stems]
    classes = _class_names(xmls, contents) if xmls else None
    if classes is None:
        return None
    lists = _lists(root)
    folders = [] if lists else voc_layout.split_folders(root, xmls)
    names = lists or folders or [""]
    parts = {name: part for name in names if (part := _part(root, name, classes, contents))}
    images = {path for part in parts.values() for path in part.images}
    how = "lists" if lists else "folders"
    found = (
        f"PASCAL VOC: {len(images)} photographs in {contents.describe_places(images)}, "
        f"{len(xmls)} annotations in {contents.describe_places(xmls)}, "
        f"{how + ' ' + ', '.join(names) if lists or folders else 'no lists'}"
    )
    if lone:
        found += f", {len(lone)} annotations without photograph in {contents.describe_places(lone)}"
    return make_reading("voc", found, parts)


def _is_xml(path: Path) -> bool:
    return path.suffix.lower() == ".xml" and not is_foreign(path.name)


def _lists(root: Path) -> list[str]:
    """Names of the lists of splits that are not empty."""
    folder = root / "ImageSets" / "Main"
    if not os.path.isdir(folder):
        return []
    lists = [path for path in sorted(folder.glob("*.txt")) if is_split_name(path.stem)]
    return [path.stem for path in lists if path.is_file() and path.stat().st_size]


def _part(root: Path, split: str, classes: list[str], contents: Contents) -> Part | None:
    try:
        layout = voc_layout.find_layout(root, split)
    except DataError as error:
        contents.problems.append(str(error))
        return None
    both = [key for key in layout.image_ids if key in layout.xmls and key in layout.images]
    return Part(root, split, [layout.images[key][0] for key in both], classes)


def _class_names(xmls: Iterable[Path], contents: Contents) -> list[str] | None:
    """The sorted names in annotations; None where no file is one.

    A damaged file is left out: the reader refuses it.
    """
    names: set[str] | None = None
    for path in xmls:
        try:
            parsed = parse_annotation(files.read_bytes(path, "the annotation"), printable(path))
        except DataError as error:
            contents.problems.append(str(error))
            continue
        names = (names or set()) | set(parsed.names)
    return None if names is None else sorted(names)
