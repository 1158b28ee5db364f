"""Image files, written by tests."""

import io
import struct

import numpy as np
from PIL import Image, ImageOps, TiffImagePlugin
from PIL.PngImagePlugin import PngInfo

ORIENTATION, XMP = 0x0112, 700  # tags of EXIF and TIFF
XMP_FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "GIF")


def write_image(path, side=(80, 100), orientation=1):
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    pixels = np.zeros((*side, 3), np.uint8)
    pixels[: side[0] // 2, : side[1] // 2] = 255  # top left is white
    Image.fromarray(pixels).save(path, exif=exif, quality=95)


def turned_picture(orientation):
    """The picture of `encode_picture` as a viewer shows it: no two orientations look alike."""
    image = _picture()
    image.getexif()[ORIENTATION] = orientation
    return np.asarray(ImageOps.exif_transpose(image).convert("RGB"))


def encode_picture(kind, exif=None, xmp=None, mode="RGB", frames=1, **options):
    """A small picture with an orientation in EXIF, in XMP, in both, or without."""
    if kind == "JPEG":
        options |= {"quality": 95, "subsampling": 0}
    if kind == "WEBP":
        options["lossless"] = True
    if kind == "TIFF":
        tags = TiffImagePlugin.ImageFileDirectory_v2()
        if exif:
            tags[ORIENTATION] = exif
        if xmp:
            tags[XMP] = _xmp(xmp)
        options["tiffinfo"] = tags
    elif exif:
        options["exif"] = Image.Exif()
        options["exif"][ORIENTATION] = exif
    if xmp and kind == "PNG":
        options["pnginfo"] = PngInfo()
        options["pnginfo"].add_itxt("XML:com.adobe.xmp", _xmp(xmp).decode())
    elif xmp and kind != "TIFF":
        options["xmp"] = _xmp(xmp)
    if frames > 1:
        others = [ImageOps.invert(_picture())] * (frames - 1)
        options |= {"save_all": True, "append_images": others}
    data = io.BytesIO()
    _picture().convert(mode).save(data, kind, **options)
    return data.getvalue()


def exif_block(entries, order="<", count=None):
    """An EXIF block whose directory holds entries of 12 bytes; `count` is what it says of them."""
    start = b"II*\0" if order == "<" else b"MM\0*"
    count = len(entries) // 12 if count is None else count
    return start + struct.pack(f"{order}IH", 8, count) + entries + bytes(4)


def _picture():
    pixels = np.zeros((20, 32, 3), np.uint8)
    pixels[:10, :16, 0] = pixels[:10, 16:, 1] = pixels[10:, :16, 2] = 255
    return Image.fromarray(pixels)


def _xmp(orientation):
    return (
        '<?xpacket begin=""?><x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF '
        'xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description '
        f'xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="{orientation}"/>'
        "</rdf:RDF></x:xmpmeta>"
    ).encode()
