import pytest

from ssd_jax.config import rules


@pytest.mark.parametrize(
    ("rule", "right", "wrong"),
    [
        (rules.integer(2), [2, 2**31 - 1], [1, 2.0, True, 2**31, "2", None, float("nan")]),
        (rules.number("", lambda x: x > 0), [1, 0.5], [0, True, float("inf"), float("nan"), "1"]),
        (rules.choice("a", "b"), ["a"], ["c", ("a",), None, 1, ["a"]]),
        (
            rules.tuple_of(rules.NONEMPTY_STR, 1, 2),
            [("a",), ("a", "b")],
            [(), ("a",) * 3, ["a"], "a", (1,)],
        ),
        (
            rules.distinct(rules.tuple_of(rules.NONEMPTY_STR)),
            [(), ("a", "b")],
            [("a", "a"), (1, 2)],
        ),
        (
            rules.ascending(rules.tuple_of(rules.POSITIVE_FRACTION)),
            [(), (0.1, 1)],
            [(1, 0.1), (0.5, 0.5)],
        ),
        (
            rules.interval(0.0, 2.0),
            [(0, 2), (1, 1)],
            [(1, 0), (0, 3), (0, float("nan")), (0,), "ab"],
        ),
        (
            rules.SCALAR_OR_TUPLE,
            ["a", True, 1.5, ((1, "a"), 2)],
            [None, float("nan"), ((float("inf"),),)],
        ),
        (rules.NONEMPTY_STR, ["a b"], ["", " ", 1, None]),
    ],
)
def test_a_rule_takes_any_value(rule, right, wrong):
    assert all(map(rule.is_valid, right))
    assert not any(map(rule.is_valid, [*wrong, {}, object(), [[]], float("nan"), 10**500, b"a"]))
