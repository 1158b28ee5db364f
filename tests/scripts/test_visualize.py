"""Pictures of one image's training, on drawn shapes."""

import cv2
import jax.numpy as jnp
import micro
import numpy as np
import pytest

from scripts import training_scene, visualize
from ssd_jax import training
from ssd_jax.data import sources
from ssd_jax.detector import build_detector, init_variables
from ssd_jax.errors import ConfigError, DataError
from ssd_jax.multibox import losses
from ssd_jax.visualize.matches import draw_matches
from ssd_jax.visualize.negatives import draw_negatives
from ssd_jax.visualize.palette import label_color
from ssd_jax.visualize.panels import GROUND_TRUTH, NEGATIVE, POSITIVE

NAMES = ("augmented", "matches", "negatives", "priors")


@pytest.fixture(scope="module")
def config():
    return micro.get_config(steps=2)


@pytest.fixture(scope="module")
def scene(config):
    source = sources.make_source(config.data.train, config)
    return training_scene.make_scene(build_detector(config, len(source.classes) + 1), source, 3)


def colored(picture, label):
    """How many pixels have the color of a label."""
    return int((picture == label_color(label)).all(axis=-1).sum())


def picture_of_matches(scene):
    return draw_matches(
        scene.picture, scene.boxes, scene.labels, scene.detector.priors.boxes,
        training_scene.match_boxes(scene), scene.source.classes,
    )  # fmt: skip


def picture_of_negatives(scene, positives, negatives):
    return draw_negatives(
        scene.picture, scene.boxes[scene.labels > 0], scene.detector.priors.boxes, positives,
        negatives, "a network",
    )  # fmt: skip


@pytest.mark.parametrize("trained", [False, True])
def test_four_pictures_are_written(tmp_path, capsys, config, trained):
    run = tmp_path / "run" if trained else None
    if run:
        training.train_and_evaluate(config, run)
    visualize.visualize(config, "train", "2", tmp_path / "output", run)
    pictures = {path.stem: cv2.imread(str(path)) for path in tmp_path.glob("output/*.png")}
    assert sorted(pictures) == sorted(NAMES)
    assert all(picture.std() > 10 for picture in pictures.values())
    # Two levels side by side; eight samples at the size of the network's input.
    assert pictures["priors"].shape[1] == 2 * 400 + 3 * 4
    assert pictures["augmented"].shape == (2 * 36 + 4, 4 * 36 + 4, 3)
    assert "priors, matches, negatives, augmented as .png" in capsys.readouterr().out


def test_a_run_of_another_experiment_is_refused(tmp_path, config):
    training.train_and_evaluate(config, tmp_path / "run")
    other = micro.get_config(steps=2, matching__threshold=0.4)
    with pytest.raises(ConfigError, match="matching.threshold"):
        visualize.visualize(other, "train", "0", tmp_path / "output", tmp_path / "run")


def test_every_box_has_its_panel_and_its_priors(scene):
    count = int((scene.labels > 0).sum())
    assert count > 1
    picture = picture_of_matches(scene)
    columns = min(count, 4)
    assert picture.shape[1] == columns * 404 + 4
    for column in range(columns):
        panel = picture[:, column * 404 : (column + 1) * 404]
        assert colored(panel, GROUND_TRUTH) > 20 and colored(panel, POSITIVE) > 20


def test_the_negatives_are_those_of_the_loss_hardest_first(scene):
    variables = init_variables(scene.detector)
    positives, rows = training_scene.positives_and_negatives(scene, variables)
    labels = (training_scene.match_boxes(scene) + 1).astype(np.int32)
    assert (np.flatnonzero(labels > 0) == positives).all()
    assert len(positives) and len(rows) == min(3 * len(positives), int((labels == 0).sum()))
    assert (labels[rows] == 0).all()
    images = (scene.image[None].astype(np.float32) - 127.5) / 64
    logits, _ = scene.detector.model.apply(variables, jnp.asarray(images), train=False)
    cost = np.asarray(losses.classification_losses(logits[0], jnp.asarray(labels > 0, jnp.int32)))
    assert (np.diff(cost[rows]) <= 1e-6).all()
    others = np.setdiff1d(np.flatnonzero(labels == 0), rows)
    assert not len(others) or cost[others].max() <= cost[rows].min() + 1e-6
    picture = picture_of_negatives(scene, positives, rows)
    assert colored(picture[:, :404], POSITIVE) >= len(positives)
    assert not colored(picture[:, 404:], POSITIVE)
    assert colored(picture[:, 404:], NEGATIVE)


def test_an_image_without_boxes_has_pictures_too(scene):
    empty = scene._replace(labels=scene.labels * 0)
    assert picture_of_matches(empty).shape[1] == 408
    selected = training_scene.positives_and_negatives(empty, init_variables(scene.detector))
    assert not colored(picture_of_negatives(empty, *selected), GROUND_TRUTH)


def test_an_image_is_found_by_number_or_name(scene):
    source = scene.source
    assert training_scene.find_image(source, "7") == 7
    by_name = training_scene.find_image(source, source.name(5))
    assert by_name == 5 == training_scene.find_image(source, "shapes/train/5")
    with pytest.raises(DataError, match="below 12, or a name as"):
        training_scene.find_image(source, "12")
