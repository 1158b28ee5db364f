"""A run that is killed without warning, twice, ends as one that nothing disturbed."""

import json

import micro
import pytest
from test_end_to_end import MICRO, command

from scripts import soak
from ssd_jax.errors import SsdError

OPTIONS = [
    "--config.steps=60", "--config.save_every=4", "--config.eval_every=20", "--config.log_every=3",
    "--config.optim.ema=0.9", "--config.loss.negatives=random",
]  # fmt: skip


def test_seven_kills_change_nothing(tmp_path, capsys):
    """Parameters, optimizer, averages, step, next batch, best checkpoint, history: bit for bit.

    Five of the kills come while a checkpoint is being written.
    """
    config = micro.get_config(steps=60, save_every=4)
    command_line = command("main", *MICRO, *OPTIONS)
    hit, _ = soak.soak(command_line, tmp_path, config, kills=2, saves=5, seed=3)
    assert hit == 7
    kept = soak.digests(tmp_path / "broken")
    assert {"latest at step 60", "next batch"} < kept.keys() and len(kept) == 3
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
