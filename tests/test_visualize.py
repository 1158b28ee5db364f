"""Pictures of one image's training, on drawn shapes."""

import cv2
import jax.numpy as jnp
import micro
import numpy as np
import pytest

from scripts import visualize
from ssd_jax import losses, step, train
from ssd_jax.data import sources
from ssd_jax.errors import ConfigError, DataError

NAMES = ("augmented", "matches", "negatives", "priors")


@pytest.fixture(scope="module")
def config():
    return micro.get_config(steps=2)


@pytest.fixture(scope="module")
def scene(config):
    source = sources.make(config.data.train, config)
    return visualize.scene(step.build(config, len(source.classes) + 1), source, 3)


def colored(picture, label):
    """How many pixels have the color of a label."""
    return int((picture == visualize.draw._color(label)).all(axis=-1).sum())


@pytest.mark.parametrize("trained", [False, True])
def test_four_pictures_are_written(tmp_path, capsys, config, trained):
    run = tmp_path / "run" if trained else None
    if run:
        train.train_and_evaluate(config, run)
    visualize.visualize(config, "train", "2", tmp_path / "found", run)
    pictures = {path.stem: cv2.imread(str(path)) for path in tmp_path.glob("found/*.png")}
    assert sorted(pictures) == sorted(NAMES)
    assert all(picture.std() > 10 for picture in pictures.values())
    # Two levels side by side; eight versions at the size of the network's input.
    assert pictures["priors"].shape[1] == 2 * 400 + 3 * 4
    assert pictures["augmented"].shape == (2 * 36 + 4, 4 * 36 + 4, 3)
    assert "priors, matches, negatives and augmented.png" in capsys.readouterr().out


def test_a_run_of_another_experiment_is_refused(tmp_path, config):
    train.train_and_evaluate(config, tmp_path / "run")
    other = micro.get_config(steps=2, matching__threshold=0.4)
    with pytest.raises(ConfigError, match="matching.threshold"):
        visualize.visualize(other, "train", "0", tmp_path / "found", tmp_path / "run")


def test_every_truth_has_its_panel_and_its_priors(scene):
    truths = int((scene.labels > 0).sum())
    assert truths > 1
    picture = visualize.draw_matches(scene)
    columns = min(truths, 4)
    assert picture.shape[1] == columns * 404 + 4
    for column in range(columns):
        panel = picture[:, column * 404 : (column + 1) * 404]
        assert colored(panel, visualize.TRUTH) > 20 and colored(panel, visualize.POSITIVE) > 20


def test_the_negatives_are_those_of_the_loss_hardest_first(scene):
    variables = step.variables(step.create_state(scene.detector))
    labels, rows = visualize.mined(scene, variables)
    positives = int((labels > 0).sum())
    assert positives and len(rows) == min(3 * positives, int((labels == 0).sum()))
    assert (labels[rows] == 0).all()
    images = (scene.input[None].astype(np.float32) - 127.5) / 64
    logits, _ = scene.detector.model.apply(variables, jnp.asarray(images), train=False)
    cost = np.asarray(losses.mine(logits[0], jnp.asarray(labels))[0])
    assert (np.diff(cost[rows]) <= 1e-6).all()
    others = np.setdiff1d(np.flatnonzero(labels == 0), rows)
    assert not len(others) or cost[others].max() <= cost[rows].min() + 1e-6
    picture = visualize.draw_negatives(scene, variables, "a network")
    assert colored(picture[:, :404], visualize.POSITIVE) >= positives
    assert not colored(picture[:, 404:], visualize.POSITIVE)
    assert colored(picture[:, 404:], visualize.NEGATIVE)


def test_an_image_without_truths_has_pictures_too(scene):
    empty = scene._replace(labels=scene.labels * 0)
    assert visualize.draw_matches(empty).shape[1] == 408
    variables = step.variables(step.create_state(scene.detector))
    assert not colored(visualize.draw_negatives(empty, variables, "a network"), visualize.TRUTH)


def test_an_image_is_found_by_number_or_name(scene):
    source = scene.source
    assert visualize.find(source, "7") == 7
    assert visualize.find(source, source.name(5)) == 5 == visualize.find(source, "shapes/train/5")
    with pytest.raises(DataError, match="below 12, or a name as"):
        visualize.find(source, "12")
