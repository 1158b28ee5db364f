"""The operator's page knows every message that a run can end or go on with."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SAID_BY = ("log_line", "print", "ConfigError", "DataError", "CheckpointError", "ResourceError",
           "NonFiniteLossError", "Interrupted", "StoppedBySignal", "_DamagedError",
           "_exit")  # fmt: skip
OPERATIONS = (ROOT / "docs" / "operations.md").read_text()


def spoken(path):
    """The start of the longest piece of fixed text of each message of a file."""
    for node in ast.walk(ast.parse(path.read_text())):
        name = getattr(node, "func", None)
        if isinstance(node, ast.Call) and getattr(name, "id", getattr(name, "attr", 0)) in SAID_BY:
            texts = [part.value for part in ast.walk(node)
                     if isinstance(part, ast.Constant) and isinstance(part.value, str)]  # fmt: skip
            pieces = [piece.strip(" ,.;:()") for text in texts for piece in text.split("\n")]
            if pieces and len(longest := max(pieces, key=len)) > 3:
                yield longest[:40].strip()


@pytest.mark.parametrize(
    "name",
    [
        "commands/train",
        "data/worker_processes",
        "evaluate",
        "predict",
        "prediction/inputs",
        "prediction/outputs",
        "prediction/pictures",
        "prediction/writer",
        "training",
        "trainer",
        "recipe/config_file",
        "recipe/photographs",
        "runs/checkpoint",
        "runtime/checksum",
        "runs/folder",
        "runs/load",
        "runs/lock",
        "runs/manifest",
        "runs/metrics",
        "runs/state_files",
        "runs/tensorboard",
        "runtime/command_line",
        "runtime/devices",
        "runtime/download",
        "runtime/distributed",
        "runtime/files",
        "runtime/profiler",
        "config/versions",
        "weights/import_run",
        "weights/initialize",
        "weights/named",
        "weights/pytorch_file",
    ],
)
def test_every_message_of_a_run_is_explained(name):
    page = re.sub(r"[\s`]+", " ", OPERATIONS)
    messages = list(spoken(ROOT / "ssd_jax" / f"{name}.py"))
    unexplained = [text for text in messages if text not in page]
    assert messages and not unexplained
