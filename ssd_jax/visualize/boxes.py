"""Boxes with class names and scores on an image."""

from collections.abc import Sequence

import cv2
import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from ssd_jax.visualize.palette import GRAY, Color, label_color
from ssd_jax.visualize.plates import place_plates
from ssd_jax.visualize.text import draw_plate, make_plate

Image = UInt8[np.ndarray, "H W 3"]


def draw_boxes(
    image: Image,
    boxes: Float[np.ndarray, "N 4"],
    labels: Int[np.ndarray, " N"],
    classes: Sequence[str],
    scores: Float[np.ndarray, " N"] | None = None,
    ignore: Bool[np.ndarray, " N"] | None = None,
) -> Image:
    """A copy of the image with boxes (corners, normalized), class names and scores.

    Label i + 1 is classes[i] and has a color of its own, up to ninety; the name "" is not written.
    Label 0 (empty slot, padding) and boxes outside the image are left out. An ignored ground-truth
    box (`ignore`, or a negative label) is thin, gray and without a name. The first box is drawn
    last, on top of the others, and its name gets the best place: detections come best first.

    Raises ValueError for a box that is not finite.
    """
    if not np.isfinite(boxes).all():
        raise ValueError("a box to draw is not finite")
    canvas = image.copy(order="C")
    gray = labels < 0 if ignore is None else ignore | (labels < 0)
    corners = _to_pixels(boxes, canvas.shape)
    visible = [i for i in range(len(labels)) if labels[i] and _is_visible(corners[i], canvas)]
    thickness = max(1, round(min(canvas.shape[:2]) / 200))
    for i in reversed(visible):
        color, width = (GRAY, 1) if gray[i] else (label_color(labels[i]), thickness)
        x_min, y_min, x_max, y_max = corners[i]
        cv2.rectangle(canvas, (x_min, y_min), (x_max, y_max), color, width, cv2.LINE_AA)
    named = [i for i in visible if not gray[i] and classes[labels[i] - 1]]
    texts = [
        classes[labels[i] - 1] + ("" if scores is None else f" {scores[i]:.2f}") for i in named
    ]
    _draw_texts(canvas, texts, [corners[i] for i in named], [label_color(labels[i]) for i in named])
    return canvas


def _draw_texts(
    canvas: Image, texts: Sequence[str], corners: Sequence[list[int]], colors: Sequence[Color]
) -> None:
    """Draw the text of each box, the first on top; text that would be illegible is left out."""
    plates = [make_plate(text, canvas.shape[:2]) for text in texts]
    legible = [i for i in range(len(texts)) if plates[i]]
    places = place_plates(
        [plates[i] for i in legible], [corners[i] for i in legible], canvas.shape[:2]
    )
    for i, (left, top) in reversed(list(zip(legible, places))):
        draw_plate(canvas, plates[i], left, top, colors[i])


def _to_pixels(boxes: Float[np.ndarray, "N 4"], shape: tuple[int, ...]) -> list[list[int]]:
    """First and last pixel of each box; what lies far outside is held within drawing range."""
    height, width = shape[:2]
    near = np.clip(boxes.astype(float), -1, 2)  # an edge outside the image is not seen anyway
    edges = np.rint(near * (width, height, width, height)).astype(int)
    return np.concatenate([edges[:, :2], np.maximum(edges[:, 2:] - 1, edges[:, :2])], 1).tolist()


def _is_visible(corners: list[int], canvas: Image) -> bool:
    x_min, y_min, x_max, y_max = corners
    height, width = canvas.shape[:2]
    return x_max >= 0 and y_max >= 0 and x_min < width and y_min < height
