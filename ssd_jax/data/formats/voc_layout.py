"""What a folder in PASCAL VOC layout holds: its files, its split lists, and messages about both."""

import os
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from ssd_jax.data import files
from ssd_jax.data.messages import join_truncated
from ssd_jax.errors import DataError

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png")
_TEST_EVERY = 5  # without lists, every so many photographs are the test set


def files_by_stem(folder: Path, suffixes: tuple[str, ...]) -> dict[str, list[Path]]:
    """Stem -> files of a folder with one of the suffixes; hidden files are left out."""
    try:
        names = sorted(os.listdir(folder))
    except OSError as error:
        raise DataError(
            f"{folder}: {error.strerror}; a PASCAL VOC folder holds JPEGImages and Annotations"
        ) from error
    found: dict[str, list[Path]] = {}
    for path in (folder / name for name in names if not name.startswith(".")):
        if path.suffix.lower() in suffixes:
            found.setdefault(path.stem, []).append(path)
    return found


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
        names = ", ".join(path.name for path in paths)
        problem = f"several {what} files ({names}), keep one" if paths else f"the {what} is missing"
        raise DataError(f"{root}: {key}: {problem}")
    return paths[0]
