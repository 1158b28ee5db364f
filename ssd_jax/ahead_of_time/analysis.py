"""Compile a program for a slice, and collect what the compiler says of it in one JSON value."""

import importlib.metadata
import re
import time
from typing import Any

import jax
from jax.stages import Compiled

from ssd_jax.ahead_of_time import cost, hlo
from ssd_jax.ahead_of_time.chips import GIB, Chip
from ssd_jax.ahead_of_time.collectives import KINDS
from ssd_jax.ahead_of_time.program import Request, lower_program
from ssd_jax.ahead_of_time.topology import Topology
from ssd_jax.errors import ResourceError

MIB = 2**20
_MAX_OPERATIONS = 10  # the most expensive ones that are listed
_MIN_BYTES = 4096  # of an operation without an estimate: those of scalars take next to no time
_OUT_OF_MEMORY = "Ran out of memory"
_SIZE = re.compile(r"([\d.]+)([KMG])\b")
_UNITS = {"K": 2**10, "M": MIB, "G": GIB}

Analysis = dict[str, Any]


class OutOfMemory(ResourceError):
    """The program does not fit; `used` and `available` are bytes of a device, as libtpu counts."""

    def __init__(self, message: str, used: float, available: float):
        super().__init__(message)
        self.used, self.available = used, available


def analyze(request: Request, topology: Topology) -> Analysis:
    """The compiler's estimates; `docs/accelerators.md` explains each key.

    Raises OutOfMemory where the program does not fit into the memory of a device.
    """
    start = time.perf_counter()
    lowered = lower_program(request, topology.devices)
    middle = time.perf_counter()
    compiled = _compile(lowered, request, topology)
    seconds = {"lower": middle - start, "compile": time.perf_counter() - middle}
    estimate = cost.estimate(hlo.parse(compiled.as_text()))
    return {
        **_describe(request, topology),
        "lower_seconds": round(seconds["lower"], 1),
        "compile_seconds": round(seconds["compile"], 1),
        **_memory(compiled, topology.chip),
        **_speed(compiled, estimate.cycles, request, topology),
        **_parts(estimate, topology.chip),
    }


def _compile(lowered: jax.stages.Lowered, request: Request, topology: Topology) -> Compiled:
    try:
        return lowered.compile()
    except jax.errors.JaxRuntimeError as error:
        if _OUT_OF_MEMORY not in str(error):
            raise
        used, available = parse_out_of_memory(str(error))
        raise OutOfMemory(
            f"{request.per_device} images a device do not fit on {topology.chip.name}: the "
            f"program needs {used / GIB:.2f} of {available / GIB:.2f} GiB; --fit finds the largest "
            "batch that fits",
            used,
            available,
        ) from error


def parse_out_of_memory(message: str) -> tuple[float, float]:
    """Bytes that the program needs and that there are, the first two sizes that XLA names."""
    used, available = _SIZE.findall(message)[:2]
    return float(used[0]) * _UNITS[used[1]], float(available[0]) * _UNITS[available[1]]


def _describe(request: Request, topology: Topology) -> Analysis:
    config = request.config
    return {
        "what": request.what,
        "parallel": config.parallel,
        "dtype": config.model.dtype,
        "topology": topology.name,
        "chip": topology.chip.name,
        "chips": topology.chips,
        "devices": len(topology.devices),
        "processes": topology.processes,
        "per_device": request.per_device,
        "batch_size": request.per_device * len(topology.devices),
        "num_classes": request.num_classes,
        "boxes": request.boxes,
        "jax": jax.__version__,
        "libtpu": importlib.metadata.version("libtpu"),
    }


def _memory(compiled: Compiled, chip: Chip) -> Analysis:
    """Of one device, in MiB."""
    memory = compiled.memory_analysis()
    sizes = {
        "code_mb": memory.generated_code_size_in_bytes,
        "argument_mb": memory.argument_size_in_bytes,
        "temporary_mb": memory.temp_size_in_bytes,
        "peak_mb": memory.peak_memory_in_bytes,
        "hbm_mb": chip.device_hbm_bytes,
    }
    return {name: round(size / MIB, 1) for name, size in sizes.items()}


def _speed(compiled: Compiled, cycles: int, request: Request, topology: Topology) -> Analysis:
    chip, flop = topology.chip, compiled.cost_analysis()["flops"]  # of one device
    seconds = cycles / chip.clock_hz
    rate = request.per_device / seconds
    return {
        "cycles": cycles,
        "ms": _digits(seconds * 1e3),
        "images_per_second_per_chip": _digits(rate * chip.cores),
        "images_per_second": _digits(rate * len(topology.devices)),
        "tflop": _digits(flop / 1e12),
        "share_of_peak": _digits(flop / cycles / chip.flop_per_cycle),
    }


def _parts(estimate: cost.Cost, chip: Chip) -> Analysis:
    ms = 1e3 / chip.clock_hz
    costly = sorted(estimate.operations, key=lambda each: -(each.cycles or 0) * each.times)
    return {
        "scopes": _by_scope(estimate, ms),
        "operations": [
            {
                "ms": _digits(each.cycles * each.times * ms), "times": each.times,
                "kind": each.kind, "scope": each.scope, "shape": _short_shape(each.shape),
                "op_name": each.op_name,
            }
            for each in costly[:_MAX_OPERATIONS] if each.cycles
        ],
        "loops": [
            {
                "scope": each.scope, "trips": each.trips, "ms_a_trip": _digits(each.cycles * ms),
                "op_name": each.op_name,
            }
            for each in estimate.loops
        ],
        "without_estimate": _without_estimate(estimate, chip),
        "collectives": _collectives(estimate, chip),
    }  # fmt: skip


def _by_scope(estimate: cost.Cost, ms: float) -> list[Analysis]:
    cycles: dict[str, int] = {}
    for each in estimate.operations:
        cycles[each.scope] = cycles.get(each.scope, 0) + each.times * (each.cycles or 0)
    return [
        {"scope": scope, "ms": _digits(part * ms), "share": round(part / estimate.cycles, 4)}
        for scope, part in sorted(cycles.items(), key=lambda item: -item[1])
        if part
    ]


def _without_estimate(estimate: cost.Cost, chip: Chip) -> list[Analysis]:
    """By kind, with the time that their bytes of HBM need at full bandwidth."""
    kinds: dict[str, list[cost.Operation]] = {}
    for each in estimate.operations:
        if each.cycles is None and each.bytes >= _MIN_BYTES and each.kind not in KINDS:
            kinds.setdefault(each.kind, []).append(each)
    totals = {
        kind: sum(each.times * each.hbm_bytes for each in group) for kind, group in kinds.items()
    }
    bandwidth = chip.hbm_bandwidth / chip.cores
    return [
        {
            "kind": kind, "count": len(kinds[kind]), "hbm_mb": _digits(total / MIB),
            "floor_ms": _digits(total / bandwidth * 1e3),
        }
        for kind, total in sorted(totals.items(), key=lambda item: -item[1])
    ]  # fmt: skip


def _collectives(estimate: cost.Cost, chip: Chip) -> Analysis:
    found, ms = estimate.collectives, 1e3 / chip.clock_hz
    largest = sorted(found, key=lambda each: -each.bytes)[:3]
    return {
        "count": len(found),
        "asynchronous": sum(not each.synchronous for each in found),
        "mb": _digits(sum(each.bytes for each in found) / MIB),
        "kinds": sorted({each.kind for each in found}),
        "largest": [
            {
                "kind": each.kind, "scope": each.scope, "arrays": each.arrays,
                "mb": _digits(each.bytes / MIB),
                "position": round(each.at_cycle / max(estimate.cycles, 1), 3),
                "synchronous": each.synchronous, "hidden_ms": _digits(each.hidden_cycles * ms),
            }
            for each in largest
        ],
    }  # fmt: skip


def _short_shape(shape: str) -> str:
    """Without layouts."""
    return re.sub(r"\{[^}]*\}|/\*.*?\*/", "", shape)[:100]


def _digits(value: float) -> float:
    """Four digits."""
    return float(f"{value:.4g}")
