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

_SECONDS_BETWEEN_LINES = 10.0


class _Reading(NamedTuple):
    """The clocks after a step: seconds without pauses, and of these, seconds without a batch."""

    step: int
    time: float
    waited: float


class Progress:
    """A bar on a terminal, elsewhere a line every ten seconds: loss, rate, and time left.

    Each figure is of the steps since the line before. Times left assume the rate of the steps
    alone, without evaluations and saves. `shown` False prints nothing.
    """

    def __init__(
        self, first_step: int, steps: int, batch_size: int, eval_every: int = 0, shown: bool = True
    ):
        self._steps, self._batch_size, self._eval_every = steps, batch_size, eval_every
        is_terminal = sys.stderr.isatty()
        self._prints_lines = shown and not is_terminal
        self._bar = tqdm(
            total=steps, initial=first_step, unit="step", disable=not (shown and is_terminal),
            dynamic_ncols=True,
        )  # fmt: skip
        self._last_step = first_step
        self._last_line_time = time.monotonic()
        self._loss_sum, self._losses = 0.0, 0  # since the last line
        self.restart_clock(first_step)

    def update(self, step: int, loss: float) -> None:
        """Step `step` is finished and had this loss."""
        if math.isfinite(loss):
            self._loss_sum, self._losses = self._loss_sum + loss, self._losses + 1
        now = time.monotonic()
        if step == self._steps or now - self._last_line_time > _SECONDS_BETWEEN_LINES:
            status = self._describe(step)
            self._last_line_time, self._loss_sum, self._losses = now, 0.0, 0
            self._bar.set_postfix_str(status, refresh=False)
            if self._prints_lines:
                log_line(f"step {step}/{self._steps}  {status}")
        self._bar.update(step - self._last_step)
        self._last_step = step

    def _describe(self, step: int) -> str:
        loss = f"loss {self._loss_sum / self._losses if self._losses else math.nan:.3f}"
        measured = self.measure("line", step)
        if measured is None:
            return loss
        rate, data_wait = measured
        parts = [loss, f"{rate:.1f} images/s", f"{data_wait:.0%} waiting for data"]
        if (memory := devices.peak_memory_gib()) is not None:
            parts.append(f"{memory:.1f} GiB")
        steps_left, seconds = self._steps - step, self._batch_size / max(rate, 1e-9)
        if self._eval_every and (to_evaluation := -step % self._eval_every) < steps_left:
            parts.append(f"evaluation in {format_duration(to_evaluation * seconds)}")
        return "  ".join([*parts, f"{format_duration(steps_left * seconds)} left"])

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
        self._paused = self._waited = 0.0
        self._start = _Reading(step, time.monotonic(), 0.0)
        self._last_readings: dict[str, _Reading] = {}

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Time inside does not count: evaluation, saving."""
        start = time.monotonic()
        yield
        self._paused += time.monotonic() - start

    def close(self) -> None:
        """Remove the bar."""
        self._bar.close()


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
