"""The command lines around the package."""

import micro
import pytest
from commands import ROOT, call_script

from ssd_jax.detector import build_detector
from ssd_jax.parameter_names import flatten_parameters
from ssd_jax.train_step import init_state
from ssd_jax.weights import files
from ssd_jax.weights.imported import ImportedWeights

COMMANDS = sorted(
    path.stem for path in (ROOT / "scripts").glob("*.py") if "command_line" in path.read_text()
)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_a_help_text(name):
    result = call_script(name, "--help")
    assert result.returncode == 0, result.stderr
    assert f"python -m scripts.{name}" in result.stdout


def test_weights_that_do_not_fit_leave_no_run(tmp_path):
    config = micro.get_config(data__classes=("a", "b"))
    state = init_state(build_detector(config, 3))
    params, batch_stats = flatten_parameters(state.params), flatten_parameters(state.batch_stats)
    params.pop("heads/localization_0/bias")
    files.write_npz(tmp_path / "w.npz", ImportedWeights(params, batch_stats))
    result = call_script(
        "import_weights", f"--source={tmp_path / 'w.npz'}", "--format=npz",
        f"--config={ROOT / 'tests' / 'micro.py'}", "--config.data.classes=('a', 'b')",
        f"--workdir={tmp_path / 'run'}",
    )  # fmt: skip
    assert result.returncode == 4, result.stderr
    assert "localization_0/bias is absent" in result.stderr and "Traceback" not in result.stderr
    assert not (tmp_path / "run").exists()
