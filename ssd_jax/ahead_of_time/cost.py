"""The compiler's estimates of a program, added up: a loop's body counts as often as it runs."""

import re
from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

from ssd_jax.ahead_of_time.collectives import Collective, CollectiveLog
from ssd_jax.ahead_of_time.hlo import (
    Computation,
    Instruction,
    Module,
    array_bytes,
    hbm_bytes,
)
from ssd_jax.ahead_of_time.loops import trip_count
from ssd_jax.ahead_of_time.scopes import OTHER, scope_of

_FREE = {"parameter", "constant", "get-tuple-element", "tuple", "bitcast", "partition-id",
         "replica-id", "after-all", "opt-barrier", "custom-call AllocateBuffer",
         "custom-call ConcatBitcast"}  # fmt: skip
# Kinds that the compiler does not estimate, also where they are fused with others.
_UNESTIMATED = ("sort", "scatter", "gather", "select-and-scatter", "concatenate")
_TARGET = re.compile(r'custom_call_target="([^"]*)"')


class Operation(NamedTuple):
    """An instruction of the schedule."""

    name: str
    kind: str
    scope: str
    op_name: str
    shape: str
    times: int  # how often it runs in one call of the program
    cycles: int | None  # of one time; None without an estimate
    bytes: int  # that one time reads and writes at least
    hbm_bytes: int  # those of them that are not in the chip's own memory


class Loop(NamedTuple):
    """A `while`; `trips` is None where only running it would tell, and 1 is counted."""

    name: str
    scope: str
    op_name: str
    trips: int | None
    cycles: int  # of one trip


class Cost(NamedTuple):
    """All that runs in one call of a program, in the order of the schedule."""

    operations: list[Operation]
    loops: list[Loop]
    collectives: list[Collective]

    @property
    def cycles(self) -> int:
        """The sum of all estimates."""
        return sum(each.times * each.cycles for each in self.operations if each.cycles)


def estimate(module: Module) -> Cost:
    """The cost of one call of a program on one device."""
    visit = _Visit(module)
    visit.computation(module.entry, times=1)
    return visit.cost


class _Visit:
    """A walk through the schedule, into loops, branches and calls."""

    def __init__(self, module: Module):
        self._module = module
        self._cycles = 0  # of all that is passed
        self._exchanges = CollectiveLog(module)
        self._scopes: dict[int, str | None] = {}  # by instruction
        self.operations: list[Operation] = []
        self.loops: list[Loop] = []

    @property
    def cost(self) -> Cost:
        return Cost(self.operations, self.loops, self._exchanges.found)

    def computation(self, computation: Computation, times: int, caller_scope: str = OTHER) -> None:
        """Pass all of a computation; what has no scope has that of the caller."""
        for instruction in computation.values():
            scope = self._scope(computation, instruction) or caller_scope
            self._exchanges.start(instruction, scope, self._cycles)
            if instruction.kind == "while":
                self._loop(computation, instruction, times, scope)
            elif instruction.kind == "conditional":
                self._branches(instruction, times, scope)
            elif instruction.kind in ("call", "async-start"):
                for name in _called(instruction, "to_apply", "calls"):
                    self.computation(self._module.computations[name], times, scope)
            elif self._kind(instruction) not in _FREE:
                self._operation(computation, instruction, times, scope)
            self._exchanges.end(instruction, self._cycles)

    def _loop(self, caller: Computation, loop: Instruction, times: int, scope: str) -> None:
        trips = trip_count(self._module, caller, loop)
        runs, index, before = times * (1 if trips is None else trips), len(self.loops), self._cycles
        self.loops.append(Loop(loop.name, scope, loop.op_name, trips, 0))
        for name in _called(loop, "condition", "body"):
            self.computation(self._module.computations[name], runs, scope)
        each = (self._cycles - before) // max(runs, 1)
        self.loops[index] = self.loops[index]._replace(cycles=each)

    def _branches(self, instruction: Instruction, times: int, scope: str) -> None:
        """The most expensive branch counts."""
        names = _called(instruction, "true_computation", "false_computation", "branch_computations")
        branches = [self._module.computations[name] for name in names]
        self.computation(max(branches, key=self._branch_cycles), times, scope)

    def _branch_cycles(self, branch: Computation) -> int:
        visit = _Visit(self._module)
        visit.computation(branch, 1)
        return visit._cycles

    def _operation(
        self, computation: Computation, instruction: Instruction, times: int, scope: str
    ) -> None:
        cycles, kind = instruction.estimated_cycles, self._kind(instruction)
        floor = partial(_floor_bytes, computation, instruction, kind)
        self.operations.append(
            Operation(
                instruction.name, kind, scope, instruction.op_name, instruction.shape, times,
                cycles, floor(array_bytes), floor(hbm_bytes),
            )
        )  # fmt: skip
        self._cycles += times * (cycles or 0)

    def _kind(self, instruction: Instruction) -> str:
        """Its kind; of a fusion without an estimate and of a custom call, what it does."""
        if instruction.kind == "custom-call":
            return f"custom-call {_TARGET.search(instruction.attributes)[1]}"
        if instruction.kind != "fusion" or instruction.estimated_cycles is not None:
            return instruction.kind
        called = [self._module.computations[name] for name in _called(instruction, "calls")]
        kinds = {each.kind for computation in called for each in computation.values()}
        return next((kind for kind in _UNESTIMATED if kind in kinds), instruction.kind)

    def _scope(self, computation: Computation, instruction: Instruction) -> str | None:
        """Its own scope, or that of what it fuses, or that of what it reads, which was passed."""
        scope = scope_of(instruction.op_name) or self._fused_scope(instruction)
        read = (self._scopes.get(id(computation[name])) for name in instruction.operands)
        scope = scope or next(filter(None, read), None)
        self._scopes[id(instruction)] = scope
        return scope

    def _fused_scope(self, instruction: Instruction) -> str | None:
        """The commonest scope of what a fusion computes."""
        called = [self._module.computations[name] for name in _called(instruction, "calls")]
        fused = [scope_of(each.op_name) for inner in called for each in inner.values()]
        scopes = [scope for scope in fused if scope]
        return max(scopes, key=scopes.count) if scopes else None


def _called(instruction: Instruction, *attributes: str) -> Iterator[str]:
    for attribute in attributes:
        yield from instruction.called.get(attribute, ())


def _floor_bytes(
    computation: Computation, instruction: Instruction, kind: str, sizes_of: Callable
) -> int:
    """Bytes that are read and written at least, by `array_bytes` or by `hbm_bytes`.

    A gather reads as much as it returns. A copy in the background counts where it starts: its
    smallest array is what it moves to or from the chip's own memory.
    """
    if instruction.kind.endswith("-done"):
        return 0
    results = sizes_of(instruction.shape)
    read = [sum(sizes_of(computation[name].shape)) for name in instruction.operands]
    if instruction.kind in ("copy-start", "slice-start"):
        return min((each for each in array_bytes(instruction.shape) if each > 4), default=0)
    if kind == "gather":
        return 2 * sum(results)
    return sum(results) + sum(read)
