"""How often a `while` of a compiled program runs, where its counter says so."""

import re

from ssd_jax.ahead_of_time.hlo import Computation, Instruction, Module, root

_TRIP_COUNT = re.compile(r'"known_trip_count":\{"n":"(\d+)"\}')
_COPIES = ("copy", "copy-start", "copy-done", "bitcast", "convert")


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
    step, state = _step(body, index), caller[loop.operands[0]]
    start = _constant(_origin(caller, state.operands[index])) if state.kind == "tuple" else None
    if not step or start is None:
        return None
    return max(-(-(end - start) // step), 0)


def _bound(condition: Computation) -> tuple[int | None, int | None]:
    """Of "element index < end": both; otherwise None."""
    test = root(condition)
    if test.kind != "compare" or "direction=LT" not in test.attributes:
        return None, None
    counter, end = (_origin(condition, name) for name in test.operands)
    return _index(counter), _constant(end)


def _step(body: Computation, index: int) -> int | None:
    """What the body adds to an element of its state; None if it does anything else."""
    result = root(body)
    added = _origin(body, result.operands[index]) if result.kind == "tuple" else None
    if added is None or added.kind != "add":
        return None
    first, second = (_origin(body, name) for name in added.operands)
    if _index(first) == index:
        return _constant(second)
    return _constant(first) if _index(second) == index else None


def _origin(computation: Computation, name: str) -> Instruction:
    """The instruction that a value comes from, before it was copied."""
    instruction = computation[name]
    while instruction.kind in _COPIES:
        instruction = computation[instruction.operands[0]]
    return instruction


def _index(instruction: Instruction) -> int | None:
    """The element that a get-tuple-element reads."""
    found = re.search(r"index=(\d+)", instruction.attributes)
    return int(found[1]) if instruction.kind == "get-tuple-element" and found else None


def _constant(instruction: Instruction) -> int | None:
    is_integer = instruction.kind == "constant" and re.fullmatch(r"-?\d+", instruction.literal)
    return int(instruction.literal) if is_integer else None
