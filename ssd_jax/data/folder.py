"""Files below a folder, and the images among them that an annotation file means."""

import os
from collections.abc import Hashable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TypeVar

from ssd_jax.data import files

IMAGE_SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
# Folders of archives and viewers, which hold copies of the photographs.
_FOREIGN = ("__macosx", "@eadir", "thumbs", "thumbnails")
Key = TypeVar("Key", bound=Hashable)


def is_foreign(name: str) -> bool:
    """Whether a file or folder is hidden, or made by an archive or a viewer."""
    return name.startswith(".") or name.lower() in _FOREIGN


def list_files(folder: Path) -> list[Path]:
    """All files below a folder, sorted, without those that are foreign.

    Links of folders are followed, but each folder is listed once. Raises DataError for a folder
    that cannot be read.
    """
    return sorted(_walk(folder, set()))


def _walk(folder: Path, seen: set[str]) -> Iterator[Path]:
    with files.named_errors(folder, "the folder"):
        real = os.path.realpath(folder)
        if real in seen:
            return
        seen.add(real)
        with os.scandir(folder) as entries:
            kept = [entry for entry in entries if not is_foreign(entry.name)]
    for entry in sorted(kept, key=lambda entry: entry.name):
        path = folder / entry.name
        if entry.is_dir():
            yield from _walk(path, seen)
        else:
            yield path


def is_image(path: Path) -> bool:
    """Whether the suffix is that of an image."""
    return path.suffix.lower() in IMAGE_SUFFIXES


def locate_images(folder: Path, names: Mapping[Key, str]) -> dict[Key, Path]:
    """The image file of each name in an annotation file, relative to the folder of images.

    A name whose path does not exist means the one image below the folder that has the same file
    name, in small or capital letters; a name without the suffix of an image means the one image of
    this stem. Where there is none, or several, the path stays as written, and reading it is an
    error.
    """
    paths = {key: folder / name for key, name in names.items()}
    missing = [key for key, path in paths.items() if not os.path.isfile(path)]
    if not missing or not os.path.isdir(folder):
        return paths
    found = index_images(path for path in list_files(folder) if is_image(path))
    for key in missing:
        images = found.get(file_name(names[key]), [])
        if len(images) == 1 and not os.path.exists(paths[key]):
            paths[key] = images[0]
    return paths


def index_images(images: Iterable[Path]) -> dict[str, list[Path]]:
    """What `file_name` gives for names of images, with and without suffix -> these images."""
    found: dict[str, list[Path]] = {}
    for path in images:
        found.setdefault(path.name.lower(), []).append(path)
        found.setdefault(path.stem.lower(), []).append(path)
    return found


def file_name(name: str) -> str:
    """The file name of a path, which may be one of Windows, in small letters."""
    return name.replace("\\", "/").rpartition("/")[2].lower()
