"""Scan of all files of a data set: the sizes of its images, and the errors of its files."""

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from ssd_jax.data import decode
from ssd_jax.data.messages import join_truncated, printable, shorten
from ssd_jax.errors import DataError

_THREADS = 16  # reading waits for the disk
_ASPECT_TOLERANCE = 50  # one part in so many of an aspect ratio: rounding to whole pixels


class ResolvedSize(NamedTuple):
    """The pixels that an image's boxes refer to."""

    size: tuple[int, int]  # (H, W)
    upright: bool  # the pixels are rotated as the file's EXIF says
    corrections: dict[str, int]  # what was corrected -> how often


class Scan:
    """Reads files for the readers of all formats.

    `previous` are the `headers` of an earlier scan, as they were read from a file; what is no
    header there counts as absent. An image file of the same size and time is not opened again.
    With `collect_errors` the errors of files go into `errors` and these files are left out;
    otherwise they are raised. An image that an earlier scan has read is not left out then: what is
    wrong with it now is an error when its pixels are read. `orientation` is
    `config.data.orientation`.
    """

    def __init__(
        self, previous: object = None, collect_errors: bool = False, orientation: str = "viewer"
    ):
        entries = previous.items() if isinstance(previous, Mapping) else ()
        self._previous = {name: entry for name, entry in entries if _is_header(entry)}
        self._collect_errors, self._is_upright = collect_errors, orientation == "viewer"
        self.headers: dict[str, list] = {}
        self.errors: list[DataError] = []

    def resolve_image_size(
        self, path: Path, annotated_size: tuple[int, int] | None = None
    ) -> ResolvedSize:
        """Size of an image whose annotation gives it as `annotated_size` (H, W), if it does.

        The annotation's size says whether its boxes refer to the pixels as they are stored, or to
        the picture as EXIF rotates it. Without a size they refer to what a viewer shows, or to the
        stored pixels, as `orientation` says. Raises DataError for a file
        that `decode.read_header` refuses, and where the two sizes are not of one picture.
        """
        header = self._header(path)
        size = header.size
        if annotated_size is None or min(annotated_size) < 1:
            return self._resolve_without_annotation(header)
        if annotated_size == size:
            return ResolvedSize(size, False, {})
        if header.orientation >= 5 and annotated_size == size[::-1]:
            return ResolvedSize(
                annotated_size, True, {"images rotated by EXIF, as their annotations are": 1}
            )
        # In integers, which hold any number that a file may have.
        across, down = annotated_size[1] * size[0], annotated_size[0] * size[1]
        if abs(across - down) * _ASPECT_TOLERANCE > down:
            width, height = map(shorten, annotated_size[::-1])
            raise DataError(
                f"{printable(path)}: {size[1]}x{size[0]} pixels, and its annotation is of "
                f"{width}x{height}: boxes would lie elsewhere; correct one of the two",
                "size and annotation disagree",
            )
        return ResolvedSize(size, False, {"wrong sizes in annotations, the image's used": 1})

    def _resolve_without_annotation(self, header: decode.Header) -> ResolvedSize:
        if header.orientation == 1:
            return ResolvedSize(header.size, False, {})
        if not self._is_upright:
            return ResolvedSize(header.size, False, {"images whose EXIF rotation is ignored": 1})
        size = header.size[::-1] if header.orientation >= 5 else header.size
        return ResolvedSize(size, True, {"images rotated by EXIF, as viewers show them": 1})

    def map_collecting_errors(self, function: Callable, keys: Iterable[Hashable]) -> dict:
        """{key: function(key)}, computed by several threads.

        Raises one DataError for all keys that fail; with `collect_errors` they are left out.
        """

        def attempt(key):
            try:
                return key, function(key)
            except DataError as error:
                return key, error

        with ThreadPoolExecutor(_THREADS) as pool:
            results = dict(pool.map(attempt, keys))
        self.collect([each for each in results.values() if isinstance(each, DataError)])
        return {key: each for key, each in results.items() if not isinstance(each, DataError)}

    def collect(self, errors: Sequence[DataError]) -> None:
        """Keep errors; without `collect_errors`, raise one DataError for all of them."""
        if errors and not self._collect_errors:
            raise DataError(join_truncated(list(map(str, errors)), "\n"))
        self.errors += errors

    def is_unchanged(self) -> bool:
        """Whether the images are those of the earlier scan, with the same sizes and times."""
        return self.headers == self._previous

    def _header(self, path: Path) -> decode.Header:
        name = str(path)
        previous = self._previous.get(name)
        try:
            status = decode.size_and_mtime(path)
            is_unchanged = previous and tuple(previous[:2]) == status
            header = _parse_entry(previous) if is_unchanged else decode.read_header(path)
        except DataError:
            if not previous or not self._collect_errors:
                raise
            self.headers[name] = previous
            return _parse_entry(previous)
        self.headers[name] = [*status, *header.size, header.orientation]
        return header


def _parse_entry(entry: list) -> decode.Header:
    """The header that an entry of `Scan.headers` tells."""
    return decode.Header((entry[2], entry[3]), entry[4])


def _is_header(entry: object) -> bool:
    """Whether an entry is one of `Scan.headers`: size, time, height, width, orientation."""
    return isinstance(entry, list) and len(entry) == 5 and all(type(n) is int for n in entry)
