"""Where the drawing of each input is written."""

import os
from itertools import count
from pathlib import Path, PurePath

from ssd_jax.errors import ConfigError
from ssd_jax.prediction.inputs import RESULTS, Input, Kind

_MAX_NAME_BYTES = 255  # of a file, on most file systems


def plan_outputs(inputs: list[Input], folder: Path) -> list[Path]:
    """The file of each input's drawing in `folder`; nothing is written.

    Raises ConfigError where one of them, or the results, would replace an input, or a file that
    no prediction wrote.
    """
    targets = [folder / name for name in name_outputs(inputs)]
    files = {_identity(each.path) for each in inputs if each.kind is not Kind.CAMERA}
    for target in (*targets, folder / RESULTS):
        if (identity := _identity(target)) and identity in files:
            raise ConfigError(
                f"--output={folder} would replace the input {target}: name another folder"
            )
    strangers = [target for target in targets if target.is_file()]
    if strangers and not (folder / RESULTS).exists():
        raise ConfigError(
            f"--output={folder} holds {strangers[0]}, and no {RESULTS} of an earlier prediction "
            "that may have written it: name another folder, or move that file"
        )
    return targets


def name_outputs(inputs: list[Input]) -> list[str]:
    """A relative path for each input: its own name, in its own subfolder.

    PNG stays PNG, all other pictures become JPEG, and what has frames becomes a video. The end of
    a name that is too long is cut. Of equal names, in upper or lower case, the later ones end with
    `_2`, `_3`, ….
    """
    taken: set[str] = set()
    names = []
    for each in inputs:
        own = PurePath(each.name)
        for number in count(1):
            end = ("" if number == 1 else f"_{number}") + _suffix(each)
            name = str(own.parent / (_cut(_stem(each), _MAX_NAME_BYTES - len(end)) + end))
            if name.casefold() not in taken:
                break
        taken.add(name.casefold())
        names.append(name)
    return names


def _stem(source: Input) -> str:
    return source.name if source.kind is Kind.CAMERA else PurePath(source.name).stem


def _suffix(source: Input) -> str:
    if source.kind is not Kind.PICTURE:
        return ".mp4"
    return ".png" if source.path.suffix.lower() in (".png", ".apng") else ".jpg"


def _cut(text: str, most_bytes: int) -> str:
    """The start of a text; a character that would be cut is left out."""
    encoded = os.fsencode(text)
    return text if len(encoded) <= most_bytes else encoded[:most_bytes].decode(errors="ignore")


def _identity(path: Path) -> tuple[int, int] | None:
    """The same for all paths of one file; None where there is none."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino
