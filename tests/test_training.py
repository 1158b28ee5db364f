"""The loop in this process, on a micro model: what it leaves behind, and how it continues."""

import json
import logging
import os
import re
import shutil
import signal

import jax
import jax.numpy as jnp
import micro
import numpy as np
import pytest
from image_files import write_image

from ssd_jax import evaluate, train_step, trainer, training
from ssd_jax.data.sets import open_sets
from ssd_jax.data.sources import make_source
from ssd_jax.detector import build_detector, per_image_losses
from ssd_jax.errors import ConfigError, DataError, Interrupted, NonFiniteLossError
from ssd_jax.runs.checkpoint import Checkpoints
from ssd_jax.runs.folder import RunInfo, read_saved_classes, run_metadata, write_run_files
from ssd_jax.runs.load import load_run
from ssd_jax.runs.metrics import NONDETERMINISTIC_METRICS
from ssd_jax.runs.results import PRIMARY_METRIC, read_results
from ssd_jax.train_step import abstract_state


def final_state(folder, config):
    detector = build_detector(config, 5)
    with Checkpoints(folder / "checkpoints", create=False) as checkpoints:
        return jax.device_get(checkpoints.restore("latest", abstract_state(detector)))


def metrics(folder):
    lines = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    return [{k: v for k, v in line.items() if k not in NONDETERMINISTIC_METRICS} for line in lines]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run that nothing disturbed."""
    folder = tmp_path_factory.mktemp("whole")
    scores = training.train_and_evaluate(micro.get_config(), folder)
    return folder, scores


def test_a_run_leaves_what_the_readme_promises(whole):
    folder, scores = whole
    assert set(os.listdir(folder)) == {
        ".lock", "checkpoints", "config.json", "metrics.jsonl", "pictures", "priors.npy",
        "results.json", "run.json", "tensorboard",
    }  # fmt: skip
    results = json.loads((folder / "results.json").read_text())
    assert results["step"] == 6 and results["postprocess"]["iou_threshold"] == 0.45
    assert (results["set"], results["chosen_by"]) == ("test", "test")
    headline = results["scores"][PRIMARY_METRIC]
    assert headline == pytest.approx(scores[PRIMARY_METRIC], abs=1e-6)
    pictures = set(os.listdir(folder / "pictures"))
    assert pictures == {"training_input.png", "detections_0000003.png", "detections_0000006.png"}
    by_step = [line["step"] for line in metrics(folder)]
    assert by_step == [2, 3, 4, 6, 6]
    assert final_state(folder, micro.get_config()).step == 6


def test_the_history_tells_rate_and_waiting(whole):
    lines = map(json.loads, (whole[0] / "metrics.jsonl").read_text().splitlines())
    trained = [line for line in lines if "train/loss" in line]
    assert len(trained) == 3
    for line in trained:
        assert 0 <= line["data_wait"] <= 1 and line["images_per_second"] >= 0
        assert "device_memory" not in line  # a CPU does not tell


def interrupt_at(monkeypatch, step):
    """Send the signal just before step `step` is run."""
    before_step = trainer.StepTrace.before_step

    def with_a_signal(self, number, state):
        if number == step:
            os.kill(os.getpid(), signal.SIGTERM)
        before_step(self, number, state)

    monkeypatch.setattr(trainer.StepTrace, "before_step", with_a_signal)


@pytest.mark.parametrize("step", [3, 4, 5, 6])
def test_interrupted_and_resumed_equals_uninterrupted(whole, tmp_path, monkeypatch, step):
    """Bit-equal in the end.

    Stopped before an evaluation, between two, between two lines of metrics, at the last step.
    """
    config = micro.get_config()
    interrupt_at(monkeypatch, step)
    with pytest.raises(Interrupted, match=f"stopped at step {step}"):
        training.train_and_evaluate(config, tmp_path)
    monkeypatch.undo()
    assert final_state(tmp_path, config).step == step
    scores = training.train_and_evaluate(config, tmp_path)
    assert scores == pytest.approx(whole[1], nan_ok=True)
    jax.tree.map(
        np.testing.assert_array_equal,
        final_state(tmp_path, config), final_state(whole[0], config),
    )  # fmt: skip
    assert metrics(tmp_path) == metrics(whole[0])
    best = [sorted(os.listdir(folder / "checkpoints" / "best")) for folder in (tmp_path, whole[0])]
    assert best[0] == best[1]


def test_jit_runs_the_same_loop(whole, tmp_path):
    config = micro.get_config(parallel="jit")
    training.train_and_evaluate(config, tmp_path)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4),
        final_state(tmp_path, config).params, final_state(whole[0], config).params,
    )  # fmt: skip


def test_a_run_compiles_its_step_and_its_prediction_once(tmp_path, caplog):
    with jax.log_compiles(), caplog.at_level(logging.WARNING, logger="jax"):
        training.train_and_evaluate(micro.get_config(batch_size=2, steps=7, eval_every=2), tmp_path)
    compiled = [record.getMessage().partition(" with ")[0] for record in caplog.records]
    # pmap names what it compiles `_fun`: the step and the prediction, once each.
    assert compiled.count("Compiling jit(_fun)") == 2


def test_a_finished_run_says_so_and_returns_its_scores(whole, capsys):
    folder, scores = whole
    again = training.train_and_evaluate(micro.get_config(), folder)
    said = capsys.readouterr().err
    assert "already done" in said
    size = sum(leaf.nbytes for leaf in jax.tree.leaves(final_state(folder, micro.get_config())))
    assert f"checkpoint {size / 1e6:.1f} MB, {3 * size / 1e6:.1f} MB for the 3" in said
    assert "batch 4, 2 a device" in said
    assert again == pytest.approx(scores, nan_ok=True, abs=1e-6)


def test_scores_under_other_thresholds_are_not_taken_for_the_runs(whole):
    folder, scores = whole
    other = micro.get_config(postprocess__iou_threshold=0.9)
    assert not read_results(folder, 6, other)
    assert read_results(folder, 6, micro.get_config())


def test_a_finished_run_under_other_thresholds_keeps_its_history(tmp_path):
    training.train_and_evaluate(micro.get_config(steps=2), tmp_path)
    before = metrics(tmp_path)
    training.train_and_evaluate(micro.get_config(steps=2, postprocess__iou_threshold=0.9), tmp_path)
    assert metrics(tmp_path) == before
    assert (
        json.loads((tmp_path / "results.json").read_text())["postprocess"]["iou_threshold"] == 0.9
    )


def from_detector(whole, **changes):
    """A run that starts from the best of another and hardly changes it."""
    return micro.get_config(
        init__source=str(whole[0]), optim__learning_rate=1e-12, steps=3, eval_every=3, **changes
    )


@pytest.mark.parametrize("runner", ["pmap", "jit"])
def test_a_detector_is_scored_before_the_first_step_and_kept_until_beaten(
    whole, tmp_path, capsys, runner
):
    training.train_and_evaluate(from_detector(whole, parallel=runner), tmp_path)
    scored = [line for line in metrics(tmp_path) if PRIMARY_METRIC in line]
    assert [line["step"] for line in scored] == [0, 3]
    said = capsys.readouterr().err
    assert said.index("step 0/3 (epoch 0/1)") < said.index("step 3/3 (epoch 1/1)")
    assert f"no evaluation was better than mAP@.5 {scored[0][PRIMARY_METRIC]:.4f}" in said
    with Checkpoints(tmp_path / "checkpoints", create=False) as checkpoints:
        assert checkpoints.best_step() == 0 and checkpoints.latest_step() == 3
    evaluate.evaluate_run(tmp_path, from_detector(whole))
    untouched = evaluate.evaluate_run(whole[0], micro.get_config())
    assert scored[0][PRIMARY_METRIC] == pytest.approx(untouched[PRIMARY_METRIC], abs=1e-5)


def test_what_is_better_than_the_start_is_the_best(whole, tmp_path, monkeypatch, capsys):
    scores = iter([0.1, 0.2])
    call = trainer.Evaluator.__call__

    def evaluated(self, *arguments):
        found, picture = call(self, *arguments)
        return found | {PRIMARY_METRIC: next(scores)}, picture

    monkeypatch.setattr(trainer.Evaluator, "__call__", evaluated)
    training.train_and_evaluate(from_detector(whole), tmp_path)
    assert "no evaluation was better" not in capsys.readouterr().err
    with Checkpoints(tmp_path / "checkpoints", create=False) as checkpoints:
        assert checkpoints.best_step() == 3


@pytest.mark.parametrize("moment", ["before its score is written", "after"])
def test_a_kill_around_the_first_evaluation_changes_nothing(
    whole, tmp_path, monkeypatch, moment, capsys
):
    training.train_and_evaluate(from_detector(whole), tmp_path / "undisturbed")
    write = training.MetricsFile.write

    def killed(self, step, values):
        if moment == "after":
            write(self, step, values)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(training.MetricsFile, "write", killed)
        training.train_and_evaluate(from_detector(whole), tmp_path / "killed")
    training.train_and_evaluate(from_detector(whole), tmp_path / "killed")
    assert metrics(tmp_path / "killed") == metrics(tmp_path / "undisturbed")
    states = [
        final_state(tmp_path / name, from_detector(whole)) for name in ("killed", "undisturbed")
    ]
    jax.tree.map(np.testing.assert_array_equal, *states)


@pytest.mark.parametrize("runner", ["pmap", "jit"])
def test_the_learning_rate_is_scaled_where_the_source_detects_all_classes(
    whole, tmp_path, monkeypatch, capsys, runner
):
    """Also after an interruption, when the source is gone."""
    source = tmp_path / "source"
    shutil.copytree(whole[0], source)
    config = from_detector(
        whole, init__lr_multiplier=0.25, optim__schedule="step", log_every=1, parallel=runner,
        optim__ema_decay=0.75,
    )  # fmt: skip
    config.init.source = str(source)
    config.optim.update({"learning_rate": 0.04, "warmup_steps": 0, "lr_decay_fractions": ()})
    training.train_and_evaluate(config, tmp_path / "undisturbed")
    interrupt_at(monkeypatch, 2)
    with pytest.raises(Interrupted):
        training.train_and_evaluate(config, tmp_path / "resumed")
    monkeypatch.undo()
    shutil.rmtree(source)
    training.train_and_evaluate(config, tmp_path / "resumed")
    assert metrics(tmp_path / "resumed") == metrics(tmp_path / "undisturbed")
    states = [final_state(tmp_path / name, config) for name in ("resumed", "undisturbed")]
    jax.tree.map(np.testing.assert_array_equal, *states)
    logged = [line for line in metrics(tmp_path / "resumed") if "train/loss" in line]
    rates = [line["train/learning_rate"] for line in logged]
    assert rates == pytest.approx([0.01] * 3)
    # 0.75^3 of the average is the source itself.
    start, end = load_run(whole[0], "best").variables, states[0]
    average = end.ema["params"]["heads"]["localization_0"]["bias"]
    final = end.params["heads"]["localization_0"]["bias"]
    first = start["params"]["heads"]["localization_0"]["bias"]
    assert np.linalg.norm(average - first) < 0.9 * np.linalg.norm(final - first)
    text = "detects all classes: learning rate 0.01, 0.25 times config.optim.learning_rate"
    assert capsys.readouterr().err.count(text) == 3
    saved = json.loads((tmp_path / "resumed" / "config.json").read_text())
    assert saved["optim"]["learning_rate"] == 0.04


def test_the_learning_rate_of_new_classes_is_that_of_the_config(whole, tmp_path, capsys):
    config = from_detector(whole, init__what="backbone", init__lr_multiplier=0.25, log_every=3)
    config.optim.update({"schedule": "step", "lr_decay_fractions": (), "warmup_steps": 0})
    training.train_and_evaluate(config, tmp_path)
    rates = [line.get("train/learning_rate") for line in metrics(tmp_path)]
    assert rates[0] == pytest.approx(1e-12) and "0.25 times" not in capsys.readouterr().err


def test_a_start_without_all_classes_is_not_scored(whole, tmp_path):
    """A backbone alone, or heads with a class that the source does not have."""
    config = from_detector(whole, init__what="backbone")
    training.train_and_evaluate(config, tmp_path)
    assert [line["step"] for line in metrics(tmp_path) if PRIMARY_METRIC in line] == [3]


def test_a_run_that_made_no_step_does_not_claim_its_folder(tmp_path, monkeypatch):
    def no_batch(*_):
        raise DataError("an image is gone")

    monkeypatch.setattr(trainer.loader, "training_batches", no_batch)
    with pytest.raises(DataError):
        training.train_and_evaluate(micro.get_config(augment__geometric=()), tmp_path)
    monkeypatch.undo()
    training.train_and_evaluate(micro.get_config(steps=2), tmp_path)


def test_more_steps_continue_a_finished_run(tmp_path):
    training.train_and_evaluate(micro.get_config(steps=2), tmp_path)
    training.train_and_evaluate(micro.get_config(steps=4), tmp_path)
    assert final_state(tmp_path, micro.get_config()).step == 4


def test_another_experiment_in_the_same_folder_is_refused(whole):
    with pytest.raises(ConfigError, match=r"config\.optim\.momentum: 0\.9 -> 0\.5"):
        training.train_and_evaluate(micro.get_config(optim__momentum=0.5), whole[0])


@pytest.mark.parametrize("change", [{}, {"optim__momentum": 0.5, "seed": 7}])
def test_evaluation_alone_gives_the_same_scores(whole, change):
    """Also with other fields that only training reads."""
    folder, scores = whole
    again = evaluate.evaluate_run(folder, micro.get_config(**change), "latest")
    assert again == pytest.approx(scores, nan_ok=True, abs=1e-6)


def test_evaluation_with_another_detector_is_refused(whole):
    with pytest.raises(ConfigError, match=r"another detector.*\n.*threshold: 0\.5 -> 0\.4"):
        evaluate.evaluate_run(whole[0], micro.get_config(matching__threshold=0.4))


def poison(monkeypatch, steps, rows=4):
    """Make the loss of the first image of these steps (counted from 1) infinite."""
    honest = per_image_losses
    samples = jnp.int32([(number - 1) * rows for number in steps])

    def poisoned(detector, logits, offsets, targets, batch_samples):
        loss = honest(detector, logits, offsets, targets, batch_samples)
        bad = (batch_samples[:, None] == samples[None]).any(1)
        return loss._replace(localization=jnp.where(bad, jnp.inf, loss.localization))

    monkeypatch.setattr(train_step, "per_image_losses", poisoned)


def no_pictures(monkeypatch):
    monkeypatch.setattr(trainer.Trainer, "_save_batch_preview", lambda self: None)


def test_a_step_that_is_not_finite_is_skipped_counted_and_named(tmp_path, monkeypatch, capsys):
    no_pictures(monkeypatch)
    poison(monkeypatch, (2, 4))
    config = micro.get_config(optim__ema_decay=0.9, log_every=1)
    training.train_and_evaluate(config, tmp_path)
    state = final_state(tmp_path, config)
    assert (state.step, state.skipped, state.consecutive_skipped) == (6, 2, 0)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state))
    said = [line for line in capsys.readouterr().err.splitlines() if "is skipped" in line]
    assert len(said) == 2 and said[0].startswith("step 2: ") and "from: shapes/train/" in said[0]
    losses = [line.get("train/loss", 0) for line in metrics(tmp_path)]
    assert losses.count(None) == 2


def test_five_such_steps_in_a_row_end_the_run(tmp_path, monkeypatch):
    no_pictures(monkeypatch)
    poison(monkeypatch, (2, *range(4, 9)))
    config = micro.get_config(steps=12, save_every=1)
    with pytest.raises(NonFiniteLossError, match="step 8: .*; 5 such steps in a row") as error:
        training.train_and_evaluate(config, tmp_path)
    assert error.value.exit_code == 5
    state = final_state(tmp_path, config)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state))


def test_steps_are_profiled_with_the_evaluation_that_falls_within(tmp_path, capsys):
    """Steps 2 and 3 of 6; the third is evaluated, and the later ones leave no second trace."""
    training.train_and_evaluate(micro.get_config(), tmp_path, profiled=range(2, 4))
    (trace,) = (tmp_path / "profile").rglob("*.xplane.pb")
    content = trace.read_bytes()
    for name in (b"backbone", b"heads", b"match", b"mine", b"loss", b"update", b"nms"):
        assert re.search(rb"[/(]" + name + rb"[)/]", content), name
    assert f"profile    {tmp_path / 'profile'}" in capsys.readouterr().err


def test_steps_that_are_past_are_not_profiled(whole):
    training.train_and_evaluate(micro.get_config(), whole[0], profiled=range(1, 3))
    assert not (whole[0] / "profile").exists()


def test_a_run_keeps_a_class_that_only_names_a_group(tmp_path):
    """As versions before took it for one: the classes and the fingerprint are those of the run."""
    write_image(tmp_path / "a.jpg")
    categories = [
        {"id": 0, "name": "pets", "supercategory": "none"},
        {"id": 1, "name": "dog", "supercategory": "pets"},
    ]
    content = {
        "images": [{"id": 1, "file_name": "a.jpg", "width": 100, "height": 80}],
        "categories": categories,
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [5, 5, 40, 40]}],
    }
    (tmp_path / "a.json").write_text(json.dumps(content))
    spec, folder = (f"coco:{tmp_path}:{tmp_path / 'a.json'}",), tmp_path / "run"
    config = micro.get_config(data__train=spec)
    assert open_sets(config).train.classes == ("dog",)
    saved = ("pets", "dog")
    priors = np.zeros((1, 4), np.float32)
    write_run_files(folder, RunInfo(config, saved, "f0", priors), run_metadata(config))
    kept = open_sets(config, run_classes=read_saved_classes(folder)).train
    assert kept.classes == saved and kept[0]["labels"].tolist() == [2]
    assert kept.fingerprint == make_source(spec, config, saved).fingerprint
    other = RunInfo(config, ("cat", "bird"), "f0", priors)
    write_run_files(folder, other, run_metadata(config))
    assert open_sets(config).train.classes == ("dog",)


VAL = {"data__val": ("shapes:val:5",)}


@pytest.fixture(scope="module")
def chosen(tmp_path_factory):
    """A run whose best checkpoint a validation set chooses."""
    folder = tmp_path_factory.mktemp("chosen")
    scores = training.train_and_evaluate(micro.get_config(**VAL), folder)
    return folder, scores


def test_the_test_set_is_scored_once_with_the_best_weights(chosen, capsys):
    folder, scores = chosen
    config, lines = micro.get_config(**VAL), metrics(folder)
    tested = [line for line in lines if f"test/{PRIMARY_METRIC}" in line]
    assert len(tested) == 1 and [line["step"] for line in lines if PRIMARY_METRIC in line] == [3, 6]
    best = load_run(folder).step
    results = json.loads((folder / "results.json").read_text())
    assert results["step"] == tested[0]["step"] == best
    assert (results["set"], results["chosen_by"]) == ("test", "val")
    assert results["training"] == {"last_step": 6, "steps": 6, "patience": 0}
    assert f"test_detections_{best:07d}.png" in os.listdir(folder / "pictures")
    assert read_results(folder, 6, config) == pytest.approx(scores, nan_ok=True, abs=1e-6)
    evaluated = evaluate.evaluate_run(folder, config)
    assert evaluated == pytest.approx(scores, nan_ok=True)
    again = training.train_and_evaluate(config, folder)
    assert again == pytest.approx(scores, nan_ok=True, abs=1e-6)
    said = capsys.readouterr().err
    assert "already done" in said and "chosen by the validation set; the test set is" in said
    assert len(metrics(folder)) == len(lines)


def test_a_validation_set_alone_is_the_result(tmp_path):
    config = micro.get_config(**VAL, data__test=())
    scores = training.train_and_evaluate(config, tmp_path)
    results = json.loads((tmp_path / "results.json").read_text())
    assert (results["set"], results["step"]) == ("val", load_run(tmp_path).step)
    assert not [line for line in metrics(tmp_path) if any(name[:5] == "test/" for name in line)]
    assert read_results(tmp_path, 6, config) == pytest.approx(scores, nan_ok=True, abs=1e-6)


def test_a_kill_before_the_test_set_is_scored_costs_nothing(chosen, tmp_path, monkeypatch):
    def killed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(trainer.Trainer, "_best_variables", killed)
    with pytest.raises(KeyboardInterrupt):
        training.train_and_evaluate(micro.get_config(**VAL), tmp_path)
    assert not read_results(tmp_path, 6, micro.get_config(**VAL))
    monkeypatch.undo()
    scores = training.train_and_evaluate(micro.get_config(**VAL), tmp_path)
    assert scores == pytest.approx(chosen[1], nan_ok=True)
    assert metrics(tmp_path) == metrics(chosen[0])


def with_scores(monkeypatch, by_step):
    """The validation set has these scores after these steps."""
    evaluate_it = evaluate.Evaluator.__call__

    def scored(self, variables, *args, **kwargs):
        scores, picture = evaluate_it(self, variables, *args, **kwargs)
        return scores | {PRIMARY_METRIC: by_step.get(steps[-1], 0.05)}, picture

    steps, before_step = [0], trainer.StepTrace.before_step

    def counted(self, step, state):
        steps.append(step)
        before_step(self, step, state)

    monkeypatch.setattr(trainer.StepTrace, "before_step", counted)
    monkeypatch.setattr(evaluate.Evaluator, "__call__", scored)


PATIENT = {"steps": 12, "eval_every": 2, "save_every": 3, "patience": 2, **VAL}
SCORES = {2: 0.1, 4: 0.3, 6: 0.2, 8: 0.25, 10: 0.9}  # ends after step 8


@pytest.mark.parametrize("stop_at", [None, 7, 8])
def test_a_training_ends_when_scores_no_longer_improve(tmp_path, monkeypatch, capsys, stop_at):
    """At the same step and with the same history where it was interrupted."""
    config = micro.get_config(**PATIENT)
    with_scores(monkeypatch, SCORES)
    if stop_at:
        interrupt_at(monkeypatch, stop_at)
        with pytest.raises(Interrupted):
            training.train_and_evaluate(config, tmp_path)
        monkeypatch.undo()
        with_scores(monkeypatch, SCORES)
    training.train_and_evaluate(config, tmp_path)
    assert (
        "ends after step 8 of 12: 2 evaluations without a better mAP@.5 than 0.3000; a config"
        in (capsys.readouterr().err)
    )
    scored = [line["step"] for line in metrics(tmp_path) if PRIMARY_METRIC in line]
    assert scored == [2, 4, 6, 8] and load_run(tmp_path).step == 4
    assert final_state(tmp_path, config).step == 8
    assert read_results(tmp_path, 12, config)  # what a sweep asks for: it is finished
    if stop_at:
        return
    count = len(metrics(tmp_path))
    training.train_and_evaluate(config, tmp_path)
    assert "already done" in capsys.readouterr().err and len(metrics(tmp_path)) == count
    longer = micro.get_config(**PATIENT | {"patience": 3})
    assert not read_results(tmp_path, 12, longer)
    training.train_and_evaluate(longer, tmp_path)  # goes on where it had stopped
    scored = [line["step"] for line in metrics(tmp_path) if PRIMARY_METRIC in line]
    assert scored[4] == 10
