"""A run that is killed without warning, twice, ends as one that nothing disturbed."""

import json

import pytest
from test_end_to_end import MICRO, command

from scripts import soak
from ssd_jax.errors import SsdError

OPTIONS = [
    "--config.steps=60", "--config.save_every=7", "--config.eval_every=20", "--config.log_every=3",
    "--config.optim.ema=0.9", "--config.loss.negatives=random",
]  # fmt: skip


def test_two_kills_change_nothing(tmp_path, capsys):
    """Parameters, optimizer, averages, step, the best checkpoint and the history: bit for bit."""
    hit = soak.soak(command("main", *MICRO, *OPTIONS), tmp_path, steps=60, kills=2, seed=3)
    assert hit == 2
    kept = soak.digests(tmp_path / "broken")
    assert "latest at step 60" in kept and len(kept) == 2
    # It can fail: another state has another digest, another history is told.
    history = tmp_path / "broken" / "metrics.jsonl"
    lines = history.read_text().splitlines()
    history.write_text("\n".join([*lines[:-1], json.dumps({"step": 60, "x": 1})]) + "\n")
    assert soak.history(tmp_path / "broken") != soak.history(tmp_path / "whole")


def test_a_run_that_fails_is_told(tmp_path):
    with pytest.raises(SsdError, match="failed"):
        soak.run_whole(command("main", "--config=configs/nothing.py"), tmp_path)


def test_half_a_line_is_no_step(tmp_path):
    assert soak.last_step(tmp_path) == 0
    (tmp_path / "metrics.jsonl").write_text('{"step": 3}\n{"step": 6}\n{"st')
    assert soak.last_step(tmp_path) == 6
