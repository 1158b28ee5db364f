"""Rules that a value must meet, each with its description for messages and docs."""

from collections.abc import Callable
from typing import Any, NamedTuple

FLOAT32_MAX, INT32_MAX = 3.4e38, 2**31 - 1


class Rule(NamedTuple):
    """What a value must be: a description that follows "must be", and a test of any value."""

    description: str
    is_valid: Callable[[Any], bool]


def _is_number(x: Any) -> bool:
    """An int or float that float32 can hold: neither a bool, nor NaN, nor infinite."""
    return isinstance(x, int | float) and not isinstance(x, bool) and abs(x) <= FLOAT32_MAX


def number(description: str, is_valid: Callable[[Any], bool]) -> Rule:
    """A number that meets a condition."""
    return Rule(f"a number {description}", lambda x: _is_number(x) and is_valid(x))


def integer(minimum: int) -> Rule:
    """An int of at least `minimum` that int32 can hold."""
    rule = number("", lambda x: isinstance(x, int) and minimum <= x <= INT32_MAX)
    return rule._replace(description=f"an integer, {minimum} or above")


def choice(*names: str) -> Rule:
    """One of the names."""
    return Rule(f"one of {', '.join(names)}", lambda x: isinstance(x, str) and x in names)


def tuple_of(rule: Rule, minimum: int = 0, maximum: int = INT32_MAX) -> Rule:
    """A tuple of `minimum` to `maximum` values that each meet the rule."""
    count = f"{minimum}" if minimum == maximum else f"{minimum} or more"

    def is_valid(x: Any) -> bool:
        return isinstance(x, tuple) and minimum <= len(x) <= maximum and all(map(rule.is_valid, x))

    return Rule(f"a tuple of {count}, each {rule.description}", is_valid)


def distinct(rule: Rule) -> Rule:
    """A tuple that meets the rule and has no value twice."""
    return Rule(
        f"{rule.description}, none twice", lambda x: rule.is_valid(x) and len({*x}) == len(x)
    )


def ascending(rule: Rule) -> Rule:
    """A tuple that meets the rule, each value larger than the one before."""
    return Rule(
        f"{rule.description}, ascending", lambda x: rule.is_valid(x) and sorted({*x}) == [*x]
    )


def interval(low: float, high: float) -> Rule:
    """(minimum, maximum) within [low, high]."""
    pair = tuple_of(Rule("", _is_number), 2, 2)
    return Rule(
        f"(minimum, maximum) with {low:g} <= minimum <= maximum <= {high:g}",
        lambda x: pair.is_valid(x) and low <= x[0] <= x[1] <= high,
    )


POSITIVE = number("above 0", lambda x: x > 0)
NONNEGATIVE = number("of at least 0", lambda x: x >= 0)
FRACTION = number("from 0 to 1", lambda x: 0 <= x <= 1)
POSITIVE_FRACTION = number("above 0 and at most 1", lambda x: 0 < x <= 1)
DECAY = number("from 0 to below 1", lambda x: 0 <= x < 1)
PIXEL = number("from 0 to 255", lambda x: 0 <= x <= 255)
BOOL = Rule("True or False", lambda x: isinstance(x, bool))
SPLIT = Rule(
    "(), or three numbers of sum 1 for train, val and test, the first above 0",
    lambda x: (
        x == () or tuple_of(FRACTION, 3, 3).is_valid(x) and x[0] > 0 and abs(sum(x) - 1) < 1e-6
    ),
)
STR = Rule("text, empty for none", lambda x: isinstance(x, str))
NONEMPTY_STR = Rule("text that is not empty", lambda x: isinstance(x, str) and bool(x.strip()))
SCALAR_OR_TUPLE: Rule = Rule(
    "a finite number, a text, or a tuple of them",
    lambda x: isinstance(x, str | bool) or _is_number(x) or tuple_of(SCALAR_OR_TUPLE).is_valid(x),
)
