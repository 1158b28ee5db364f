import json
import os
import subprocess
import sys

import micro
import numpy as np
import pytest

from ssd_jax import workdir
from ssd_jax.errors import CheckpointError, ConfigError, MachineError

PRIORS = np.zeros((3, 4), np.float32)


def begin(folder, **changes):
    options = {"classes": ("a", "b"), "fingerprint": "f0"} | changes
    workdir.open_for_training(folder, options.pop("config", micro.get_config()),
                              priors=PRIORS, **options)  # fmt: skip


def test_a_run_describes_itself(tmp_path):
    begin(tmp_path)
    assert workdir.describe(tmp_path)["classes"] == ["a", "b"]
    assert json.loads((tmp_path / "config.json").read_text())["batch_size"] == 4
    assert np.load(tmp_path / "priors.npy").shape == (3, 4)
    assert "jax" in workdir.describe(tmp_path)["versions"]


def test_the_same_experiment_continues_with_more_steps(tmp_path):
    begin(tmp_path)
    begin(tmp_path, config=micro.get_config(steps=99))
    assert json.loads((tmp_path / "config.json").read_text())["steps"] == 99


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"config": micro.get_config(seed=5)}, "config.seed: 0 -> 5"),
        ({"classes": ("a", "c")}, "classes:"),
        ({"fingerprint": "f1"}, "data: f0 -> f1"),
    ],
)
def test_another_experiment_is_refused_and_nothing_is_written(tmp_path, change, named):
    begin(tmp_path)
    before = (tmp_path / "config.json").read_text()
    with pytest.raises(ConfigError, match=named):
        begin(tmp_path, **change)
    assert (tmp_path / "config.json").read_text() == before


def test_a_folder_that_is_no_run(tmp_path):
    with pytest.raises(CheckpointError, match=r"no run\.json"):
        workdir.describe(tmp_path)


def test_a_live_run_holds_its_folder(tmp_path):
    code = (
        "import sys, pathlib; from ssd_jax import workdir\n"
        "held = workdir.lock(pathlib.Path(sys.argv[1])); print('held', flush=True)\n"
        "sys.stdin.read()"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", code, tmp_path], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        text=True,
    )  # fmt: skip
    assert holder.stdout.readline() == "held\n"
    with pytest.raises(MachineError, match="in use by a live run"):
        workdir.lock(tmp_path)
    holder.communicate("")
    workdir.lock(tmp_path).close()  # the lock died with its holder


def test_a_place_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(MachineError, match="another --workdir"):
        workdir.lock(tmp_path / "file" / "run")
    with pytest.raises(MachineError, match="cannot write"):
        workdir.write_json(tmp_path / "nowhere" / "x.json", {})


def test_json_is_replaced_whole(tmp_path):
    workdir.write_json(tmp_path / "x.json", {"a": 1})
    workdir.write_json(tmp_path / "x.json", {"a": 2})
    assert json.loads((tmp_path / "x.json").read_text()) == {"a": 2}
    assert os.listdir(tmp_path) == ["x.json"]
