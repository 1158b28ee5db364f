"""Bytes of an image file -> pixels: the decoder of all training and test images.

Boxes of PASCAL VOC and COCO refer to the pixels as they are stored. An EXIF rotation is therefore
ignored, whatever a picture viewer shows, unless a reader asks for the upright picture.
"""

import io
import os
import warnings
from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import UInt8

from ssd_jax.data import container, files
from ssd_jax.data.messages import printable
from ssd_jax.errors import DataError

_MIN_SIDE = 2  # pixels
_MISSING = "images that are missing or cannot be opened"
_UNKNOWN_FORMAT = "not an image, damaged, or of a format to convert to JPEG, as HEIC"
_NO_IMAGE = "files that are no image, or damaged"
_TOO_LARGE = "images above the pixel limit"


class Header(NamedTuple):
    """The header of an image: (H, W) as stored, and EXIF's orientation, 1 to 8.

    Both are what `decode_image` makes of the file: 1 too where it does not turn the picture.
    """

    size: tuple[int, int]
    orientation: int


def decode_image(data: bytes, where: str, upright: bool = False) -> UInt8[np.ndarray, "H W 3"]:
    """Pixels of an encoded image -> uint8 [H, W, 3], RGB; `where` names it in errors.

    Gray, palette and CMYK images become RGB, an alpha channel is dropped, 16 bits are scaled
    to 8. `upright` turns the picture as EXIF says; a TIFF is upright in either case. Bytes that
    are empty, truncated or no image raise DataError.
    """
    if not data:
        raise DataError(f"{where}: empty image file; restore or remove it", "empty image files")
    _check_complete(io.BytesIO(data), container.find_kind(data[:12]), where)
    flags = cv2.IMREAD_COLOR_RGB | (0 if upright else cv2.IMREAD_IGNORE_ORIENTATION)
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error as error:
        raise DataError(
            f"{where}: OpenCV cannot decode this image ({error.err})", _NO_IMAGE
        ) from error
    # Of some floating-point formats OpenCV gives the numbers, whatever the flags.
    if image is None or image.dtype != np.uint8 or image.ndim != 3:
        raise DataError(
            f"{where}: not an image that OpenCV decodes, or a damaged one; save it as JPEG or PNG",
            _NO_IMAGE,
        )
    return image


def read_image(path: str | os.PathLike, upright: bool = False) -> UInt8[np.ndarray, "H W 3"]:
    """Pixels of an image file -> uint8 [H, W, 3], RGB. Errors: `decode_image`."""
    # Python opens names that OpenCV's own file functions cannot open on every system.
    data = files.read_bytes(path, "the image", _MISSING)
    return decode_image(data, printable(path), upright)


def check_pixels(path: str | os.PathLike) -> None:
    """Raise DataError for an image that is damaged inside, where OpenCV would fill in gray."""
    from PIL import Image

    read_header(path)
    try:
        with Image.open(path) as image:
            image.load()
    except Exception as error:  # whatever damage makes Pillow raise
        raise DataError(
            f"{printable(path)}: damaged inside ({error}); copy it again", _NO_IMAGE
        ) from error


def size_and_mtime(path: str | os.PathLike) -> tuple[int, int]:
    """Size in bytes and modification time in ns of an image file; a changed file has others."""
    with files.named_errors(path, "the image", _MISSING):
        status = files.file_status(path)
        return status.st_size, status.st_mtime_ns


def read_header(path: str | os.PathLike) -> Header:
    """Size and orientation of an image file, as far as possible without its pixels.

    Errors: `parse_header`.
    """
    with files.named_errors(path, "the image", _MISSING), files.open_file(path) as file:
        return parse_header(file, printable(path))


def parse_header(file: io.BufferedIOBase, where: str) -> Header:
    """The header of an encoded image; its end is checked too.

    Of a JPEG, PNG or WEBP the header tells all. Any other is decoded: only OpenCV knows which of
    them it reads. `where` names the image in errors. Raises DataError where `decode_image` would,
    but for damage inside the pixels; for a side below two pixels; and above Pillow's pixel limit,
    because a small file can decode to gigabytes.
    """
    (width, height), exif = _open(file, where)
    _check_pixel_limit(width, height, where)
    file.seek(0)
    kind, orientation = container.find_kind(file.read(12)), 1
    if kind is None:
        file.seek(0)
        height, width = decode_image(file.read(), where).shape[:2]
    else:
        _check_complete(file, kind, where)
        orientation = container.exif_orientation(file, kind, exif)
    if min(height, width) < _MIN_SIDE:
        raise DataError(f"{where}: {width}x{height} pixels, nothing to see", "images too small")
    return Header((height, width), orientation)


def _open(file: io.BufferedIOBase, where: str) -> tuple[tuple[int, int], bytes]:
    """Width and height of an image, and its EXIF block, by Pillow."""
    from PIL import Image  # costs a moment that most commands need not spend

    # What Pillow warns of, the decoder reads, or an error here says.
    warnings.filterwarnings("ignore", module=r"PIL\.")
    try:
        image = Image.open(file)
        return image.size, image.info.get("exif", b"")
    except Image.DecompressionBombError as error:
        raise DataError(f"{where}: {error}", _TOO_LARGE) from error
    except Exception as error:  # whatever damage makes Pillow raise
        reason = getattr(error, "strerror", None) or _UNKNOWN_FORMAT
        raise DataError(f"{where}: cannot read the image ({reason})", _NO_IMAGE) from error


def _check_pixel_limit(width: int, height: int, where: str) -> None:
    from PIL import Image

    most = Image.MAX_IMAGE_PIXELS
    if most and width * height > most:
        text = f"{where}: {width}x{height} pixels, above {most}; shrink it"
        raise DataError(text, _TOO_LARGE)


def _check_complete(file: io.BufferedIOBase, kind: str | None, where: str) -> None:
    """Refuse a truncated file of a `kind` whose end is known; OpenCV refuses the others."""
    if kind is not None and not container.is_complete(file, kind):
        raise DataError(
            f"{where}: truncated image, its end is missing; copy the file again", "truncated images"
        )
