"""Progress: lines elsewhere, a bar on a terminal, and the one time that is left."""

import io
import math
import sys

import pytest

from ssd_jax.runtime import devices
from ssd_jax.runtime import progress as progress_module
from ssd_jax.runtime.progress import EVALUATION, SAVE, Progress, format_duration


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.4, "0 s"),
        (59.0, "59 s"),
        (200.0, "3 min 20 s"),
        (3600.0, "1 h 00 min"),
        (18240.0, "5 h 04 min"),
    ],
)
def test_durations_read_well(seconds, text):
    assert format_duration(seconds) == text


@pytest.fixture
def clock(monkeypatch):
    """Seconds that pass only where a test says so, in a list of one."""
    now = [0.0]
    monkeypatch.setattr(progress_module.time, "monotonic", lambda: now[0])
    return now


def printed(capsys):
    return [line for line in capsys.readouterr().err.splitlines() if line.startswith("step")]


def test_progress_off_a_terminal_is_a_line_now_and_then(clock, capsys, monkeypatch):
    """Four seconds a step, three of them without a batch; sixteen images a step."""
    monkeypatch.setattr(devices, "peak_memory_gib", lambda: 2.5)
    progress = Progress(0, 20, 16)

    def slowly():
        for _ in range(20):
            clock[0] += 3.0
            yield {}

    for step, _ in enumerate(progress.timed(slowly()), 1):
        clock[0] += 1.0
        progress.update(step, float(step) if step != 5 else math.nan)
    progress.close()
    end = "4.0 images/s  75% waiting for data  2.5 GiB"
    assert printed(capsys) == [
        f"step 3/20  loss 2.000  1 min 08 s left  {end}",
        f"step 6/20  loss 5.000  56 s left  {end}",
        f"step 9/20  loss 8.000  44 s left  {end}",
        f"step 12/20  loss 11.000  32 s left  {end}",
        f"step 15/20  loss 14.000  20 s left  {end}",
        f"step 18/20  loss 17.000  8 s left  {end}",
        f"step 20/20  loss 19.500  0 s left  {end}",
    ]


def test_a_backend_without_memory_figures_shows_none(clock, capsys):
    progress = Progress(0, 1, 1)
    clock[0] += 1.0
    progress.update(1, 1.0)
    progress.close()
    (line,) = printed(capsys)
    assert "GiB" not in line


def test_rate_and_waiting_are_told_since_the_last_time(clock):
    """Two readers, each of its own time; what an evaluation takes is no part of it."""
    progress = Progress(0, 10, 8)
    seconds = iter([4.0, 0.0])

    def batches():
        for wait in seconds:
            clock[0] += wait
            yield {}

    stream = progress.timed(batches())
    next(stream)
    clock[0] += 4.0
    assert progress.measure("line", 1) == (8 / 8.0, 0.5)
    assert progress.measure("line", 1) is None
    with progress.paused("evaluation"):
        clock[0] += 100.0
    next(stream)
    clock[0] += 8.0
    assert progress.measure("line", 3) == (16 / 8.0, 0.0)
    assert progress.measure("metrics", 3) == (24 / 16.0, 0.25)
    progress.restart_clock(3)
    clock[0] += 1.0
    assert progress.measure("metrics", 3) is None
    assert progress.measure("metrics", 4) == (8.0, 0.0)
    progress.close()


@pytest.mark.parametrize("first", range(1, 31))
@pytest.mark.parametrize("periods", [(0,), (7,), (30,), (0, 4), (6, 4), (5, 5), (100, 3)])
def test_what_is_due_is_counted(first, periods):
    due = [
        step
        for step in range(first, 31)
        if step == 30 or any(period and step % period == 0 for period in periods)
    ]
    assert progress_module._count_due(first, 30, *periods) == len(due)


def test_the_time_left_has_the_evaluations_and_saves_to_come(clock, capsys):
    """Twenty steps of 11 s; 1 s for each save, 100 s for the first evaluation, 4 s for another."""
    progress = Progress(0, 20, 1, eval_every=8, save_every=5)
    evaluations = iter([100.0, 4.0, 4.0])
    for step in range(1, 21):
        clock[0] += 11.0
        progress.update(step, 1.0)
        if step in (5, 8, 10, 15, 16, 20):
            with progress.paused(SAVE):
                clock[0] += 1.0
        if step in (8, 16, 20):
            with progress.paused(EVALUATION):
                clock[0] += next(evaluations)
    progress.close()
    left = [line.split("  ")[2] for line in printed(capsys)]

    def text(steps, saves, evaluation=0):
        return f"{format_duration(11.0 * steps + saves + evaluation)} left"

    assert left[0] == text(19, 0)  # nothing is measured yet
    assert left[4] == text(15, 0) and left[5] == text(14, 5)
    assert left[7] == text(12, 5)  # the first evaluation, of this step, did not begin
    assert left[8] == text(11, 4, 200) and left[15] == text(4, 2, 200)
    assert left[16] == text(3, 1, 4) and left[19] == text(0, 1, 4)


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_on_a_terminal_there_is_one_bar_with_one_time(clock, monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setattr(devices, "peak_memory_gib", lambda: None)

    def shown():
        text = terminal.getvalue().rpartition("\r")[2]
        terminal.truncate(0)
        terminal.seek(0)
        return text

    progress = Progress(0, 10, 8, eval_every=5)
    progress.show_compilation()
    assert "0/10, compiling…" in shown()
    progress.restart_clock(1)
    for step in range(2, 6):
        clock[0] += 4.0
        progress.update(step, 1.5)
    text = shown()
    assert "5/10, loss 1.500  20 s left  2.0 images/s  0% waiting" in text
    assert "compiling" not in text and "<" not in text and text.count("left") == 1
    with progress.paused(EVALUATION):
        progress.show_evaluation(96, 300)
        assert "5/10, evaluating 96/300" in shown()
    assert "5/10, loss 1.500" in shown()
    progress.close()
