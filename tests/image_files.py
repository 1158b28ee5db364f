"""Image files, written by tests."""

import numpy as np
from PIL import Image


def write_image(path, side=(80, 100), orientation=1):
    exif = Image.Exif()
    exif[0x0112] = orientation
    pixels = np.zeros((*side, 3), np.uint8)
    pixels[: side[0] // 2, : side[1] // 2] = 255  # top left is white
    Image.fromarray(pixels).save(path, exif=exif, quality=95)
