"""How often a `while` of a compiled program runs, where its counter says so."""

import re

from ssd_jax.ahead_of_time.hlo import Computation, Instruction, Module, root

_TRIP_COUNT = re.compile(r'"known_trip_count":\{"n":"(\d+)"\}')
_SAME_VALUE = ("copy", "bitcast", "convert")


def trip_count(module: Module, caller: Computation, loop: Instruction) -> int | None:
    """Trips of a loop that counts from one constant to another; None for any other.

    Its condition compares an element of the state with a constant, the body adds a constant to it,
    and the caller starts it with a constant.
    """
    if known := _TRIP_COUNT.search(loop.attributes):
        return int(known[1])
    condition = module.computations[loop.called["condition"][0]]
    body = module.computations[loop.called["body"][0]]
    index, end = _bound(condition)
    if index is None or end is None:
        return None
    step = _step(body, index)
    start = _constant(caller, _element(caller, caller[loop.operands[0]], index))
    if not step or start is None:
        return None
    return max(-(-(end - start) // step), 0)


def _bound(condition: Computation) -> tuple[int | None, int | None]:
    """Of "element index < end": both; otherwise None."""
    test = root(condition)
    if test.kind != "compare" or "direction=LT" not in test.attributes:
        return None, None
    counter, end = (condition[name] for name in test.operands)
    return _index(counter), _constant(condition, end)


def _step(body: Computation, index: int) -> int | None:
    """What the body adds to an element of its state; None if it does anything else."""
    result = root(body)
    added = _element(body, result, index) if result.kind == "tuple" else None
    if added is None or added.kind != "add":
        return None
    first, second = (body[name] for name in added.operands)
    if _index(first) == index:
        return _constant(body, second)
    return _constant(body, first) if _index(second) == index else None


def _index(instruction: Instruction) -> int | None:
    """The element that a get-tuple-element reads."""
    found = re.search(r"index=(\d+)", instruction.attributes)
    return int(found[1]) if instruction.kind == "get-tuple-element" and found else None


def _element(computation: Computation, state: Instruction, index: int) -> Instruction | None:
    if state.kind != "tuple":
        return None
    return computation[state.operands[index]]


def _constant(computation: Computation, instruction: Instruction | None) -> int | None:
    while instruction is not None and instruction.kind in _SAME_VALUE:
        instruction = computation[instruction.operands[0]]
    if instruction is None or instruction.kind != "constant":
        return None
    return int(instruction.literal) if re.fullmatch(r"-?\d+", instruction.literal) else None
