"""The outside of a JPEG, PNG or WEBP file: which it is, where it ends, how its EXIF turns it.

Of these three a look at the outside tells what OpenCV will make of them, without their pixels.
"""

import io
import os
import re
import struct
from collections.abc import Iterator

JPEG, PNG, WEBP = "JPEG", "PNG", "WEBP"
_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
# 0xFF before 0 is a byte of pixels, before 0xFF a filler; 1 and 0xD0 … 0xD7 have no segment.
_JPEG_MARKER = re.compile(rb"\xff[^\x00\x01\xd0-\xd7\xff]")
_JPEG_START, _JPEG_END, _JPEG_SCAN = 0xD8, 0xD9, 0xDA
_EXIF_PREFIX = b"Exif\0\0"
_ORIENTATION = 0x0112  # EXIF's tag


def find_kind(head: bytes) -> str | None:
    """JPEG, PNG or WEBP by the first 12 bytes of a file; None for any other."""
    if head.startswith(b"\xff\xd8\xff"):
        return JPEG
    if head.startswith(_PNG_SIGNATURE):
        return PNG
    return WEBP if head[:4] == b"RIFF" and head[8:] == b"WEBP" else None


def is_complete(file: io.BufferedIOBase, kind: str) -> bool:
    """Whether a file holds its image to the end; what stands behind the end does not matter."""
    if kind == PNG:
        return any(name == b"IEND" for name, _, _ in _png_chunks(file))
    if kind == JPEG and _jpeg_ends_as_usual(file):
        return True  # without a look at all of it
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    if kind == JPEG:
        return _jpeg_reaches_its_end(file.read())
    return int.from_bytes(file.read(8)[4:], "little") + 8 <= size


def exif_orientation(file: io.BufferedIOBase, kind: str, exif: bytes) -> int:
    """The orientation 1 … 8 by which OpenCV turns a picture; `exif` is what Pillow found as EXIF.

    OpenCV reads EXIF alone, not XMP, and no orientation that stands elsewhere.
    """
    if kind == PNG:  # Pillow knows only what stands before the pixels
        places = (place for name, *place in _png_chunks(file) if name == b"eXIf")
        start, length = next(places, (0, 0))
        file.seek(start)
        exif = file.read(length)
    return _parse_orientation(exif.removeprefix(_EXIF_PREFIX) if kind == JPEG else exif)


def _jpeg_ends_as_usual(file: io.BufferedIOBase) -> bool:
    """Whether plain segments lead to a scan, and the last bytes are the marker of the end.

    Without a scan before it, it is the end of a thumbnail.
    """
    file.seek(-2, os.SEEK_END)
    if file.read() != bytes([0xFF, _JPEG_END]):
        return False
    at, kind = 2, 0
    while kind != _JPEG_SCAN:
        file.seek(at)
        head = file.read(4)
        if len(head) < 4 or head[0] != 0xFF:
            return False
        kind, at = head[1], at + 2 + int.from_bytes(head[2:], "big")
    return True


def _jpeg_reaches_its_end(data: bytes) -> bool:
    """Whether the markers lead to that of the end, over all segments and scans of the image."""
    at = 2
    while marker := _JPEG_MARKER.search(data, at):
        kind, at = data[marker.end() - 1], marker.end()
        if kind in (_JPEG_START, _JPEG_END):  # where another image starts, this one was cut
            return kind == _JPEG_END
        at += int.from_bytes(data[at : at + 2], "big")
    return False


def _png_chunks(file: io.BufferedIOBase) -> Iterator[tuple[bytes, int, int]]:
    """Name, start and length of the content of each complete chunk."""
    size, at = file.seek(0, os.SEEK_END), len(_PNG_SIGNATURE)
    while at + 12 <= size:
        file.seek(at)
        length, name = struct.unpack(">I4s", file.read(8))
        if at + 12 + length <= size:
            yield name, at + 8, length
        at += 12 + length


def _parse_orientation(exif: bytes) -> int:
    """The first orientation of the first directory; of its value 16 bits, whatever its type."""
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(exif[:4])
    if order is None:
        return 1
    try:
        (directory,) = struct.unpack_from(f"{order}I", exif, 4)
        (count,) = struct.unpack_from(f"{order}H", exif, directory)
        for at in range(directory + 2, directory + 2 + 12 * count, 12):
            tag, value = struct.unpack_from(f"{order}H6xH", exif, at)
            if tag == _ORIENTATION:
                return value if value in range(1, 9) else 1
    except struct.error:  # cut: OpenCV takes what comes before
        pass
    return 1
