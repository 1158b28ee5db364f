"""Procedural scenes: an endless detection data set that needs no download.

Each scene is drawn from (seed, split, index) alone, so any index gives the same scene on any
thread and in any order, and the splits share nothing. The class is in the silhouette; its color is
a hint that can mislead, and textures are random.
"""

import hashlib

import cv2
import numpy as np
from jaxtyping import Float, Int, UInt8

from ssd_jax.errors import ConfigError
from ssd_jax.types import DIFFICULT, PLAIN, Example

CLASSES = ("box", "disk", "ring", "triangle")
SPLITS = ("train", "val", "test")
_VERSION = 1  # raise it whenever the same settings draw other scenes

_COUNTS = (0.05, 0.18, 0.22, 0.21, 0.16, 0.11, 0.07)  # probability of 0, 1, ... objects
_SIDES = (0.13, 0.6)  # long side of a box, in short sides of the image
_SHORTEST = 0.1  # about the least short side of a box, likewise
_STRETCH = 2.5
_HUE_SPREAD = 0.1  # standard deviation around the hue of the class, in turns
_CUT_PROBABILITY = 0.15  # probability that an object may cross the border
_DIFFICULT, _DROPPED = 0.6, 0.85  # hidden part above which a box is difficult, or left out
_SHIFT = 4  # fractional bits of the coordinates that OpenCV draws

_TURN = np.linspace(0, 2 * np.pi, 48, endpoint=False)
_CIRCLE = np.stack([np.cos(_TURN), np.sin(_TURN)], axis=-1)
_OUTLINES = {  # contours around the origin, which is the centroid
    "box": (np.array([[-1.0, -1.0], [1.0, -1.0], [1.0, 1.0], [-1.0, 1.0]]),),
    "disk": (_CIRCLE,),
    "ring": (_CIRCLE, 0.55 * _CIRCLE),
    "triangle": (np.array([[0.0, -1.0], [1.0, 0.5], [-1.0, 0.5]]),),
}


class Shapes:
    """Source of drawn scenes with 0 to 6 objects of four classes.

    Args:
      split: "train", "val" or "test".
      num_images: number of scenes.
      image_size: (H, W), each at least 32.
      seed: another seed, other scenes.

    A box is the tight bound of the pixels of its object that are left visible by the border and
    by objects drawn later, as in PASCAL VOC. An object hidden for more than 60 % is marked
    difficult, one hidden for more than 85 % is left out.
    """

    images: tuple = ()  # no files

    classes = CLASSES
    max_boxes = len(_COUNTS) - 1

    def __init__(self, split: str, num_images: int, image_size: tuple[int, int], seed: int = 0):
        if split not in SPLITS:
            raise ConfigError(f"shapes: unknown split {split!r}; choose one of {', '.join(SPLITS)}")
        if num_images < 1 or min(image_size) < 32 or seed < 0:
            raise ConfigError(
                f"shapes: {num_images} images of {image_size} with seed {seed}: at least one "
                "image, 32 pixels a side and a seed that is not negative are needed"
            )
        self.split, self.num_images, self.seed = split, num_images, seed
        self.image_size = tuple(image_size)
        settings = (_VERSION, split, num_images, self.image_size, seed)
        self.fingerprint = hashlib.sha256(repr(settings).encode()).hexdigest()[:16]

    def __len__(self) -> int:
        return self.num_images

    def __getitem__(self, i: int) -> Example:
        """Scene `i` as an example: image, boxes, labels, flags, image_id, size."""
        if not 0 <= i < self.num_images:
            raise IndexError(i)
        rng = np.random.default_rng((self.seed, SPLITS.index(self.split), i))
        image, boxes, labels, flags = draw_scene(rng, *self.image_size)
        return {
            "image": image,
            "boxes": boxes,
            "labels": labels,
            "flags": flags,
            "image_id": int(i),
            "size": self.image_size,
        }

    def ground_truth(self, i: int) -> Example:
        """Boxes, labels and flags of scene `i`, which is drawn for them: objects hide others."""
        scene = self[i]
        return {name: scene[name] for name in ("boxes", "labels", "flags")}

    def name(self, i: int) -> str:
        """Name of scene `i` for messages."""
        return f"shapes/{self.split}/{i}"

    def summary(self) -> str:
        """One line; boxes are not counted, because scenes are drawn on demand."""
        height, width = self.image_size
        return (
            f"shapes {self.split}: {self.num_images} scenes of {width}x{height} drawn from seed "
            f"{self.seed}, up to {self.max_boxes} boxes each, of {', '.join(CLASSES)}"
        )


def draw_scene(
    rng: np.random.Generator, height: int, width: int
) -> tuple[
    UInt8[np.ndarray, "H W 3"],
    Float[np.ndarray, "N 4"],
    Int[np.ndarray, " N"],
    Int[np.ndarray, " N"],
]:
    """Image, normalized boxes, 1-based labels and flags of one random scene."""
    canvas = _surface(rng, height, width, _ground_color(rng))
    owner = np.zeros((height, width), np.uint8)  # number of the topmost object, 0 = none
    labels, areas = [], []
    for number in range(1, rng.choice(len(_COUNTS), p=_COUNTS) + 1):
        label = int(rng.integers(len(CLASSES)))
        contours = _place_outline(rng, _OUTLINES[CLASSES[label]], height, width)
        mask = np.zeros((height, width), np.uint8)
        fixed = [np.rint(points * 2**_SHIFT).astype(np.int32) for points in contours]
        cv2.fillPoly(mask, fixed, 255, cv2.LINE_AA, _SHIFT)
        _paint_object(rng, canvas, mask, _object_color(rng, label))
        owner[mask >= 128] = number
        labels.append(label + 1)
        outer, *inner = (cv2.contourArea(points.astype(np.float32)) for points in contours)
        areas.append(outer - sum(inner))
    image = np.rint(canvas).clip(0, 255).astype(np.uint8)
    return image, *_visible_ground_truth(owner, labels, areas)


def _visible_ground_truth(
    owner: UInt8[np.ndarray, "H W"], labels: list[int], areas: list[float]
) -> tuple[Float[np.ndarray, "N 4"], Int[np.ndarray, " N"], Int[np.ndarray, " N"]]:
    """Boxes, labels and flags of the objects that are still visible."""
    height, width = owner.shape
    boxes, kept, flags = [], [], []
    for number, (label, area) in enumerate(zip(labels, areas), start=1):
        visible = (owner == number).view(np.uint8)
        hidden = 1 - cv2.countNonZero(visible) / area
        if hidden > _DROPPED:
            continue
        x, y, w, h = cv2.boundingRect(visible)
        boxes.append((x / width, y / height, (x + w) / width, (y + h) / height))
        kept.append(label)
        flags.append(DIFFICULT if hidden > _DIFFICULT else PLAIN)
    return (
        np.array(boxes, np.float32).reshape(-1, 4),
        np.array(kept, np.int32),
        np.array(flags, np.int8),
    )


def _place_outline(
    rng: np.random.Generator, outline: tuple[np.ndarray, ...], height: int, width: int
) -> list[Float[np.ndarray, "_ 2"]]:
    """Contours of an outline, stretched, turned, scaled and moved into the image, in pixels."""
    side = min(height, width)
    length = side * np.exp(rng.uniform(*np.log(_SIDES)))
    stretch = min(np.exp(rng.uniform(0, np.log(_STRETCH))), length / (_SHORTEST * side))
    # A right angle now and then, as in the pictures that people take.
    angle = rng.uniform(0, 2 * np.pi) if rng.random() < 0.6 else rng.integers(4) * np.pi / 2
    cos, sin = np.cos(angle), np.sin(angle)
    turn = np.array([[cos, sin], [-sin, cos]]) * np.array([[stretch], [1.0]])
    contours = [points @ turn for points in outline]
    low, high = contours[0].min(axis=0), contours[0].max(axis=0)
    scale = length / (high - low).max()
    limits = np.array([width, height])
    first, last = -low * scale, limits - high * scale  # centers that keep all of it inside
    if rng.random() < _CUT_PROBABILITY:
        first, last = 0.1 * limits, 0.9 * limits
    center = rng.uniform(first, last)
    return [points * scale + center for points in contours]


def _paint_object(
    rng: np.random.Generator,
    canvas: Float[np.ndarray, "H W 3"],
    mask: UInt8[np.ndarray, "H W"],
    color: Float[np.ndarray, "3"],
) -> None:
    """Lay a surface over the canvas, in place, where the mask is (255 = opaque)."""
    x, y, w, h = cv2.boundingRect(mask)
    window = slice(y, y + h), slice(x, x + w)
    alpha = mask[window][..., None] * np.float32(1 / 255)  # [h, w, 1]
    canvas[window] += alpha * (_surface(rng, h, w, color) - canvas[window])


def _surface(
    rng: np.random.Generator, height: int, width: int, color: Float[np.ndarray, "3"]
) -> Float[np.ndarray, "h w 3"]:
    """Texture around a color: a gradient, stripes or blotches, and fine noise."""
    angle, kind = rng.uniform(0, 2 * np.pi), rng.random()
    if kind < 0.4:
        pattern = cv2.resize(
            rng.uniform(-1, 1, (5, 5)).astype(np.float32),
            (width, height),
            interpolation=cv2.INTER_CUBIC,
        )
    else:
        x = np.linspace(-1, 1, width, dtype=np.float32) * np.float32(np.cos(angle))
        y = np.linspace(-1, 1, height, dtype=np.float32) * np.float32(np.sin(angle))
        pattern = x[None, :] + y[:, None]
        if kind > 0.7:
            pattern = np.sin(pattern * np.float32(rng.uniform(4, 16)))
    tint = rng.uniform(-30, 30, 3).astype(np.float32)
    grain = int(rng.integers(1, 12))
    noise = rng.integers(-grain, grain + 1, (height, width), dtype=np.int8)
    mix = np.stack([tint, np.ones(3, np.float32), color], axis=-1)  # last column: constant
    return cv2.transform(cv2.merge([pattern, noise.astype(np.float32)]), mix)


def _ground_color(rng: np.random.Generator) -> Float[np.ndarray, "3"]:
    """A dull color for the background."""
    return _rgb(rng.random(), rng.uniform(0.0, 0.35), rng.uniform(0.25, 0.85))


def _object_color(rng: np.random.Generator, kind: int) -> Float[np.ndarray, "3"]:
    """A vivid color for an object of CLASSES[kind], around the hue of its class."""
    hue = rng.normal(kind / len(CLASSES), _HUE_SPREAD)
    return _rgb(hue % 1.0, rng.uniform(0.55, 1.0), rng.uniform(0.45, 1.0))


def _rgb(hue: float, saturation: float, value: float) -> Float[np.ndarray, "3"]:
    """HSV in [0, 1) -> RGB in 0 ... 255."""
    sector = (np.array([5.0, 3.0, 1.0]) + 6.0 * hue) % 6.0
    below = np.clip(np.minimum(sector, 4.0 - sector), 0.0, 1.0)
    return np.float32(255.0 * value * (1.0 - saturation * below))
