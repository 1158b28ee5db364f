"""The files below a folder, listed once, and the places where some of them lie."""

import os
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from ssd_jax.data.folder import is_image, list_files
from ssd_jax.data.messages import join_truncated, printable


class Contents(NamedTuple):
    """The files below a folder, and what was wrong with those that might be annotations."""

    folder: Path
    files: list[Path]
    problems: list[str]

    @property
    def images(self) -> list[Path]:
        return [path for path in self.files if is_image(path)]

    def with_suffix(self, *suffixes: str) -> list[Path]:
        return [path for path in self.files if path.suffix.lower() in suffixes]

    def below(self, folder: Path) -> "Contents":
        """The files of this folder, or of one within."""
        if folder == self.folder:
            return self
        inner = [path for path in self.files if folder in path.parents]
        return Contents(folder, inner, self.problems)

    def holds(self, folder: Path) -> bool:
        """Whether a folder is this one, or lies below it."""
        return folder == self.folder or self.folder in folder.parents

    def relative(self, path: Path) -> Path:
        return path.relative_to(self.folder)

    def count_by_suffix(self) -> str:
        """As "3 .jpg, 1 .txt", most first."""
        counts = Counter(path.suffix.lower() or "without suffix" for path in self.files)
        parts = [f"{count} {printable(suffix)}" for suffix, count in counts.most_common()]
        return join_truncated(parts, ", ") or "no files"

    def describe_places(self, paths: Iterable[Path]) -> str:
        """The folders of files, as "images/train/, images/val/"."""
        parents = sorted({path.parent for path in paths})
        names = [
            "the folder itself" if parent == self.folder else f"{_name(parent, self.folder)}/"
            for parent in parents
        ]
        return join_truncated(names, ", ")

    def describe_files(self, paths: Iterable[Path]) -> str:
        return join_truncated([_name(path, self.folder) for path in paths], ", ")


def list_contents(folder: Path) -> Contents:
    """The files below a folder. Raises DataError where it cannot be read."""
    return Contents(folder, list_files(folder), [])


def _name(path: Path, folder: Path) -> str:
    return printable(os.path.relpath(path, folder))
