"""A window with the newest picture, where OpenCV has a display."""

import os
import sys

import cv2
import numpy as np
from jaxtyping import UInt8

_TITLE = "ssd_jax"
_END_KEYS = {27, ord("q")}  # Escape


def has_display() -> bool:
    """Whether this OpenCV can open a window; opencv-python-headless cannot."""
    if sys.platform == "linux" and not {"DISPLAY", "WAYLAND_DISPLAY"} & set(os.environ):
        return False  # a toolkit without a display may end the program
    try:
        cv2.namedWindow(_TITLE, cv2.WINDOW_NORMAL)
    except cv2.error:
        return False
    return True


def show(image: UInt8[np.ndarray, "H W 3"]) -> bool:
    """Show an image, RGB; False once the user has closed the window, or typed q or Escape."""
    cv2.imshow(_TITLE, cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    is_ended = cv2.waitKey(1) & 0xFF in _END_KEYS
    return not is_ended and cv2.getWindowProperty(_TITLE, cv2.WND_PROP_VISIBLE) >= 1
