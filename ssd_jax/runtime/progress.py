"""Progress of training: a bar on a terminal, lines elsewhere, and the times behind both."""

import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from tqdm import tqdm

_SECONDS_BETWEEN_LINES = 10.0


class Progress:
    """A bar on a terminal, elsewhere a line every ten seconds: loss, rate, and time left.

    Times left assume the rate of the steps alone, without evaluations and saves. `shown` False
    prints nothing.
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
        self.restart_clock(first_step)

    def update(self, step: int, loss: float, memory: float | None = None) -> None:
        """Step `step` is finished and had this loss; `memory` is a device's peak in GiB."""
        now = time.monotonic()
        if step == self._steps or now - self._last_line_time > _SECONDS_BETWEEN_LINES:
            self._last_line_time, self._status = now, self._describe(step, memory)
            if self._prints_lines:
                log_line(f"step {step}/{self._steps}  loss {loss:.3f}  {self._status}".rstrip())
        self._bar.set_postfix_str(f"loss {loss:.3f}  {self._status}", refresh=False)
        self._bar.update(step - self._last_step)
        self._last_step = step

    def _describe(self, step: int, memory: float | None) -> str:
        if step <= self._first_step:  # no step was timed yet
            return ""
        rate = self.rate(step)
        parts = [f"{rate:.1f} images/s", f"{self.data_wait('line'):.0%} waiting for data"]
        if memory is not None:
            parts.append(f"{memory:.1f} GiB")
        steps_left, seconds = self._steps - step, self._batch_size / max(rate, 1e-9)
        if self._eval_every and (to_evaluation := -step % self._eval_every) < steps_left:
            parts.append(f"evaluation in {format_duration(to_evaluation * seconds)}")
        return "  ".join([*parts, f"{format_duration(steps_left * seconds)} left"])

    def rate(self, step: int) -> float:
        """Images a second since the clock was started, without pauses."""
        seconds = time.monotonic() - self._started - self._paused
        return (step - self._first_step) * self._batch_size / max(seconds, 1e-9)

    def data_wait(self, reader: str) -> float:
        """Fraction of time since this reader's last call spent waiting for data, without pauses.

        Each name of a reader has a clock of its own: progress lines and metrics have other periods.
        """
        now = time.monotonic() - self._paused, self._waited
        last = self._last_read.get(reader, (self._started, 0.0))
        self._last_read[reader] = now
        return (now[1] - last[1]) / max(now[0] - last[0], 1e-9)

    def timed(self, batches: Iterable[dict]) -> Iterator[dict]:
        """The same batches; the time until each arrives counts as waiting for data."""
        iterator = iter(batches)
        while True:
            start = time.monotonic()
            batch = next(iterator, None)
            self._waited += time.monotonic() - start
            if batch is None:
                return
            yield batch

    def restart_clock(self, step: int) -> None:
        """Start timing after step `step`: compilation is over."""
        self._started, self._first_step = time.monotonic(), step
        self._paused = self._waited = 0.0
        self._last_read: dict[str, tuple[float, float]] = {}
        self._status = ""

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
