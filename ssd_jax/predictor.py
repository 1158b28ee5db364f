"""The detector of a run, called with images: `ssd_jax.load(RUN)`."""

import os
from collections.abc import Generator, Iterable, Iterator
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from ssd_jax.data import augment, decode
from ssd_jax.detector import predict
from ssd_jax.evaluate import detect_batches, rows_of_a_batch
from ssd_jax.metrics import thresholds
from ssd_jax.result import Picture, Result
from ssd_jax.runs.load import LoadedRun
from ssd_jax.runtime import devices
from ssd_jax.runtime.background import parallel_map

AnyImage = str | os.PathLike | np.ndarray | Image.Image
# Up to this part of a batch, pictures are predicted one at a time for each device. Empty rows cost
# as much as full ones on a CPU; on an accelerator eight small batches take milliseconds more.
_SMALL_PART = 4
_DEFAULT_THRESHOLD = 0.5


class Predictor:
    """The detector of a run, ready for pictures of any size.

    It compiles one program for a batch of one picture a device and one for a full batch
    (`config.eval_batch_size`), each when it is first needed.

    Attributes:
        classes: their names, without the background: label 1 is `classes[0]`.
        detector: network, priors and config.
        step: of the checkpoint.
        thresholds: float32 [C - 1], for each class the score from which detections are returned by
            default: where F1 was highest in the run's evaluation of this checkpoint (see
            `metrics.thresholds`), or 0.5 where there was none.
        has_own_thresholds: whether there was one.
    """

    def __init__(self, run: LoadedRun, class_agnostic: bool | None = None):
        """`class_agnostic`, where it is given, replaces `config.postprocess.class_agnostic`."""
        self.detector, variables, self.classes, self.step, scores = run
        chosen = thresholds.select(scores, self.classes, _DEFAULT_THRESHOLD)
        self.thresholds = np.float32(chosen)
        self.has_own_thresholds = thresholds.NAME in scores
        if class_agnostic is not None:
            config = self.detector.config.copy_and_resolve_references()
            config.postprocess.class_agnostic = class_agnostic
            self.detector = self.detector._replace(config=config)
        self._rows = rows_of_a_batch(self.detector.config)
        self._small_rows = devices.round_up_to_device_count(1)
        self._runner = devices.get_runner(self.detector.config.parallel)
        self._variables = self._runner.replicate(variables)
        self._predict = self._runner.compile_predict(partial(predict, self.detector))

    def __repr__(self) -> str:
        model, (height, width) = self.detector.config.model.name, self.detector.config.image_size
        return f"{model} {width}x{height}, step {self.step}, {len(self.classes)} classes"

    def __call__(
        self, images: AnyImage | Iterable[AnyImage], score_threshold: float | None = None
    ) -> Result | list[Result]:
        """What is found in an image, or in each of several.

        May be called from several threads.

        Args:
            images: a path of an image file, an array uint8 [H, W, 3] RGB, or an image of Pillow; or
                a list of such, of any sizes. Files and images of Pillow are turned as EXIF says.
            score_threshold: detections from this score on, in [0, 1]; by default `thresholds`.

        Raises DataError for a file that cannot be read, TypeError for another kind of image.
        """
        is_one = isinstance(images, str | os.PathLike | np.ndarray | Image.Image)
        given = [images] if is_one else images
        pictures = parallel_map(_to_picture, enumerate(given))
        results = list(self.detect(pictures, score_threshold))
        return results[0] if is_one else results

    def detect(
        self, pictures: Iterable[Picture], score_threshold: float | None = 0.0
    ) -> Generator[Result, None, None]:
        """What is found in each picture, in order; None takes the detector's `thresholds`.

        `pictures` are iterated in a background thread. It holds those of three batches: one is in
        use, one on the devices, and one is read.
        """
        detected = detect_batches(
            self._runner, self._predict, self._variables, self._batches(pictures)
        )
        for batch, detections in detected:
            for picture, found in zip(batch, detections):  # without the rows that fill the batch
                labels = found["labels"]
                least = self.thresholds[labels - 1] if score_threshold is None else score_threshold
                kept = (found["scores"] >= least) & (labels > 0)
                boxes, scores, labels = (
                    found[name][kept] for name in ("boxes", "scores", "labels")
                )
                yield Result(picture, boxes, scores, labels, self.classes)

    def _batches(self, pictures: Iterable[Picture]) -> Iterator[tuple[list[Picture], np.ndarray]]:
        """Pictures with their images [rows, H, W, 3] of the network's size, of two numbers of rows.

        What is left over in the end goes into small batches if it is little, else into a full one.
        """
        resized = parallel_map(self._resize, pictures)
        while batch := list(islice(resized, self._rows)):
            is_small = len(batch) <= self._rows // _SMALL_PART
            rows = self._small_rows if is_small else self._rows
            for start in range(0, len(batch), rows):
                part, images = zip(*batch[start : start + rows])
                padding = ((0, rows - len(part)), (0, 0), (0, 0), (0, 0))
                yield list(part), np.pad(np.stack(images), padding)

    def _resize(self, picture: Picture) -> tuple[Picture, np.ndarray]:
        config = self.detector.config
        example = {"image": picture.image}
        return picture, augment.resize(example, config.image_size, config.model.mean)["image"]


def _to_picture(numbered: tuple[int, AnyImage]) -> Picture:
    number, image = numbered
    if isinstance(image, str | os.PathLike):
        return read_picture(number, Path(image))
    if isinstance(image, Image.Image):
        image = np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.shape[2:] != (3,):
        raise TypeError(
            "an image must be a path, an image of Pillow, or an array uint8 [H, W, 3] RGB, not "
            f"{getattr(image, 'dtype', type(image))} {getattr(image, 'shape', '')}"
        )
    return Picture(number, None, None, image)


def read_picture(number: int, path: Path) -> Picture:
    """The picture of a file, turned as EXIF says: what a viewer shows.

    Raises DataError for one that cannot be read, or is too large.
    """
    decode.read_header(path)  # raises for a picture too large for memory
    return Picture(number, path, None, decode.read_image(path, upright=True))
