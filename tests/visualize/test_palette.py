"""Colors of classes that can be told apart, and ink that can be read on them."""

import cv2
import numpy as np
import pytest

from ssd_jax.visualize.palette import BLACK, PALETTE, WHITE, ink_color, label_color

COLORS = [label_color(label) for label in range(1, 91)]


def distances(colors):
    """Of all pairs, in CIELAB of float32: about 2 can just be seen side by side."""
    rgb = np.float32([colors]) / 255
    lab = cv2.cvtColor(rgb, cv2.COLOR_RGB2LAB)[0]
    return np.linalg.norm(lab[:, None] - lab, axis=-1)


def test_ninety_colors_differ_and_neighbors_differ_clearly():
    assert tuple(COLORS[:7]) == PALETTE and len(set(COLORS)) == 90
    assert label_color(91) == COLORS[0] and label_color(np.int64(8)) == COLORS[7]
    between = distances(COLORS)
    assert between[~np.eye(90, dtype=bool)].min() > 12
    for step in (1, 2, 3):
        assert np.diag(between, step)[7 - step :].min() > 40


def contrast(one, other):
    """WCAG 2's contrast ratio."""
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def luminance(color):
    value = np.array(color) / 255
    linear = np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("color", [*COLORS, (0, 0, 0), (255, 255, 255), (128, 128, 128)])
def test_ink_is_black_or_white_whichever_is_read_better(color):
    ink = ink_color(color)
    assert contrast(ink, color) > 4.5
    assert contrast(ink, color) == max(contrast(BLACK, color), contrast(WHITE, color))
