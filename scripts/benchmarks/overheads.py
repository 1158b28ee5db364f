"""Overheads of a run beside its steps: start, recompilation, and time of the host."""

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
from unittest import mock

import jax
import numpy as np

from configs import quickstart, ssd300_mobilenet_v1_coco
from scripts.benchmarks import subject, timing
from scripts.benchmarks.report import Row
from ssd_jax import trainer, training
from ssd_jax.data.formats.shapes import Shapes
from ssd_jax.data.sets import Sets
from ssd_jax.detector import Detector, build_detector
from ssd_jax.evaluate import Evaluator
from ssd_jax.runs.metrics import MetricsFile
from ssd_jax.runtime import devices
from ssd_jax.runtime.signals import StopSignals
from ssd_jax.train_step import TrainState, abstract_state
from ssd_jax.types import Batch

_WARM_UP_STEPS = 10
_SCALAR_METRICS = (  # of a step, as many as `train_step` returns
    "loss", "cls_loss", "loc_loss", "positives", "negatives", "gradient_norm", "learning_rate",
    "skipped", "consecutive_skipped",
)  # fmt: skip
# What `python -m ssd_jax.main` does to the end of its first step, without reading the data set.
_FIRST_STEP = """
from ssd_jax import training  # imports all that a run does
from ssd_jax.runtime.compilation import configure_jax
configure_jax()
from configs import quickstart
from scripts.benchmarks import subject
config = quickstart.get_config()
subject.Training(config, 5, subject.synthetic_batch(config, 5))()
"""


def start(rounds: int, quick: bool) -> Iterator[Row]:
    """From process start to the end of the first step, without and with a compilation cache."""
    cold, warm = [], []
    for _ in range(1 if quick else min(rounds, 3)):
        with TemporaryDirectory() as cache:
            cold.append(timing.time_once(partial(_first_step, cache)))
            warm.append(timing.time_once(partial(_first_step, cache)))
    what = "first step of the quickstart network in a new process"
    seconds = statistics.median(cold)
    yield Row(f"{what}, cache empty", seconds, "s", ("<=", 25), (min(cold), max(cold)))
    shares = [100 * after / before for before, after in zip(cold, warm)]
    yield Row(
        f"{what}, cache filled, against cache empty",
        statistics.median(shares), "%", ("<=", 40), (min(shares), max(shares)),
        f"{statistics.median(warm):.3g} s", f"{seconds:.3g} s",
    )  # fmt: skip


def recompilation(rounds: int, quick: bool) -> Iterator[Row]:
    """Programs that a run compiles after its first step and its first evaluation."""
    config = quickstart.get_config()
    config.image_size, config.batch_size = (64, 64), 4
    config.data.train, config.data.test = ("shapes:train:12",), ("shapes:test:6",)
    config.model.backbone.update({"levels": 3})
    config.priors.aspect_ratios = ((2.0,),) * 3
    config.optim.warmup_steps, config.log_every = 1, 1
    config.steps, config.eval_every, config.save_every = 6, 2, 2
    compiled, counts = _CompiledPrograms(), []

    class CountingEvaluator(Evaluator):
        """Counts the compiled programs after each evaluation."""

        def __call__(self, *arguments):
            scores = super().__call__(*arguments)
            counts.append(len(compiled.names))
            return scores

    replaced = mock.patch.object(trainer, "Evaluator", CountingEvaluator)
    with TemporaryDirectory() as folder, compiled, replaced:
        training.train_and_evaluate(config, Path(folder))
    # The training step and the prediction are two programs; pmap names what it compiles _fun.
    expected = ("train_step", "predict", "_fun")
    programs = [name for name in compiled.names if any(each in name for each in expected)]
    if len(programs) < 2:
        raise ValueError(f"JAX logs other names of programs than expected: {compiled.names}")
    others = [name for name in compiled.names[counts[0] :] if name not in programs]
    again = programs[2:] + others
    yield Row(
        "programs compiled again in a run of 6 steps with 3 evaluations and ragged last batches",
        len(again), "", ("<=", 0), note=", ".join(again), ours=f"{len(compiled.names)} in all",
    )  # fmt: skip


def host(rounds: int, quick: bool) -> Iterator[Row]:
    """Host time of a step of the training loop, with a device function that does nothing."""
    config = subject.without_jitter(ssd300_mobilenet_v1_coco.get_config(), 4)
    batch = subject.synthetic_batch(config, 81) | {"image_id": np.arange(4, dtype=np.int32)}
    batch["image"] = batch["image"][:, :8, :8]  # the time to copy pixels is not the host's
    detector = build_detector(config, 81)
    like = abstract_state(detector)
    # A loop that goes on from step 1 draws no picture of its first batch.
    state = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), like).replace(
        step=np.int32(1)
    )
    for name, kind in (("pmap", devices.Pmap), ("jit", devices.Jit)):
        runner = kind(jax.local_devices()[:1])
        seconds = _host_seconds(runner, detector, state, batch, 50 if quick else 300)
        yield Row(
            f"host time of a step by {name}, {len(jax.tree.leaves(state))} arrays of state",
            1e3 * statistics.median(seconds), "ms", ("<=", 0.5),
        )  # fmt: skip


def _host_seconds(
    runner: devices.Runner, detector: Detector, state: TrainState, batch: Batch, steps: int
) -> list[float]:
    """CPU seconds of the main thread in each step of the loop: it uses none while it waits."""

    def empty_step(_, state, batch):
        zero = batch["boxes"].sum() * 0.0
        metrics = dict.fromkeys(_SCALAR_METRICS, zero) | {"per_image_loss": zero[None]}
        return state.replace(step=state.step + 1), metrics

    clock, checkpoints = _StepClock(), mock.Mock(best_step=lambda: None)

    def batches(*_):
        return (dict(batch) for _ in range(steps))

    replaced_step = mock.patch.object(trainer, "train_step", empty_step)
    replaced_batches = mock.patch.object(trainer.loader, "training_batches", batches)
    no_result = mock.patch.object(trainer.Trainer, "_score_result")
    scenes = Shapes("test", 1, (64, 64))
    with TemporaryDirectory() as folder, replaced_step, replaced_batches, no_result:
        metrics = MetricsFile(Path(folder), 1)
        sets = Sets(scenes, None, scenes, {}, [], {})
        loop = trainer.Trainer(Path(folder), runner, detector, state, sets, checkpoints, metrics)
        loop.run_loop(StopSignals(()), clock)
        loop.close()
    return np.diff(clock.seconds[_WARM_UP_STEPS:]).tolist()


class _StepClock:
    """In the place of a `StepTrace`: the CPU time of the main thread before each step."""

    def __init__(self):
        self.seconds = []

    def before_step(self, step: int, state: TrainState) -> None:
        self.seconds.append(time.thread_time())


class _CompiledPrograms(logging.Handler):
    """The names of the programs that JAX compiles, read from its log messages."""

    def __init__(self):
        super().__init__()
        self.names = []

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        if text.startswith("Compiling "):
            self.names.append(text.split()[1])

    def __enter__(self) -> "_CompiledPrograms":
        jax.config.update("jax_log_compiles", True)
        self._logger = logging.getLogger("jax")
        self._saved = self._logger.handlers, self._logger.propagate
        self._logger.handlers, self._logger.propagate = [self], False
        return self

    def __exit__(self, *_) -> None:
        self._logger.handlers, self._logger.propagate = self._saved
        jax.config.update("jax_log_compiles", False)


def _first_step(cache: str) -> None:
    environment = os.environ | {"XDG_CACHE_HOME": cache}
    environment.pop("JAX_COMPILATION_CACHE_DIR", None)
    subprocess.run([sys.executable, "-c", _FIRST_STEP], env=environment, check=True)
