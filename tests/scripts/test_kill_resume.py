"""A run that is killed six times ends as one that was not disturbed."""

import json

import micro
import pytest
from commands import MICRO, command

from scripts import kill_resume_test
from ssd_jax.errors import SsdError

OPTIONS = [
    "--config.steps=60", "--config.save_every=4", "--config.eval_every=20", "--config.log_every=3",
    "--config.optim.ema_decay=0.9", "--config.loss.negatives=random",
    "--config.data.val=('shapes:val:5',)", "--config.patience=2",
]  # fmt: skip


def test_six_kills_change_nothing(tmp_path, capsys):
    """Parameters, optimizer, EMA, step, next batch, best checkpoint, metrics: bit for bit.

    Three of the kills come while a checkpoint is being written, one while a run starts.
    """
    config = micro.get_config(steps=60, save_every=4)
    command_line = command("main", *MICRO, *OPTIONS)
    counts = kill_resume_test.compare_runs(
        command_line, tmp_path, config, kills=2, saves=3, seed=3, starts=1
    )
    assert counts.hits == 6
    digests = kill_resume_test.digests(tmp_path / "killed")
    assert {"latest at step 60", "next batch"} < digests.keys() and len(digests) == 3
    # The comparison can fail: a changed line changes the history.
    history = tmp_path / "killed" / "metrics.jsonl"
    lines = history.read_text().splitlines()
    history.write_text("\n".join([*lines[:-1], json.dumps({"step": 60, "x": 1})]) + "\n")
    assert kill_resume_test.history(tmp_path / "killed") != kill_resume_test.history(
        tmp_path / "undisturbed"
    )


def test_a_run_that_fails_is_an_error(tmp_path):
    with pytest.raises(SsdError, match="failed"):
        kill_resume_test.run_to_end(command("main", "--config=configs/nothing.py"), tmp_path)


def test_half_a_line_is_no_step(tmp_path):
    assert kill_resume_test.last_step(tmp_path) == 0
    (tmp_path / "metrics.jsonl").write_text('{"step": 3}\n{"step": 6}\n{"st')
    assert kill_resume_test.last_step(tmp_path) == 6
