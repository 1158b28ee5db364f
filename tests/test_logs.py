import json
import math

import numpy as np
import pytest

from ssd_jax import logs


def lines(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_numbers_are_appended_and_flushed_at_once(tmp_path):
    metrics = logs.MetricsFile(tmp_path, 0)
    metrics.write(1, {"loss": 1.5})
    metrics.write(2, {"loss": math.nan})
    assert lines(tmp_path) == [{"step": 1, "loss": 1.5}, {"step": 2, "loss": None}]
    metrics.close()


def test_resuming_cuts_back_to_the_restored_step_and_mends_a_torn_line(tmp_path):
    metrics = logs.MetricsFile(tmp_path, 0)
    for step in (2, 4, 6):
        metrics.write(step, {"loss": float(step)})
    metrics.close()
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 4, "lo')
    metrics = logs.MetricsFile(tmp_path, 4)
    metrics.write(5, {"loss": 0.5})
    metrics.close()
    assert [line["step"] for line in lines(tmp_path)] == [2, 4, 5]


def test_tensorboard_gets_the_same_numbers(tmp_path):
    metrics = logs.MetricsFile(tmp_path, 0)
    metrics.write(3, {"loss": 0.25})
    metrics.image(3, "picture", np.zeros((4, 4, 3), np.uint8))
    metrics.close()
    (events,) = (tmp_path / "tensorboard").iterdir()
    assert b"loss" in events.read_bytes() and b"picture" in events.read_bytes()


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
    assert logs.duration(seconds) == text


def test_progress_off_a_terminal_is_a_line_now_and_then(monkeypatch, capsys):
    clock = iter(np.arange(0, 1000, 4.0))
    monkeypatch.setattr(logs.time, "monotonic", lambda: float(next(clock)))
    progress = logs.Progress(0, 20, 16)
    for step in range(1, 21):
        progress.update(step, 1.0)
    progress.close()
    printed = [line for line in capsys.readouterr().err.splitlines() if line.startswith("step")]
    assert 2 < len(printed) < 20
    assert "images/s" in printed[0] and "left" in printed[0] and "loss 1.000" in printed[0]
    assert printed[-1].startswith("step 20/20")


def test_a_pause_does_not_count_in_the_rate(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(logs.time, "monotonic", lambda: now[0])
    progress = logs.Progress(0, 10, 8)
    now[0] = 1.0
    with progress.paused():
        now[0] = 101.0
    now[0] = 102.0
    assert progress.rate(4) == pytest.approx(4 * 8 / 2)
    progress.close()
