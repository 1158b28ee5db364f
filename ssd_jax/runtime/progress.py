"""Progress of training: a bar on a terminal, lines elsewhere, and the times behind both."""

import math
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import NamedTuple, TypeVar

from tqdm import tqdm

from ssd_jax.runtime import devices

T = TypeVar("T")

_SECONDS_BETWEEN_LINES, _SECONDS_BETWEEN_BAR_TEXTS = 10.0, 2.0
_BAR = "{percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt}{postfix}"  # without tqdm's own times
EVALUATION, SAVE = "evaluation", "save"  # why steps pause


class _Reading(NamedTuple):
    """The clocks after a step: seconds without pauses, and of these, seconds without a batch."""

    step: int
    time: float
    waited: float


class Progress:
    """A bar on a terminal, elsewhere a line every ten seconds: loss, time left, and rate.

    Each figure is of the steps since the line before. The time left is that of the steps to come
    at their rate, and of the evaluations and saves to come at the mean of those before. A period
    of 0 is the last step alone. `shown` False prints nothing.
    """

    def __init__(
        self,
        first_step: int,
        steps: int,
        batch_size: int,
        eval_every: int = 0,
        save_every: int = 0,
        shown: bool = True,
    ):
        self._steps, self._batch_size = steps, batch_size
        self._eval_every, self._save_every = eval_every, save_every
        self._pauses: dict[str, list[float]] = {EVALUATION: [], SAVE: []}  # seconds of each
        is_terminal = sys.stderr.isatty()
        self._prints_lines = shown and not is_terminal
        self._bar = tqdm(
            total=steps, initial=first_step, unit="step", disable=not (shown and is_terminal),
            dynamic_ncols=True, bar_format=_BAR,
        )  # fmt: skip
        self._period = _SECONDS_BETWEEN_LINES if self._prints_lines else _SECONDS_BETWEEN_BAR_TEXTS
        self._last_step = first_step
        self._last_line_time = time.monotonic()
        self._loss_sum, self._losses = 0.0, 0  # since the last line
        self.restart_clock(first_step)

    def update(self, step: int, loss: float) -> None:
        """Step `step` is finished and had this loss."""
        if math.isfinite(loss):
            self._loss_sum, self._losses = self._loss_sum + loss, self._losses + 1
        self._bar.update(step - self._last_step)
        self._last_step = step
        now = time.monotonic()
        if step == self._steps or now - self._last_line_time > self._period:
            self._status = self._describe(step)
            self._last_line_time, self._loss_sum, self._losses = now, 0.0, 0
            self._bar.set_postfix_str(self._status)
            if self._prints_lines:
                log_line(f"step {step}/{self._steps}  {self._status}")

    def _describe(self, step: int) -> str:
        loss = f"loss {self._loss_sum / self._losses if self._losses else math.nan:.3f}"
        measured = self.measure("line", step)
        if measured is None:
            return loss
        rate, data_wait = measured
        left = f"{format_duration(self._seconds_left(step, rate))} left"
        parts = [loss, left, f"{rate:.1f} images/s", f"{data_wait:.0%} waiting for data"]
        if (memory := devices.peak_memory_gib()) is not None:
            parts.append(f"{memory:.1f} GiB")
        return "  ".join(parts)

    def _seconds_left(self, step: int, images_per_second: float) -> float:
        """After step `step`; its own evaluation and save, where they are due, are still to come."""
        seconds = (self._steps - step) * self._batch_size / max(images_per_second, 1e-9)
        saves = _count_due(step, self._steps, self._eval_every, self._save_every)
        evaluations = _count_due(step, self._steps, self._eval_every)
        for kind, count in ((EVALUATION, evaluations), (SAVE, saves)):
            seconds += count * _mean_pause(self._pauses[kind])
        return seconds

    def measure(self, reader: str, step: int) -> tuple[float, float] | None:
        """Images a second, and the fraction of the time that was spent waiting for data.

        Both are of the steps until `step` since this reader's last call, without pauses; None where
        there is no step. Each name of a reader has a clock of its own: progress lines and metrics
        have other periods.
        """
        now = _Reading(step, time.monotonic() - self._paused, self._waited)
        last = self._last_readings.get(reader, self._start)
        if step <= last.step:
            return None
        self._last_readings[reader] = now
        seconds = max(now.time - last.time, 1e-9)
        return (step - last.step) * self._batch_size / seconds, (now.waited - last.waited) / seconds

    def timed(self, batches: Iterable[T]) -> Iterator[T]:
        """The same batches; the time until each arrives counts as waiting for data."""
        iterator, end = iter(batches), object()
        while True:
            start = time.monotonic()
            batch = next(iterator, end)
            self._waited += time.monotonic() - start
            if batch is end:
                return
            yield batch  # type: ignore[misc]

    def restart_clock(self, step: int) -> None:
        """Start timing after step `step`: compilation is over."""
        self._status = ""
        self._bar.set_postfix_str("", refresh=False)
        self._paused = self._waited = 0.0
        self._start = _Reading(step, time.monotonic(), 0.0)
        self._last_readings: dict[str, _Reading] = {}

    @contextmanager
    def paused(self, kind: str) -> Iterator[None]:
        """Time inside is that of an evaluation or a save (`kind`), and not of steps."""
        start = time.monotonic()
        yield
        seconds = time.monotonic() - start
        self._paused += seconds
        self._pauses[kind].append(seconds)
        self._bar.set_postfix_str(self._status)

    def show_compilation(self) -> None:
        """Say that the training step is compiled now."""
        if self._prints_lines:
            log_line("compiling the training step: seconds, or minutes on a slow machine")
        self._bar.set_postfix_str("compiling…")

    def show_evaluation(self, images: int, total: int) -> None:
        """Say in the bar how many of the images are evaluated."""
        self._bar.set_postfix_str(f"evaluating {images}/{total}")

    def close(self) -> None:
        """Remove the bar."""
        self._bar.close()


def _count_due(first: int, last: int, *periods: int) -> int:
    """How many of the steps `first` … `last` are the last, or a multiple of one of two periods."""
    periods = tuple(period for period in periods if period)

    def count(period: int) -> int:
        return (last - 1) // period - (first - 1) // period

    both = count(math.lcm(*periods)) if len(periods) == 2 else 0
    return sum(map(count, periods)) - both + 1


def _mean_pause(seconds: list[float]) -> float:
    """The mean; without the first, which compiles, where there are others."""
    counted = seconds[1:] or seconds
    return sum(counted) / len(counted) if counted else 0.0


def log_line(text: str) -> None:
    """Print a line to standard error, above a progress bar if there is one."""
    tqdm.write(text, file=sys.stderr)
    sys.stderr.flush()


def format_duration(seconds: float) -> str:
    """Seconds as `42 s`, `3 min 20 s` or `5 h 04 min`."""
    seconds = round(seconds)
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 3600:
        return f"{seconds // 60} min {seconds % 60:02d} s"
    return f"{seconds // 3600} h {seconds % 3600 // 60:02d} min"
