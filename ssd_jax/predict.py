"""Find objects in pictures, videos and the picture of a camera with the detector of a run.

    ssd-jax predict --workdir=RUN --input=IMAGE|FOLDER|GLOB|VIDEO|CAMERA [--output=found]
    ssd-jax predict --weights=NAME --input=… (a trained detector; `ssd-jax weights` lists them)
    python -m ssd_jax.predict (the same flags)

Writes pictures with boxes, named as their inputs (of a video or an animated image, a video), and
`detections.json`, a list of COCO results. A folder is read with its subfolders. CAMERA is a number
such as 0. --input may be given several times, or left out: ssd-jax predict … *.jpg. Ctrl-C ends
early and keeps what is done. The run folder is all that it needs.
"""

import difflib
import signal
import sys
from collections.abc import Generator, Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
from absl import flags
from tqdm import tqdm

from ssd_jax.data.messages import join_truncated
from ssd_jax.errors import ConfigError, ResourceError, SsdError, StoppedBySignal
from ssd_jax.prediction import window
from ssd_jax.prediction.inputs import Input, Kind, describe_left_out, find_inputs
from ssd_jax.prediction.outputs import RESULTS, plan_outputs
from ssd_jax.prediction.pictures import (
    Capture,
    camera_frames,
    count_pictures,
    open_camera,
    read_pictures,
)
from ssd_jax.prediction.writer import Drawing, PictureWriter
from ssd_jax.predictor import Predictor
from ssd_jax.result import Result
from ssd_jax.runtime import command_line
from ssd_jax.runtime.background import parallel_map
from ssd_jax.runtime.compilation import configure_jax
from ssd_jax.runtime.files import write_json
from ssd_jax.runtime.progress import log_line
from ssd_jax.runtime.signals import StopSignals, end_at_second_signal
from ssd_jax.weights import named
from ssd_jax.weights.coco_classes import UNUSED
from ssd_jax.weights.import_run import load_detector

Results = Generator[Result, None, None]

WORDS = "input"  # the flag that takes words of the command line which stand alone
_MAX_TABLE_ROWS = 20


def predict_files(
    source: str | Path,
    given: list[str],
    output: Path,
    score_threshold: float | None,
    which: str = "best",
    classes: list[str] | None = None,
    class_agnostic: bool | None = None,
) -> list[dict]:
    """Detect in all inputs that `given` names, write pictures and JSON, return the results.

    `source` is a run folder or the name of weights. `score_threshold` None takes the detector's
    own, see `Predictor.thresholds`, and says which. `given` are values of --input, see
    `find_inputs`. Detections of `classes` alone are kept, if there are any. A picture that cannot
    be read is left out, and where one cannot be written, its detections are kept; the others are
    done first, then DataError or ResourceError names them.
    SIGINT and SIGTERM end early: what is done is written, then StoppedBySignal is raised.
    """
    inputs, left_out = find_inputs(given, output)
    if left_out:
        print(f"left out: {describe_left_out(left_out)}")
    targets = plan_outputs(inputs, output)
    is_camera = inputs[0].kind is Kind.CAMERA
    capture = open_camera(inputs[0]) if is_camera else None
    predictor = Predictor(load_detector(str(source), which), class_agnostic)
    labels = find_labels(classes or [], predictor.classes)
    if score_threshold is None:
        log_line(describe_thresholds(predictor, labels))
    found = _Findings(inputs)
    signals = (signal.SIGINT, signal.SIGTERM)
    with end_at_second_signal(signals), StopSignals(signals, second_is_default=False) as stop:
        with PictureWriter(output, inputs, targets) as writer:
            if (output / RESULTS).exists():
                log_line(f"{output} has earlier results: {RESULTS} is replaced, pictures stay")
            else:
                write_json(output / RESULTS, [])  # a mark for the next prediction: see plan_outputs
            if is_camera:
                detected = _detect_live(predictor, inputs[0], capture, score_threshold, found)
                drawn = _draw_live(_until(stop, detected, labels), writer)
            else:
                pictures = read_pictures(inputs, found.errors)
                detected = predictor.detect(pictures, score_threshold)
                drawn = parallel_map(writer.draw, _until(stop, detected, labels))
            total = None if is_camera else count_pictures(inputs)
            for result, drawing in tqdm(drawn, "pictures", total, unit="", disable=None):
                found.add(result)
                try:
                    writer.finish(result.picture, drawing)
                except ResourceError as error:
                    found.errors.append(error)
        if found.has_any():
            write_json(output / RESULTS, found.results)
    found.print_table(output)
    found.raise_errors(output, total, stop.number)
    return found.results


def find_labels(names: list[str], classes: tuple[str, ...]) -> list[int]:
    """The labels, from 1, of the classes of these names; of all classes if there is no name.

    Raises ConfigError for a name that is not a class.
    """
    for name in names:
        if name not in classes:
            lower = {each.lower(): each for each in classes}
            near = [lower[each] for each in difflib.get_close_matches(name.lower(), lower)]
            known = ", ".join(each for each in classes if not each.startswith(UNUSED))
            hint = f"did you mean {' or '.join(near)}?" if near else f"it has {known}"
            raise ConfigError(f"--classes={name}: the detector has no such class; {hint}")
    return [label for label, name in enumerate(classes, 1) if not names or name in names]


def describe_thresholds(predictor: Predictor, labels: list[int]) -> str:
    """From which scores detections of these labels are kept by default, and why."""
    if not predictor.has_own_thresholds:
        return "detections from a score of 0.5 on; --score_threshold changes it"
    values = {predictor.classes[label - 1]: predictor.thresholds[label - 1] for label in labels}
    shown = join_truncated([f"{name} {value:.2f}" for name, value in values.items()], ", ")
    return (
        f"detections from the scores where F1 was highest at step {predictor.step}: {shown}; "
        "--score_threshold changes it"
    )


def _until(stop: StopSignals, detected: Results, labels: list[int]) -> Iterator[Result]:
    """The results, with detections of these labels alone, until a signal comes.

    What was handed on before is drawn and counts as done: no picture is written without its
    detections.
    """
    with closing(detected):
        for result in detected:
            yield result.select(np.isin(result.labels, labels))
            if stop.received:
                return


def _detect_live(
    predictor: Predictor,
    camera: Input,
    capture: Capture,
    score_threshold: float | None,
    found: "_Findings",
) -> Results:
    """What is found in each frame of a camera, before the next frame is taken."""
    try:
        for picture in camera_frames(camera, capture):
            yield from predictor.detect([picture], score_threshold)
    except ResourceError as error:
        found.errors.append(error)


def _draw_live(
    detected: Iterator[Result], writer: PictureWriter
) -> Iterator[tuple[Result, Drawing]]:
    """Show each frame in a window; without a display, hand it on to be written."""
    is_shown = window.has_display()
    log_line(
        "q or Ctrl-C ends" if is_shown
        else "no display: the picture of the camera is written to a video until Ctrl-C"
    )  # fmt: skip
    for result in detected:
        _, drawing = writer.draw(result)
        yield result, None if is_shown else drawing
        if is_shown and not window.show(drawing):
            return


class _Findings:
    """What is found in the pictures that are done, and the errors of those that failed."""

    def __init__(self, inputs: list[Input]):
        self._inputs = inputs
        self.results: list[dict] = []
        self.errors: list[SsdError] = []
        self._done, self._rows = 0, []

    def add(self, result: Result) -> None:
        """A picture is done. Its results name the file within its --input."""
        source = self._inputs[result.picture.image_id]
        where = {"file_name": source.name, "input": source.given}
        self.results += [each | where for each in result.to_coco()]
        self._done += 1
        if len(self._rows) < _MAX_TABLE_ROWS:
            self._rows.append(_table_row(result, source.name))

    def has_any(self) -> bool:
        """Whether a picture is done, so that earlier results give way."""
        return self._done > 0

    def print_table(self, output: Path) -> None:
        for row in self._rows:
            print(row)
        if self._done > len(self._rows):
            print(f"… and {self._done - len(self._rows)} more")
        pictures = "1 picture" if self._done == 1 else f"{self._done} pictures"
        print(f"{len(self.results)} detections in {pictures}: {output / RESULTS}")

    def raise_errors(self, output: Path, total: int | None, stopped_by: int) -> None:
        """Raise what failed, as one error, after a `stopped_by` signal, or 0, as its error."""
        messages = list(dict.fromkeys(map(str, self.errors)))  # of a video, the same for each frame
        message = join_truncated(messages, "\n")
        if stopped_by:
            of_all = f"{self._done} of {total}" if total else f"{self._done}"
            stopped = f"interrupted: {of_all} pictures are done, and kept in {output}"
            raise StoppedBySignal("\n".join([*([message] if message else []), stopped]), stopped_by)
        if self.errors:
            raise type(self.errors[-1])(message)


def _table_row(result: Result, name: str) -> str:
    counts = np.bincount(result.labels, minlength=len(result.classes) + 1)[1:]
    what = ", ".join(f"{count} {name}" for name, count in zip(result.classes, counts) if count)
    frame = result.picture.frame
    return f"{name + ('' if frame is None else f' frame {frame}'):40s} {what or '-'}"


def define_flags() -> None:
    """The command's flags; not at import, since other commands have flags of the same name."""
    flags.DEFINE_string("workdir", None, "Run folder.")
    flags.DEFINE_string("weights", None, "In place of a run: a name of ssd-jax weights.")
    flags.DEFINE_multi_string("input", None, "Picture, folder, glob, video, or number of a camera.")
    flags.DEFINE_string("output", "found", "Folder for the results.")
    flags.DEFINE_float(
        "score_threshold", None, "Detections from this score on; by default the run's, or 0.5.",
        0.0, 1.0,
    )  # fmt: skip
    flags.DEFINE_list("classes", None, "Detections of these classes alone, as cat,dog.")
    flags.DEFINE_boolean(
        "class_agnostic", None, "Of several classes in one place, keep the surest alone."
    )
    flags.DEFINE_string("checkpoint", "best", "best, latest or a step, of a run.")


def main() -> None:
    """The command."""
    given = flags.FLAGS
    if not given.input:
        raise ConfigError("give --input=PICTURES: a picture, folder, glob, video or camera")
    if (given.workdir is None) == (given.weights is None):
        raise ConfigError("give --workdir=RUN, or --weights=NAME of a trained detector; not both")
    if given.weights is not None and Path(given.weights).exists():
        raise ConfigError(f"{given.weights} is a file or folder: write --workdir={given.weights}")
    if given.weights is not None:
        named.find(given.weights)
    configure_jax()
    predict_files(
        given.workdir or given.weights, given.input, Path(given.output).expanduser(),
        given.score_threshold, given.checkpoint, given.classes, given.class_agnostic,
    )  # fmt: skip


if __name__ == "__main__":
    command_line.run_command(sys.modules[__name__])
