"""The text of a compiled program: its computations and their instructions, in scheduled order."""

import math
import re
from functools import cached_property
from typing import NamedTuple

_BITS = {"pred": 8, "token": 0, "opaque": 0}
_ARRAY = re.compile(r"([a-z]+\d*\w*)\[([\d,]*)\](\{[^}]*\})?")
_HEADER = re.compile(r"(ENTRY )?%?([\w.\-]+) \(.*\{$")
_INSTRUCTION = re.compile(r"\s+(ROOT )?%?([\w.\-]+) = (.*)$")
_KIND = re.compile(r"\s*([a-z][\w\-]*)(?=\()")
_NAME = re.compile(r"%([\w.\-]+)")
_OP_NAME = re.compile(r'op_name="((?:[^"\\]|\\.)*)"')
_CYCLES = re.compile(r'"estimated_cycles":"(\d+)"')
_CALLED = re.compile(
    r"(calls|body|condition|to_apply|true_computation|false_computation|branch_computations)="
    r"(\{[^}]*\}|%?[\w.\-]+)"
)


class Instruction:
    """`name = shape kind(operands), attributes`.

    Attributes:
        name: unique in its computation.
        shape: type and layout of the result; of several results in parentheses.
        kind: add, fusion, while …
        operands: names; of a constant, nothing.
        literal: what stands in the parentheses, the value of a constant.
        attributes: the rest of the line.
        is_root: whether it is the result of its computation.
    """

    def __init__(self, name: str, text: str, is_root: bool):
        end = _matching_parenthesis(text, 0) if text.startswith("(") else text.find(" ")
        kind = _KIND.match(text, end)
        if kind is None:
            raise ValueError(f"not an instruction of HLO: {name} = {text[:100]}")
        close = _matching_parenthesis(text, kind.end())
        self.name, self.shape, self.kind, self.is_root = name, text[:end], kind[1], is_root
        self.literal = text[kind.end() + 1 : close - 1]
        self.attributes = text[close:]

    @cached_property
    def operands(self) -> tuple[str, ...]:
        return tuple(_NAME.findall(self.literal))

    @cached_property
    def op_name(self) -> str:
        """Where the program made it: transformations, scopes, operation. "" if unknown."""
        found = _OP_NAME.search(self.attributes)
        return found[1] if found else ""

    @cached_property
    def estimated_cycles(self) -> int | None:
        """The compiler's estimate; None for kinds that it does not estimate."""
        found = _CYCLES.search(self.attributes)
        return int(found[1]) if found else None

    @cached_property
    def called(self) -> dict[str, tuple[str, ...]]:
        """Names of other computations by attribute: calls, body, condition, …"""
        return {
            attribute: tuple(name.strip(" %") for name in names.strip("{}").split(","))
            for attribute, names in _CALLED.findall(self.attributes)
        }


Computation = dict[str, Instruction]


class Module(NamedTuple):
    """A program: its computations by name, and the one that is run."""

    computations: dict[str, Computation]
    entry: Computation


def parse(text: str) -> Module:
    """The computations of a program as `compiled.as_text()` prints it.

    Raises ValueError for a text without an entry computation, or an unreadable instruction.
    """
    computations: dict[str, Computation] = {}
    current: Computation | None = None
    entry = None
    for line in text.splitlines():
        if not line.startswith(" "):
            header = _HEADER.match(line)
            current = computations.setdefault(header[2], {}) if header else None
            if header and header[1]:
                entry = current
        elif current is not None and (found := _INSTRUCTION.match(line)):
            current[found[2]] = Instruction(found[2], found[3], bool(found[1]))
    if entry is None:
        raise ValueError("not the text of a compiled program: it has no ENTRY")
    return Module(computations, entry)


def root(computation: Computation) -> Instruction:
    """The instruction whose result is that of the computation."""
    return next(each for each in computation.values() if each.is_root)


def array_bytes(shape: str) -> list[int]:
    """Bytes of each array of a shape, without padding."""
    return [_bytes(kind, sizes) for kind, sizes, _ in _ARRAY.findall(shape)]


def hbm_bytes(shape: str) -> list[int]:
    """`array_bytes`, 0 for those in the chip's own memory (`S(n)` in the layout)."""
    return [
        0 if "S(" in layout else _bytes(kind, sizes)
        for kind, sizes, layout in _ARRAY.findall(shape)
    ]


def _bytes(kind: str, sizes: str) -> int:
    bits = _BITS.get(kind) if kind in _BITS else int(re.findall(r"\d+", kind)[0])
    return math.prod(int(size) for size in sizes.split(",") if size) * bits // 8


def _matching_parenthesis(text: str, start: int) -> int:
    """The position after the parenthesis that closes the one at `start`."""
    depth = 0
    for i in range(start, len(text)):
        depth += (text[i] == "(") - (text[i] == ")")
        if depth == 0:
            return i + 1
    raise ValueError(f"parentheses do not match: {text[start : start + 100]}")
