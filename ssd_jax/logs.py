"""Progress, `metrics.jsonl` and TensorBoard.

`metrics.jsonl` is the source of truth: one JSON object a line, appended and flushed, so that
nothing is lost when the process is killed. TensorBoard gets the same numbers.
"""

import json
import math
import os
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from tqdm import tqdm

MEASURED = ("images_per_second", "data_wait", "device_memory")  # differ between equal runs
_SECONDS_BETWEEN_LINES = 10.0


class MetricsFile:
    """Numbers by step, in `metrics.jsonl` and for TensorBoard.

    On resume at `first_step`, lines of later steps are cut off: they will be written again.
    """

    def __init__(self, folder: Path, first_step: int):
        # Here, because it imports PyTorch where that is installed: a second or two.
        from tensorboardX import SummaryWriter

        self._path = folder / "metrics.jsonl"
        _cut(self._path, first_step)
        self._file = self._path.open("a")
        self._board = SummaryWriter(str(folder / "tensorboard"), purge_step=first_step + 1)

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Append one line; a value that is not finite is written as null."""
        finite = {name: _rounded(value) for name, value in values.items()}
        self._file.write(json.dumps({"step": step, **finite}) + "\n")
        self._file.flush()
        for name, value in finite.items():
            if value is not None:
                self._board.add_scalar(name, value, step)

    def has(self, step: int, name: str) -> bool:
        """Whether the number `name` of step `step` is written already."""
        lines = map(json.loads, self._path.read_text().splitlines())
        return any(line["step"] == step and name in line for line in lines)

    def image(self, step: int, name: str, image: np.ndarray) -> None:
        """A picture uint8 [H, W, 3] for TensorBoard."""
        self._board.add_image(name, image, step, dataformats="HWC")

    def close(self) -> None:
        self._file.close()
        self._board.close()


class Progress:
    """A bar on a terminal, elsewhere a line every ten seconds: loss, pace, and what is left.

    `eval_every` is the config's; times left are at the pace of the steps alone. Nothing is shown by
    a process that is not the lead.
    """

    def __init__(
        self, first_step: int, steps: int, batch_size: int, eval_every: int = 0, shown: bool = True
    ):
        self._steps, self._batch_size, self._eval_every = steps, batch_size, eval_every
        bar = sys.stderr.isatty()
        self._quiet = shown and not bar
        self._bar = tqdm(
            total=steps, initial=first_step, unit="step", disable=not (shown and bar),
            dynamic_ncols=True,
        )  # fmt: skip
        self._counted = first_step
        self._printed = time.monotonic()
        self.restart_clock(first_step)

    def update(self, step: int, loss: float, memory: float | None = None) -> None:
        """Step `step` is done and had this loss; `memory` is that of a device, in GiB."""
        now = time.monotonic()
        if step == self._steps or now - self._printed > _SECONDS_BETWEEN_LINES:
            self._printed, self._pace = now, self._describe(step, memory)
            if self._quiet:
                say(f"step {step}/{self._steps}  loss {loss:.3f}  {self._pace}")
        self._bar.set_postfix_str(f"loss {loss:.3f}  {self._pace}", refresh=False)
        self._bar.update(step - self._counted)
        self._counted = step

    def _describe(self, step: int, memory: float | None) -> str:
        if step <= self._first_step:  # no step was timed yet
            return ""
        rate = self.rate(step)
        parts = [f"{rate:.1f} images/s", f"{self.data_wait('line'):.0%} waiting for data"]
        if memory is not None:
            parts.append(f"{memory:.1f} GiB")
        left, seconds = self._steps - step, self._batch_size / max(rate, 1e-9)
        if self._eval_every and (to_evaluation := -step % self._eval_every) < left:
            parts.append(f"evaluation in {duration(to_evaluation * seconds)}")
        return "  ".join([*parts, f"{duration(left * seconds)} left"])

    def rate(self, step: int) -> float:
        """Images a second since the clock was started, pauses left out."""
        seconds = time.monotonic() - self._started - self._paused
        return (step - self._first_step) * self._batch_size / max(seconds, 1e-9)

    def data_wait(self, reader: str) -> float:
        """Part of the time since `reader` last asked in which no batch was there, pauses left out.

        0 … 1; who writes lines and who writes numbers have clocks of their own.
        """
        now = time.monotonic() - self._paused, self._waited
        before = self._asked.get(reader, (self._started, 0.0))
        self._asked[reader] = now
        return (now[1] - before[1]) / max(now[0] - before[0], 1e-9)

    def waiting_for(self, batches: Iterable[dict]) -> Iterator[dict]:
        """The same batches; until each is there counts as waiting for data."""
        iterator = iter(batches)
        while True:
            begin = time.monotonic()
            batch = next(iterator, None)
            self._waited += time.monotonic() - begin
            if batch is None:
                return
            yield batch

    def restart_clock(self, step: int) -> None:
        """Count from here: compilation is over."""
        self._started, self._first_step = time.monotonic(), step
        self._paused = self._waited = 0.0
        self._asked: dict[str, tuple[float, float]] = {}
        self._pace = ""

    @contextmanager
    def paused(self) -> Iterator[None]:
        """The clock stands still inside: evaluation, saving."""
        begin = time.monotonic()
        yield
        self._paused += time.monotonic() - begin

    def close(self) -> None:
        self._bar.close()


def say(text: str) -> None:
    """A line for the person at the terminal, above a progress bar if there is one."""
    tqdm.write(text, file=sys.stderr)
    sys.stderr.flush()


def duration(seconds: float) -> str:
    """Seconds as `42 s`, `3 min 20 s` or `5 h 04 min`."""
    seconds = round(seconds)
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 3600:
        return f"{seconds // 60} min {seconds % 60:02d} s"
    return f"{seconds // 3600} h {seconds % 3600 // 60:02d} min"


def _cut(path: Path, last_step: int) -> None:
    """Drop lines after `last_step`, and a line that a kill left half written."""
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


def _rounded(value: float) -> float | None:
    value = float(value)
    return float(f"{value:.6g}") if math.isfinite(value) else None
