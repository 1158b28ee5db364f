"""Bytes of an image file -> pixels: the decoder of all training and test images.

Boxes of PASCAL VOC and COCO refer to the pixels as they are stored. An EXIF rotation is therefore
ignored, whatever a picture viewer shows, unless a reader asks for the upright picture.
"""

import io
import os
import warnings
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import UInt8

from ssd_jax.errors import DataError

_ORIENTATION = 0x0112  # EXIF's tag
_MIN_SIDE = 2  # pixels
_NO_IMAGE = "files that are no image, or damaged"
_TOO_LARGE = "images above the pixel limit"
_TAIL_BYTES = 65536  # at the end of a file, searched for its end marker


class Header(NamedTuple):
    """The header of an image: (H, W) as stored, and EXIF's orientation, 1 to 8."""

    size: tuple[int, int]
    orientation: int


def decode_image(data: bytes, where: str, upright: bool = False) -> UInt8[np.ndarray, "H W 3"]:
    """Pixels of an encoded image -> uint8 [H, W, 3], RGB; `where` names it in errors.

    Gray, palette and CMYK images become RGB, an alpha channel is dropped, 16 bits are scaled
    to 8. `upright` turns the picture as EXIF says. Bytes that are empty, truncated or no image
    raise DataError.
    """
    if not data:
        raise DataError(f"{where}: empty image file; restore or remove it", "empty image files")
    if _is_truncated(data[:4], data):
        raise DataError(
            f"{where}: truncated image, its end is missing; copy the file again", "truncated images"
        )
    flags = cv2.IMREAD_COLOR_RGB | (0 if upright else cv2.IMREAD_IGNORE_ORIENTATION)
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error as error:
        raise DataError(
            f"{where}: OpenCV cannot decode this image ({error.err})", _NO_IMAGE
        ) from error
    if image is None:
        raise DataError(f"{where}: not an image that OpenCV decodes, or a damaged one", _NO_IMAGE)
    return image


def read_image(path: str | os.PathLike, upright: bool = False) -> UInt8[np.ndarray, "H W 3"]:
    """Pixels of an image file -> uint8 [H, W, 3], RGB. Errors: `decode_image`."""
    try:
        # Python opens names that OpenCV's own file functions cannot open on every system.
        data = Path(path).read_bytes()
    except OSError as error:
        raise _cannot_open(path, error) from error
    return decode_image(data, str(path), upright)


def check_pixels(path: str | os.PathLike) -> None:
    """Raise DataError for an image that is damaged inside, where OpenCV would fill in gray."""
    from PIL import Image

    read_header(path)
    try:
        with Image.open(path) as image:
            image.load()
    except (OSError, ValueError, SyntaxError) as error:
        raise DataError(f"{path}: damaged inside ({error}); copy it again", _NO_IMAGE) from error


def size_and_mtime(path: str | os.PathLike) -> tuple[int, int]:
    """Size in bytes and modification time in ns of an image file; a changed file has others."""
    try:
        found = os.stat(path)
    except OSError as error:
        raise _cannot_open(path, error) from error
    return found.st_size, found.st_mtime_ns


def read_header(path: str | os.PathLike) -> Header:
    """Size and orientation of an image file, without its pixels. Errors: `parse_header`."""
    try:
        with open(path, "rb") as file:
            return parse_header(file, str(path))
    except OSError as error:
        raise _cannot_open(path, error) from error


def parse_header(file: io.BufferedIOBase, where: str) -> Header:
    """The header of an encoded image; its end is checked too.

    `where` names it in errors. Raises DataError where the header is not an image's, where the file
    is truncated (JPEG and PNG), for a side below two pixels, and above Pillow's pixel limit,
    because a small file can decode to gigabytes.
    """
    from PIL import Image  # costs a moment that most commands need not spend

    warnings.filterwarnings(
        "ignore", category=Image.DecompressionBombWarning
    )  # it is an error here
    try:
        image = Image.open(file)
        (width, height), orientation = image.size, image.getexif().get(_ORIENTATION, 1)
        file.seek(0)
        head = file.read(4)
        file.seek(-min(_TAIL_BYTES, file.seek(0, os.SEEK_END)), os.SEEK_END)
        tail = file.read()
    except Image.DecompressionBombError as error:
        raise DataError(f"{where}: {error}", _TOO_LARGE) from error
    except (OSError, ValueError, SyntaxError) as error:
        reason = (
            getattr(error, "strerror", None) or "not an image, a damaged header, or a rare format"
        )
        raise DataError(f"{where}: cannot read the image ({reason})", _NO_IMAGE) from error
    if Image.MAX_IMAGE_PIXELS and width * height > Image.MAX_IMAGE_PIXELS:
        most = Image.MAX_IMAGE_PIXELS
        text = f"{where}: {width}x{height} pixels, above {most}; shrink it"
        raise DataError(text, _TOO_LARGE)
    if min(height, width) < _MIN_SIDE:
        raise DataError(f"{where}: {width}x{height} pixels, nothing to see", "images too small")
    if _is_truncated(head, tail):
        file.seek(0)
        # The end may lie before appended data: only the whole file tells.
        decode_image(file.read(), where)
    return Header((height, width), orientation if orientation in range(1, 9) else 1)


def _cannot_open(path: str | os.PathLike, error: OSError) -> DataError:
    reason = "images that are missing or cannot be opened"
    return DataError(f"{path}: cannot read the image ({error.strerror})", reason)


def _is_truncated(head: bytes, tail: bytes) -> bool:
    """Whether a JPEG has no end-of-image marker after its last scan, or a PNG no IEND chunk.

    Inside a JPEG scan 0xFF is always escaped, so the markers cannot occur there by chance, and
    the marker that ends an embedded thumbnail lies before the scan of the image itself.
    """
    if head.startswith(b"\xff\xd8"):
        return tail.rfind(b"\xff\xd9") <= tail.rfind(b"\xff\xda")
    return head.startswith(b"\x89PNG") and b"IEND" not in tail
