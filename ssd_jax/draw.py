"""Pictures: boxes on an image, several images in a grid, and files. Images are uint8 RGB."""

import os
import unicodedata
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from ssd_jax.errors import MachineError

Image = UInt8[np.ndarray, "H W 3"]
AnyImage = UInt8[np.ndarray, "_ _ 3"]

# The palette of Okabe and Ito, told apart with any kind of color vision; black is left out.
_COLORS = (
    (230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66), (0, 114, 178), (213, 94, 0),
    (204, 121, 167),
)  # fmt: skip
_GRAY = (128, 128, 128)
_FONT = cv2.FONT_HERSHEY_SIMPLEX
_SMALLEST_TEXT = 0.3  # of the font's own size; below it nothing can be read


def draw_boxes(
    image: Image,
    boxes: Float[np.ndarray, "N 4"],
    labels: Int[np.ndarray, " N"],
    classes: Sequence[str],
    scores: Float[np.ndarray, " N"] | None = None,
    ignore: Bool[np.ndarray, " N"] | None = None,
) -> Image:
    """A copy of the image with boxes (corners, normalized), class names and scores.

    Label i + 1 is classes[i] and has a color of its own, up to seven; the name "" is not written.
    Label 0 (empty slot, padding) and a box outside the image are left out. An ignored truth
    (`ignore`, or label -1) is thin, gray and nameless. The first box is drawn last, on top:
    detections come best first.

    Raises ValueError on a box that is not finite.
    """
    if not np.isfinite(boxes).all():
        raise ValueError("a box to draw is not finite")
    canvas = image.copy(order="C")
    gray = labels < 0 if ignore is None else ignore | (labels < 0)
    corners = _to_pixels(boxes, canvas.shape)
    shown = [i for i in reversed(range(len(labels))) if labels[i] and _visible(corners[i], canvas)]
    thickness = max(1, round(min(canvas.shape[:2]) / 240))
    for i in shown:
        color, width = (_GRAY, 1) if gray[i] else (_color(labels[i]), thickness)
        x_min, y_min, x_max, y_max = corners[i]
        cv2.rectangle(canvas, (x_min, y_min), (x_max, y_max), color, width, cv2.LINE_AA)
    for i in shown:
        if not gray[i] and classes[labels[i] - 1]:
            score = "" if scores is None else f" {scores[i]:.2f}"
            text = _ascii(classes[labels[i] - 1]) + score
            _write(canvas, text, corners[i][:2], _color(labels[i]))
    return canvas


def grid(images: Sequence[AnyImage], columns: int, pad: int = 4) -> Image:
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
        fitted = _fit(image, height, width)
        top = pad + i // columns * (height + pad) + (height - fitted.shape[0]) // 2
        left = pad + i % columns * (width + pad) + (width - fitted.shape[1]) // 2
        canvas[top : top + fitted.shape[0], left : left + fitted.shape[1]] = fitted
    return canvas


def caption(image: Image, text: str) -> UInt8[np.ndarray, "_ W 3"]:
    """The image with lines of text on a white strip above it, each made to fit its width."""
    lines = [_ascii(line) for line in text.splitlines()]
    scale = max(0.4, image.shape[1] / 1200)
    scale *= min(1, *(image.shape[1] / _plate(line, scale)[0] for line in lines))
    _, high, baseline = _plate("A", scale)
    strip = np.full((high * len(lines), image.shape[1], 3), 255, np.uint8)
    for row, line in enumerate(lines, start=1):
        at = (2, row * high - baseline - 2)
        cv2.putText(strip, line, at, _FONT, scale, (0, 0, 0), _stroke(scale), cv2.LINE_AA)
    return np.concatenate([strip, image])


def save(path: Path, image: Image) -> None:
    """Write the image in the format of the suffix, whole or not at all, and the folders above it.

    Raises MachineError when it cannot be written.
    """
    _, encoded = cv2.imencode(path.suffix, cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            unfinished.write_bytes(encoded.tobytes())
            unfinished.replace(path)
        finally:
            unfinished.unlink(missing_ok=True)
    except OSError as error:
        raise MachineError(
            f"cannot write the picture {path} ({error.strerror}): "
            "free the disk or choose a folder that can be written"
        ) from error


def _to_pixels(boxes: Float[np.ndarray, "N 4"], shape: tuple[int, ...]) -> list[list[int]]:
    """First and last pixel of each box; what lies far outside is held within drawing range."""
    height, width = shape[:2]
    near = np.clip(boxes.astype(float), -1, 2)  # an edge outside the image is not seen anyway
    edges = np.rint(near * (width, height, width, height)).astype(int)
    return np.concatenate([edges[:, :2], np.maximum(edges[:, 2:] - 1, edges[:, :2])], 1).tolist()


def _visible(corners: list[int], canvas: Image) -> bool:
    x_min, y_min, x_max, y_max = corners
    height, width = canvas.shape[:2]
    return x_max >= 0 and y_max >= 0 and x_min < width and y_min < height


def _color(label: int | np.integer) -> tuple[int, int, int]:
    return _COLORS[(int(label) - 1) % len(_COLORS)]


def _ascii(text: str) -> str:
    """OpenCV 4 writes ASCII only: accents are dropped, and any other character becomes `?`."""
    plain = [c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c)]
    return "".join(c if " " <= c <= "~" else "?" for c in plain)


def _write(canvas: Image, text: str, corner: list[int], color: tuple[int, int, int]) -> None:
    """Text on a filled plate above the corner, or where the image has room for it.

    Text wider or higher than the image is made smaller, and left out if that makes it illegible.
    """
    height, width = canvas.shape[:2]
    scale = max(0.4, min(height, width) / 1000)
    plate_width, plate_height, _ = _plate(text, scale)
    scale *= min(1, width / plate_width, height / plate_height)
    plate_width, plate_height, baseline = _plate(text, scale)
    if scale < _SMALLEST_TEXT or plate_width > width or plate_height > height:
        return
    left = max(0, min(corner[0], width - plate_width))
    top = corner[1] - plate_height
    if top < 0:
        top = max(0, min(corner[1], height - plate_height))
    canvas[top : top + plate_height, left : left + plate_width] = color
    ink = (0, 0, 0) if np.dot(color, (0.299, 0.587, 0.114)) > 110 else (255, 255, 255)
    at = (left + 2, top + plate_height - baseline - 2)
    cv2.putText(canvas, text, at, _FONT, scale, ink, _stroke(scale), cv2.LINE_AA)


def _plate(text: str, scale: float) -> tuple[int, int, int]:
    """Width and height of the plate of a text, and how far its letters reach below the line."""
    (width, height), baseline = cv2.getTextSize(text, _FONT, scale, _stroke(scale))
    return width + 4, height + baseline + 4, baseline


def _stroke(scale: float) -> int:
    return max(1, round(1.5 * scale))


def _fit(image: AnyImage, height: int, width: int) -> AnyImage:
    """The image, scaled to the largest size that fits, its aspect kept."""
    scale = min(height / image.shape[0], width / image.shape[1])
    if scale == 1:
        return image
    size = [max(1, round(side * scale)) for side in image.shape[1::-1]]
    return cv2.resize(image, size, interpolation=cv2.INTER_LINEAR)
