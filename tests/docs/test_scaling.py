"""Collective operations of a step on eight devices, read from the compiled program."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
NORMS = 5  # of the micro network: the stem, two at each level
PROGRAM = """
import json, jax, micro
from jax import lax
from scripts.benchmarks import scaling
from ssd_jax.runtime import devices

jax.config.update("jax_num_cpu_devices", scaling.DEVICES)
if {as_accelerators_do}:
    lax.platform_dependent = lambda *operands, default, **_: default(*operands)
runner = devices.get_runner("{kind}")
text, size = scaling.compile_step(micro.get_config(batch_size=2 * scaling.DEVICES), runner)
print(json.dumps([scaling.collective_sizes(text), size]))
"""


# The form of a filter's gradient for CPUs is a loop over images, which `jit` cannot shard.
@pytest.mark.parametrize(("kind", "as_accelerators_do"), [("pmap", False), ("jit", True)])
def test_gradients_are_summed_once_and_there_is_no_other_collective(kind, as_accelerators_do):
    """Two sums for each norm, one for all gradients, one for the counts: together at most 1.05 of
    the parameters' bytes. The gradients may be summed together with the norms' last sums."""
    code = PROGRAM.format(kind=kind, as_accelerators_do=as_accelerators_do)
    environment = os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}"}
    result = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
    sizes, parameters = json.loads(result.stdout)
    assert set(sizes) == {"all-reduce"}
    assert len(sizes["all-reduce"]) <= 2 * NORMS + 2
    assert parameters <= sum(sizes["all-reduce"]) <= 1.05 * parameters
