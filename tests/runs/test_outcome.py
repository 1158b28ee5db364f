"""What training says of an evaluation, and at its end: by hand."""

import json
import math
from pathlib import Path

import micro
import pytest

from ssd_jax.runs.outcome import format_end, format_evaluation
from ssd_jax.runs.results import describe_weights

SCORES = {
    "voc/mAP50_area": 0.84123, "eval/loss": 0.834, "precision": 0.812, "recall": 0.75, "f1": 0.78,
    "threshold": 0.371, "voc/AP50_area/cat": 0.75, "voc/AP50_11point/cat": 0.1,
    "voc/AP50_area/dog": 0.9325, "voc/AP50_area/cow": math.nan,
}  # fmt: skip
CONFIG = micro.get_config(steps=2000, batch_size=5)


def test_an_evaluation_is_a_line():
    assert format_evaluation(CONFIG, 400, 100, SCORES, 0.7064, True, "validation") == (
        "step 400/2000 (epoch 20/100)  loss 0.71  validation loss 0.83  precision 0.81  "
        "recall 0.75  mAP@.5 0.8412  best so far"
    )


def test_of_the_test_set_before_training_where_nothing_is_found():
    found = {"voc/mAP50_area": 0.0, "eval/loss": 12.0}
    assert format_evaluation(CONFIG, 0, 100, found, None, False) == (
        "step 0/2000 (epoch 0/100)  test loss 12.00  mAP@.5 0.0000"
    )


@pytest.mark.parametrize(
    ("step", "images", "text"), [(30, 100, "1.5/100"), (7, 300, "0.1/33.3"), (20, 50, "2/200")]
)
def test_epochs_have_a_decimal_where_they_are_not_whole(step, images, text):
    assert f"(epoch {text})" in format_evaluation(CONFIG, step, images, SCORES, None, False)


def test_the_end_is_five_lines():
    assert format_end(Path("runs/my cats"), SCORES).splitlines() == [
        "mAP@.5      0.8412; all scores: runs/my cats/results.json",
        "AP@.5       best dog 0.9325, worst cat 0.7500",
        "threshold   0.37, of the highest F1: precision 0.81, recall 0.75",
        "pictures    runs/my cats/pictures",
        "next        ssd-jax predict --workdir='runs/my cats' --input=PICTURES",
    ]


@pytest.mark.parametrize(
    ("classes", "text"),
    [
        ({"cat": 0.75}, "AP@.5       cat 0.7500"),
        ({"cat": 0.75, "cow": math.nan}, "AP@.5       cat 0.7500"),
        ({"cow": math.nan}, "AP@.5       no class has an object that counts"),
    ],
)
def test_the_end_of_one_class_and_of_none(classes, text):
    scores = {f"voc/AP50_area/{name}": value for name, value in classes.items()}
    lines = format_end(Path("run"), {"voc/mAP50_area": math.nan} | scores).splitlines()
    assert lines[:3] == [
        "mAP@.5      nan; all scores: run/results.json",
        text,
        "threshold   none: no detection is correct",
    ]


@pytest.mark.parametrize(
    ("sets", "text"),
    [
        ({}, "the last weights, on the test set"),
        ({"data__val": ("x",)}, "the best checkpoint, which the validation set chose, on the test"),
        ({"data__val": ("x",), "data__test": ()}, "which the validation set chose, on that set"),
    ],
)
def test_whose_scores_the_result_is(sets, text):
    assert text in describe_weights(micro.get_config(**sets))


@pytest.mark.parametrize(
    ("which", "chooser", "text"),
    [
        ("test", "test", " on the test set, weights of step 40;"),
        ("test", "val", " on the test set, weights of step 40, chosen by the validation set;"),
        ("val", "val", " on the validation set, weights of step 40;"),
    ],
)
def test_the_end_says_what_was_scored(tmp_path, which, chooser, text):
    content = {"step": 40, "set": which, "chosen_by": chooser}
    (tmp_path / "results.json").write_text(json.dumps(content))
    first, _, threshold, *_ = format_end(tmp_path, SCORES).splitlines()
    assert text in first
    other = "on the validation set; precision 0.81, recall 0.75 on the test set"
    assert (other in threshold) == (which != chooser)
