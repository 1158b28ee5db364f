"""The command on a machine without the compiler for TPUs, and with arguments that are wrong."""

import subprocess
import sys

import jax
import pytest
from commands import ROOT

# `libtpu` cannot be found, even where it is installed.
PROGRAM = """
import importlib.util, runpy, sys
find = importlib.util.find_spec
importlib.util.find_spec = lambda name, *rest: None if name == "libtpu" else find(name, *rest)
sys.argv = ["scripts.compile_ahead", *sys.argv[1:]]
runpy.run_module("scripts.compile_ahead", run_name="__main__")
"""


def call(*arguments):
    return subprocess.run(
        [sys.executable, "-c", PROGRAM, "--config=configs/quickstart.py", *arguments],
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip


def test_without_the_compiler_it_says_what_to_install():
    result = call("--topology=v5e:4x4", "--config.model.dtype=bfloat16")
    assert result.returncode == 6 and result.stdout == ""
    assert f'pip install "jax[tpu]=={jax.__version__}"' in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("--topology=v9:2x2", "write one of v4, v5e, v5p, v6e and a shape"),
        ("--config.parallel=mpi", "config.parallel"),
        ("--config.data.train=('csv:a:b',)", "--num_classes=21"),
        ("--what=export", "what"),
        ("--per_device=0", "per_device"),
    ],
)
def test_wrong_arguments_are_named_first(argument, message):
    result = call(argument)
    assert result.returncode == 2 and message in result.stderr, result.stderr
    assert "Traceback" not in result.stderr
