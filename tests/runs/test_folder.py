import json
import os
import subprocess
import sys

import micro
import numpy as np
import pytest

from ssd_jax.errors import CheckpointError, ConfigError, ResourceError
from ssd_jax.runs.folder import (
    RunInfo,
    check_same_experiment,
    lock_run_folder,
    read_run_info,
    run_metadata,
    write_run_files,
)
from ssd_jax.runtime.files import write_json

PRIORS = np.zeros((3, 4), np.float32)


def run(**changes):
    whole = RunInfo(micro.get_config(), ("a", "b"), "f0", PRIORS)
    return whole._replace(**changes)


def test_a_run_describes_itself(tmp_path):
    write_run_files(tmp_path, run(), run_metadata(run().config))
    again = read_run_info(tmp_path)
    assert again.classes == ("a", "b") and again.data == "f0" and again.priors.shape == (3, 4)
    assert again.config.to_dict() == micro.get_config().to_dict()
    assert "jax" in json.loads((tmp_path / "run.json").read_text())["versions"]


def test_the_same_experiment_may_have_more_steps(tmp_path):
    write_run_files(tmp_path, run(), run_metadata(run().config))
    data = {"classes": ("a", "b"), "data": "f0"}
    check_same_experiment(tmp_path, micro.get_config(steps=99), data)


@pytest.mark.parametrize(
    ("changes", "data", "named"),
    [
        ({"seed": 5}, {}, "config.seed: 0 -> 5"),
        ({"batch_size": 8}, {}, "config.batch_size: 4 -> 8"),
        ({"model__backbone__levels": 3}, {}, "config.model.backbone.levels: 2 -> 3"),
        ({}, {"classes": ("a", "c")}, "classes:"),
        ({}, {"data": "f1"}, "data: f0 -> f1"),
    ],
)
def test_another_experiment_is_refused_with_the_difference(tmp_path, changes, data, named):
    write_run_files(tmp_path, run(), run_metadata(run().config))
    with pytest.raises(ConfigError, match=named) as refused:
        check_same_experiment(tmp_path, micro.get_config(**changes), data)
    assert refused.value.exit_code == 2


def test_a_folder_that_is_no_run(tmp_path):
    with pytest.raises(CheckpointError, match=r"no run\.json"):
        read_run_info(tmp_path)


@pytest.mark.parametrize("name", ["run.json", "config.json", "priors.npy"])
def test_a_damaged_or_incomplete_run_is_told_apart(tmp_path, name):
    write_run_files(tmp_path, run(), run_metadata(run().config))
    whole = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CheckpointError, match="damaged"):
        read_run_info(tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(CheckpointError, match=f"no {name}"):
        read_run_info(tmp_path)


def test_a_live_run_holds_its_folder(tmp_path):
    code = (
        "import sys, pathlib; from ssd_jax.runs.folder import lock_run_folder\n"
        "held = lock_run_folder(pathlib.Path(sys.argv[1])); print('held', flush=True)\n"
        "sys.stdin.read()"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", code, tmp_path], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        text=True,
    )  # fmt: skip
    assert holder.stdout.readline() == "held\n"
    with pytest.raises(ResourceError, match="in use by a live run"):
        lock_run_folder(tmp_path)
    holder.communicate("")
    lock_run_folder(tmp_path).close()  # the lock died with its holder


def test_a_place_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ResourceError, match="another --workdir"):
        lock_run_folder(tmp_path / "file" / "run")
    with pytest.raises(ResourceError, match="cannot write"):
        write_json(tmp_path / "file" / "x.json", {})


def test_json_is_replaced_whole(tmp_path):
    write_json(tmp_path / "x.json", {"a": 1})
    write_json(tmp_path / "x.json", {"a": 2})
    assert json.loads((tmp_path / "x.json").read_text()) == {"a": 2}
    assert os.listdir(tmp_path) == ["x.json"]
