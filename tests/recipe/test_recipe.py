"""The whole choice, what is said of it, and that it waits for no device."""

import math
import os
import subprocess
import sys

import pytest
from commands import ROOT
from voc_folders import put_voc

from ssd_jax.recipe.priors import PriorFit
from ssd_jax.recipe.recipe import choose_recipe, describe_priors, describe_recipe
from ssd_jax.recipe.setting import Setting


def test_no_device_is_started(tmp_path):
    """Several processes choose before they join, which JAX refuses once there is a device."""
    put_voc(tmp_path, [f"photo {i}" for i in range(5)])
    code = (
        "import sys; from pathlib import Path; from ssd_jax.recipe.recipe import choose_recipe; "
        "print(choose_recipe(Path(sys.argv[1]), 'none').count)"
    )
    result = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "nothing"},
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert 1 <= int(result.stdout) < 5


def test_the_choice_is_the_same_again_and_said(tmp_path):
    put_voc(tmp_path, [f"photo {i}" for i in range(20)])
    first, again = (choose_recipe(tmp_path, "none", epochs=3) for _ in range(2))
    assert first == again
    lines = dict(describe_recipe(first))
    assert lines["sets"] == "train 70 %, val 15 %, test 15 % of 20"
    assert lines["start"] == "random weights: as --weights=none says"
    assert lines["length"] == f"3 epochs of {first.count} photographs; --epochs=N changes it"
    other = dict(describe_recipe(choose_recipe(tmp_path, "torchvision:resnet34")))
    assert other["start"].endswith("; not measured with these weights")


@pytest.mark.parametrize(
    ("weights", "fit", "text"),
    [
        ("none", PriorFit(math.nan, math.nan, ()), ""),
        ("none", PriorFit(0.95, 0.95, ()), "95.0% of the boxes have a prior with IoU ≥ 0.5"),
        ("none", PriorFit(0.4, 0.95, (Setting("priors.sizes", ()),)), "before, 40.0% had"),
        ("none", PriorFit(0.4, 0.4, ()), "cut the photographs into tiles"),
        ("tflite:coco_ssd_mobilenet_v1", PriorFit(0.95, 0.95, ()), "those of the weights"),
        ("tflite:coco_ssd_mobilenet_v1", PriorFit(0.4, 0.4, ()), "compare with --weights=none"),
    ],
)
def test_what_is_said_of_priors(tmp_path, weights, fit, text):
    put_voc(tmp_path, ["a", "b"])
    described = describe_priors(choose_recipe(tmp_path, weights)._replace(priors=fit))
    assert text in described and bool(described) == bool(text)
