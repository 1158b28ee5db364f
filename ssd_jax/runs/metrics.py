"""`metrics.jsonl`, the history of a run, and the same numbers for TensorBoard.

One JSON object a line, appended and flushed, so that a kill loses nothing. Reports read this file.
"""

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

# Names that differ between two runs of the same experiment.
NONDETERMINISTIC_METRICS = ("images_per_second", "data_wait", "device_memory")

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

    A line that is no JSON object with a step is left out: a kill may have cut the last one.
    """
    lines = []
    for text in path.read_text().splitlines() if path.exists() else []:
        try:
            line = json.loads(text)
            int(line["step"])
        except (ValueError, KeyError, TypeError):
            continue
        lines.append(rename_metrics(line))
    return lines


class MetricsFile:
    """Appends numbers by step to `metrics.jsonl` and to TensorBoard's files.

    On resume at `first_step`, lines of later steps are removed: they will be written again.
    """

    def __init__(self, folder: Path, first_step: int):
        # Here, because it imports PyTorch where that is installed: a second or two.
        from tensorboardX import SummaryWriter

        self._path = folder / "metrics.jsonl"
        truncate_after(self._path, first_step)
        self._file = self._path.open("a")
        self._board = SummaryWriter(str(folder / "tensorboard"), purge_step=first_step + 1)

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Append one line; a value that is not finite is written as null."""
        rounded = {name: _round(value) for name, value in values.items()}
        self._file.write(json.dumps({"step": step, **rounded}) + "\n")
        self._file.flush()
        for name, value in rounded.items():
            if value is not None:
                self._board.add_scalar(name, value, step)

    def has(self, step: int, name: str) -> bool:
        """Whether the value `name` of step `step` is already written."""
        return any(line["step"] == step and name in line for line in read_metrics(self._path))

    def image(self, step: int, name: str, image: np.ndarray) -> None:
        """A picture uint8 [H, W, 3] for TensorBoard."""
        self._board.add_image(name, image, step, dataformats="HWC")

    def close(self) -> None:
        self._file.close()
        self._board.close()


def truncate_after(path: Path, last_step: int) -> None:
    """Remove lines after `last_step`, and a line that a kill cut."""
    if not path.exists():
        return
    kept = []
    for line in path.read_text().splitlines():
        try:
            if json.loads(line)["step"] <= last_step:
                kept.append(line)
        except (ValueError, KeyError, TypeError):
            continue
    shorter = path.with_suffix(".tmp")
    shorter.write_text("".join(line + "\n" for line in kept))
    os.replace(shorter, path)


def _round(value: float) -> float | None:
    value = float(value)
    return float(f"{value:.6g}") if math.isfinite(value) else None
