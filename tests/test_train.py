"""The loop in this process, on a micro model: what it leaves behind, and how it continues."""

import json
import os
import signal

import jax
import micro
import numpy as np
import pytest

from ssd_jax import evaluate, step, train
from ssd_jax.checkpoint import Checkpoints
from ssd_jax.errors import ConfigError, Interrupted, NonFiniteLossError


def final_state(folder, config):
    detector = step.build(config, 5)
    with Checkpoints(folder / "checkpoints", create=False) as checkpoints:
        return jax.device_get(checkpoints.restore("latest", step.abstract_state(detector)))


def metrics(folder):
    lines = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    return [{k: v for k, v in line.items() if k != "images_per_second"} for line in lines]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run that nothing disturbed."""
    folder = tmp_path_factory.mktemp("whole")
    scores = train.train_and_evaluate(micro.get_config(), folder)
    return folder, scores


def test_a_run_leaves_what_the_readme_promises(whole):
    folder, scores = whole
    assert set(os.listdir(folder)) == {
        ".lock", "checkpoints", "config.json", "metrics.jsonl", "pictures", "priors.npy",
        "results.json", "run.json", "tensorboard",
    }  # fmt: skip
    results = json.loads((folder / "results.json").read_text())
    assert results["step"] == 6 and results["postprocess"]["iou_threshold"] == 0.45
    headline = results["scores"][evaluate.HEADLINE]
    assert headline == pytest.approx(scores[evaluate.HEADLINE], abs=1e-6)
    pictures = set(os.listdir(folder / "pictures"))
    assert pictures == {"training_input.png", "detections_0000003.png", "detections_0000006.png"}
    by_step = [line["step"] for line in metrics(folder)]
    assert by_step == [2, 3, 4, 6, 6]
    assert final_state(folder, micro.get_config()).step == 6


@pytest.mark.parametrize("parallel", ["pmap", "jit"])
def test_interrupted_and_resumed_equals_uninterrupted(whole, tmp_path, monkeypatch, parallel):
    """A signal arrives in the middle; the second start goes on to bit-equal parameters."""
    config = micro.get_config(parallel=parallel)
    if parallel == "jit":
        whole_folder = tmp_path / "whole"
        train.train_and_evaluate(config, whole_folder)
    else:
        whole_folder = whole[0]
    batches, count = train.loader.training_batches, 0

    def with_a_signal(*arguments, **options):
        nonlocal count
        for batch in batches(*arguments, **options):
            count += 1
            if count == 8:  # the first four are for the pictures
                os.kill(os.getpid(), signal.SIGTERM)
            yield batch

    monkeypatch.setattr(train.loader, "training_batches", with_a_signal)
    with pytest.raises(Interrupted, match="stopped at step 4"):
        train.train_and_evaluate(config, tmp_path / "run")
    monkeypatch.undo()
    assert final_state(tmp_path / "run", config).step == 4
    train.train_and_evaluate(config, tmp_path / "run")
    jax.tree.map(
        np.testing.assert_array_equal,
        final_state(tmp_path / "run", config), final_state(whole_folder, config),
    )  # fmt: skip
    assert metrics(tmp_path / "run") == metrics(whole_folder)


def test_a_finished_run_says_so_and_returns_its_scores(whole, capsys):
    folder, scores = whole
    again = train.train_and_evaluate(micro.get_config(), folder)
    assert "already done" in capsys.readouterr().err
    assert again.keys() == scores.keys()


def test_more_steps_continue_a_finished_run(tmp_path):
    train.train_and_evaluate(micro.get_config(steps=2), tmp_path)
    train.train_and_evaluate(micro.get_config(steps=4), tmp_path)
    assert final_state(tmp_path, micro.get_config()).step == 4


def test_another_experiment_in_the_same_folder_is_refused(whole):
    with pytest.raises(ConfigError, match=r"config\.optim\.momentum: 0\.9 -> 0\.5"):
        train.train_and_evaluate(micro.get_config(optim__momentum=0.5), whole[0])


def test_evaluation_alone_gives_the_same_scores(whole):
    folder, scores = whole
    again = evaluate.evaluate_run(folder, micro.get_config(), "latest")
    assert again == pytest.approx(scores, nan_ok=True, abs=1e-6)


def test_a_loss_that_is_not_finite_ends_the_run_and_names_images(tmp_path):
    config = micro.get_config(optim__learning_rate=1e30, optim__warmup_steps=0)
    with pytest.raises(NonFiniteLossError, match=r"step \d .*shapes/train/\d") as error:
        train.train_and_evaluate(config, tmp_path)
    assert error.value.exit_code == 5


@pytest.mark.parametrize(
    ("done", "every", "expected"), [(6, 3, True), (5, 3, False), (10, 3, True), (5, 0, False)]
)
def test_when_it_is_time(done, every, expected):
    assert train.is_time(done, every, 10) is expected
