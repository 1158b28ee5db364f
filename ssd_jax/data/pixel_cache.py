"""Decoded images in a folder: from the second time on, an image is read and not decoded.

An image far larger than the network's input is kept smaller, so that it is read faster too.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import UInt8

from ssd_jax.data.decode import size_and_mtime
from ssd_jax.data.sources import Source
from ssd_jax.errors import DataError, ResourceError
from ssd_jax.runtime.files import read_if_possible, write_bytes
from ssd_jax.runtime.progress import log_line
from ssd_jax.types import Example

_GIB = 2**30


class CachedImages:
    """Examples of a source, of which as many images as fit into `gib` are kept in `folder`.

    An image whose sides are at least n times `least` (H, W) is averaged over n x n pixels, in the
    first epoch too: the examples do not depend on what the folder holds. Several processes may
    share the folder. A changed image is decoded anew. Where the folder cannot be written, a line
    says so once, and images are decoded every time.
    """

    def __init__(self, source: Source, folder: str, gib: float, least: tuple[int, int]):
        self._source, self._folder, self._least = source, Path(folder), least
        self._is_writable = True
        sizes = np.array([self._kept_size(image.size) for image in source.images]).reshape(-1, 2)
        ends = np.cumsum(3 * sizes.prod(axis=1, dtype=np.int64))
        self._count = int(np.searchsorted(ends, gib * _GIB, side="right"))
        self._bytes = int(ends[self._count - 1]) if self._count else 0

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, index: int) -> Example:
        """Example `index` of the source, its image as the cache holds it."""
        path = self._path(index)
        if path is None:
            example = self._source[index]
            return example | {"image": self._reduce(example["image"])}
        image = self._source.images[index]
        height, width = self._kept_size(image.size)
        kept = read_if_possible(path) or b""
        if len(kept) == height * width * 3:
            pixels = np.frombuffer(kept, np.uint8).reshape(height, width, 3)
            ground_truth = self._source.ground_truth(index)
            return ground_truth | {"image": pixels, "image_id": index, "size": image.size}
        example = self._source[index]
        pixels = self._reduce(example["image"])
        self._write(path, pixels)
        return example | {"image": pixels}

    def summary(self) -> str:
        """How much the folder will hold, in one line."""
        count, gib = self._count, self._bytes / _GIB
        return f"cache: {count} of {len(self)} images, {gib:.3g} GiB decoded, in {self._folder}"

    def _path(self, index: int) -> Path | None:
        """Where the image is kept; None where it is not, or has no file of its own."""
        if index >= self._count:
            return None
        image = self._source.images[index]
        try:
            key = (str(image.path), size_and_mtime(image.path), image.upright, self._least)
        except DataError:
            return None
        name = hashlib.sha256(repr(key).encode()).hexdigest()[:32]
        return self._folder / name[:2] / f"{name}.rgb"

    def _write(self, path: Path, pixels: np.ndarray) -> None:
        if self._is_writable:
            try:
                write_bytes(path, pixels.tobytes())
            except ResourceError as error:
                self._is_writable = False
                log_line(f"{error}; this run goes on and decodes images every time")

    def _kept_size(self, size: Sequence[int]) -> tuple[int, int]:
        times = max(min(side // least for side, least in zip(size, self._least)), 1)
        return size[0] // times, size[1] // times

    def _reduce(self, image: UInt8[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "H W 3"]:
        height, width = self._kept_size(image.shape[:2])
        if (height, width) == image.shape[:2]:
            return image
        return cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
