"""What an unknown flag or field may have meant."""

import pytest
from commands import call

from ssd_jax.errors import ConfigError
from ssd_jax.runtime.suggestions import is_field, suggest

TRAINING = ["config", "workdir", "mode", "checkpoint"]
PREDICTION = ["workdir", "input", "output", "score_threshold"]


@pytest.mark.parametrize(
    ("name", "flags", "expected"),
    [
        ("epochs", TRAINING, ["config.steps"]),
        ("config.lr", TRAINING, ["config.optim.learning_rate"]),
        ("batch", TRAINING, ["config.batch_size"]),
        ("config.imgsz", TRAINING, ["config.image_size"]),
        ("config.optim.learning_rte", TRAINING, ["config.optim.learning_rate"]),
        ("workdri", TRAINING, ["workdir"]),
        ("threshold", PREDICTION, ["score_threshold"]),
        ("score-threshold", PREDICTION, ["score_threshold"]),
        ("epochs", PREDICTION, []),
        ("qqqq", TRAINING, []),
    ],
)
def test_the_nearest_name_comes_first(name, flags, expected):
    assert suggest(name, flags)[: max(len(expected), 1)] == expected


def test_fields_are_those_of_the_schema():
    for name in ("steps", "optim", "optim.learning_rate", "model.backbone.widths"):
        assert is_field(name)
    for name in ("stpes", "lr", "optim.lr", "optim.learning_rate.x"):
        assert not is_field(name)


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("--epochs=3", "there is no --epochs: did you mean --config.steps?"),
        ("--config.optim.lr=1", "no --config.optim.lr: did you mean --config.optim.learning_rate?"),
        ("--config.model.backbone.wdths=3", "'wdths'"),
        ("--qqqq", "there is no --qqqq\n"),
    ],
)
def test_the_command_line_says_it_and_makes_no_run(tmp_path, argument, message):
    result = call("main", "--config=configs/quickstart.py", f"--workdir={tmp_path / 'r'}", argument)
    assert result.returncode == ConfigError.exit_code
    assert message in result.stderr and "Traceback" not in result.stderr
    assert not (tmp_path / "r").exists()
