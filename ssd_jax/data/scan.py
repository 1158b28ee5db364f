"""One look at all files of a data set: the sizes of its images, and what is wrong with any file."""

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from ssd_jax import decode
from ssd_jax.errors import DataError

_THREADS = 16  # reading waits for the disk
_SHOWN = 5  # problems in one message, files behind one count
_STRETCHED = 0.02  # of an aspect ratio: what rounding to whole pixels explains


class Sized(NamedTuple):
    """The pixels that an image's boxes refer to."""

    size: tuple[int, int]  # (H, W)
    upright: bool  # turned as the file's EXIF says
    notes: dict[str, int]  # what was corrected -> how often


class Scan:
    """How readers look at files.

    `known` are the `headers` of an earlier scan: an image of the same bytes and time is not opened
    again. A `tolerant` scan collects what is wrong in `refused` and goes on without those files.
    """

    def __init__(self, known: Mapping[str, list] | None = None, tolerant: bool = False):
        self._known, self._tolerant = known or {}, tolerant
        self.headers: dict[str, list] = {}
        self.refused: list[DataError] = []

    def look(self, path: Path, said: tuple[int, int] | None = None) -> Sized:
        """Size of an image whose annotation says that it is `said` (H, W), if it does.

        The file's own size counts, and boxes refer to its pixels as they are stored; but where the
        annotation has the size of the picture as EXIF turns it, to that one. Raises DataError for
        what `decode.header` refuses, and where the shapes cannot be of one picture.
        """
        header = self._header(path)
        size = header.size
        if said is None or min(said) < 1:
            turned = {"images whose EXIF rotation is ignored": 1}
            return Sized(size, False, turned if header.orientation > 1 else {})
        if said == size:
            return Sized(size, False, {})
        if header.orientation >= 5 and said == size[::-1]:
            return Sized(said, True, {"images turned by EXIF, as their annotations are": 1})
        if abs(said[1] * size[0] / (said[0] * size[1]) - 1) > _STRETCHED:
            raise DataError(
                f"{path}: {size[1]}x{size[0]} pixels, and its annotation is of "
                f"{said[1]}x{said[0]}: boxes would lie elsewhere; correct one of the two",
                "size and annotation disagree",
            )
        return Sized(size, False, {"wrong sizes in annotations, the image's taken": 1})

    def gather(self, function: Callable, keys: Iterable[Hashable]) -> dict:
        """key -> `function` of it, by several threads; one DataError for all that fail.

        In a tolerant scan those are left out, and their errors kept.
        """

        def attempt(key):
            try:
                return key, function(key)
            except DataError as error:
                return key, error

        with ThreadPoolExecutor(_THREADS) as pool:
            results = dict(pool.map(attempt, keys))
        problems = [each for each in results.values() if isinstance(each, DataError)]
        if problems and not self._tolerant:
            raise DataError(some(list(map(str, problems)), "\n"))
        self.refused += problems
        return {key: each for key, each in results.items() if not isinstance(each, DataError)}

    def is_unchanged(self) -> bool:
        """Whether every image was known, and no image is missing that was."""
        return self.headers == self._known

    def _header(self, path: Path) -> decode.Header:
        name, status = str(path), decode.status(path)
        known = self._known.get(name)
        if known and tuple(known[:2]) == status:
            self.headers[name] = known
            return decode.Header((known[2], known[3]), known[4])
        header = decode.header(path)
        self.headers[name] = [*status, *header.size, header.orientation]
        return header


def some(items: Sequence[str], separator: str) -> str:
    """The first few of a list, and how many more there are."""
    more = [f"and {len(items) - _SHOWN} more"] if len(items) > _SHOWN else []
    return separator.join([*items[:_SHOWN], *more])
