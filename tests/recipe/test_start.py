"""Weights to start from: each kind, what is not downloaded, and names that do not exist."""

import micro
import numpy as np
import pytest

from ssd_jax.config.packaged import load_config
from ssd_jax.config.validation import validate
from ssd_jax.errors import ConfigError
from ssd_jax.recipe.length import FINE_TUNING, FROM_RANDOM
from ssd_jax.recipe.setting import apply_settings
from ssd_jax.recipe.start import COCO_DETECTOR, choose_start, source_of
from ssd_jax.runs.folder import RunInfo, run_metadata, write_run_files
from ssd_jax.weights import named
from ssd_jax.weights.initialize import check_source


@pytest.fixture(autouse=True)
def empty_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def config_of(start):
    config = load_config(start.base)
    apply_settings(config, start.settings)
    validate(config)
    check_source(config)
    return config


def make_run(folder, config):
    priors = np.zeros((1, 4), np.float32)
    write_run_files(folder, RunInfo(config, ("cat",), "data", priors), run_metadata(config))


def test_auto_takes_the_coco_detector_only_where_its_file_is_there():
    start = choose_start("auto")
    assert config_of(start).init.source == "" and start.measured is FROM_RANDOM
    assert f"--weights={COCO_DETECTOR}, 4 MB" in start.why
    path = named.cached_path(COCO_DETECTOR)
    path.parent.mkdir(parents=True)
    path.write_bytes(b"zip")
    start = choose_start("auto")
    assert config_of(start).init.source == COCO_DETECTOR and start.measured is FINE_TUNING
    assert start.is_measured and start.keeps_priors
    assert config_of(choose_start("none")).init.source == ""


@pytest.mark.parametrize("name", named.NAMES)
def test_every_name_starts_with_the_config_of_its_weights(name):
    start, weights = choose_start(name), named.find(name)
    config, own = config_of(start), load_config(weights.config)
    assert config.init.source == name and config.init.what == weights.what
    for block in ("model", "priors", "image_size"):
        ours, theirs = config[block], own[block]
        assert (ours if block == "image_size" else ours.to_dict()) == (
            theirs if block == "image_size" else theirs.to_dict()
        )
    assert config.batch_size == 16 and config.optim.schedule == "cosine"
    assert start.keeps_priors == (weights.what == "detector")
    assert start.is_measured == (name == COCO_DETECTOR)


def test_a_run_gives_its_network_priors_and_loss(tmp_path):
    own = micro.get_config(loss__classification="sigmoid", seed=5, optim__learning_rate=0.08)
    make_run(tmp_path / "run", own)
    start = choose_start(str(tmp_path / "run"))
    config = config_of(start)
    for block in ("model", "priors", "matching", "loss", "postprocess"):
        assert config[block].to_dict() == own[block].to_dict()
    assert config.image_size == (32, 32) and config.seed == 0
    assert config.init.source == str(tmp_path / "run")
    # Of a batch of 4, 0.08; of 16, four times that, and 0.4 of it for weights that are trained.
    assert config.optim.learning_rate == pytest.approx(0.13)
    assert not start.is_measured and start.keeps_priors
    names = [each.name for each in start.settings]
    assert len(names) == len(set(names))


def test_a_run_of_the_coco_detector_is_tuned_as_measured(tmp_path):
    make_run(tmp_path / "run", load_config("ssd300_mobilenet_v1_tflite"))
    start = choose_start(str(tmp_path / "run"))
    assert start.base == "finetune" and start.is_measured
    assert config_of(start).init.source == str(tmp_path / "run")


def test_weights_that_do_not_exist_are_answered_with_those_that_do(tmp_path):
    (tmp_path / "a.pth").write_bytes(b"")
    for weights, words in [
        ("resnet50", "no weights resnet50: did you mean --weights=torchvision:resnet50?"),
        ("yolo", "no weights yolo: write auto, none, a run folder, or one of torchvision:ssd300"),
        ("tflite:coco", "no weights tflite:coco: write auto"),
        (tmp_path / "a.pth", "is a file: make a run of it with ssd-jax import"),
        (tmp_path, "is a folder without a run"),
    ]:
        with pytest.raises(ConfigError, match=words):
            choose_start(str(weights))


def test_sources_are_compared_as_the_config_has_them(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert source_of("none") == "" and source_of(COCO_DETECTOR) == COCO_DETECTOR
    assert source_of("runs/a") == str(tmp_path / "runs" / "a")
