"""The split of one set of images into train, val and test, by the names of their files.

A photograph stays where it is when others are added: its part depends on its own name alone. Copies
stay together: files with the same bytes, and the augmented copies that Roboflow writes.
"""

import hashlib
import os
import re
from collections import Counter
from collections.abc import Hashable, Sequence
from itertools import accumulate
from pathlib import Path

from ssd_jax.data import files
from ssd_jax.data.split_names import SPLITS
from ssd_jax.errors import DataError

_ROBOFLOW_COPY = re.compile(r"\.rf\.[^.]+$")  # behind the name of the photograph that was copied


def split_images(paths: Sequence[Path], fractions: Sequence[float]) -> dict[str, list[int]]:
    """Indices of the images of each part whose fraction of {train, val, test} is above 0.

    Each part has at least half of its share, and an image: where fewer fall into one, it gets
    those whose hash is the nearest.
    Raises DataError where there are fewer photographs than parts.
    """
    groups = _group_copies(paths)
    wanted = [name for name, fraction in zip(SPLITS, fractions) if fraction > 0]
    if len(groups) < len(wanted):
        raise DataError(
            f"{len(groups)} different photographs cannot be split into {', '.join(wanted)}: add "
            "some, or name sets instead of config.data.split"
        )
    positions = {name: _position(name) for name in groups}
    ends = [end for end, fraction in zip(accumulate(fractions), fractions) if fraction > 0]
    part_of = {
        name: next((part for part, end in zip(wanted, ends) if at < end), wanted[-1])
        for name, at in positions.items()
    }
    shares = [fraction for fraction in fractions if fraction > 0]
    least = {part: max(1, round(len(groups) * share / 2)) for part, share in zip(wanted, shares)}
    for part, end in zip(wanted, ends):
        while list(part_of.values()).count(part) < least[part]:
            part_of[_nearest(end, part_of, positions, least)] = part
    return {
        part: sorted(i for name, group in groups.items() if part_of[name] == part for i in group)
        for part in wanted
    }


def image_names(paths: Sequence[Path]) -> list[str]:
    """A name for each image: that of its file, with as many folders as all names need to differ."""
    parts = [path.parts for path in paths]
    for depth in range(1, max(map(len, parts), default=1) + 1):
        names = ["/".join(each[-depth:]) for each in parts]
        if len(set(names)) == len(names):
            break
    return names


def _group_copies(paths: Sequence[Path]) -> dict[str, list[int]]:
    """Name of a photograph -> indices of its copies.

    Files of one stem, or one content, are copies; of several stems the first is the name.
    """
    stems = [_ROBOFLOW_COPY.sub("", path.stem) for path in paths]
    first_of: dict[Hashable, int] = {}
    root = list(range(len(paths)))

    def find(i: int) -> int:
        while root[i] != i:
            i = root[i]
        return i

    for key, i in [*zip(stems, range(len(paths))), *_contents(paths)]:
        one, other = sorted((find(first_of.setdefault(key, i)), find(i)), key=lambda n: stems[n])
        root[other] = one
    groups: dict[str, list[int]] = {}
    for i in range(len(paths)):
        groups.setdefault(stems[find(i)], []).append(i)
    return groups


def _contents(paths: Sequence[Path]) -> list[tuple[bytes, int]]:
    """SHA-256 and index of each file of which another one has the size."""
    by_size: dict[int, list[int]] = {}
    for i, path in enumerate(paths):
        if os.path.isfile(path):  # those of an archive have no file of their own
            by_size.setdefault(os.path.getsize(path), []).append(i)
    equal = [i for group in by_size.values() if len(group) > 1 for i in group]
    return [(hashlib.sha256(files.read_bytes(paths[i], "the image")).digest(), i) for i in equal]


def _position(name: str) -> float:
    """A number in [0, 1) that is the name's alone."""
    digest = hashlib.sha256(name.encode(errors="surrogateescape")).digest()
    return int.from_bytes(digest[:6], "big") / 2**48


def _nearest(
    end: float, part_of: dict[str, str], positions: dict[str, float], least: dict[str, int]
) -> str:
    """The photograph nearest to the end of a part, of the parts that can give one."""
    counts = Counter(part_of.values())
    movable = [name for name, part in part_of.items() if counts[part] > least[part]]
    return min(movable, key=lambda name: (abs(positions[name] - end), name))
