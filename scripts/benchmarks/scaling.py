"""Collective operations of a training step on several devices, read from the compiled program."""

import math
import re
from collections.abc import Iterator
from functools import partial

import jax
import numpy as np
from ml_collections import ConfigDict

from configs import quickstart
from scripts.benchmarks import subject
from scripts.benchmarks.report import Row
from ssd_jax.detector import build_detector
from ssd_jax.runtime import devices
from ssd_jax.train_step import abstract_state, train_step

DEVICES = 8
_CLASSES = 5
_BYTES = {"f32": 4, "s32": 4, "u32": 4, "f64": 8, "bf16": 2, "f16": 2, "pred": 1, "u8": 1, "s8": 1}
_SHAPE = re.compile(r"([a-z]+\d*)\[([\d,]*)\]")
_OPERATION = re.compile(r"= (.*?) ([a-z-]+)\(")


def collectives(rounds: int, quick: bool) -> Iterator[Row]:
    """All-reduced bytes and other collectives in the training step of eight virtual devices."""
    jax.config.update("jax_num_cpu_devices", DEVICES)
    program, parameters = compile_step(quickstart.get_config(), devices.Pmap())
    sizes = collective_sizes(program)

    reduced = sizes["all-reduce"]
    what = f"training step of the quickstart network on {DEVICES} devices, pmap"
    yield Row(
        f"{what}: bytes all-reduced, of the parameters' bytes", sum(reduced) / parameters, "x",
        ("<=", 1.05), ours=f"{sum(reduced) / 1e6:.3g} MB", baseline=f"{parameters / 1e6:.3g} MB",
        note=f"{len(reduced)} all-reduces",
    )  # fmt: skip
    others = [name for name in sizes if name != "all-reduce"]
    yield Row(
        f"{what}: other collectives", sum(len(sizes[name]) for name in others), "",
        ("<=", 0), note=", ".join(others),
    )  # fmt: skip


def compile_step(config: ConfigDict, runner: devices.Runner) -> tuple[str, int]:
    """The text of the training step compiled for all devices, and the bytes of its parameters."""
    detector = build_detector(config, _CLASSES, runner.axis_name)
    state = abstract_state(detector)
    zeros = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), state)
    batch = subject.synthetic_batch(config, _CLASSES)
    step = runner.compile(partial(train_step, detector))
    lowered = step.lower(runner.replicate(zeros), runner.shard(batch))
    size = sum(math.prod(x.shape) * x.dtype.itemsize for x in jax.tree.leaves(state.params))
    return lowered.compile().as_text(), size


def collective_sizes(program: str) -> dict[str, list[int]]:
    """Bytes of the results of each kind of collective operation in a compiled program."""
    names = (
        "all-reduce", "all-gather", "reduce-scatter", "all-to-all", "ragged-all-to-all",
        "collective-permute", "collective-broadcast",
    )  # fmt: skip
    sizes = {"all-reduce": []}
    for line in program.splitlines():
        operation = _OPERATION.search(line)
        name = operation[2].removesuffix("-start") if operation else ""
        if name in names:
            parts = [
                _BYTES[kind] * math.prod(map(int, filter(None, shape.split(","))))
                for kind, shape in _SHAPE.findall(operation[1])
            ]
            sizes.setdefault(name, []).append(int(np.sum(parts)))
    return sizes
