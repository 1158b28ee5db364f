"""Train: `train_and_evaluate(config, workdir)`, the loop that tells the story."""

import math
import signal
from contextlib import closing
from functools import partial
from pathlib import Path

import jax
import numpy as np
from ml_collections import ConfigDict

from ssd_jax import checkpoint, draw, evaluate, logs, parallel, step, workdir
from ssd_jax.data import loader, sources
from ssd_jax.errors import Interrupted, NonFiniteLossError

_PICTURES, _COLUMNS = 16, 4


def train_and_evaluate(config: ConfigDict, folder: Path) -> dict[str, float]:
    """Train the experiment in `folder`, from where it stopped if it was begun there.

    Returns the last scores. Raises an `SsdError` for what the user can act on; `Interrupted`
    after SIGTERM or SIGINT, with everything saved.
    """
    with workdir.lock(folder):
        return _train(config, folder)


def _train(config: ConfigDict, folder: Path) -> dict[str, float]:
    runner = parallel.make(config.parallel, config.batch_size)
    train_set = sources.make(config.data.train, config, config.data.classes)
    test_set = sources.make(config.data.test, config, train_set.classes)
    detector = step.build(config, len(train_set.classes) + 1, runner.axis_name)
    workdir.open_for_training(
        folder, config, train_set.classes, train_set.fingerprint, detector.priors.boxes
    )
    with checkpoint.Checkpoints(folder / "checkpoints") as checkpoints, _Signals() as signals:
        run = _Run(config, folder, runner, detector, train_set, test_set, checkpoints)
        with closing(run.metrics), closing(run.progress):
            return run.go(signals)


class _Run:
    """The parts of a run while it is alive."""

    def __init__(self, config, folder, runner, detector, train_set, test_set, checkpoints):
        self.config, self.folder, self.runner = config, folder, runner
        self.detector, self.train_set, self.checkpoints = detector, train_set, checkpoints
        state = _begin(detector, checkpoints)
        self.first_step = int(state.step)
        self._introduce(detector, state, test_set)
        self.state = runner.replicate(state)
        self.train_step = runner.compile(partial(step.train_step, detector))
        self.evaluator = evaluate.Evaluator(detector, test_set, runner)
        self.metrics = logs.MetricsFile(folder, self.first_step)
        self.progress = logs.Progress(self.first_step, config.steps, config.batch_size)
        self.scores: dict[str, float] = {}

    def go(self, signals: "_Signals") -> dict[str, float]:
        """The loop."""
        config, steps = self.config, self.config.steps
        if self.first_step >= steps:
            logs.say(f"already done: {self.folder} is at step {self.first_step} of {steps}")
            done = evaluate.last_report(self.folder)
            return done[1] if done[0] == self.first_step else self._evaluate(self.first_step)
        if self.first_step == 0:
            self._picture_input()
        batches = loader.training_batches(self.train_set, config, self.first_step, steps)
        before = None
        for done, batch in enumerate(batches, self.first_step + 1):
            self.state, metrics = self.train_step(self.state, self.runner.shard(batch))
            # The step before is read while this one runs, so that the device never waits.
            self._check(before)
            before = (done, batch["image_id"], metrics)
            stop = signals.received
            score = is_time(done, config.eval_every, steps) and not stop
            if score or stop or is_time(done, config.save_every, steps):
                self._check(before)
                before = None
                with self.progress.paused():
                    self._save(done, score)
            if done == self.first_step + 1:
                jax.block_until_ready(self.state.step)
                self.progress.restart_clock(done)
            if stop:
                raise Interrupted(
                    f"stopped at step {done}, all saved: start the same command again"
                )
        return self.scores

    def _check(self, finished: tuple | None) -> None:
        """Report a finished step; raise NonFiniteLossError naming the images of a bad one."""
        if finished is None:
            return
        done, image_ids, metrics = finished
        loss = self.runner.scalar(metrics["loss"])
        if not math.isfinite(loss):
            image_loss = self.runner.rows(metrics["image_loss"])
            guilty = image_ids[~np.isfinite(image_loss)]
            names = ", ".join(self.train_set.name(int(i)) for i in guilty[:5]) or "no single image"
            raise NonFiniteLossError(
                f"the loss of step {done} is {loss} (from: {names}); the last checkpoint is good. "
                "Lower config.optim.learning_rate or lengthen config.optim.warmup_steps"
            )
        self.progress.update(done, loss)
        if is_time(done, self.config.log_every, self.config.steps):
            values = {k: self.runner.scalar(v) for k, v in metrics.items() if k != "image_loss"}
            self.metrics.write(
                done,
                {f"train/{k}": v for k, v in values.items()}
                | {"images_per_second": self.progress.rate(done)},
            )

    def _save(self, done: int, score: bool) -> None:
        """Save the state as the latest and, evaluated, as the best if it is."""
        state = self.runner.unreplicate(self.state)
        self.checkpoints.save(state, done)
        if score:
            scores = self._evaluate(done)
            self.checkpoints.save_if_best(state, done, scores[evaluate.HEADLINE])

    def _evaluate(self, done: int) -> dict[str, float]:
        scores, picture = self.evaluator(step.variables(self.state))
        self.scores = scores
        self.metrics.write(done, scores)
        self.metrics.image(done, "detections", picture)
        evaluate.report(self.folder, done, scores, picture, self.config)
        logs.say(f"step {done}: mAP@.5 {scores[evaluate.HEADLINE]:.4f}")
        return scores

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

    def _introduce(self, detector: step.Detector, state: step.State, test_set) -> None:
        count = sum(leaf.size for leaf in jax.tree.leaves(state.params))
        logs.say(
            f"run        {self.folder} ({'resumed at' if self.first_step else 'from'} step "
            f"{self.first_step} of {self.config.steps})\n"
            f"devices    {parallel.describe()}, {self.config.parallel}, "
            f"batch {self.config.batch_size}\n"
            f"model      {self.config.model.name}, {count / 1e6:.2f} M parameters, "
            f"{len(detector.priors.boxes)} priors\n"
            f"train      {self.train_set.summary()}\n"
            f"test       {test_set.summary()}"
        )


def is_time(done: int, every: int, steps: int) -> bool:
    """Whether something that happens `every` so many steps, and at the end, happens now."""
    return done == steps or (every > 0 and done % every == 0)


def _begin(detector: step.Detector, checkpoints: checkpoint.Checkpoints) -> step.State:
    if checkpoints.latest_step() is None:
        return step.create_state(detector)
    return checkpoints.restore("latest", step.abstract_state(detector))


class _Signals:
    """Notices SIGTERM and SIGINT; a second one ends the program at once."""

    received = False

    def __enter__(self) -> "_Signals":
        self._old = {s: signal.signal(s, self._note) for s in (signal.SIGTERM, signal.SIGINT)}
        return self

    def __exit__(self, *_) -> None:
        for number, handler in self._old.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame) -> None:
        self.received = True
        signal.signal(number, self._old[number])
        logs.say("stopping after this step")
