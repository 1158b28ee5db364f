"""Places of plates: each at its box, and none above another where there is room."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int

from ssd_jax.visualize.text import Plate

_ROWS = 4  # of places inside a box, from each of its ends, and outside


def place_plates(
    plates: Sequence[Plate], corners: Sequence[Sequence[int]], image_size: tuple[int, int]
) -> list[tuple[int, int]]:
    """Left and top of each plate, in an image of `image_size` (H, W).

    `corners` are the first and last pixels of each plate's box. A plate is above its box, else
    below, else inside, else further away: in the first of these places that no earlier plate
    covers, else in the one that is covered least.
    """
    placed = np.zeros((0, 4))
    for plate, box in zip(plates, corners):
        places = _places(plate, box, image_size)
        covered = _overlaps(places, placed).sum(1)  # [places]
        placed = np.concatenate([placed, places[[covered.argmin()]]])
    return [(int(left), int(top)) for left, top in placed[:, :2]]


def _places(
    plate: Plate, box: Sequence[int], image_size: tuple[int, int]
) -> Int[np.ndarray, "_ 4"]:
    """Rectangles [left, top, right, bottom) for a plate, moved into the image, the best first."""
    (x_min, y_min, x_max, y_max), (height, width) = box, image_size
    lefts = (x_min, x_max + 1 - plate.width)
    rows = [row * plate.height for row in range(_ROWS)]
    above = [y_min - plate.height - row for row in rows]
    below = [y_max + 1 + row for row in rows]
    inside = [y_min + row for row in rows] + [y_max + 1 - plate.height - row for row in rows]
    tops = [above[0], below[0], *inside, *above[1:], *below[1:]]
    fitting = [top for top in tops if 0 <= top <= height - plate.height]
    corners = [(left, top) for top in fitting or [y_min] for left in lefts]
    most = (width - plate.width, height - plate.height)
    start = np.clip(np.array(corners), 0, most)
    return np.concatenate([start, start + (plate.width, plate.height)], 1)


def _overlaps(
    one: Int[np.ndarray, "N 4"], other: Float[np.ndarray, "M 4"]
) -> Float[np.ndarray, "N M"]:
    """Pixels that each rectangle shares with each of the others."""
    start = np.maximum(one[:, None, :2], other[:, :2])
    end = np.minimum(one[:, None, 2:], other[:, 2:])
    return np.maximum(end - start, 0).prod(-1)
