"""Train: `train_and_evaluate(config, workdir)`, the loop that tells the story."""

import math
import signal
from contextlib import closing, nullcontext
from functools import partial
from pathlib import Path

import jax
import numpy as np
from ml_collections import ConfigDict

from ssd_jax import checkpoint, draw, evaluate, init, logs, parallel, step, validation, workdir
from ssd_jax import config as configs
from ssd_jax.data import check, loader, sources
from ssd_jax.errors import ConfigError, Interrupted, NonFiniteLossError
from ssd_jax.profile import Trace

_PICTURES, _COLUMNS = 16, 4
_SKIPS = 5  # steps in a row that may not be finite before the run ends


def train_and_evaluate(
    config: ConfigDict, folder: Path, profiled: range = range(0)
) -> dict[str, float]:
    """Train the experiment in `folder`, from where it stopped if it was begun there.

    The steps of `profiled`, numbered from 1, leave a trace in `folder`/profile. Returns the last
    scores. Raises an `SsdError` for what the user can act on; `Interrupted` after SIGTERM or
    SIGINT, with everything saved.
    """
    configs.validate(config)
    try:
        scores = _train(config, folder, profiled)
    except Interrupted:
        parallel.everyone("saved")  # who leaves early would end the one that writes
        raise
    parallel.everyone("saved")
    return scores


def _train(config: ConfigDict, folder: Path, profiled: range) -> dict[str, float]:
    about = workdir.about(config)
    _agree(about | {"devices": parallel.describe(config.batch_size)})
    with workdir.lock(folder), _Signals() as signals:
        scan = check.known(folder)
        train_set = sources.make(config.data.train, config, config.data.classes, scan)
        test_set = sources.make(config.data.test, config, train_set.classes, scan)
        runner = parallel.make(config.parallel)
        detector = validation.build(config, train_set.classes, test_set.classes, runner.axis_name)
        sets = {"train": train_set, "test": test_set}
        _agree({name: each.fingerprint for name, each in sets.items()})
        lead = parallel.is_lead()
        if lead:
            check.before_training(folder, sets, scan, detector.priors.boxes, config.image_size)
        place = folder / "checkpoints"
        with checkpoint.Checkpoints(place, about=about) if lead else nullcontext() as checkpoints:
            if lead:
                _claim(folder, checkpoints, detector, train_set)
            run = _Run(folder, runner, detector, train_set, test_set, checkpoints)
            trace = Trace(folder / "profile", profiled if lead else range(0))
            with closing(run), closing(trace):
                return run.go(signals, trace)


def is_time(done: int, every: int, steps: int) -> bool:
    """Whether something that happens `every` so many steps, and at the end, happens now."""
    return done == steps or (every > 0 and done % every == 0)


def guilty(image_ids: np.ndarray, image_loss: np.ndarray, source: sources.Source) -> str:
    """Names of the first images [B] whose loss [B] is not finite, or that it is none alone."""
    bad = image_ids[~np.isfinite(image_loss)]
    nobody = "no single image" + " of this process" * parallel.several()
    return ", ".join(source.name(int(i)) for i in bad[:5]) or nobody


def _agree(about: dict) -> None:
    """Raise ConfigError, in every process, naming what is not the same in all of them."""
    about = configs.flatten(about)
    about.pop("versions.command", None)
    first, *others = parallel.everyone(about)
    lines = [
        f"process {number} has another {line}"
        for number, other in enumerate(others, 1)
        for line in configs.differences(first, other)
    ]
    if lines:
        shown = "\n  ".join(lines[:_PICTURES])
        raise ConfigError(f"the processes are not of one run (0 -> other):\n  {shown}")


def _claim(folder, checkpoints, detector, train_set) -> None:
    """Make the folder this run's, or refuse it when steps of another experiment are in it."""
    run = workdir.Run(
        detector.config, train_set.classes, train_set.fingerprint, detector.priors.boxes
    )
    if checkpoints.latest_step() is not None:
        workdir.check_same(folder, run.config, {"classes": run.classes, "data": run.data})
    workdir.begin(folder, run)


class _Run:
    """The parts of a run while it is alive; only the lead has `checkpoints`, and writes."""

    def __init__(self, folder, runner, detector, train_set, test_set, checkpoints):
        self.config, self.folder, self.runner = detector.config, folder, runner
        self.detector, self.train_set, self.checkpoints = detector, train_set, checkpoints
        state = _first_state(detector, checkpoints, train_set.classes)
        self.first_step = int(state.step)
        self.state = runner.replicate(state)
        self.train_step = runner.compile(partial(step.train_step, detector))
        self.evaluator = evaluate.Evaluator(detector, test_set, runner)
        self.scores: dict[str, float] = {}
        self.lead = checkpoints is not None
        if self.lead:
            self._introduce(state, test_set)
            self.metrics = logs.MetricsFile(folder, self.first_step)
        self.progress = logs.Progress(
            self.first_step, self.config.steps, self.config.batch_size, self.config.eval_every,
            shown=self.lead,
        )  # fmt: skip

    def close(self) -> None:
        self.progress.close()
        if self.lead:
            self.metrics.close()

    def go(self, signals: "_Signals", trace: Trace) -> dict[str, float]:
        """The loop."""
        config, steps, first = self.config, self.config.steps, self.first_step
        # It may have been stopped between saving and evaluating.
        lacking = first > 0 and is_time(first, config.eval_every, steps)
        if lacking and not parallel.everyone(self.lead and self._is_evaluated(first))[0]:
            self._evaluate(first)
        if first == 0 and self.lead:
            self._picture_input()
        parallel.everyone("ready")  # the first step does not wait long for who comes late
        if first >= steps:
            return self._already_done()
        batches = loader.training_batches(self.train_set, config, first, steps, parallel.process())
        before = None
        for done, batch in enumerate(self.progress.waiting_for(batches), first + 1):
            trace.before(done, self.state)
            self.state, metrics = self.train_step(self.state, self.runner.shard(batch))
            if done == first + 1:
                jax.block_until_ready(self.state.step)
                self.progress.restart_clock(done)  # compilation is over
            # The step before is read while this one runs, so that the device never waits.
            self._check(before)
            if self.lead:
                self.checkpoints.check()
            before = (done, batch["image_id"], metrics)
            stop = signals.received or parallel.is_asked_to_stop(done)
            score = is_time(done, config.eval_every, steps) and not stop
            if score or stop or is_time(done, config.save_every, steps):
                self._check(before)
                before = None
                with self.progress.paused():
                    if self.lead:
                        self.checkpoints.save(self.runner.unreplicate(self.state), done)
                    if score:
                        self._evaluate(done)
            if stop:
                raise Interrupted(
                    f"stopped at step {done}, all saved: start the same command again"
                )
        return self.scores

    def _already_done(self) -> dict[str, float]:
        logs.say(f"already done: {self.folder} is at step {self.first_step} of {self.config.steps}")
        if not self.scores:
            scores = evaluate.reported(self.folder, self.first_step, self.config)
            self.scores = parallel.everyone(scores)[0]
        if not self.scores:
            self._evaluate(self.first_step)
        return self.scores

    def _check(self, finished: tuple | None) -> None:
        """Report a finished step; raise NonFiniteLossError after too many skipped in a row."""
        if finished is None:
            return
        done, image_ids, metrics = finished
        loss = self.runner.scalar(metrics["loss"])
        if in_a_row := int(self.runner.scalar(metrics["skipped_in_a_row"])):
            names = guilty(image_ids, self.runner.rows(metrics["image_loss"]), self.train_set)
            what = f"step {done}: loss or gradient is not finite (loss {loss}, from: {names})"
            if in_a_row >= _SKIPS:
                raise NonFiniteLossError(
                    f"{what}; {in_a_row} such steps in a row. Checkpoints hold the good ones "
                    "before; start into a new --workdir with a lower "
                    "config.optim.learning_rate or a longer config.optim.warmup_steps"
                )
            logs.say(f"{what}; the step is skipped")
        memory = parallel.memory()
        self.progress.update(done, loss, memory)
        if self.lead and is_time(done, self.config.log_every, self.config.steps):
            values = {k: self.runner.scalar(v) for k, v in metrics.items() if k != "image_loss"}
            measured = (self.progress.rate(done), self.progress.data_wait("numbers"), memory)
            self.metrics.write(
                done,
                {f"train/{k}": v for k, v in values.items()}
                | {k: v for k, v in zip(logs.MEASURED, measured) if v is not None},
            )

    def _evaluate(self, done: int) -> None:
        """Score the state, report it everywhere, and keep it if it is the best."""
        self.scores, picture = self.evaluator(step.variables(self.state))
        if not self.lead:
            return
        evaluate.report(self.folder, done, self.scores, picture, self.config)
        headline = self.scores[evaluate.HEADLINE]
        if not self._is_evaluated(done):
            self.checkpoints.save_if_best(self.runner.unreplicate(self.state), done, headline)
            self.metrics.image(done, "detections", picture)
            self.metrics.write(done, self.scores)
        if math.isnan(headline):
            logs.say("the test set has no box that counts: scores are nan, no checkpoint is best")
        post = self.config.postprocess
        logs.say(
            f"step {done}: mAP@.5 {headline:.4f} "
            f"(score > {post.score_threshold}, NMS at {post.iou_threshold})"
        )

    def _is_evaluated(self, done: int) -> bool:
        return self.metrics.has(done, evaluate.HEADLINE)

    def _picture_input(self) -> None:
        """Draw what the network is about to be trained on: the most useful of all pictures."""
        batches = loader.training_batches(
            self.train_set, self.config, 0, -(-_PICTURES // self.config.batch_size)
        )
        distorted = jax.jit(partial(step.distorted, self.detector))
        pictures = []
        for batch in batches:
            images = np.asarray(distorted(batch)).astype(np.uint8)
            for image, boxes, labels in zip(images, batch["boxes"], batch["labels"]):
                real = labels != 0
                pictures.append(
                    draw.draw_boxes(image, boxes[real], labels[real], self.train_set.classes)
                )
        pictures = pictures[:_PICTURES]
        path = self.folder / "pictures" / "training_input.png"
        draw.save(path, draw.grid(pictures, _COLUMNS))
        logs.say(f"{len(pictures)} augmented training images with their boxes: {path}")

    def _introduce(self, state: step.State, test_set: sources.Source) -> None:
        count = sum(leaf.size for leaf in jax.tree.leaves(state.params))
        begin = "resumed at" if self.first_step else "from"
        size, kept = sum(leaf.nbytes for leaf in jax.tree.leaves(state)) / 1e6, checkpoint.MOST_KEPT
        logs.say(
            f"run        {self.folder} ({begin} step {self.first_step} of {self.config.steps})\n"
            f"devices    {parallel.describe(self.config.batch_size)}, {self.config.parallel}\n"
            f"model      {self.config.model.name}, {count / 1e6:.2f} M parameters, "
            f"{len(self.detector.priors.boxes)} priors\n"
            f"checkpoint {size:.1f} MB, {kept * size:.1f} MB for the {kept} that are kept\n"
            f"train      {self.train_set.summary()}\n"
            f"test       {test_set.summary()}"
        )


def _first_state(
    detector: step.Detector, checkpoints: checkpoint.Checkpoints | None, classes: tuple[str, ...]
) -> step.State:
    like = step.abstract_state(detector)

    def make() -> step.State:
        if checkpoints.latest_step() is None:
            return init.first_state(detector, classes)
        return checkpoints.restore("latest", like)

    return parallel.from_lead(make, like)


class _Signals:
    """Notices SIGTERM and SIGINT; a second one ends the program at once.

    With several processes SIGTERM is the runtime's, which tells all; SIGINT becomes one.
    """

    received = False

    def __enter__(self) -> "_Signals":
        numbers = (signal.SIGINT,) if parallel.several() else (signal.SIGINT, signal.SIGTERM)
        self._old = {number: signal.signal(number, self._note) for number in numbers}
        return self

    def __exit__(self, *_) -> None:
        for number, handler in self._old.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame) -> None:
        # Nothing is printed here: the signal may have come in the middle of a print.
        if parallel.several():
            signal.raise_signal(signal.SIGTERM)
        else:
            self.received = True
        signal.signal(number, self._old[number])
