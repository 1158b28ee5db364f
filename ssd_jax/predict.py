"""Find objects in pictures and videos with the detector of a run.

    ssd-jax predict --workdir=RUN --input=IMAGE|FOLDER|GLOB|VIDEO [--output=found]
    python -m ssd_jax.predict (the same flags)

Writes pictures with boxes (of a video, a video with boxes) and `detections.json`, a list of COCO
results. The run folder is all that it needs.
"""

import glob
import os
import sys
from collections.abc import Iterable, Iterator
from functools import partial
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from absl import flags
from tqdm import tqdm

from ssd_jax.data import augment, decode
from ssd_jax.data.messages import join_truncated
from ssd_jax.detector import predict
from ssd_jax.errors import ConfigError, DataError, ResourceError
from ssd_jax.evaluate import detect_batches, rows_of_a_batch
from ssd_jax.metrics import coco
from ssd_jax.runs.load import load_run
from ssd_jax.runtime import command_line, devices
from ssd_jax.runtime.background import parallel_map
from ssd_jax.runtime.compilation import configure_jax
from ssd_jax.runtime.files import write_json
from ssd_jax.visualize.boxes import draw_boxes
from ssd_jax.visualize.images import save_image

_PICTURE_SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"}
_VIDEO_SUFFIXES = {".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v"}
# Up to this part of a batch, pictures are predicted one at a time for each device. Empty rows cost
# as much as full ones on a CPU; on an accelerator eight small batches take milliseconds more.
_SMALL_PART = 4
_MAX_TABLE_ROWS = 20
_MAX_SHOWN = 200  # letters of an input that is too long for a name
_MAX_NAME_BYTES = 255  # of a file, on most file systems


class Picture(NamedTuple):
    """One input: a file, or a frame of a video."""

    image_id: int  # position in the sorted input
    path: Path
    frame: int | None
    image: np.ndarray  # uint8 [H, W, 3] RGB


class Predictor:
    """The detector of a run, ready for pictures of any size.

    It compiles one program for a batch of one picture a device and one for a full batch
    (`config.eval_batch_size`), each when it is first needed.

    Attributes:
        classes: their names, without the background: label 1 is `classes[0]`.
        detector: network, priors and config.
        step: of the checkpoint.
    """

    def __init__(self, folder: Path, which: str = "best"):
        self.detector, variables, self.classes, self.step = load_run(folder, which)
        self._rows = rows_of_a_batch(self.detector.config)
        self._small_rows = devices.round_up_to_device_count(1)
        self._runner = devices.get_runner(self.detector.config.parallel)
        self._variables = self._runner.replicate(variables)
        self._predict = self._runner.compile_predict(partial(predict, self.detector))

    def __call__(
        self, images: Iterable[np.ndarray | str | os.PathLike], score_threshold: float = 0.5
    ) -> list[dict[str, np.ndarray]]:
        """What is found in each image, from `score_threshold` on, the highest score first.

        Args:
            images: arrays uint8 [H, W, 3] RGB, or paths of image files; they may have any sizes.
            score_threshold: scores are in [0, 1].

        Returns:
            Per image a dict of `boxes` float32 [K, 4], corners `[x_min, y_min, x_max, y_max]` in
            pixels of the image; `scores` float32 [K]; `labels` int32 [K], from 1.

        Raises DataError for a file that cannot be read, TypeError for another kind of image.
        """
        if isinstance(images, str | os.PathLike | np.ndarray):
            raise TypeError(f"images must be a list of arrays or paths, not a {type(images)}")
        found = []
        for picture, each in self.detect(parallel_map(_to_picture, images), score_threshold):
            height, width = picture.image.shape[:2]
            pixels = each["boxes"] * np.float32([width, height, width, height])
            found.append(each | {"boxes": pixels})
        return found

    def detect(
        self, pictures: Iterable[Picture], score_threshold: float = 0.0
    ) -> Iterator[tuple[Picture, dict[str, np.ndarray]]]:
        """Each picture with its detections: boxes [K, 4] normalized, scores [K], labels [K].

        `pictures` are iterated in a background thread. It holds those of three batches: one is in
        use, one on the devices, and one is read.
        """
        detected = detect_batches(
            self._runner, self._predict, self._variables, self._batches(pictures)
        )
        for batch, detections in detected:
            for picture, found in zip(batch, detections):  # without the rows that fill the batch
                kept = (found["scores"] >= score_threshold) & (found["labels"] > 0)
                yield picture, {name: values[kept] for name, values in found.items()}

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


def _to_picture(image: np.ndarray | str | os.PathLike) -> Picture:
    if isinstance(image, str | os.PathLike):
        return _read_picture(0, Path(image))
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.shape[2:] != (3,):
        raise TypeError(
            "an image must be a path or an array uint8 [H, W, 3] RGB, not "
            f"{getattr(image, 'dtype', type(image))} {getattr(image, 'shape', '')}"
        )
    return Picture(0, Path(), None, image)


def predict_files(
    folder: Path, pattern: str, output: Path, score_threshold: float, which: str = "best"
) -> list[dict]:
    """Detect in all inputs that `pattern` names, write pictures and JSON, return the results.

    A picture that cannot be read is left out, and where one cannot be written, its detections are
    kept; the others are done first, then DataError or ResourceError names them.
    """
    paths = find_inputs(pattern)
    if output.resolve() in {path.parent.resolve() for path in paths}:
        raise ConfigError(f"--output={output} holds the input: name another folder")
    predictor = Predictor(folder, which)
    unreadable: list[DataError] = []
    unwritable: list[ResourceError] = []
    results, table = [], []
    with _PictureWriter(output, predictor.classes) as writer:
        detected = predictor.detect(_read(paths, unreadable), score_threshold)
        drawn = parallel_map(writer.draw, detected)
        for picture, found, drawing in tqdm(drawn, desc="pictures", unit="", disable=None):
            results += _results(picture, found, predictor.classes)
            table.append(_table_row(picture, found, predictor.classes))
            try:
                writer.finish(picture, drawing)
            except ResourceError as error:
                unwritable.append(error)
    write_json(output / "detections.json", results)
    _print_table(table, results, output)
    if errors := [*unreadable, *unwritable]:
        messages = list(dict.fromkeys(map(str, errors)))  # of a video, the same for each frame
        raise type(errors[-1])(join_truncated(messages, "\n"))
    return results


def find_inputs(pattern: str) -> list[Path]:
    """The sorted files that a path, a folder or a glob names. Raises DataError for none."""
    path = Path(pattern)
    try:
        if path.is_dir():
            found = [each for each in path.iterdir() if each.suffix.lower() in _PICTURE_SUFFIXES]
        elif path.exists():
            found = [path]
        else:
            found = [Path(each) for each in glob.glob(pattern, recursive=True)]
        found = [each for each in found if each.is_file() and not each.name.startswith(".")]
    except OSError as error:
        shown = f"{pattern[:_MAX_SHOWN]}…" if len(pattern) > _MAX_SHOWN else pattern
        raise DataError(f"--input={shown}: cannot be read ({error.strerror})") from error
    if not found:
        raise DataError(f"--input={pattern}: no such file or folder of pictures")
    return sorted(found)


def _read(paths: list[Path], errors: list[DataError]) -> Iterator[Picture]:
    """The pictures of all files, of which several are read at once; a video is read as it is used.

    What cannot be read is left out and added to `errors`.
    """
    for opened in parallel_map(_open, enumerate(paths)):
        try:
            if isinstance(opened, DataError):
                raise opened
            yield from opened
        except DataError as error:
            errors.append(error)


def _open(numbered: tuple[int, Path]) -> Iterable[Picture] | DataError:
    image_id, path = numbered
    if path.suffix.lower() in _VIDEO_SUFFIXES:
        return _frames(image_id, path)
    try:
        return [_read_picture(image_id, path)]
    except DataError as error:
        return error


def _read_picture(image_id: int, path: Path) -> Picture:
    decode.read_header(path)  # raises for a picture too large for memory
    return Picture(image_id, path, None, decode.read_image(path))


def _frames(image_id: int, path: Path) -> Iterator[Picture]:
    capture, frame = cv2.VideoCapture(str(path)), 0
    try:
        while (read := capture.read())[0]:
            yield Picture(image_id, path, frame, cv2.cvtColor(read[1], cv2.COLOR_BGR2RGB))
            frame += 1
    finally:
        capture.release()
    if not frame:
        raise DataError(f"{path}: not a video that OpenCV reads")


class _PictureWriter:
    """Writes annotated pictures into a folder; frames of a video into one video."""

    def __init__(self, folder: Path, classes: tuple[str, ...]):
        self._folder, self._classes = folder, classes
        self._video: tuple[Path, cv2.VideoWriter] | None = None
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ResourceError(f"cannot write to {folder}: {error.strerror}") from error

    def __enter__(self) -> "_PictureWriter":
        return self

    def __exit__(self, *_) -> None:
        if self._video:
            self._video[1].release()

    def draw(
        self, detected: tuple[Picture, dict]
    ) -> tuple[Picture, dict, np.ndarray | ResourceError | None]:
        """Draw a picture, in any thread, and write it, or return the drawing of a frame.

        The last is for `finish`: drawings of frames come in their order there.
        """
        picture, found = detected
        drawn = draw_boxes(
            picture.image, found["boxes"], found["labels"], self._classes, scores=found["scores"]
        )
        if picture.frame is not None:
            return picture, found, drawn
        try:
            save_image(self._folder / _output_name(picture, ".jpg"), drawn)
        except ResourceError as error:
            return picture, found, error
        return picture, found, None

    def finish(self, picture: Picture, drawing: np.ndarray | ResourceError | None) -> None:
        """Add a drawn frame to its video. Raises ResourceError where something is not written."""
        if isinstance(drawing, ResourceError):
            raise drawing
        if drawing is not None:
            self._writer(picture).write(cv2.cvtColor(drawing, cv2.COLOR_RGB2BGR))

    def _writer(self, picture: Picture) -> cv2.VideoWriter:
        if self._video is None or self._video[0] != picture.path:
            if self._video:
                self._video[1].release()
            target = self._folder / _output_name(picture, ".mp4")
            capture = cv2.VideoCapture(str(picture.path))
            rate = capture.get(cv2.CAP_PROP_FPS) or 25.0
            capture.release()
            height, width = picture.image.shape[:2]
            code = cv2.VideoWriter.fourcc(*"mp4v")
            writer = cv2.VideoWriter(str(target), code, rate, (width, height))
            if not writer.isOpened():
                raise ResourceError(f"cannot write the video {target}: no encoder, or no space")
            self._video = picture.path, writer
        return self._video[1]


def _output_name(picture: Picture, suffix: str) -> str:
    """Number and name of the input; the end of a name that is too long is cut."""
    prefix = f"{picture.image_id:05d}_"
    stem = os.fsencode(picture.path.stem)[: _MAX_NAME_BYTES - len(prefix + suffix)]
    return prefix + stem.decode(errors="ignore") + suffix


def _results(picture: Picture, found: dict, classes: tuple[str, ...]) -> list[dict]:
    """COCO results, with the names of file and class added."""
    results = coco.to_results(
        [found], [picture.image_id], range(1, len(classes) + 1), [picture.image.shape[:2]]
    )
    frame = {} if picture.frame is None else {"frame": picture.frame}
    for result in results:
        result["file_name"] = picture.path.name
        result["category_name"] = classes[result["category_id"] - 1]
        result.update(frame)
    return results


def _table_row(picture: Picture, found: dict, classes: tuple[str, ...]) -> str:
    counts = np.bincount(found["labels"], minlength=len(classes) + 1)[1:]
    what = ", ".join(f"{count} {name}" for name, count in zip(classes, counts) if count)
    name = picture.path.name + ("" if picture.frame is None else f" frame {picture.frame}")
    return f"{name:40s} {what or '-'}"


def _print_table(table: list[str], results: list[dict], output: Path) -> None:
    for line in table[:_MAX_TABLE_ROWS]:
        print(line)
    if len(table) > _MAX_TABLE_ROWS:
        print(f"… and {len(table) - _MAX_TABLE_ROWS} more")
    print(f"{len(results)} detections in {len(table)} pictures: {output / 'detections.json'}")


def define_flags() -> None:
    """The command's flags; not at import, since other commands have flags of the same name."""
    flags.DEFINE_string("workdir", None, "Run folder.", required=True)
    flags.DEFINE_string("input", None, "Picture, folder, glob or video.", required=True)
    flags.DEFINE_string("output", "found", "Folder for the results.")
    flags.DEFINE_float("score_threshold", 0.5, "Detections from this score on.", 0.0, 1.0)
    flags.DEFINE_string("checkpoint", "best", "best, latest or a step.")


def main() -> None:
    """The command."""
    given = flags.FLAGS
    configure_jax()
    predict_files(
        Path(given.workdir), given.input, Path(given.output), given.score_threshold,
        given.checkpoint,
    )  # fmt: skip


if __name__ == "__main__":
    command_line.run_command(sys.modules[__name__])
