"""The console script `ssd-jax`, from any folder."""

import json
import os
import subprocess
import sys

import pytest
from commands import MICRO, ROOT

from ssd_jax import cli
from ssd_jax.errors import ConfigError


def ssd_jax(folder, *arguments):
    code = "import sys; sys.argv[0] = 'ssd-jax'; from ssd_jax.cli import main; main()"
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)], cwd=folder, capture_output=True,
        text=True, env=os.environ | {"PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"},
    )  # fmt: skip


@pytest.mark.parametrize("name", [name for name in cli.COMMANDS if name != "eval"])
def test_every_command_explains_itself(tmp_path, name):
    result = ssd_jax(tmp_path, name, "--help")
    assert result.returncode == 0, result.stderr
    assert f"ssd-jax {name} --" in result.stdout and "Flags:" in result.stdout
    assert ("--config.batch_size" in result.stdout) == ("--config " in result.stdout)
    assert not list(tmp_path.iterdir())


def test_without_a_command_all_are_listed(tmp_path):
    for arguments in ((), ("--help",)):
        result = ssd_jax(tmp_path, *arguments)
        assert result.returncode == 0 and all(name in result.stdout for name in cli.COMMANDS)
    assert ssd_jax(tmp_path, "--version").stdout.startswith("ssd_jax ")


def test_a_wrong_name_is_answered_with_the_nearest():
    with pytest.raises(ConfigError, match="ssd-jax trian: no such command; did you mean train?"):
        cli._check("trian")
    with pytest.raises(ConfigError, match="there are train, eval, predict"):
        cli._check("xyzzy")
    assert cli._check("predict") is None


def test_a_config_by_name_trains_and_evaluates_in_an_empty_folder(tmp_path):
    settings = ("--config=quickstart", "--workdir=run", *MICRO[1:])
    trained = ssd_jax(tmp_path, "train", *settings)
    assert trained.returncode == 0, trained.stderr
    first = json.loads((tmp_path / "run" / "results.json").read_text())
    evaluated = ssd_jax(tmp_path, "eval", "--workdir=run")  # with the run's own config
    assert evaluated.returncode == 0, evaluated.stderr
    assert "mAP@.5" in evaluated.stdout
    again = json.loads((tmp_path / "run" / "results.json").read_text())
    assert again.keys() == first.keys() - {"training"}


def test_a_misspelled_config_is_answered_with_the_nearest(tmp_path):
    result = ssd_jax(tmp_path, "train", "--config=quickstrat")
    assert result.returncode == ConfigError.exit_code
    assert "no such file quickstrat; there is --config=quickstart" in result.stderr
