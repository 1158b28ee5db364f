"""What the devices of a pod say to each other in a step, read from the compiled program."""

import math
import re
from collections.abc import Iterator
from functools import partial

import jax
import numpy as np
from ml_collections import ConfigDict

from configs import quickstart
from scripts.benchmarks import ours
from scripts.benchmarks.report import Row
from ssd_jax import parallel, step

DEVICES = 8
_CLASSES = 5
_BYTES = {"f32": 4, "s32": 4, "u32": 4, "f64": 8, "bf16": 2, "f16": 2, "pred": 1, "u8": 1, "s8": 1}
_SHAPE = re.compile(r"([a-z]+\d*)\[([\d,]*)\]")
_OPERATION = re.compile(r"= (.*?) ([a-z-]+)\(")


def collectives(rounds: int, quick: bool) -> Iterator[Row]:
    """All-reduced bytes and gathers in the train step of eight virtual devices, under pmap."""
    jax.config.update("jax_num_cpu_devices", DEVICES)
    program, parameters = compiled_step(quickstart.get_config(), parallel.Pmap())
    moved = traffic(program)

    reduced = moved["all-reduce"]
    what = f"train step of the quickstart network on {DEVICES} devices, pmap"
    yield Row(
        f"{what}: bytes all-reduced, of the parameters' bytes", sum(reduced) / parameters, "x",
        ("<=", 1.05), ours=f"{sum(reduced) / 1e6:.3g} MB", other=f"{parameters / 1e6:.3g} MB",
        note=f"{len(reduced)} all-reduces",
    )  # fmt: skip
    others = [name for name in moved if name != "all-reduce"]
    yield Row(
        f"{what}: gathers and other exchanges", sum(len(moved[name]) for name in others), "",
        ("<=", 0), note=", ".join(others),
    )  # fmt: skip


def compiled_step(config: ConfigDict, runner: parallel.Runner) -> tuple[str, int]:
    """The text of the train step compiled for all devices, and the bytes of its parameters."""
    detector = step.build(config, _CLASSES, runner.axis_name)
    state = step.abstract_state(detector)
    zeros = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), state)
    train_step = runner.compile(partial(step.train_step, detector))
    lowered = train_step.lower(runner.replicate(zeros), runner.shard(ours.batch(config, _CLASSES)))
    size = sum(math.prod(x.shape) * x.dtype.itemsize for x in jax.tree.leaves(state.params))
    return lowered.compile().as_text(), size


def traffic(program: str) -> dict[str, list[int]]:
    """Bytes of the result of each collective operation in the text of a compiled program."""
    names = (
        "all-reduce", "all-gather", "reduce-scatter", "all-to-all", "ragged-all-to-all",
        "collective-permute", "collective-broadcast",
    )  # fmt: skip
    moved = {"all-reduce": []}
    for line in program.splitlines():
        found = _OPERATION.search(line)
        name = found[2].removesuffix("-start") if found else ""
        if name in names:
            sizes = [
                _BYTES[kind] * math.prod(map(int, filter(None, shape.split(","))))
                for kind, shape in _SHAPE.findall(found[1])
            ]
            moved.setdefault(name, []).append(int(np.sum(sizes)))
    return moved
