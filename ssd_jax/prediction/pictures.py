"""The pictures of inputs: of a file one, of a video, an animated image or a camera one a frame."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import cv2
import numpy as np
from PIL import Image, ImageSequence

from ssd_jax.data.messages import printable
from ssd_jax.errors import DataError, ResourceError
from ssd_jax.prediction.inputs import Input, Kind
from ssd_jax.predictor import read_picture
from ssd_jax.result import Picture
from ssd_jax.runtime.background import parallel_map

CAMERA_RATE = 15.0  # frames a second of a written video
_DEFAULT_RATE = 25.0  # of a video that does not tell
_DEFAULT_DURATION = 100  # ms of a frame of an animated image, where it gives none, as browsers do


@runtime_checkable
class Capture(Protocol):
    """`cv2.VideoCapture`, as far as it is used here: of a video file or a camera."""

    def read(self) -> tuple[bool, Any]:
        """Whether there is another frame, and its pixels, BGR."""

    def release(self) -> None:
        """Close the file or the camera."""


def read_pictures(inputs: list[Input], errors: list[DataError]) -> Iterator[Picture]:
    """The pictures of all inputs, in order; `image_id` is the row of the input.

    Several files are read at once; frames are read as they are used. What cannot be read is left
    out and added to `errors`.
    """
    for opened in parallel_map(_open, enumerate(inputs)):
        try:
            if isinstance(opened, DataError):
                raise opened
            yield from opened
        except DataError as error:
            errors.append(error)


def open_camera(camera: Input) -> Capture:
    """The camera, ready to give frames. Raises ResourceError where it cannot be opened."""
    level = cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    try:
        capture = cv2.VideoCapture(int(camera.given))
    finally:
        cv2.utils.logging.setLogLevel(level)  # what OpenCV warns of, the error says
    if not capture.isOpened():
        raise ResourceError(
            f"--input={camera.given}: camera {camera.given} cannot be opened; connect it, end the "
            "program that uses it, or give the number of another"
        )
    capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)  # frames that wait in a queue are of the past
    return capture


def camera_frames(camera: Input, capture: Capture) -> Iterator[Picture]:
    """The frames of an open camera, until it gives no more: then ResourceError."""
    yield from _captured(0, camera.path, capture)
    raise ResourceError(f"camera {camera.given} gives no more pictures: was it disconnected?")


def count_pictures(inputs: list[Input]) -> int | None:
    """How many pictures the inputs have; None where one of them does not tell."""
    counts = [_count_frames(each) for each in inputs]
    return None if 0 in counts else sum(counts)


def frame_rate(source: Input) -> float:
    """Frames a second of an input that has frames."""
    if source.kind is Kind.CAMERA:
        return CAMERA_RATE
    if source.kind is Kind.ANIMATION:
        with Image.open(source.path) as image:
            image.load()  # WebP tells the duration of a frame with its pixels
            return 1000 / (image.info.get("duration") or _DEFAULT_DURATION)
    return _video_property(source.path, cv2.CAP_PROP_FPS) or _DEFAULT_RATE


def _count_frames(source: Input) -> int:
    """0 where it is not known."""
    if source.kind is Kind.VIDEO:
        return max(0, int(_video_property(source.path, cv2.CAP_PROP_FRAME_COUNT)))
    if source.kind is Kind.ANIMATION:
        try:
            with Image.open(source.path) as image:
                return getattr(image, "n_frames", 0)
        except Exception:  # whatever damage makes Pillow raise: reading it will say so
            return 0
    return int(source.kind is Kind.PICTURE)


def _video_property(path: Path, number: int) -> float:
    capture = cv2.VideoCapture(str(path))
    try:
        return capture.get(number)
    finally:
        capture.release()


def _open(numbered: tuple[int, Input]) -> Iterable[Picture] | DataError:
    image_id, source = numbered
    if source.kind is Kind.VIDEO:
        return _video_frames(image_id, source.path)
    if source.kind is Kind.ANIMATION:
        return _animation_frames(image_id, source.path)
    try:
        return [_read_still(image_id, source.path)]
    except DataError as error:
        return error


def _read_still(image_id: int, path: Path) -> Picture:
    if path.suffix.lower() == ".gif":  # not every OpenCV reads it
        for picture in _animation_frames(image_id, path):
            return picture._replace(frame=None)
    return read_picture(image_id, path)


def _video_frames(image_id: int, path: Path) -> Iterator[Picture]:
    is_empty = True
    for picture in _captured(image_id, path, cv2.VideoCapture(str(path))):
        is_empty = False
        yield picture
    if is_empty:
        raise DataError(f"{printable(path)}: not a video that OpenCV reads")


def _captured(image_id: int, path: Path, capture: Capture) -> Iterator[Picture]:
    frame = 0
    try:
        while (read := capture.read())[0]:
            yield Picture(image_id, path, frame, cv2.cvtColor(read[1], cv2.COLOR_BGR2RGB))
            frame += 1
    finally:
        capture.release()


def _animation_frames(image_id: int, path: Path) -> Iterator[Picture]:
    try:
        with Image.open(path) as image:
            for frame, content in enumerate(ImageSequence.Iterator(image)):
                yield Picture(image_id, path, frame, np.array(content.convert("RGB")))
    except Exception as error:  # whatever damage makes Pillow raise
        raise DataError(f"{printable(path)}: cannot read the image ({error})") from error
