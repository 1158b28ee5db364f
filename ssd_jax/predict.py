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
from pathlib import Path

import cv2
import numpy as np
from absl import flags
from tqdm import tqdm

from ssd_jax.data.messages import join_truncated
from ssd_jax.errors import ConfigError, DataError, ResourceError
from ssd_jax.predictor import Predictor, read_picture
from ssd_jax.result import Picture, Result
from ssd_jax.runs.load import load_run
from ssd_jax.runtime import command_line
from ssd_jax.runtime.background import parallel_map
from ssd_jax.runtime.compilation import configure_jax
from ssd_jax.runtime.files import write_json
from ssd_jax.visualize.images import save_image

_PICTURE_SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"}
_VIDEO_SUFFIXES = {".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v"}
_MAX_TABLE_ROWS = 20
_MAX_SHOWN = 200  # letters of an input that is too long for a name
_MAX_NAME_BYTES = 255  # of a file, on most file systems


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
    predictor = Predictor(load_run(folder, which))
    unreadable: list[DataError] = []
    unwritable: list[ResourceError] = []
    results, table = [], []
    with _PictureWriter(output) as writer:
        detected = predictor.detect(_read(paths, unreadable), score_threshold)
        drawn = parallel_map(writer.draw, detected)
        for result, drawing in tqdm(drawn, desc="pictures", unit="", disable=None):
            results += result.to_coco()
            table.append(_table_row(result))
            try:
                writer.finish(result.picture, drawing)
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
        return [read_picture(image_id, path)]
    except DataError as error:
        return error


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

    def __init__(self, folder: Path):
        self._folder = folder
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

    def draw(self, result: Result) -> tuple[Result, np.ndarray | ResourceError | None]:
        """Draw a picture, in any thread, and write it, or return the drawing of a frame.

        The last is for `finish`: drawings of frames come in their order there.
        """
        picture, drawn = result.picture, result.draw()
        if picture.frame is not None:
            return result, drawn
        try:
            save_image(self._folder / _output_name(picture, ".jpg"), drawn)
        except ResourceError as error:
            return result, error
        return result, None

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


def _table_row(result: Result) -> str:
    counts = np.bincount(result.labels, minlength=len(result.classes) + 1)[1:]
    what = ", ".join(f"{count} {name}" for name, count in zip(result.classes, counts) if count)
    picture = result.picture
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
