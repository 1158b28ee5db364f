"""The loop: what crosses between host and devices, what it tells of its steps, when."""

import json
import threading

import jax
import micro
import numpy as np
import pytest

from ssd_jax import trainer, training
from ssd_jax.data import sources
from ssd_jax.errors import DataError, NonFiniteLossError
from ssd_jax.runs.checkpoint import Checkpoints
from ssd_jax.runs.metrics import StepMeans
from ssd_jax.runs.results import PRIMARY_METRIC
from ssd_jax.runtime import devices


@pytest.fixture
def no_pictures(monkeypatch):
    monkeypatch.setattr(trainer.Trainer, "_save_batch_preview", lambda self: None)


def metrics(folder):
    lines = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    return {line["step"]: line for line in lines if PRIMARY_METRIC not in line}


def step_by_step(folder, runner, monkeypatch, **changes):
    """Train, with implicit transfers forbidden from the second step to the last but one.

    Returns what happened in order: the number of a step before it runs, and the name of each fetch.
    """
    happened, guard = [], []
    before_step, fetch = trainer.StepTrace.before_step, runner.fetch

    def guarded(self, step, state):
        before_step(self, step, state)
        happened.append(step)
        if step == 2:
            guard.append(jax.transfer_guard("disallow"))
            guard[0].__enter__()
        elif guard and step == 10:
            guard.pop().__exit__(None, None, None)

    def counted(self, value):
        happened.append("fetch")
        return fetch(self, value)

    monkeypatch.setattr(trainer.StepTrace, "before_step", guarded)
    monkeypatch.setattr(runner, "fetch", counted)
    config = micro.get_config(steps=10, save_every=0, eval_every=0, **changes)
    try:
        training.train_and_evaluate(config, folder)
    finally:
        if guard:
            guard.pop().__exit__(None, None, None)
    return happened


@pytest.mark.parametrize("runner", [devices.Pmap, devices.Jit])
def test_nothing_crosses_but_the_next_batch_and_one_array_of_metrics(
    tmp_path, monkeypatch, no_pictures, runner
):
    """Also at steps that log; the metrics of a step are read while the next one runs."""
    name = runner.__name__.lower()
    happened = step_by_step(tmp_path, runner, monkeypatch, log_every=3, parallel=name)
    one_late = [what for step in range(3, 11) for what in (step, "fetch")]
    assert happened == [1, 2, "fetch", *one_late, "fetch"]
    assert list(metrics(tmp_path)) == [3, 6, 9, 10]


@pytest.mark.parametrize("runner", [devices.Pmap, devices.Jit])
def test_an_implicit_transfer_is_noticed(tmp_path, monkeypatch, no_pictures, runner):
    """The test above can fail: a batch that stays on the host crosses implicitly."""
    name = runner.__name__.lower()

    def stay(self, batch):
        if name == "jit":
            return batch
        return {key: rows.reshape(2, -1, *rows.shape[1:]) for key, rows in batch.items()}

    monkeypatch.setattr(runner, "shard", stay)
    with pytest.raises(jax.errors.JaxRuntimeError, match="Disallowed host-to-device transfer"):
        step_by_step(tmp_path, runner, monkeypatch, parallel=name)


def test_the_next_batch_is_sent_while_a_step_runs(tmp_path, monkeypatch, no_pictures):
    """Batch 2 is on its way before step 1 is over, and batch 3 not before step 2 has its own."""
    sent, began, shard = [], {}, devices.Pmap.shard
    before_step = trainer.StepTrace.before_step
    second = threading.Event()

    def sending(self, batch):
        sent.append(len(sent) + 1)
        if len(sent) == 2:
            second.set()
        return shard(self, batch)

    def waiting(self, step, state):
        if step == 1:
            assert second.wait(60)
        began[step] = max(sent)
        before_step(self, step, state)

    monkeypatch.setattr(devices.Pmap, "shard", sending)
    monkeypatch.setattr(trainer.StepTrace, "before_step", waiting)
    monkeypatch.setattr(trainer.Trainer, "_evaluate", lambda self, step: None)
    training.train_and_evaluate(micro.get_config(steps=4), tmp_path)
    assert began[1] == 2 and sent == [1, 2, 3, 4]
    assert all(number <= step + 1 for step, number in began.items())


def test_a_batch_that_cannot_be_read_ends_the_run_with_its_error(
    tmp_path, monkeypatch, no_pictures
):
    batches = trainer.loader.training_batches

    def broken(*arguments):
        yield from list(batches(*arguments))[:2]
        raise DataError("an image is gone")

    monkeypatch.setattr(trainer.loader, "training_batches", broken)
    with pytest.raises(DataError, match="an image is gone"):
        training.train_and_evaluate(micro.get_config(), tmp_path)
    assert not [thread for thread in threading.enumerate() if "ThreadPool" in thread.name]


@pytest.mark.parametrize("parallel", ["pmap", "jit"])
def test_an_update_that_overflows_is_not_saved(tmp_path, no_pictures, parallel):
    """Step 1 is sound; the gradient of step 2 is finite, and the biases after it are not."""
    config = micro.get_config(parallel=parallel, save_every=1, eval_every=0, steps=3)
    config.optim.warmup_steps = 1  # step 1 has a rate of 0
    config.optim.learning_rate, config.optim.bias_lr_multiplier = 1e36, 1e6
    with pytest.raises(NonFiniteLossError, match=r"step 2: .* is not saved; .*lower config\.optim"):
        training.train_and_evaluate(config, tmp_path)
    with Checkpoints(tmp_path / "checkpoints", create=False) as checkpoints:
        assert checkpoints.latest_step() == 1


def test_a_line_tells_means_of_its_steps_and_the_newest_of_rate_and_counts(tmp_path, no_pictures):
    """Each line of three steps against the lines of the single steps; the last line is of one."""
    for name, log_every in (("each", 1), ("third", 3)):
        config = micro.get_config(steps=7, log_every=log_every, optim__schedule="cosine")
        training.train_and_evaluate(config, tmp_path / name)
    each, third = metrics(tmp_path / "each"), metrics(tmp_path / "third")
    assert list(third) == [3, 6, 7]
    for last, steps in ((3, (1, 2, 3)), (6, (4, 5, 6)), (7, (7,))):
        for name in ("loss", "cls_loss", "loc_loss", "positives", "negatives", "gradient_norm"):
            expected = np.mean([each[step][f"train/{name}"] for step in steps])
            assert third[last][f"train/{name}"] == pytest.approx(expected, rel=1e-5)
        for name in ("learning_rate", "skipped", "consecutive_skipped"):
            assert third[last][f"train/{name}"] == each[last][f"train/{name}"]
    rates = [each[step]["train/learning_rate"] for step in (1, 2, 3)]
    assert len({*rates}) == 3


def test_means_leave_out_what_is_not_finite_and_go_on_from_what_was_saved():
    steps = [
        {"loss": 1.0, "norm": np.inf, "skipped": 0.0},
        {"loss": np.nan, "norm": np.nan, "skipped": 1.0},
        {"loss": 4.0, "norm": np.inf, "skipped": 1.0},
    ]
    means = StepMeans()
    for values in steps[:2]:
        means.add(values)
    means = StepMeans(json.loads(json.dumps(means.to_json())))
    means.add(steps[2])
    assert means.to_json()["loss"] == [5.0, 2]
    taken = means.take()
    assert taken["loss"] == 2.5 and taken["skipped"] == 1.0 and np.isnan(taken["norm"])
    means.add(steps[0])
    assert means.take()["loss"] == 1.0 and means.to_json() == {}


def test_the_guilty_images_are_named():
    source = sources.make_source(("shapes:train:9",), micro.get_config())
    loss = np.array([1.0, np.nan, 2.0, np.inf])
    assert (
        trainer.nonfinite_image_names(np.array([4, 7, 5, 2]), loss, source)
        == "shapes/train/7, shapes/train/2"
    )
    assert trainer.nonfinite_image_names(np.array([4]), loss[:1], source) == "no single image"


@pytest.mark.parametrize(
    ("done", "every", "expected"), [(6, 3, True), (5, 3, False), (10, 3, True), (5, 0, False)]
)
def test_when_it_is_time(done, every, expected):
    assert trainer.is_due(done, every, 10) is expected
