"""What a detector finds in one picture."""

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float32, Int32, UInt8
from PIL import Image

from ssd_jax.metrics import coco
from ssd_jax.visualize.boxes import draw_boxes
from ssd_jax.visualize.images import enlarge, save_image


class Picture(NamedTuple):
    """One input: a file, a frame of a video, or an array."""

    image_id: int  # position in the sorted input
    path: Path | None
    frame: int | None
    image: UInt8[np.ndarray, "H W 3"]  # RGB


class Detection(NamedTuple):
    """One object."""

    box: Float32[np.ndarray, "4"]  # x_min, y_min, x_max, y_max in pixels of the picture
    score: float
    label: int  # from 1
    name: str


class Result:
    """The detections of one picture, the highest score first, as NumPy arrays.

    Iterating yields a `Detection` for each. A notebook shows the picture with its boxes.

    Attributes:
        picture: image, path and number of the input.
        boxes: float32 [K, 4], corners `[x_min, y_min, x_max, y_max]` in pixels of the image.
        relative_boxes: the same, normalized: in [0, 1] inside the image.
        scores: float32 [K] in [0, 1].
        labels: int32 [K], from 1.
        classes: names of all classes: label 1 is `classes[0]`.
    """

    def __init__(
        self,
        picture: Picture,
        relative_boxes: Float32[np.ndarray, "K 4"],
        scores: Float32[np.ndarray, " K"],
        labels: Int32[np.ndarray, " K"],
        classes: tuple[str, ...],
    ):
        self.picture, self.relative_boxes = picture, relative_boxes
        self.scores, self.labels, self.classes = scores, labels, classes
        height, width = picture.image.shape[:2]
        self.boxes = relative_boxes * np.float32([width, height, width, height])

    @property
    def names(self) -> list[str]:
        """The class of each detection."""
        return [self.classes[label - 1] for label in self.labels]

    def __len__(self) -> int:
        return len(self.scores)

    def __iter__(self) -> Iterator[Detection]:
        for box, score, label, name in zip(self.boxes, self.scores, self.labels, self.names):
            yield Detection(box, float(score), int(label), name)

    def __repr__(self) -> str:
        height, width = self.picture.image.shape[:2]
        found = ", ".join(f"{name} {score:.2f}" for _, score, _, name in self) or "nothing"
        return f"{self.picture.path or 'image'} {width}x{height}: {found}"

    def select(self, kept: Bool[np.ndarray, " K"]) -> "Result":
        """The same picture with some of the detections."""
        return Result(
            self.picture, self.relative_boxes[kept], self.scores[kept], self.labels[kept],
            self.classes,
        )  # fmt: skip

    def draw(self) -> UInt8[np.ndarray, "_ _ 3"]:
        """A copy of the image with boxes, names and scores; a small one is drawn enlarged."""
        return draw_boxes(
            enlarge(self.picture.image), self.relative_boxes, self.labels, self.classes,
            scores=self.scores,
        )  # fmt: skip

    def save(self, path: str | Path) -> None:
        """Write the drawn image; the suffix names the format, as .png or .jpg.

        Raises ResourceError where it cannot be written, ConfigError for another suffix.
        """
        save_image(Path(path), self.draw())

    def show(self) -> None:
        """Open the drawn image in the viewer of this computer."""
        Image.fromarray(self.draw()).show()

    def _repr_png_(self) -> bytes:
        """What a notebook shows."""
        content = io.BytesIO()
        Image.fromarray(self.draw()).save(content, "PNG")
        return content.getvalue()

    def to_coco(self) -> list[dict[str, Any]]:
        """COCO results: image_id, category_id (the label), bbox [x, y, width, height], score.

        With the name of the class, width and height of the picture as it is shown (EXIF), and the
        name of the file and the number of the frame where there is one.
        """
        found = {"boxes": self.relative_boxes, "scores": self.scores, "labels": self.labels}
        results = coco.to_results(
            [found], [self.picture.image_id], range(1, len(self.classes) + 1),
            [self.picture.image.shape[:2]],
        )  # fmt: skip
        for each in results:
            if self.picture.path is not None:
                each["file_name"] = self.picture.path.name
            each["category_name"] = self.classes[each["category_id"] - 1]
            each["image_height"], each["image_width"] = self.picture.image.shape[:2]
            if self.picture.frame is not None:
                each["frame"] = self.picture.frame
        return results

    def to_supervision(self) -> Any:
        """`supervision.Detections`; its class_id counts from 0. Needs `pip install supervision`."""
        try:
            import supervision
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError("to_supervision needs: pip install supervision") from error

        return supervision.Detections(
            xyxy=self.boxes, confidence=self.scores, class_id=self.labels - 1,
            data={"class_name": np.array(self.names)},
        )  # fmt: skip
