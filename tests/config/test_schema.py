import subprocess
import sys
from pathlib import Path

import pytest

from configs import ssd300_vgg16_voc
from ssd_jax.config import schema
from ssd_jax.data import augment, color
from ssd_jax.models import ssd
from ssd_jax.multibox import losses

ROOT = Path(__file__).resolve().parents[2]


def test_every_field_of_the_base_experiment_has_a_rule_and_no_other():
    free = [name.removesuffix("*") for name in schema.FIELDS if name.endswith(".*")]
    fields = set(leaves(ssd300_vgg16_voc.get_config().to_dict()))
    known = {name for name in fields if not name.startswith(tuple(free))}
    assert known == {name for name in schema.FIELDS if not name.endswith(".*")}


def leaves(values, prefix=""):
    for name, value in values.items():
        if isinstance(value, dict):
            yield from leaves(value, f"{prefix}{name}.")
        else:
            yield prefix + name


def test_combinations_are_of_known_fields():
    names = {name for fields, _, _ in schema.CROSS_FIELD_RULES for name in fields}
    assert names <= schema.FIELDS.keys()


@pytest.mark.parametrize(
    ("field", "known"),
    [
        ("augment.geometric", augment.OPERATIONS),
        ("augment.photometric.operations", color.OPERATIONS),
    ],
)
def test_operations_are_those_of_the_code(field, known):
    rule = schema.FIELDS[field].rule
    assert rule.is_valid(tuple(known))
    assert f"one of {', '.join(known)}, none" in rule.description


def test_types_of_activations_are_those_of_the_code():
    rule = schema.FIELDS["model.dtype"].rule
    assert all(map(rule.is_valid, ssd._DTYPES))
    assert rule.description == f"one of {', '.join(ssd._DTYPES)}"


@pytest.mark.parametrize("module", ["config.validation", "config.schema", "main"])
def test_a_config_is_judged_before_jax_starts(module):
    code = (
        f"import sys, ssd_jax.{module}\n"
        "from configs import quickstart\n"
        "from ssd_jax.config.validation import validate\n"
        "validate(quickstart.get_config())\n"
        "sys.exit(any(name in sys.modules for name in ('jax', 'flax')))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_losses_are_those_of_the_code():
    rule = schema.FIELDS["loss.classification"].rule
    assert rule.description == f"one of {', '.join((*losses._CROSS_ENTROPY, 'focal'))}"
