"""What a run costs beside its steps: the start, recompilation, the host's share."""

import logging
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import jax
import numpy as np

from configs import quickstart, ssd300_mobilenet_v1_coco
from scripts.benchmarks import ours, timing
from scripts.benchmarks.report import Row
from ssd_jax import evaluate, parallel, step, train

# What `python -m ssd_jax.main` does until the first step is done, but for reading the data set.
_FIRST_STEP = """
from ssd_jax import startup, train  # all that a run imports
startup.prepare()
from configs import quickstart
from scripts.benchmarks import ours
config = quickstart.get_config()
ours.Training(config, 5, ours.batch(config, 5))()
"""


def start(rounds: int, quick: bool) -> Iterator[Row]:
    """Process start to the end of the first step, without and with a compilation cache."""
    cold, warm = [], []
    for _ in range(1 if quick else min(rounds, 3)):
        with TemporaryDirectory() as cache:
            cold.append(timing.once(partial(_first_step, cache)))
            warm.append(timing.once(partial(_first_step, cache)))
    what = "first step of the quickstart network in a new process"
    seconds = statistics.median(cold)
    yield Row(f"{what}, nothing compiled before", seconds, "s", ("<=", 25), (min(cold), max(cold)))
    parts = [100 * after / before for before, after in zip(cold, warm)]
    yield Row(
        f"{what}, compiled before, against nothing compiled",
        statistics.median(parts), "%", ("<=", 40), (min(parts), max(parts)),
        f"{statistics.median(warm):.3g} s", f"{seconds:.3g} s",
    )  # fmt: skip


def recompilation(rounds: int, quick: bool) -> Iterator[Row]:
    """Programs compiled in a run after the first step and the first evaluation."""
    config = quickstart.get_config()
    config.image_size, config.batch_size = (64, 64), 4
    config.data.train, config.data.test = ("shapes:train:12",), ("shapes:test:6",)
    config.model.backbone.update({"levels": 3})
    config.priors.aspect_ratios = ((2.0,),) * 3
    config.optim.warmup_steps, config.log_every = 1, 1
    config.steps, config.eval_every, config.save_every = 6, 2, 2
    compiled, at_first_score = _Compiled(), []

    class Evaluator(evaluate.Evaluator):
        """Notes what is compiled when the first evaluation has ended."""

        def __call__(self, variables):
            scores = super().__call__(variables)
            at_first_score.append(len(compiled.names))
            return scores

    evaluate.Evaluator = Evaluator
    with TemporaryDirectory() as folder, compiled:
        train.train_and_evaluate(config, Path(folder))
    # pmap calls whatever it compiles _fun; the train step and the prediction are two programs.
    known = ("train_step", "predict", "_fun")
    steps = [name for name in compiled.names if any(each in name for each in known)]
    if len(steps) < 2:
        raise ValueError(f"JAX logs other names of programs than expected: {compiled.names}")
    again = steps[2:] + [name for name in compiled.names[at_first_score[0] :] if name not in steps]
    yield Row(
        "programs compiled again in a run of 6 steps with 3 evaluations and ragged last batches",
        len(again), "", ("<=", 0), note=", ".join(again), ours=f"{len(compiled.names)} in all",
    )  # fmt: skip


def host(rounds: int, quick: bool) -> Iterator[Row]:
    """Host time of a step whose device function does nothing, as the training loop runs it."""
    config = ours.undistorted(ssd300_mobilenet_v1_coco.get_config(), 4)
    batch = ours.batch(config, 81)
    batch["image"] = batch["image"][:, :8, :8]  # copying pixels is the device's time
    detector = step.build(config, 81)
    like = step.abstract_state(detector)
    start = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), like)
    for name, kind in (("pmap", parallel.Pmap), ("jit", parallel.Jit)):
        seconds = _host_seconds(kind(jax.local_devices()[:1]), start, batch, 50 if quick else 300)
        yield Row(
            f"host time of a step by {name}, {len(jax.tree.leaves(start))} arrays of state",
            1e3 * statistics.median(seconds), "ms", ("<=", 0.5),
        )  # fmt: skip


def _host_seconds(runner: parallel.Runner, start, batch: dict, steps: int) -> list[float]:
    def nothing(state, batch):
        zero = batch["boxes"].sum() * 0.0
        return state.replace(step=state.step + 1), {"loss": zero, "gradient_norm": zero}

    state, compiled = runner.replicate(start), runner.compile(nothing)
    before, seconds = None, []
    for _ in range(steps):
        began = time.perf_counter()
        state, metrics = compiled(state, runner.shard(batch))
        if before is not None:
            runner.scalar(before["loss"])
            runner.scalar(before["gradient_norm"])
        before = metrics
        seconds.append(time.perf_counter() - began)
    return seconds[10:]


class _Compiled(logging.Handler):
    """The names of the programs that JAX compiles, from what it logs about them."""

    def __init__(self):
        super().__init__()
        self.names = []

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        if text.startswith("Compiling "):
            self.names.append(text.split()[1])

    def __enter__(self) -> "_Compiled":
        jax.config.update("jax_log_compiles", True)
        self._logger = logging.getLogger("jax")
        self._kept = self._logger.handlers, self._logger.propagate
        self._logger.handlers, self._logger.propagate = [self], False
        return self

    def __exit__(self, *_) -> None:
        self._logger.handlers, self._logger.propagate = self._kept
        jax.config.update("jax_log_compiles", False)


def _first_step(cache: str) -> None:
    environment = os.environ | {"XDG_CACHE_HOME": cache}
    environment.pop("JAX_COMPILATION_CACHE_DIR", None)
    subprocess.run([sys.executable, "-c", _FIRST_STEP], env=environment, check=True)
