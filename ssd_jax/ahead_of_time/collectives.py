"""Exchanges between devices in a schedule, and the computation that asynchronous ones hide behind.

XLA writes an asynchronous exchange in three ways: `all-reduce-start` and `-done`; `async-start`
and `-done` around it; on TPUs, a chain of fusions that hold the same one, with one `chain_id`.
"""

import re
from typing import NamedTuple

from ssd_jax.ahead_of_time.hlo import Instruction, Module, array_bytes

KINDS = {"all-reduce", "all-gather", "reduce-scatter", "all-to-all", "ragged-all-to-all",
         "collective-permute", "collective-broadcast"}  # fmt: skip
_CHAIN = re.compile(r'chain_id="(\w+)"')


class Collective(NamedTuple):
    """An exchange; one that is not synchronous hides behind `hidden_cycles`."""

    kind: str
    scope: str
    arrays: int
    bytes: int  # of its results
    at_cycle: int  # estimated cycles of what is scheduled before it
    synchronous: bool
    hidden_cycles: int


class CollectiveLog:
    """The exchanges of a schedule whose instructions are passed in order."""

    def __init__(self, module: Module):
        self._module = module
        self._started: dict[str, int] = {}  # index of an exchange by what ends it
        self.found: list[Collective] = []

    def start(self, instruction: Instruction, scope: str, cycles: int) -> None:
        """To call before the instruction's own cycles are added to `cycles`."""
        exchange = self._exchange(instruction)
        if exchange is None or (key := _key(instruction, exchange)) in self._started:
            return
        if key:
            self._started[key] = len(self.found)
        kind, sizes = exchange.kind.removesuffix("-start"), _result_bytes(exchange)
        self.found.append(Collective(kind, scope, len(sizes), sum(sizes), cycles, not key, 0))

    def end(self, instruction: Instruction, cycles: int) -> None:
        """To call after the instruction's own cycles are added to `cycles`."""
        exchange = self._exchange(instruction)
        if exchange is not None:
            key = _key(instruction, exchange)
        else:
            key = instruction.operands[0] if instruction.kind.endswith("-done") else None
        if key in self._started:
            index = self._started[key]
            hidden = cycles - self.found[index].at_cycle
            self.found[index] = self.found[index]._replace(hidden_cycles=hidden)

    def _exchange(self, instruction: Instruction) -> Instruction | None:
        """The instruction itself, or the one that it fuses or starts, if it is an exchange."""
        if instruction.kind.removesuffix("-start") in KINDS:
            return instruction
        if instruction.kind not in ("fusion", "async-start"):
            return None
        called = [self._module.computations[name] for name in instruction.called.get("calls", ())]
        inner = [each for computation in called for each in computation.values()]
        return next((each for each in inner if each.kind in KINDS), None)


def _key(instruction: Instruction, exchange: Instruction) -> str | None:
    """What the end of an asynchronous exchange has in common with its start."""
    if instruction.kind.endswith("-start"):
        return instruction.name
    chain = _CHAIN.search(exchange.attributes)
    return f"chain {chain[1]}" if instruction.kind == "fusion" and chain else None


def _result_bytes(exchange: Instruction) -> list[int]:
    """One that is started may name its operands first, and a token last."""
    sizes, count = array_bytes(exchange.shape), len(exchange.operands)
    return sizes[count : 2 * count] if len(sizes) > count else sizes
