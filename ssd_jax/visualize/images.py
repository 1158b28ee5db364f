"""Several images in a grid, and images as files."""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import UInt8

from ssd_jax.errors import ConfigError
from ssd_jax.runtime.files import write_bytes

Image = UInt8[np.ndarray, "H W 3"]
AnyImage = UInt8[np.ndarray, "_ _ 3"]

_MIN_SIDE, _MAX_ENLARGED_SIDE = 300, 1280  # pixels


def save_image(path: Path, image: Image) -> None:
    """Write the image in the format of the suffix, whole or not at all, and the folders above it.

    Raises ResourceError where it cannot be written, ConfigError for a suffix of no such format.
    """
    if not cv2.haveImageWriter(str(path)):
        raise ConfigError(f"{path}: no format of pictures has this suffix; write .png or .jpg")
    # Photographs are half as large as by the default, which changes the strategy too.
    options = [cv2.IMWRITE_PNG_COMPRESSION, 1] if path.suffix.lower() == ".png" else []
    _, encoded = cv2.imencode(path.suffix, cv2.cvtColor(image, cv2.COLOR_RGB2BGR), options)
    write_bytes(path, encoded.tobytes())


def enlarge(image: Image) -> AnyImage:
    """A small image, larger by a whole factor, so that boxes and names in it can be told apart.

    Its shorter side gets at least 300 pixels, unless its longer side would get more than 1,280. A
    larger image is returned as it is.
    """
    shorter, longer = sorted(image.shape[:2])
    factor = min(-(-_MIN_SIDE // shorter), _MAX_ENLARGED_SIDE // longer)
    if factor <= 1:
        return image
    return cv2.resize(image, None, fx=factor, fy=factor, interpolation=cv2.INTER_CUBIC)


def image_grid(images: Sequence[AnyImage], columns: int, pad: int = 4) -> Image:
    """The images row by row on white, each scaled to fit its cell; cells are equal.

    A cell has the greatest height and the greatest width of the images, and `pad` pixels lie
    around each. Raises ValueError if there is no image.
    """
    if not images:
        raise ValueError("a grid needs at least one image")
    columns = min(columns, len(images))
    rows = -(-len(images) // columns)
    height, width = np.max([image.shape[:2] for image in images], axis=0).tolist()
    shape = (rows * (height + pad) + pad, columns * (width + pad) + pad, 3)
    canvas = np.full(shape, 255, np.uint8)
    for i, image in enumerate(images):
        fitted = scale_to_fit(image, height, width)
        top = pad + i // columns * (height + pad) + (height - fitted.shape[0]) // 2
        left = pad + i % columns * (width + pad) + (width - fitted.shape[1]) // 2
        canvas[top : top + fitted.shape[0], left : left + fitted.shape[1]] = fitted
    return canvas


def scale_to_fit(image: AnyImage, height: int, width: int) -> AnyImage:
    """The image, scaled to the largest size that fits, its aspect kept."""
    scale = min(height / image.shape[0], width / image.shape[1])
    if scale == 1:
        return image
    size = [max(1, round(side * scale)) for side in image.shape[1::-1]]
    interpolation = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR  # no aliasing
    return cv2.resize(image, size, interpolation=interpolation)
