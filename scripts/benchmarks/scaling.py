"""Collective operations of a training step on several devices, read from the compiled program."""

import math
from collections.abc import Iterator
from functools import partial

import jax
import numpy as np
from ml_collections import ConfigDict

from configs import quickstart
from scripts.benchmarks import subject
from scripts.benchmarks.report import Row
from ssd_jax.ahead_of_time import hlo
from ssd_jax.ahead_of_time.collectives import KINDS
from ssd_jax.detector import build_detector
from ssd_jax.runtime import devices
from ssd_jax.train_step import abstract_state, train_step

DEVICES = 8
_CLASSES = 5


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
    sizes: dict[str, list[int]] = {"all-reduce": []}
    for computation in hlo.parse(program).computations.values():
        for instruction in computation.values():
            kind = instruction.kind.removesuffix("-start")
            if kind in KINDS:
                sizes.setdefault(kind, []).append(sum(hlo.array_bytes(instruction.shape)))
    return sizes
