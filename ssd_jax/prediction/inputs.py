"""Which files, or which camera, the values of --input name."""

import glob
import os
from collections import Counter
from collections.abc import Iterator, Mapping
from enum import Enum
from itertools import takewhile
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from ssd_jax.data.files import repeated_files
from ssd_jax.data.messages import join_truncated, printable
from ssd_jax.errors import ConfigError, DataError
from ssd_jax.runtime.background import parallel_map

RESULTS = "detections.json"  # of a folder that a prediction wrote

_PICTURE_SUFFIXES = {
    ".jpg", ".jpeg", ".png", ".apng", ".bmp", ".webp", ".gif", ".tif", ".tiff",
}  # fmt: skip
_VIDEO_SUFFIXES = {
    ".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg", ".wmv", ".3gp",
}  # fmt: skip
_ANIMATED_SUFFIXES = {".gif", ".png", ".apng", ".webp"}
_MAX_SHOWN = 200  # letters of an input that is too long for a name


class Kind(Enum):
    """How the pictures of an input are read."""

    PICTURE = "one picture"
    VIDEO = "a video that OpenCV reads"
    ANIMATION = "an image of several frames that Pillow reads"
    CAMERA = "a camera"


class Input(NamedTuple):
    """A file or a camera."""

    path: Path  # of a camera, its number
    name: str  # the path relative to the folder that --input names; of a single file, its name
    given: str  # the --input
    kind: Kind


def find_inputs(given: list[str], output: Path) -> tuple[list[Input], dict[Path, str]]:
    """The inputs that the values of --input name, and what their folders hold beside.

    Inputs are in the order of `given`, those of one value sorted, each file once. A value is a
    file, a folder, a glob, or the number of a camera. Of a folder, subfolders are read too; what is
    hidden, `output`, and the results of earlier predictions are not. Files of a folder that are
    neither pictures nor videos are left out: these paths are given with what counts them, see
    `describe_left_out`.

    Raises DataError for a value that names nothing, ConfigError where `output` is a folder to read,
    or for a camera beside other inputs.
    """
    left_out: dict[Path, str] = {}
    found: list[tuple[Path, Path, str]] = []
    for value in given:
        if _is_camera(value):
            return [_camera(value, given)], {}
        root, paths = _find(value, output, left_out)
        found += [(path, root, value) for path in paths]
    again = repeated_files({i: path for i, (path, _, _) in enumerate(found)})
    once = [each for i, each in enumerate(found) if i not in again]
    kinds = parallel_map(_find_kind, (path for path, _, _ in once))
    return [
        Input(path, str(path.relative_to(root)), value, kind)
        for (path, root, value), kind in zip(once, kinds)
    ], left_out


def describe_left_out(left_out: Mapping[Path, str]) -> str:
    """`12 .txt, 1 .heic`: what is left out, by its kind, the most frequent first."""
    return join_truncated(
        [f"{count} {what}" for what, count in Counter(left_out.values()).most_common()], ", "
    )


def _is_camera(value: str) -> bool:
    return value.isascii() and value.isdigit() and not os.path.exists(value)


def _camera(value: str, given: list[str]) -> Input:
    if len(given) > 1:
        raise ConfigError(f"--input={value} is a camera: give no other --input beside it")
    return Input(Path(value), f"camera{int(value)}", value, Kind.CAMERA)


def _find(value: str, output: Path, left_out: dict[Path, str]) -> tuple[Path, list[Path]]:
    """The folder to which names are relative, and the sorted files; `left_out` grows."""
    path, left_out_here = Path(os.path.expanduser(value)), {}
    try:
        if path.is_dir():
            _check_not_output(path, output)
            root, found = path, list(_walk(path, output, left_out_here))
        elif path.exists():
            root, found = path.parent, [path]
        else:
            root, found = _fixed_part(path), list(_match(path, output, left_out_here))
    except OSError as error:
        shown = f"{value[:_MAX_SHOWN]}…" if len(value) > _MAX_SHOWN else value
        raise DataError(f"--input={shown}: cannot be read ({error.strerror})") from error
    if not found:
        beside = f" (left out: {describe_left_out(left_out_here)})" if left_out_here else ""
        raise DataError(
            f"--input={value}: no such file or folder of pictures or videos{beside}; relative "
            "paths start in the current folder"
        )
    left_out |= left_out_here
    return root, sorted(set(found))


def _check_not_output(folder: Path, output: Path) -> None:
    if os.path.realpath(folder) == os.path.realpath(output):
        raise ConfigError(
            f"--output={output} holds the input: name another folder, which may lie inside it"
        )


def _fixed_part(pattern: Path) -> Path:
    """The folders of a glob before the first that has a wildcard."""
    return Path(*takewhile(lambda part: not set(part) & set("*?["), pattern.parts))


def _match(pattern: Path, output: Path, left_out: dict[Path, str]) -> Iterator[Path]:
    """The files that a glob names, and those of the folders that it names."""
    own = os.path.realpath(output)
    for each in map(Path, glob.glob(str(pattern), recursive=True)):
        if each.is_dir():
            yield from _walk(each, output, left_out)
        elif each.is_file() and own not in _real_folders(each):
            yield each


def _real_folders(path: Path) -> list[str]:
    return [str(folder) for folder in Path(os.path.realpath(path)).parents]


def _walk(folder: Path, output: Path, left_out: dict[Path, str]) -> Iterator[Path]:
    """The pictures and videos of a folder and its subfolders, through links to folders too."""
    if not os.access(folder, os.R_OK | os.X_OK):
        os.listdir(folder)  # raises for the folder itself, where one below it is left out
    seen = {os.path.realpath(output)}  # and folders that are read, since links can lead in a circle

    def note(error: OSError) -> None:
        left_out[Path(error.filename)] = "folder(s) that cannot be read"

    for current, folders, names in os.walk(folder, onerror=note, followlinks=True):
        real = os.path.realpath(current)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        if RESULTS in names and current != str(folder):
            left_out[Path(current)] = "folder(s) with results of a prediction"
            folders.clear()
            continue
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for path in (Path(current, name) for name in names if not name.startswith(".")):
            suffix = path.suffix.lower()
            if suffix in _PICTURE_SUFFIXES | _VIDEO_SUFFIXES and path.is_file():
                yield path
            else:
                left_out[path] = printable(suffix) or "without a suffix"


def _find_kind(path: Path) -> Kind:
    suffix = path.suffix.lower()
    if suffix in _VIDEO_SUFFIXES:
        return Kind.VIDEO
    if suffix in _ANIMATED_SUFFIXES:
        try:
            with Image.open(path) as image:
                return Kind.ANIMATION if getattr(image, "is_animated", False) else Kind.PICTURE
        except Exception:  # whatever damage makes Pillow raise: reading it will say so
            pass
    return Kind.PICTURE
