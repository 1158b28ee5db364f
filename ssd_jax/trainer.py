"""The training loop: steps, their metrics, saves and evaluations, until the last step."""

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ssd_jax.data import loader, sources
from ssd_jax.data.sets import Sets, choosing_set, scored_set
from ssd_jax.detector import Detector, Variables, abstract_variables, jitter_colors
from ssd_jax.early_stopping import EarlyStopping
from ssd_jax.errors import Interrupted, NonFiniteLossError
from ssd_jax.evaluate import Evaluator
from ssd_jax.models.platforms.reductions import all_finite
from ssd_jax.runs import checkpoint
from ssd_jax.runs.load import restore_variables
from ssd_jax.runs.metrics import NONDETERMINISTIC_METRICS, MetricsFile, StepMeans
from ssd_jax.runs.outcome import format_evaluation
from ssd_jax.runs.results import PRIMARY_METRIC, read_results, write_results
from ssd_jax.runtime import devices, distributed
from ssd_jax.runtime.background import prefetch
from ssd_jax.runtime.profiler import StepTrace
from ssd_jax.runtime.progress import EVALUATION, SAVE, Progress, log_line
from ssd_jax.runtime.signals import StopSignals
from ssd_jax.train_step import TrainState, inference_variables, train_step
from ssd_jax.types import Batch
from ssd_jax.visualize.batches import draw_batch
from ssd_jax.visualize.images import save_image

_PREVIEW_IMAGES = 16
STEP_MEANS, EARLY_STOPPING = "step_means", "early_stopping"
NOTES = (STEP_MEANS, EARLY_STOPPING)  # in the manifest of a checkpoint
_TEST = "test/"  # before the names of scores of the test set, where another set chose the weights
MAX_CONSECUTIVE_SKIPS = 5  # non-finite steps in a row that end the run
_HOW_TO_GO_ON = (
    "Start into a new --workdir with a lower config.optim.learning_rate or a longer "
    "config.optim.warmup_steps"
)
_all_finite = jax.jit(all_finite)


class Trainer:
    """The loop and what it needs; only the main process has `checkpoints` and `metrics`.

    `notes` are those of the checkpoint that the run goes on from, by the names of `NOTES`: means of
    the steps that the last line of `metrics` does not tell, and the count of early stopping.
    """

    def __init__(
        self,
        folder: Path,
        runner: devices.Runner,
        detector: Detector,
        state: TrainState,
        sets: Sets,
        checkpoints: checkpoint.Checkpoints | None,
        metrics: MetricsFile | None,
        is_detector: bool = False,
        notes: Mapping[str, Any] = MappingProxyType({}),
    ):
        self.config, self.folder, self.runner = detector.config, folder, runner
        self.detector, self.sets, self.train_set = detector, sets, sets.train
        self.evaluator = Evaluator(detector, sets.choosing, runner)
        self.checkpoints, self.metrics = checkpoints, metrics
        self.means = StepMeans(notes.get(STEP_MEANS))
        self.stopping = EarlyStopping(self.config.patience, notes.get(EARLY_STOPPING))
        self.means_since_evaluation = StepMeans()
        self.is_main, self.is_detector = checkpoints is not None, is_detector
        self.first_step = int(state.step)
        self.state = runner.replicate(state)
        self.train_step = runner.compile(stack_metrics(partial(train_step, detector)))
        self.scores: dict[str, float] = {}
        self.progress = Progress(
            self.first_step, self.config.steps, self.config.batch_size, self.config.eval_every,
            self.config.save_every, shown=self.is_main,
        )  # fmt: skip

    def close(self) -> None:
        self.progress.close()
        if self.metrics:
            self.metrics.close()

    def run_loop(self, signals: StopSignals, trace: StepTrace) -> dict[str, float]:
        """Train to the last step, or until the scores no longer improve; returns the result."""
        config, last_step = self.config, self.config.steps
        if self.first_step == 0 and self.is_main:
            self._save_batch_preview()
        self._evaluate_if_missing(self.first_step)
        distributed.barrier("ready")  # a step waits only a limited time for a late process
        if self.first_step >= last_step or self.stopping.is_over:
            return self._already_done()
        self.progress.show_compilation()
        pending = None  # the last step whose metrics have not been read
        # The next batch is read and sent to the devices while a step runs.
        with closing(prefetch(self._device_batches())) as batches:
            timed = self.progress.timed(batches)
            for step, (image_ids, batch) in enumerate(timed, self.first_step + 1):
                trace.before_step(step, self.state)
                self.state, metrics = self.train_step(self.state, batch)
                if step == self.first_step + 1:
                    jax.block_until_ready(self.state.step)
                    self.progress.restart_clock(step)  # compilation is over
                # The metrics of the last step are read while this one runs: no device waits.
                self._report_step(pending)
                if self.is_main:
                    self.checkpoints.check()
                pending = (step, image_ids, metrics)
                should_stop = self._should_stop(step, signals)
                should_evaluate = is_due(step, config.eval_every, last_step) and not should_stop
                if should_evaluate or should_stop or is_due(step, config.save_every, last_step):
                    self._report_step(pending)
                    pending = None
                    with self.progress.paused(SAVE):
                        self._save(step)
                    if should_evaluate:
                        with self.progress.paused(EVALUATION):
                            self._evaluate(step)
                if should_stop:
                    raise Interrupted(
                        f"stopped at step {step}, all saved: start the same command again"
                    )
                if self.stopping.is_over:
                    break
        self._report_end(step)
        return self._score_result(step)

    def _device_batches(self) -> Iterator[tuple[np.ndarray, Batch]]:
        """Ids of this process's images, and the batch on the devices, of each step to come."""
        rows = distributed.process_index_and_count()
        for batch in loader.training_batches(
            self.train_set, self.config, self.first_step, self.config.steps, rows
        ):
            image_ids = batch.pop("image_id")
            yield image_ids, self.runner.shard(batch)

    def _save(self, step: int) -> None:
        state = self.runner.unreplicate(self.state)
        if not jax.device_get(_all_finite(state)):  # in every process, so that all of them end
            raise NonFiniteLossError(
                f"step {step}: a parameter or a number of the optimizer is not finite, and is not "
                "saved; the checkpoints are of finite steps before. " + _HOW_TO_GO_ON
            )
        if self.is_main:
            self.checkpoints.save(state, step, self._notes())

    def _notes(self) -> dict:
        return {STEP_MEANS: self.means.to_json(), EARLY_STOPPING: self.stopping.to_json()}

    def _should_stop(self, step: int, signals: StopSignals) -> bool:
        """Whether to stop after this step; the same answer in all processes."""
        is_preempted = distributed.reached_preemption(step)
        return is_preempted or (signals.received and not distributed.is_multiprocess())

    def _evaluate_if_missing(self, step: int) -> None:
        """Evaluate a detector before its training, or a step after which a run ended."""
        is_trained = step > 0 and is_due(step, self.config.eval_every, self.config.steps)
        if not (is_trained or (step == 0 and self.is_detector)):
            return
        is_evaluated = self.is_main and self._is_evaluated(step)
        score = (
            self.metrics.values(step).get(PRIMARY_METRIC, math.nan) if is_evaluated else math.nan
        )
        is_evaluated, score = distributed.allgather_json([is_evaluated, score])[0]
        if is_evaluated:
            self.stopping.update(score)
        else:
            with self.progress.paused(EVALUATION):
                self._evaluate(step)

    def _already_done(self) -> dict[str, float]:
        step, config = self.first_step, self.config
        if self.is_main:
            log_line(f"already done: {self.folder} is at step {step} of {config.steps}")
            self._report_early_end(step)
        scores = read_results(self.folder, step, config) if self.is_main else {}
        return distributed.allgather_json(scores)[0] or self._score_result(step)

    def _score_result(self, step: int) -> dict[str, float]:
        """Scores of the result of a training that ended after `step`, which are written too.

        They are of the last weights; or, where a validation set chose, of the best ones on the test
        set, or on the validation set where there is no other.
        """
        if self.sets.val is None:
            if not self.scores:
                self._evaluate(step)
            return self.scores
        variables, best_step = self._best_variables()
        which = scored_set(self.config)
        is_test = which == "test"
        chosen = self.metrics.values(best_step) if self.metrics else {}
        evaluator = self.evaluator.on(self.sets.test, chosen) if is_test else self.evaluator
        scores, picture = evaluator(self.runner.replicate(variables), self.progress.show_evaluation)
        if self.is_main:
            if is_test and not self.metrics.has(best_step, _TEST + PRIMARY_METRIC):
                named = {_TEST + name: value for name, value in scores.items()}
                self.metrics.write(best_step, named)
            # Last: a training with a result is done.
            write_results(self.folder, best_step, scores, picture, self.config, which, step)
        return scores

    def _best_variables(self) -> tuple[Variables, int]:
        """The weights of the best checkpoint and their step, in all processes."""
        like = abstract_variables(self.detector), np.int32(0)

        def load() -> tuple[Variables, np.int32]:
            variables, step = restore_variables(self.checkpoints, "best", self.detector)
            return variables, np.int32(step)

        variables, step = distributed.broadcast_from_main(load, like)
        return variables, int(step)

    def _report_end(self, step: int) -> None:
        """Say why the training ends early, and whether any evaluation was better than the start."""
        if not self.is_main:
            return
        self._report_early_end(step)
        if self.checkpoints.best_step() != 0:
            return
        if math.isfinite(score := self.checkpoints.best_score()):
            log_line(
                f"no evaluation was better than mAP@.5 {score:.4f}, that "
                "of the detector which this run started from: it is kept as the best checkpoint"
            )

    def _report_early_end(self, step: int) -> None:
        if step < self.config.steps:
            log_line(
                f"ends after step {step} of {self.config.steps}: {self.stopping.since_best} "
                f"evaluations without a better mAP@.5 than {self.stopping.best or 0:.4f}; a "
                f"config.patience above {self.config.patience} goes on"
            )

    def _report_step(self, finished: tuple | None) -> None:
        """Log a finished step; raise NonFiniteLossError after too many skipped in a row."""
        if finished is None:
            return
        step, image_ids, metrics = finished
        values = dict(zip(metrics.names, self.runner.fetch(metrics.values).tolist()))
        if values["consecutive_skipped"]:
            self._report_skipped(step, image_ids, metrics, values)
        self.progress.update(step, values["loss"])
        if not self.is_main:
            return
        self.means.add(values)
        self.means_since_evaluation.add(values)
        if is_due(step, self.config.log_every, self.config.steps):
            means = {f"train/{name}": value for name, value in self.means.take().items()}
            measured = (
                *(self.progress.measure("metrics", step) or (None, None)),
                devices.peak_memory_gib(),
            )
            named = zip(NONDETERMINISTIC_METRICS, measured)
            self.metrics.write(step, means | {k: v for k, v in named if v is not None})

    def _report_skipped(
        self, step: int, image_ids: np.ndarray, metrics: "StackedMetrics", values: dict[str, float]
    ) -> None:
        per_image_loss = self.runner.to_host(metrics.per_image_loss)
        names = nonfinite_image_names(image_ids, per_image_loss, self.train_set)
        loss, skipped = values["loss"], int(values["consecutive_skipped"])
        text = f"step {step}: loss or gradient is not finite (loss {loss}, from: {names})"
        if skipped >= MAX_CONSECUTIVE_SKIPS:
            raise NonFiniteLossError(
                f"{text}; {skipped} such steps in a row. The checkpoints are of finite steps "
                "before. " + _HOW_TO_GO_ON
            )
        log_line(f"{text}; the step is skipped")

    def _evaluate(self, step: int) -> None:
        """Score the state, write the scores, and save the state if it is the best."""
        self.scores, picture = self.evaluator(
            inference_variables(self.state), self.progress.show_evaluation
        )
        score, notes = self.scores[PRIMARY_METRIC], self._notes()
        is_evaluated = self.is_main and self._is_evaluated(step)
        if not distributed.allgather_json(is_evaluated)[0]:
            self.stopping.update(score)
        if not self.is_main:
            return
        is_best, is_last = False, step == self.config.steps or self.stopping.is_over
        write_results(
            self.folder, step, self.scores, picture, self.config, choosing_set(self.config),
            step if is_last else None,
        )  # fmt: skip
        if not is_evaluated:
            is_best = self.checkpoints.save_if_best(
                self.runner.unreplicate(self.state), step, score, notes
            )
            self.metrics.image(step, "detections", picture)
            self.metrics.write(step, self.scores)
        if math.isnan(score):
            which = choosing_set(self.config)
            log_line(f"the {which} set has no box that counts: scores are nan, none is the best")
        loss = self.means_since_evaluation.take().get("loss")
        log_line(
            format_evaluation(
                self.config, step, len(self.train_set), self.scores, loss, is_best,
                "test" if self.sets.val is None else "validation",
            )
        )  # fmt: skip

    def _is_evaluated(self, step: int) -> bool:
        return self.metrics.has(step, PRIMARY_METRIC)

    def _save_batch_preview(self) -> None:
        """Save a picture of the first training images, augmented, with their boxes."""
        batch = loader.first_training_batch(self.train_set, self.config, _PREVIEW_IMAGES)
        images = np.asarray(jax.jit(partial(jitter_colors, self.detector))(batch)).astype(np.uint8)
        path = self.folder / "pictures" / "training_input.png"
        save_image(
            path, draw_batch(images, batch["boxes"], batch["labels"], self.train_set.classes)
        )
        log_line(f"{len(images)} augmented training images with their boxes: {path}")


@partial(
    jax.tree_util.register_dataclass,
    data_fields=("values", "per_image_loss"), meta_fields=("names",),
)  # fmt: skip
@dataclass(frozen=True)
class StackedMetrics:
    """Metrics of a step whose scalars are one array: they cross to the host in one transfer."""

    names: tuple[str, ...]
    values: Float[Array, "*devices n"]  # in the order of `names`
    per_image_loss: Float[Array, "*devices b"]


def stack_metrics(step: Callable) -> Callable:
    """The step with its scalar metrics stacked as float32."""

    def stacking_step(state: TrainState, batch: Batch) -> tuple[TrainState, StackedMetrics]:
        state, metrics = step(state, batch)
        per_image_loss = metrics.pop("per_image_loss")
        values = jnp.stack([jnp.asarray(value, jnp.float32) for value in metrics.values()])
        return state, StackedMetrics(tuple(metrics), values, per_image_loss)

    return stacking_step


def is_due(step: int, every: int, steps: int) -> bool:
    """True every `every` steps and at the last step, number `steps`; `every` 0: only then."""
    return step == steps or (every > 0 and step % every == 0)


def nonfinite_image_names(
    image_ids: np.ndarray, per_image_loss: np.ndarray, source: sources.Source
) -> str:
    """Names of the first images [B] whose loss [B] is not finite; or text that there is none."""
    bad = image_ids[~np.isfinite(per_image_loss)]
    none = "no single image" + " of this process" * distributed.is_multiprocess()
    return ", ".join(source.name(int(i)) for i in bad[:5]) or none
