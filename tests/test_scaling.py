"""What eight devices say to each other in a step, read from the program compiled for them."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
NORMS = 5  # of the micro network: the stem, two at each level
PROGRAM = """
import json, jax, micro
from jax import lax
from scripts.benchmarks import scaling
from ssd_jax import parallel

jax.config.update("jax_num_cpu_devices", scaling.DEVICES)
if {as_accelerators_do}:
    lax.platform_dependent = lambda *operands, default, **_: default(*operands)
runner = parallel.make("{kind}")
text, size = scaling.compiled_step(micro.get_config(batch_size=2 * scaling.DEVICES), runner)
print(json.dumps([scaling.traffic(text), size]))
"""


# A CPU's own form of a filter's gradient is a loop over images, which `jit` cannot share out.
@pytest.mark.parametrize(("kind", "as_accelerators_do"), [("pmap", False), ("jit", True)])
def test_gradients_are_summed_once_and_nothing_else_is_exchanged(kind, as_accelerators_do):
    """Two sums for each norm, one for all gradients, one for the counts, together the parameters'
    bytes but for a twentieth. The gradients may ride along with the norms' last sums."""
    code = PROGRAM.format(kind=kind, as_accelerators_do=as_accelerators_do)
    environment = os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}"}
    result = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
    moved, parameters = json.loads(result.stdout)
    assert set(moved) == {"all-reduce"}
    assert len(moved["all-reduce"]) <= 2 * NORMS + 2
    assert parameters <= sum(moved["all-reduce"]) <= 1.05 * parameters
