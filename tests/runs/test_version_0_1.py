"""The run folder that version 0.1 wrote: it predicts, evaluates and resumes as it did then."""

import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest

import ssd_jax
from configs import ssd300_vgg16_voc
from ssd_jax import evaluate, training
from ssd_jax.config import versions
from ssd_jax.config.serialization import from_saved, to_dict, to_saved
from ssd_jax.data import sources
from ssd_jax.errors import CheckpointError, ConfigError
from ssd_jax.result import Picture
from ssd_jax.runs.folder import read_run_info
from ssd_jax.runs.metrics import read_metrics, rename_metrics
from ssd_jax.runs.results import PRIMARY_METRIC, read_results

FIXTURE = Path(__file__).resolve().parent.parent / "fixtures" / "run_0_1"
EXPECTED = json.loads((FIXTURE / "expected.json").read_text())
SCENES = ("shapes:test:2",)


@pytest.fixture
def run(tmp_path):
    """A copy, because a run folder is locked and written while it is in use."""
    return shutil.copytree(FIXTURE, tmp_path / "run")


def test_it_predicts_as_it_did():
    predictor = ssd_jax.load(FIXTURE)
    assert predictor.step == EXPECTED["best_step"]
    source = sources.make_source(SCENES, predictor.detector.config)
    pictures = [Picture(i, None, None, source[i]["image"]) for i in range(2)]
    detections = predictor.detect(pictures)
    for expected, found in zip(EXPECTED["detections"], detections, strict=True):
        np.testing.assert_array_equal(found.labels[:5], expected["labels"])
        np.testing.assert_allclose(found.scores[:5], expected["scores"], atol=1e-4)
        np.testing.assert_allclose(found.relative_boxes[:5], expected["boxes"], atol=1e-3)


def test_it_is_evaluated_as_it_was(run):
    scores = evaluate.evaluate_run(run, read_run_info(run).config)
    expected = rename_metrics(EXPECTED["best_scores"])
    assert expected.keys() <= scores.keys()  # thresholds came later
    for name, value in expected.items():
        value = math.nan if value is None else value
        assert scores[name] == pytest.approx(value, abs=5e-3, nan_ok=True), name


@pytest.mark.parametrize("runner", ["pmap", "jit"])
def test_it_resumes_as_it_did(run, runner):
    config = read_run_info(run).config.copy_and_resolve_references()
    with config.unlocked():
        config.update({"steps": 206, "log_every": 1, "parallel": runner})
    training.train_and_evaluate(config, run)
    lines = [line for line in read_metrics(run / "metrics.jsonl") if line["step"] > 200]
    for expected in map(rename_metrics, EXPECTED["resumed"]):
        (line,) = [each for each in lines if each["step"] == expected["step"]
                   and "train/loss" in each]  # fmt: skip
        for name, value in expected.items():
            assert line[name] == pytest.approx(value, rel=1e-3), (name, line["step"])
    # Its history before is read with the names of today.
    assert [line["step"] for line in read_metrics(run / "metrics.jsonl")
            if PRIMARY_METRIC in line] == [50, 100, 150, 200, 206]  # fmt: skip


def test_its_results_are_read_with_the_names_of_today(run):
    scores = read_results(run, 200, read_run_info(run).config)
    assert scores[PRIMARY_METRIC] == 1.0


def test_its_config_has_the_fields_of_today():
    config = read_run_info(FIXTURE).config
    assert config.optim.ema_decay == 0.9 and config.optim.bias_lr_multiplier == 2.0
    assert config.priors.strides == () and config.matching.conflict_resolution == "best"
    saved = json.loads((FIXTURE / "config.json").read_text())
    assert to_dict(config).keys() == saved.keys() | {"eval_batch_size", "patience"}
    assert config.eval_batch_size == 0


def test_renamed_values_are_mapped():
    saved = json.loads((FIXTURE / "config.json").read_text())
    saved["model"]["name"] = "mobilenet"
    assert from_saved(saved).model.name == "mobilenet_v1"
    overrides = {"config.model.name": "mobilenet", "config.optim.ema": 0.5, "config.seed": 1}
    assert versions.upgrade_overrides(overrides) == {
        "config.model.name": "mobilenet_v1", "config.optim.ema_decay": 0.5, "config.seed": 1,
    }  # fmt: skip


def test_a_field_that_came_later_gets_the_value_of_then(run, monkeypatch):
    """Not the default that the base config has today."""
    later = versions.CONFIG_VERSION + 1
    monkeypatch.setattr(versions, "CONFIG_VERSION", later)
    monkeypatch.setitem(versions._ADDED, later, {"loss.label_smoothing": 0.0, "new.block.x": 3})
    config = read_run_info(run).config
    assert config.loss.label_smoothing == 0.0 and config.new.block.x == 3
    assert config.optim.ema_decay == 0.9
    config = from_saved(to_saved(config) | {"loss": {"label_smoothing": 0.2}})
    assert config.loss.label_smoothing == 0.2


def test_a_changed_default_of_the_base_config_changes_no_old_run(run, monkeypatch):
    before = read_run_info(run).config.to_dict()
    changed = ssd300_vgg16_voc.get_config()
    changed.optim.momentum, changed.matching.threshold = 0.1, 0.3
    monkeypatch.setattr(ssd300_vgg16_voc, "get_config", lambda: changed)
    assert read_run_info(run).config.to_dict() == before
    assert before["optim"]["momentum"] == 0.9 and before["matching"]["threshold"] == 0.5


def test_a_run_of_a_newer_version_is_an_error_that_says_so(run):
    saved = json.loads((run / "config.json").read_text())
    (run / "config.json").write_text(json.dumps(saved | {"config_version": 99}))
    with pytest.raises(CheckpointError, match=r"config\.json.*version 99.*newer ssd_jax"):
        ssd_jax.load(run)
    with pytest.raises(ConfigError, match="version 99"):
        from_saved({"config_version": 99})


def test_a_run_of_another_optimizer_predicts(run):
    """Weights are read without the optimizer's state."""
    path = run / "config.json"
    saved = json.loads(path.read_text())
    saved["optim"]["name"] = "rmsprop"
    path.write_text(json.dumps(saved))
    assert ssd_jax.load(run).step == EXPECTED["best_step"]
