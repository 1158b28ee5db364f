"""The command lines around the package."""

import json
import subprocess
import sys
from pathlib import Path

import micro
import numpy as np

from ssd_jax import draw, init, step
from ssd_jax.importers import files
from ssd_jax.importers.imported import Imported

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


def test_weights_that_do_not_fit_leave_no_run(tmp_path):
    config = micro.get_config(data__classes=("a", "b"))
    state = step.create_state(step.build(config, 3))
    params, batch_stats = init.flat(state.params), init.flat(state.batch_stats)
    params.pop("heads/localization_0/bias")
    files.write_npz(tmp_path / "w.npz", Imported(params, batch_stats))
    result = call(
        "import_weights.py", f"--source={tmp_path / 'w.npz'}", "--format=npz",
        f"--config={Path(__file__).with_name('micro.py')}", "--config.data.classes=('a', 'b')",
        f"--workdir={tmp_path / 'run'}",
    )  # fmt: skip
    assert result.returncode == 4, result.stderr
    assert "localization_0/bias is absent" in result.stderr and "Traceback" not in result.stderr
    assert not (tmp_path / "run").exists()
