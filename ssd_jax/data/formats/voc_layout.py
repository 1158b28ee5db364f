"""What a folder with annotations of PASCAL VOC holds: its files, its splits, and messages."""

import os
import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from ssd_jax.data import files
from ssd_jax.data.folder import is_image, list_files
from ssd_jax.data.messages import join_truncated
from ssd_jax.data.split_names import is_split_name
from ssd_jax.errors import DataError

_IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png")
_ROOT = re.compile(rb"<annotation[\s>]")
_TEST_EVERY = 5  # without lists, every so many photographs are the test set


class Layout(NamedTuple):
    """The files of a split."""

    image_ids: list[str]
    xmls: dict[str, list[Path]]  # stem -> annotations
    images: dict[str, list[Path]]  # stem -> images
    other_xmls: list[Path]  # annotations of other splits, whose stems may be the same


def find_layout(root: Path, split: str) -> Layout:
    """The files of a split of a folder: in the layout of PASCAL VOC, or in any other.

    In the layout of PASCAL VOC, images lie in JPEGImages and annotations in Annotations. In any
    other the two are found below `root`, whatever their folders are called, by the same stem.
    Then `split` may be a folder's name, as in `train/a.jpg` and `train/a.xml`: only what lies in
    folders of this name counts, or all images if none lies there.
    """
    if is_standard(root) or not (found := _find_files(root)):
        xmls = files_by_stem(root / "Annotations", (".xml",))
        images = files_by_stem(root / "JPEGImages", _IMAGE_SUFFIXES)
        return Layout(_split_or_all(root, split, xmls), xmls, images, [])
    xmls, images = found
    has_lists = os.path.isdir(root / "ImageSets" / "Main")
    if split and not has_lists and (split_folders(root, xmls) or _in_folders(root, xmls, split)):
        return _layout_of_folders(root, split, xmls, images)
    by_stem = _group(xmls)
    return Layout(_split_or_all(root, split, by_stem), by_stem, _group(images), [])


def split_folders(root: Path, paths: Iterable[Path]) -> list[str]:
    """Names of the folders below `root` that are called as splits are, and hold files of these."""
    names = {name for path in paths for name in path.relative_to(root).parts[:-1]}
    return sorted(name for name in names if is_split_name(name))


def is_standard(root: Path) -> bool:
    """Whether annotations lie in Annotations, beside a folder JPEGImages."""
    if not os.path.isdir(root / "JPEGImages") or not os.path.isdir(root / "Annotations"):
        return False
    return bool(files_by_stem(root / "Annotations", (".xml",)))


def is_annotation(path: Path) -> bool:
    """Whether a file that can be read has the root of an annotation."""
    try:
        return _ROOT.search(files.read_bytes(path, "it")) is not None
    except DataError:
        return False


def _find_files(root: Path) -> tuple[list[Path], list[Path]] | None:
    """The annotations and the images below a folder, if it has both."""
    if not os.path.isdir(root):
        return None
    found = list_files(root)
    images = [path for path in found if is_image(path)]
    stems = {path.stem for path in images}
    xmls = [path for path in found if path.suffix.lower() == ".xml"]
    # Other XML than that of an image may be of anything: settings, a log …
    xmls = [path for path in xmls if path.stem in stems or is_annotation(path)]
    return (xmls, images) if xmls and images else None


def _layout_of_folders(root: Path, split: str, xmls: list[Path], images: list[Path]) -> Layout:
    mine = _in_folders(root, xmls, split)
    if not mine:
        names = ", ".join(split_folders(root, xmls))
        raise DataError(f"{root}: no annotations in a folder {split!r}; there are: {names}")
    by_stem = _group(mine)
    others = sorted({*xmls} - {*mine})
    return Layout(
        sorted(by_stem), by_stem, _group(_in_folders(root, images, split) or images), others
    )


def _in_folders(root: Path, paths: Iterable[Path], split: str) -> list[Path]:
    """The files that lie in folders of these names, joined by "+"."""
    names = set(split.split("+"))
    return [path for path in paths if names & {*path.relative_to(root).parts[:-1]}]


def _group(paths: Iterable[Path]) -> dict[str, list[Path]]:
    found: dict[str, list[Path]] = {}
    for path in paths:
        found.setdefault(path.stem, []).append(path)
    return found


def _split_or_all(root: Path, split: str, xmls: dict[str, list[Path]]) -> list[str]:
    return split_image_ids(root, split, xmls) if split else sorted(xmls)


def files_by_stem(folder: Path, suffixes: tuple[str, ...]) -> dict[str, list[Path]]:
    """Stem -> files of a folder with one of the suffixes; hidden files are left out."""
    try:
        names = sorted(os.listdir(folder))
    except OSError as error:
        raise DataError(
            f"{folder}: {error.strerror}; a PASCAL VOC folder holds JPEGImages and Annotations"
        ) from error
    paths = [folder / name for name in names if not name.startswith(".")]
    return _group(path for path in paths if path.suffix.lower() in suffixes)


def split_image_ids(root: Path, split: str, known: dict[str, list[Path]]) -> list[str]:
    """Image ids in the lists that `split` names, in their order.

    A folder without lists has two splits: "test", every fifth annotation of the sorted ones, and
    "trainval", the others.
    """
    folder = root / "ImageSets" / "Main"
    if not os.path.isdir(folder):
        test = sorted(known)[_TEST_EVERY - 1 :: _TEST_EVERY]
        parts = {"test": test, "trainval": sorted(known.keys() - set(test))}
        if split not in parts:
            raise DataError(
                f"{folder}: no such folder, so no split {split!r}: there are trainval and test "
                "(every fifth), and '' for all"
            )
        return parts[split]
    image_ids = []
    for part in split.split("+"):
        path = folder / f"{part}.txt"
        if not os.path.exists(path):
            splits = ", ".join(sorted(file.stem for file in folder.glob("*.txt"))) or "none"
            raise DataError(f"{path}: no such split; there are: {splits}")
        lines = [line for line in files.read_lines(path, "the list") if line]
        if not lines:
            raise DataError(f"{path}: the list is empty")
        image_ids += [_first_column(line, known) for line in lines]
    return image_ids


def _first_column(line: str, known: dict[str, list[Path]]) -> str:
    """Image id of a line that may have a second column; ids may contain spaces."""
    choices = (line, line.rsplit(maxsplit=1)[0], line.split()[0])
    return next((choice for choice in choices if choice in known), choices[-1])


def check_unique(image_ids: Iterable[str], where: str) -> tuple[str, ...]:
    """The ids, unless there are none or one occurs twice."""
    counts = Counter(image_ids)
    if not counts:
        raise DataError(f"{where}: no images")
    twice = [key for key, n in counts.items() if n > 1]
    if twice:
        raise DataError(f"{where}: images listed twice: {join_truncated(twice, ', ')}")
    return tuple(counts)


def single_file(key: str, files: dict[str, list[Path]], root: Path, what: str) -> Path:
    """The one file of an id."""
    paths = files.get(key, [])
    if len(paths) != 1:
        names = ", ".join(_distinct_names(paths, root))
        problem = f"several {what} files ({names}), keep one" if paths else f"the {what} is missing"
        raise DataError(f"{root}: {key}: {problem}")
    return paths[0]


def _distinct_names(paths: list[Path], root: Path) -> list[str]:
    """The names of files; with their folders below `root` where the names are the same."""
    names = [path.name for path in paths]
    return names if len(set(names)) == len(names) else [str(p.relative_to(root)) for p in paths]
