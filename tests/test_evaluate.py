"""Evaluation: the loss of a set, against a slow one, for any batch, devices and processes."""

import json
from functools import partial

import jax
import micro
import numpy as np
import oracles
import oracles_matching
import pytest
from PIL import Image

from ssd_jax import evaluate
from ssd_jax.data import augment, sources
from ssd_jax.data.formats.shapes import Shapes
from ssd_jax.data.sets import open_set
from ssd_jax.detector import apply_network, build_detector, init_variables
from ssd_jax.errors import DataError
from ssd_jax.runtime import devices
from ssd_jax.types import CROWD, DIFFICULT, PLAIN

NAMES = ("eval/loss", "eval/cls_loss", "eval/loc_loss")


class Flagged(Shapes):
    """Seven scenes, with crowds and difficult boxes."""

    def __init__(self):
        super().__init__("test", 7, (48, 40))

    def __getitem__(self, i):
        example = super().__getitem__(i)
        flags = np.roll(np.int8([PLAIN, PLAIN, DIFFICULT, CROWD]), i)
        example["flags"] = np.resize(flags, len(example["flags"]))
        return example

    def ground_truth(self, i):
        return {name: self[i][name] for name in ("boxes", "labels", "flags")}


def config_of(**changes):
    return micro.get_config(loss__localization_weight=0.5, **changes)


@pytest.fixture(scope="module")
def outputs():
    """Logits and offsets of each image, and its ground truth; the network has random weights."""
    detector, source = build_detector(config_of(), 5), Flagged()
    variables, network = init_variables(detector), jax.jit(partial(apply_network, detector))
    examples = [augment.resize(source[i], (32, 32), (0.0,) * 3) for i in range(len(source))]
    images = np.stack([example["image"] for example in examples])
    return *map(np.asarray, network(variables, images)), examples


def slow_targets(example, priors, options):
    """Labels [A] and offsets [A, 4]; a crowd ignores priors by their share inside it."""
    boxes, labels, flags = (example[name] for name in ("boxes", "labels", "flags"))
    is_padding = (flags == CROWD) | ((flags == DIFFICULT) & (options.difficult == "drop"))
    labels = np.where(is_padding, 0, labels)
    if options.difficult == "ignore":
        labels = np.where(flags == DIFFICULT, -1, labels)
    found, truths = oracles_matching.match_best_prior(boxes, labels, priors, options.threshold)
    for crowd in boxes[flags == CROWD]:
        for a, prior in enumerate(priors):
            common = [*np.maximum(prior[:2], crowd[:2]), *np.minimum(prior[2:], crowd[2:])]
            share = oracles._area(common) / oracles._area(prior)
            if found[a] == 0 and share >= options.threshold:
                found[a] = -1
    offsets = np.zeros((len(priors), 4))
    matched = truths >= 0
    offsets[matched] = oracles.encode(boxes[truths[matched]], priors[matched], options.variances)
    return found, offsets


def slow_losses(outputs, config):
    """The three numbers, image by image."""
    logits, offsets, examples = outputs
    priors = build_detector(config, 5).priors.boxes
    sums = []
    for row, example in enumerate(examples):
        targets = slow_targets(example, priors, config.matching)
        sums.append(oracles.multibox_loss(logits[row], offsets[row], *targets, 3.0))
    parts = np.array([[each["classification"], each["localization"]] for each in sums])
    positives = np.array([each["positives"] for each in sums])
    assert 0 in positives or config.matching.difficult == "train"
    assert positives.max() > 3
    if config.loss.normalizer == "batch":
        cls_loss, loc_loss = parts.sum(0) / positives.sum()
    else:
        cls_loss, loc_loss = (parts / np.maximum(positives, 1)[:, None]).mean(0)
    return cls_loss + 0.5 * loc_loss, cls_loss, loc_loss


def measured(config, runner, **options):
    detector = build_detector(config, 5, runner.axis_name)
    variables = runner.replicate(init_variables(detector))
    scores, _ = evaluate.Evaluator(detector, Flagged(), runner, **options)(variables)
    return scores


@pytest.mark.parametrize(
    ("kind", "rows", "difficult", "normalizer"),
    [
        (devices.Pmap, 2, "drop", "batch"),
        (devices.Pmap, 8, "ignore", "image"),
        (devices.Jit, 4, "ignore", "batch"),
        (devices.Jit, 4, "train", "image"),
    ],
)
def test_the_loss_is_that_of_training_without_augmentation(
    outputs, kind, rows, difficult, normalizer
):
    """Whatever the batch: the last one is not full, and its filling does not count."""
    config = config_of(
        eval_batch_size=rows, matching__difficult=difficult, loss__normalizer=normalizer
    )
    scores = measured(config, kind())
    expected = slow_losses(outputs, config)
    assert [scores[name] for name in NAMES] == pytest.approx(expected, rel=1e-4)


def test_negatives_at_random_follow_the_image_and_not_the_batch():
    changes = {"loss__negatives": "random"}
    few, many = (
        measured(config_of(eval_batch_size=rows, **changes), devices.Pmap(jax.local_devices()[:n]))
        for rows, n in ((2, 1), (8, 2))
    )
    assert [few[name] for name in NAMES] == pytest.approx([many[name] for name in NAMES], rel=1e-5)


def test_a_set_of_other_classes_has_no_loss():
    scores = measured(config_of(), devices.Pmap(), set_labels=np.arange(5, dtype=np.int32))
    assert not set(NAMES) & set(scores) and "voc/mAP50_area" in scores


@pytest.mark.parametrize(
    ("scores", "drawn"),
    [
        ({}, [0.9, 0.6]),
        ({"threshold": 0.7}, [0.9]),
        ({"threshold": 0.7, "threshold/disk": 0.2}, [0.9, 0.6, 0.3]),
    ],
)
def test_what_a_picture_has(monkeypatch, scores, drawn):
    """Original pixels, the ground truth as in the file, and what prediction would return."""
    source, config, seen = Flagged(), config_of(), {}

    def draw(image, truth, ignore, found, scores, classes, captions):
        seen.update(image=image, truth=truth, ignore=ignore, scores=scores, captions=captions)
        return image

    monkeypatch.setattr(evaluate, "draw_comparison", draw)
    evaluator = evaluate.Evaluator(build_detector(config, 5), source, devices.Jit())
    found = {
        "boxes": np.tile(np.float32([0.1, 0.1, 0.5, 0.5]), (5, 1)),
        "labels": np.int32([1, 2, 2, 1, 0]),
        "scores": np.float32([0.9, 0.6, 0.3, 0.1, 0.95]),
    }
    evaluator._draw(3, found, scores)
    expected = source[3]
    np.testing.assert_array_equal(seen["image"], expected["image"])
    np.testing.assert_array_equal(seen["truth"][0], expected["boxes"])
    assert seen["ignore"].any() and not seen["ignore"].all()
    assert seen["scores"] == pytest.approx(drawn)
    assert "shapes/test/3" in seen["captions"][0]


def test_a_file_that_fails_later_is_not_scored(tmp_path):
    """Scores are those of the other images, the COCO numbers of an annotation file too."""
    images, annotations = [], []
    for i in range(5):
        scene = Shapes("test", 5, (48, 40))[i]
        Image.fromarray(scene["image"]).save(tmp_path / f"{i}.png")
        images.append({"id": i, "file_name": f"{i}.png", "width": 40, "height": 48})
        boxes = scene["boxes"] * (40, 48, 40, 48)
        for box, label in zip(boxes.tolist(), scene["labels"].tolist()):
            annotations.append({
                "id": len(annotations), "image_id": i, "category_id": label,
                "bbox": [box[0], box[1], box[2] - box[0], box[3] - box[1]],
            })  # fmt: skip
    categories = [{"id": i, "name": name} for i, name in enumerate("abcd", 1)]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (tmp_path / "a.json").write_text(json.dumps(content))
    config = config_of(data__bad="skip", data__test=(f"coco:{tmp_path}:{tmp_path / 'a.json'}",))
    source = open_set(config, "test")
    runner, detector = devices.get_runner("pmap"), build_detector(config, 5, "batch")
    variables = runner.replicate(init_variables(detector))
    evaluator = evaluate.Evaluator(detector, source, runner)
    others, _ = evaluator.on(sources.subset(source, [0, 1, 3, 4], "others"), {})(variables)
    (tmp_path / "2.png").write_bytes(b"no image")
    scores, picture = evaluator.on(source, {})(variables)
    assert scores == pytest.approx(others, nan_ok=True) and picture.size
    for i in range(5):
        (tmp_path / f"{i}.png").unlink()
    with pytest.raises(DataError, match="none of 5 images to score can be read any more"):
        evaluator(variables)
