"""Drawn pictures as files: of a picture a picture, of frames a video."""

import time
from pathlib import Path

import cv2
import numpy as np

from ssd_jax.errors import ResourceError
from ssd_jax.prediction.inputs import Input, Kind
from ssd_jax.prediction.pictures import frame_rate
from ssd_jax.result import Picture, Result
from ssd_jax.visualize.images import save_image

Drawing = np.ndarray | ResourceError | None


class PictureWriter:
    """Writes the drawing of each input to its file of `targets`; used as a context manager."""

    def __init__(self, folder: Path, inputs: list[Input], targets: list[Path]):
        self._inputs, self._targets = inputs, targets
        self._video: tuple[int, _Video] | None = None
        _make_folder(folder)

    def __enter__(self) -> "PictureWriter":
        return self

    def __exit__(self, *_) -> None:
        self._close_video()

    def draw(self, result: Result) -> tuple[Result, Drawing]:
        """Draw a picture, in any thread, and write it, or return the drawing of a frame.

        The last is for `finish`: drawings of frames come in their order there.
        """
        picture, drawn = result.picture, result.draw()
        if picture.frame is not None:
            return result, drawn
        try:
            save_image(self._targets[picture.image_id], drawn)
        except ResourceError as error:
            return result, error
        return result, None

    def finish(self, picture: Picture, drawing: Drawing) -> None:
        """Add a drawn frame to its video. Raises ResourceError where something is not written."""
        if isinstance(drawing, ResourceError):
            raise drawing
        if drawing is None:
            return
        number = picture.image_id
        if self._video is None or self._video[0] != number:
            self._close_video()
            self._video = number, _Video(self._inputs[number], self._targets[number], drawing)
        self._video[1].write(drawing)

    def _close_video(self) -> None:
        if self._video:
            self._video[1].close()
            self._video = None


class _Video:
    """A video file of the size of its first frame. Raises ResourceError if it cannot be made."""

    def __init__(self, source: Input, target: Path, first: np.ndarray):
        _make_folder(target.parent)
        self._rate, self._is_live = frame_rate(source), source.kind is Kind.CAMERA
        self._start, self._written = time.monotonic(), 0
        height, width = first.shape[:2]
        code = cv2.VideoWriter.fourcc(*"mp4v")
        self._writer = cv2.VideoWriter(str(target), code, self._rate, (width, height))
        if not self._writer.isOpened():
            raise ResourceError(f"cannot write the video {target}: no encoder, or no space")

    def write(self, drawing: np.ndarray) -> None:
        """Add a frame; one of a camera as often as the time that passed has frames."""
        passed = int((time.monotonic() - self._start) * self._rate)
        copies = passed + 1 - self._written if self._is_live else 1
        for _ in range(copies):
            self._writer.write(cv2.cvtColor(drawing, cv2.COLOR_RGB2BGR))
        self._written += max(0, copies)

    def close(self) -> None:
        self._writer.release()


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ResourceError(f"cannot write to {folder}: {error.strerror}") from error
