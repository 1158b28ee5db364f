"""Lines of config files that programs write."""

import pytest
from ml_collections import ConfigDict

from ssd_jax.config.assignment import format_assignment, format_value


@pytest.mark.parametrize(
    "value",
    [1, 0.5, "it's", 'a "b" c\'d', "back\\slash", ("a", "b"), (), {"width": 4, "kinds": ("x",)},
     tuple(f"class number {i}" for i in range(30)), "long " * 40],
)  # fmt: skip
def test_an_assignment_gives_the_value(value):
    text = format_assignment("model.block", value, "a reason")
    assert all(len(line) <= 100 for line in text.splitlines()) and "# a reason" in text
    names = {"ConfigDict": ConfigDict}
    exec(f"def change(config):\n{text}", names)
    config = ConfigDict({"model": {}})
    names["change"](config)
    expected = ConfigDict({"model": {"block": value}})
    assert config.to_dict() == expected.to_dict()
    assert eval(format_value(value)) == value


def test_a_reason_stands_beside_a_short_value_and_above_a_long_one():
    assert format_assignment("a", 1, "why") == "    config.a = 1  # why"
    lines = format_assignment("a", ("x" * 60, "y" * 60), "why").splitlines()
    assert lines[0] == "    # why" and lines[1].startswith('    config.a = ("x')
    assert format_assignment("a", "x") == '    config.a = "x"'
