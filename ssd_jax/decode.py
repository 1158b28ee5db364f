"""Bytes of an image file -> pixels: the only decoder of the package.

Boxes of PASCAL VOC and COCO refer to the pixels as they are stored, so an EXIF rotation is ignored
here: the pixels come back in the order of the file, whatever a picture viewer would show.
"""

import io
import os
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import UInt8

from ssd_jax.errors import DataError

_FLAGS = cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION
_TAIL = 65536  # bytes at the end of a file in which its end marker is looked for


def decode(data: bytes, where: str) -> UInt8[np.ndarray, "H W 3"]:
    """Pixels of an encoded image -> uint8 [H, W, 3], RGB; `where` names it in errors.

    Gray, palette and CMYK images become RGB, an alpha channel is dropped, 16 bits are scaled
    to 8. Bytes that are empty, truncated or no image raise DataError.
    """
    if not data:
        raise DataError(f"{where}: empty image file; restore or remove it")
    if _is_cut(data[:4], data):
        raise DataError(f"{where}: truncated image, its end is missing; copy the file again")
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), _FLAGS)
    except cv2.error as error:
        raise DataError(f"{where}: OpenCV cannot decode this image ({error.err})") from error
    if image is None:
        raise DataError(f"{where}: not an image that OpenCV decodes, or a damaged one")
    return image


def read(path: str | os.PathLike) -> UInt8[np.ndarray, "H W 3"]:
    """Pixels of an image file -> uint8 [H, W, 3], RGB. Errors: `decode`."""
    try:
        # Python opens names that OpenCV's own file functions cannot open on every system.
        data = Path(path).read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot read the image ({error.strerror})") from error
    return decode(data, str(path))


def size(path: str | os.PathLike) -> tuple[int, int]:
    """(H, W) of an image file as stored, from its header. Errors: `size_in`."""
    try:
        with open(path, "rb") as file:
            return size_in(file, str(path))
    except OSError as error:
        raise DataError(f"{path}: cannot read the image ({error.strerror})") from error


def size_in(file: io.BufferedIOBase, where: str) -> tuple[int, int]:
    """(H, W) of an encoded image as stored, from its header; its end is checked too.

    `where` names it in errors. Raises DataError where the header is not an image's, where the file
    is truncated (JPEG and PNG), and above Pillow's pixel limit, because a small file can decode to
    gigabytes. The limit also makes Pillow warn.
    """
    from PIL import Image  # costs a moment that most commands need not spend

    bombs = (Image.DecompressionBombError, Image.DecompressionBombWarning)
    try:
        width, height = Image.open(file).size
        file.seek(0)
        head = file.read(4)
        file.seek(-min(_TAIL, file.seek(0, os.SEEK_END)), os.SEEK_END)
        tail = file.read()
    except bombs as error:
        raise DataError(f"{where}: {error}") from error
    except (OSError, ValueError, SyntaxError) as error:
        reason = (
            getattr(error, "strerror", None) or "not an image, a damaged header, or a rare format"
        )
        raise DataError(f"{where}: cannot read the image ({reason})") from error
    if Image.MAX_IMAGE_PIXELS and width * height > Image.MAX_IMAGE_PIXELS:
        raise DataError(f"{where}: {width}x{height} pixels, above {Image.MAX_IMAGE_PIXELS}")
    if _is_cut(head, tail):
        file.seek(0)
        decode(
            file.read(), where
        )  # the end may lie before appended data: only the whole file tells
    return height, width


def _is_cut(head: bytes, tail: bytes) -> bool:
    """Whether a JPEG has no end-of-image marker after its last scan, or a PNG no IEND chunk.

    Inside a JPEG scan 0xFF is always escaped, so the markers cannot occur there by chance, and
    the marker that ends an embedded thumbnail lies before the scan of the image itself.
    """
    if head.startswith(b"\xff\xd8"):
        return tail.rfind(b"\xff\xd9") <= tail.rfind(b"\xff\xda")
    return head.startswith(b"\x89PNG") and b"IEND" not in tail
