"""The compiler's estimates of a program, added up: a loop's body counts as often as it runs."""

import re
from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

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
         "replica-id", "after-all", "opt-barrier"}  # fmt: skip
_COLLECTIVES = {"all-reduce", "all-gather", "reduce-scatter", "all-to-all", "ragged-all-to-all",
                "collective-permute", "collective-broadcast"}  # fmt: skip
# Kinds that the compiler does not estimate, also where they are fused with others.
_UNESTIMATED = ("sort", "scatter", "gather", "select-and-scatter", "concatenate")
_TARGET = re.compile(r'custom_call_target="([^"]*)"')
_MAX_DEPTH = 8  # of operands that are asked for the scope of one without a name


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


class Collective(NamedTuple):
    """An exchange between devices. An asynchronous one hides behind `hidden_cycles`."""

    kind: str
    scope: str
    arrays: int
    bytes: int
    at_cycle: int  # estimated cycles of what is scheduled before it
    synchronous: bool
    hidden_cycles: int


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
    return Cost(visit.operations, visit.loops, visit.collectives)


def is_collective(operation: Operation) -> bool:
    """Whether it exchanges numbers between devices; see `Cost.collectives`."""
    return operation.kind.removesuffix("-start").removesuffix("-done") in _COLLECTIVES


class _Visit:
    """A walk through the schedule, into loops, branches and calls."""

    def __init__(self, module: Module):
        self._module = module
        self._cycles = 0  # of all that is passed
        self._started: dict[str, tuple[int, int]] = {}  # index of a collective, cycles at its start
        self.operations: list[Operation] = []
        self.loops: list[Loop] = []
        self.collectives: list[Collective] = []

    def computation(self, computation: Computation, times: int) -> None:
        for instruction in computation.values():
            if instruction.kind == "while":
                self._loop(computation, instruction, times)
            elif instruction.kind == "conditional":
                self._branches(instruction, times)
            elif instruction.kind in ("call", "async-start"):
                self._collective(computation, instruction)
                for name in _called(instruction, "to_apply", "calls"):
                    self.computation(self._module.computations[name], times)
            elif instruction.kind not in _FREE:
                self._operation(computation, instruction, times)

    def _loop(self, caller: Computation, loop: Instruction, times: int) -> None:
        trips = trip_count(self._module, caller, loop)
        runs, index, before = times * (1 if trips is None else trips), len(self.loops), self._cycles
        scope = self._scope(caller, loop)
        self.loops.append(Loop(loop.name, scope, loop.op_name, trips, 0))
        for name in _called(loop, "condition", "body"):
            self.computation(self._module.computations[name], runs)
        each = (self._cycles - before) // max(runs, 1)
        self.loops[index] = self.loops[index]._replace(cycles=each)

    def _branches(self, instruction: Instruction, times: int) -> None:
        """The most expensive branch counts."""
        names = _called(
            instruction, "true_computation", "false_computation", "branch_computations"
        )
        branches = [self._module.computations[name] for name in names]
        self.computation(max(branches, key=self._branch_cycles), times)

    def _branch_cycles(self, branch: Computation) -> int:
        visit = _Visit(self._module)
        visit.computation(branch, 1)
        return visit._cycles

    def _operation(self, computation: Computation, instruction: Instruction, times: int) -> None:
        self._collective(computation, instruction)
        cycles, kind = instruction.estimated_cycles, self._kind(instruction)
        floor = partial(_floor_bytes, computation, instruction, kind)
        self.operations.append(
            Operation(
                instruction.name, kind, self._scope(computation, instruction), instruction.op_name,
                instruction.shape, times, cycles, floor(array_bytes), floor(hbm_bytes),
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

    def _collective(self, computation: Computation, instruction: Instruction) -> None:
        kind = self._collective_kind(instruction)
        if kind:
            sizes = _result_bytes(instruction)
            asynchronous = instruction.kind.endswith("-start")
            if asynchronous:
                self._started[instruction.name] = len(self.collectives), self._cycles
            self.collectives.append(
                Collective(
                    kind, self._scope(computation, instruction), len(sizes), sum(sizes),
                    self._cycles, not asynchronous, 0,
                )
            )  # fmt: skip
        elif instruction.kind.endswith("-done") and instruction.operands[0] in self._started:
            index, start = self._started.pop(instruction.operands[0])
            hidden = self._cycles - start
            self.collectives[index] = self.collectives[index]._replace(hidden_cycles=hidden)

    def _collective_kind(self, instruction: Instruction) -> str | None:
        kind = instruction.kind.removesuffix("-start")
        if kind in _COLLECTIVES:
            return kind
        if instruction.kind != "async-start":
            return None
        called = [self._module.computations[name] for name in _called(instruction, "calls")]
        kinds = [each.kind for computation in called for each in computation.values()]
        return next((kind for kind in kinds if kind in _COLLECTIVES), None)

    def _scope(self, computation: Computation, instruction: Instruction, depth: int = 0) -> str:
        """Its own scope, or that of what it fuses, or that of what it reads."""
        if scope := scope_of(instruction.op_name):
            return scope
        for name in _called(instruction, "calls"):
            fused = [scope_of(each.op_name) for each in self._module.computations[name].values()]
            if scopes := [scope for scope in fused if scope]:
                return max(scopes, key=scopes.count)
        if depth < _MAX_DEPTH:
            for name in instruction.operands:
                found = self._scope(computation, computation[name], depth + 1)
                if found != OTHER:
                    return found
        return OTHER


def _called(instruction: Instruction, *attributes: str) -> Iterator[str]:
    for attribute in attributes:
        yield from instruction.called.get(attribute, ())


def _result_bytes(instruction: Instruction) -> list[int]:
    """Of what a collective returns; one that is started also names its operands and a token."""
    sizes = array_bytes(instruction.shape)
    if instruction.kind == "async-start" or (
        instruction.kind.endswith("-start") and len(sizes) > len(instruction.operands)
    ):
        return sizes[: max(len(instruction.operands), 1)]
    return sizes


def _floor_bytes(
    computation: Computation, instruction: Instruction, kind: str, sizes_of: Callable
) -> int:
    """Bytes that are read and written at least, by `array_bytes` or by `hbm_bytes`.

    A gather reads as much as it returns. A copy in the background counts where it starts; its
    result also names its operand.
    """
    if instruction.kind.endswith("-done"):
        return 0
    results = sizes_of(instruction.shape)
    read = [sum(sizes_of(computation[name].shape)) for name in instruction.operands]
    if instruction.kind == "copy-start":
        return results[0] + sum(read)
    if kind == "gather":
        return 2 * sum(results)
    return sum(results) + sum(read)
