"""The command lines around the package."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np

from ssd_jax import draw

SCRIPTS = Path(__file__).resolve().parents[1] / "scripts"


def call(name, *arguments):
    return subprocess.run(
        [sys.executable, SCRIPTS / name, *map(str, arguments)], capture_output=True, text=True
    )


def test_a_run_is_drawn(tmp_path):
    lines = [{"step": 1, "train/loss": 3.0}, {"step": 2, "train/loss": None, "coco/AP": 0.5}]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    draw.save(tmp_path / "pictures" / "detections_0000002.png", np.zeros((8, 8, 3), np.uint8))
    result = call("plot_run.py", f"--workdir={tmp_path}", f"--output={tmp_path / 'docs' / 'x'}")
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "docs" / "x_curves.png").stat().st_size > 1000
    assert (tmp_path / "docs" / "x.jpg").exists()


def test_a_folder_that_is_no_run_cannot_be_drawn(tmp_path):
    result = call("plot_run.py", f"--workdir={tmp_path}", f"--output={tmp_path / 'x'}")
    assert result.returncode == 3 and "is --workdir a run?" in result.stderr
