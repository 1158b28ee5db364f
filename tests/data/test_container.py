"""Where image files end and how EXIF turns them: the header says what the decoder does."""

import io
import struct
import zlib

import numpy as np
import pytest
from image_files import XMP_FORMATS, encode_picture, exif_block, turned_picture

from ssd_jax.data import decode
from ssd_jax.errors import DataError

FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF")
ORIENTATIONS = (
    [(number, None) for number in range(1, 9)]
    + [(None, number) for number in range(1, 9)]
    + [(number, number % 8 + 1) for number in range(1, 9)]
)


def header(data):
    return decode.parse_header(io.BytesIO(data), "it")


def check_agreement(data):
    """The header's size and orientation are those of the decoder; returns both pictures."""
    size, orientation = header(data)
    stored, upright = (decode.decode_image(data, "it", is_upright) for is_upright in (False, True))
    assert stored.shape[:2] == size
    assert upright.shape[:2] == (size[::-1] if orientation >= 5 else size)
    return stored, upright, orientation


def distance(a, b):
    return np.abs(a.astype(int) - b).mean() if a.shape == b.shape else np.inf


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize(("exif", "xmp"), ORIENTATIONS)
def test_the_orientation_is_the_one_that_the_decoder_applies(kind, exif, xmp):
    if xmp and kind not in XMP_FORMATS:
        xmp = None
    stored, upright, orientation = check_agreement(encode_picture(kind, exif, xmp))
    if kind == "TIFF":  # is upright in either case
        assert orientation == 1
        assert distance(stored, turned_picture(exif or 1)) < 12
    else:
        assert distance(stored, turned_picture(1)) < 12
    assert distance(upright, turned_picture(orientation if kind != "TIFF" else exif or 1)) < 12
    if kind in ("JPEG", "PNG", "WEBP"):
        assert orientation == (exif or 1)


def entry(order, type_number, value):
    return struct.pack(f"{order}HHI", 0x0112, type_number, 1) + value.ljust(4, b"\0")


UNUSUAL_EXIF = {
    "big_endian": exif_block(entry(">", 3, b"\0\6"), order=">"),
    "long": exif_block(entry("<", 4, b"\6\0\0\0")),
    "big_endian_long": exif_block(entry(">", 4, b"\0\0\0\6"), order=">"),
    "byte": exif_block(entry("<", 1, b"\6")),
    "twice": exif_block(entry("<", 3, b"\6\0") + entry("<", 3, b"\1\0")),
    "nine": exif_block(entry("<", 3, b"\x09\0")),
    "cut": exif_block(entry("<", 3, b"\6\0"))[:18],
    "more_entries_than_there_are": exif_block(entry("<", 3, b"\6\0"), count=9),
    "prefixed": b"Exif\0\0" + exif_block(entry("<", 3, b"\6\0")),
    "no_exif": b"XX*\0" + bytes(30),
}


@pytest.mark.parametrize("name", UNUSUAL_EXIF)
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "late PNG", "WEBP"])
def test_unusual_exif_is_read_as_the_decoder_reads_it(kind, name):
    block, data = UNUSUAL_EXIF[name], encode_picture(kind.split()[-1])
    if kind == "JPEG":
        data = insert(data, 2, segment(0xE1, b"Exif\0\0" + block))
    elif kind == "WEBP":
        data = webp_with_exif(data, block)
    else:
        data = insert(data, 33 if kind == "PNG" else len(data) - 12, chunk(b"eXIf", block))
    _, upright, orientation = check_agreement(data)
    assert distance(upright, turned_picture(orientation)) < 12


def insert(data, at, piece):
    return data[:at] + piece + data[at:]


def segment(marker, content):
    return struct.pack(">BBH", 0xFF, marker, len(content) + 2) + content


def chunk(name, content):
    crc = zlib.crc32(name + content)
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", crc)


def webp_with_exif(data, block):
    def piece(name, content):
        return name + struct.pack("<I", len(content)) + content + bytes(len(content) % 2)

    height, width = turned_picture(1).shape[:2]
    sides = b"".join((side - 1).to_bytes(3, "little") for side in (width, height))
    flags = struct.pack("<I", 8)  # there is EXIF
    content = b"WEBP" + piece(b"VP8X", flags + sides) + data[12:] + piece(b"EXIF", block)
    return b"RIFF" + struct.pack("<I", len(content)) + content


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"restart_marker_blocks": 2}])
def test_a_jpeg_cut_anywhere_is_refused(options):
    check_cuts(encode_picture("JPEG", **options))


@pytest.mark.parametrize("kind", [kind for kind in (*FORMATS, "PPM", "JPEG2000")])
def test_a_file_cut_anywhere_is_refused(kind):
    check_cuts(encode_picture(kind))


def test_the_end_of_a_thumbnail_is_not_that_of_the_image():
    thumbnail = segment(0xE1, b"Exif\0\0" + encode_picture("JPEG"))
    check_cuts(insert(encode_picture("JPEG"), 2, thumbnail))
    # where the segment has a wrong place: behind the frame's
    data = encode_picture("JPEG")
    check_cuts(insert(data, data.index(b"\xff\xda"), thumbnail))


def check_cuts(data):
    """Every proper beginning of a file is refused."""
    check_agreement(data)
    for length in range(1, len(data)):
        check_refused(data[:length])


def check_refused(data):
    """The header refuses the image, and the decoder."""
    for read in (header, lambda data: decode.decode_image(data, "it")):
        with pytest.raises(DataError, match="it: "):
            read(data)


def motion_photo_data(seed):
    """What phones append, or any bytes: with markers by chance."""
    bits = np.random.default_rng(seed)
    data = bytearray(bits.bytes(3000))
    for marker in (b"\xff\xd9", b"\xff\xda", b"IEND", b"\xff\xd8\xff", b"\xff\xda"):
        at = bits.integers(len(data))
        data[at : at + len(marker)] = marker
    return bytes(data)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_whatever_is_appended_does_not_matter(kind):
    data = encode_picture(kind)
    expected = decode.decode_image(data, "it")
    for seed in range(40):
        appended = data + motion_photo_data(seed)
        np.testing.assert_array_equal(check_agreement(appended)[0], expected)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_a_cut_in_what_is_appended_loses_nothing_and_one_before_it_is_refused(kind):
    data = encode_picture(kind)
    appended = data + data  # as in a file of several pictures
    for length in range(1, len(appended), 3):
        if length >= len(data):
            check_agreement(appended[:length])
        else:
            check_refused(appended[:length])


def test_a_jpeg_cut_before_another_is_refused():
    data = encode_picture("JPEG")
    check_refused(data[:-20] + data + b"\0")


def test_the_end_that_occurs_by_chance_in_a_png_is_none():
    data = encode_picture("PNG")
    with_text = insert(data, 33, chunk(b"tEXt", b"Comment\0" + data[-12:] + bytes(40)))
    check_agreement(with_text)
    for lost in (1, 12, 13, 60):
        with pytest.raises(DataError, match="it: truncated"):
            header(with_text[:-lost])


def test_scans_with_other_segments_between_them():
    """A comment between two scans holds an end marker; libjpeg passes over it."""
    data = encode_picture("JPEG", progressive=True)
    second = data.index(b"\xff\xda", data.index(b"\xff\xda") + 2)
    between = data.rindex(b"\xff\xc4", 0, second)
    whole = insert(data, between, segment(0xFE, b"\xff\xd9")) + b"appended"
    np.testing.assert_array_equal(check_agreement(whole)[0], decode.decode_image(data, "it"))
    with pytest.raises(DataError, match="truncated"):
        header(whole[: between + 40])


@pytest.mark.parametrize(
    ("kind", "mode"),
    [("TGA", "RGB"), ("ICO", "RGB"), ("PCX", "RGB"), ("SGI", "RGB"), ("TIFF", "F"), ("TIFF", "I"),
     ("PPM", "F")],
)  # fmt: skip
def test_a_format_that_the_decoder_does_not_read_is_refused_by_the_header(kind, mode):
    """Pillow reads the headers of all of them."""
    data = encode_picture(kind, mode=mode)
    check_refused(data)
    with pytest.raises(DataError, match="not an image that OpenCV decodes.*save it as JPEG or PNG"):
        header(data)


@pytest.mark.parametrize(
    ("kind", "mode"),
    [("TIFF", "CMYK"), ("TIFF", "I;16"), ("TIFF", "1"), ("BMP", "P"), ("BMP", "1"), ("GIF", "P"),
     ("PPM", "L"), ("JPEG2000", "RGB")],
)  # fmt: skip
def test_other_formats_are_known_by_their_pixels(kind, mode):
    check_agreement(encode_picture(kind, mode=mode))


def test_the_first_picture_of_an_animation_has_the_size_of_the_header():
    for kind in ("GIF", "WEBP", "PNG", "TIFF"):
        check_agreement(encode_picture(kind, frames=3))


def test_the_header_of_an_image_with_damaged_metadata_is_read():
    """EXIF, the index of several pictures: the decoder does not mind."""
    data = encode_picture("JPEG")
    for content in (
        b"Exif\0\0II+\0junk",
        b"MPF\0II*\0\xff\xff\xff\xff",
        b"MPF\0MM\0*\0\0\0\x08\0\3",
    ):
        marker = 0xE1 if content.startswith(b"Exif") else 0xE2
        check_agreement(insert(data, 2, segment(marker, content)))
