"""A line of a config file that a program writes."""

from pprint import pformat
from typing import Any

_LINE = 100
_WIDTH = 96


def format_assignment(name: str, value: Any, reason: str = "") -> str:
    """`config.NAME = VALUE` in a function, with the reason beside or above it.

    A dict becomes a block of fields. A long value takes several lines.
    """
    start = f"    config.{name} = "
    before, after = ("ConfigDict(", ")") if isinstance(value, dict) else ("", "")
    indent = len(start) + len(before)
    text = format_value(value, _WIDTH - indent)
    line = start + before + text.replace("\n", "\n" + " " * indent) + after
    if not reason:
        return line
    beside = f"{line}  # {reason}"
    return beside if "\n" not in line and len(beside) <= _LINE else f"    # {reason}\n{line}"


def format_value(value: Any, width: int = _WIDTH) -> str:
    """A value as it stands in a file, with double quotes where a text has none."""
    text = pformat(value, width=width, sort_dicts=False)
    return text if '"' in text or "\\" in text else text.replace("'", '"')
