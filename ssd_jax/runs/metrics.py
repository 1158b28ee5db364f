"""`metrics.jsonl`, the history of a run, and the same numbers for TensorBoard.

One JSON object a line, appended and flushed, so that a kill loses nothing. Reports read this file.
"""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ssd_jax.errors import ResourceError
from ssd_jax.runs.tensorboard import TensorBoard
from ssd_jax.runtime.files import parse_json, read_if_possible, write_bytes
from ssd_jax.runtime.progress import log_line

# Names that differ between two runs of the same experiment.
NONDETERMINISTIC_METRICS = ("images_per_second", "data_wait", "device_memory")

# Metrics of which a line has the last value; of all others it has a mean.
_LAST_VALUES = ("learning_rate", "skipped", "consecutive_skipped")

# Name in files of version 0.1 -> today's.
_RENAMED = {
    "train/classification": "train/cls_loss",
    "train/localization": "train/loc_loss",
    "train/skipped_in_a_row": "train/consecutive_skipped",
    "voc/AP50_area/mean": "voc/mAP50_area",
    "voc/AP50_11point/mean": "voc/mAP50_11point",
}


def rename_metrics(values: Mapping[str, Any]) -> dict[str, Any]:
    """Values by name, with today's names for those of older versions."""
    return {_RENAMED.get(name, name): value for name, value in values.items()}


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The lines of a `metrics.jsonl`, with today's names; [] where there is no file.

    A line that is no JSON object with a step is left out: a kill may have cut the last one. So is
    a value that is no number.
    """
    texts = (read_if_possible(path) or b"").splitlines()
    lines = [line for line in map(_parse_line, texts) if line]
    return [rename_metrics(line) for line in lines]


def values_of_step(lines: list[dict[str, Any]], step: int) -> dict[str, float]:
    """The numbers that lines of `read_metrics` have of a step, without what is null."""
    found = [line for line in lines if line["step"] == step]
    numbers = (item for line in found for item in line.items() if item[1] is not None)
    return {name: float(value) for name, value in numbers}


class StepMeans:
    """Means of the metrics of the steps since the last line of `metrics.jsonl`.

    A value that is not finite is left out. A mean of none is NaN. `saved` is what `to_json` gave:
    it is kept with each checkpoint, so that a resumed run writes the same lines.
    """

    def __init__(self, saved: Mapping[str, list] | None = None):
        self._sums = {name: tuple(entry) for name, entry in (saved or {}).items()}
        self._last: dict[str, float] = {}

    def add(self, values: dict[str, float]) -> None:
        """Add the metrics of a step."""
        self._last = values
        for name, value in values.items():
            total, count = self._sums.get(name, (0.0, 0))
            if math.isfinite(value):
                total, count = total + value, count + 1
            self._sums[name] = total, count

    def take(self) -> dict[str, float]:
        """The means, or the last value where that is told; the next step begins new means."""
        means = {
            name: total / count if count else math.nan
            for name, (total, count) in self._sums.items()
        }
        self._sums = {}
        return means | {name: self._last[name] for name in _LAST_VALUES if name in self._last}

    def to_json(self) -> dict[str, list]:
        """Sum and number of the values of each metric until now."""
        return {name: list(entry) for name, entry in self._sums.items()}


class MetricsFile:
    """Appends numbers by step to `metrics.jsonl` and to TensorBoard's files.

    On resume at `first_step`, lines of later steps are removed: they will be written again. Where
    the file cannot be written, ResourceError is raised.
    """

    def __init__(self, folder: Path, first_step: int):
        self._path = folder / "metrics.jsonl"
        truncate_after(self._path, first_step)
        self._board = TensorBoard(folder / "tensorboard", first_step)

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Append one line; a value that is not finite is written as null."""
        rounded = {name: _round(value) for name, value in values.items()}
        try:
            with self._path.open("a") as file:  # each time: somebody may have moved the file
                file.write(json.dumps({"step": step, **rounded}) + "\n")
        except OSError as error:
            raise ResourceError(
                f"cannot write {self._path} ({error.strerror}): free disk space, then start the "
                "same command again"
            ) from error
        self._board.scalars(step, rounded)

    def has(self, step: int, name: str) -> bool:
        """Whether the value `name` of step `step` is already written."""
        return any(line["step"] == step and name in line for line in read_metrics(self._path))

    def values(self, step: int) -> dict[str, float]:
        """What is written of step `step`, without what is null."""
        return values_of_step(read_metrics(self._path), step)

    def image(self, step: int, name: str, image: np.ndarray) -> None:
        """A picture uint8 [H, W, 3] for TensorBoard."""
        self._board.image(step, name, image)

    def close(self) -> None:
        self._board.close()


def truncate_after(path: Path, last_step: int) -> None:
    """Remove lines after `last_step`, and a line that a kill cut.

    A file that cannot be read is put aside. Raises ResourceError where it cannot be written.
    """
    content = read_if_possible(path)
    if content is None and path.is_file():
        aside = path.with_name(f"{path.name}.damaged")
        log_line(f"{path} cannot be read: it is put aside as {aside.name}")
        path.replace(aside)
    if content is None:
        return
    kept = [
        text
        for text in content.splitlines()
        if (line := _parse_line(text)) and line["step"] <= last_step
    ]
    shorter = b"".join(text + b"\n" for text in kept)
    if shorter != content:
        write_bytes(path, shorter)


def _parse_line(text: bytes) -> dict[str, Any] | None:
    """The numbers of a line, None where it has no step."""
    try:
        line = parse_json(text)
    except ValueError:
        return None
    if not isinstance(line, dict) or type(line.get("step")) is not int:
        return None
    is_number = {name: value is None or type(value) in (int, float) for name, value in line.items()}
    return {name: value for name, value in line.items() if is_number[name]}


def _round(value: float) -> float | None:
    value = float(value)
    return float(f"{value:.6g}") if math.isfinite(value) else None
