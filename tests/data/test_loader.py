import itertools

import micro
import numpy as np
import pytest
from crowd_source import Crowd

from ssd_jax.data import loader, sources
from ssd_jax.types import CROWD, PLAIN

CONFIG = micro.get_config(batch_size=4)


def source():
    return sources.make_source(("shapes:train:10",), CONFIG)


def take(first, last, process=(0, 1), config=CONFIG):
    return list(loader.training_batches(source(), config, first, last, process))


def assert_same(batches, expected):
    assert len(batches) == len(expected)
    for one, other in zip(batches, expected):
        for name in one:
            np.testing.assert_array_equal(one[name], other[name], err_msg=name)


def test_a_batch_has_the_promised_fields():
    (batch,) = take(0, 1)
    truths = loader.padded_box_count(source())
    shapes = {name: (rows.shape, rows.dtype.name) for name, rows in batch.items()}
    assert shapes == {
        "image": ((4, 32, 32, 3), "uint8"),
        "boxes": ((4, truths, 4), "float32"),
        "labels": ((4, truths), "int32"),
        "sample": ((4,), "int32"),
        "image_id": ((4,), "int32"),
    }


def test_the_stream_continues_where_a_run_stopped():
    assert_same(take(0, 3) + take(3, 7), take(0, 7))


@pytest.mark.parametrize("count", [2, 4])
def test_processes_share_the_rows_of_each_global_batch(count):
    whole = take(0, 5)
    parts = [take(0, 5, (index, count)) for index in range(count)]
    joined = [
        {name: np.concatenate([part[step][name] for part in parts]) for name in whole[0]}
        for step in range(5)
    ]
    assert_same(joined, whole)


@pytest.mark.parametrize("threads", [1, 7])
def test_the_number_of_threads_does_not_matter(monkeypatch, threads):
    expected = take(0, 4)
    monkeypatch.setattr(loader, "_THREADS", threads)
    assert_same(take(0, 4), expected)


def test_an_epoch_holds_every_image_once_and_the_next_has_another_order():
    ids = np.concatenate([batch["image_id"] for batch in take(0, 5)])
    first, second = ids[:10], ids[10:]
    assert sorted(first) == sorted(second) == list(range(10))
    assert list(first) != list(second)


def test_the_seed_changes_order_and_augmentation():
    other = take(0, 5, config=micro.get_config(batch_size=4, seed=1))
    same = [np.array_equal(a["image"], b["image"]) for a, b in zip(take(0, 5), other)]
    assert not any(same)


def test_the_same_image_is_augmented_anew_in_each_epoch():
    batches = take(0, 5)
    images = {}
    for batch in batches:
        for image_id, image in zip(batch["image_id"], batch["image"]):
            images.setdefault(int(image_id), []).append(image)
    differing = [not np.array_equal(*pair) for pair in images.values()]
    assert sum(differing) > 5


class Queue(Crowd):
    """Nine boxes in a row."""

    max_boxes = 9

    def __getitem__(self, index):
        x = np.arange(9, dtype=np.float32) / 10
        boxes = np.stack([x, x * 0, x + 0.05, x * 0 + 1], axis=1)
        labels, flags = np.ones(9, np.int32), np.zeros(9, np.int8)
        return super().__getitem__(index) | {"boxes": boxes, "labels": labels, "flags": flags}


def test_the_padding_follows_the_data():
    (batch,) = loader.training_batches(Queue(), micro.get_config(augment__geometric=()), 0, 1)
    assert batch["boxes"].shape == (4, 16, 4)
    np.testing.assert_array_equal((batch["labels"] > 0).sum(1), [9] * 4)
    np.testing.assert_array_equal(batch["boxes"][0, :9], Queue()[0]["boxes"])


@pytest.mark.parametrize(
    ("difficult", "expected"), [("train", [1, 1]), ("ignore", [1, -1]), ("drop", [1, 0])]
)
def test_difficult_truths_are_trained_on_ignored_or_dropped(difficult, expected):
    config = micro.get_config(augment__geometric=(), matching__difficult=difficult)
    (batch,) = loader.training_batches(Crowd(), config, 0, 1)
    np.testing.assert_array_equal(batch["labels"][:, :2], [expected] * 4)
    assert not batch["labels"][:, 2:].any()


@pytest.mark.parametrize("difficult", ["train", "ignore", "drop"])
def test_crowds_are_never_trained_on_and_never_background(difficult):
    class Marked(Crowd):
        def __getitem__(self, index):
            return super().__getitem__(index) | {"flags": np.array([PLAIN, CROWD])}

    config = micro.get_config(augment__geometric=(), matching__difficult=difficult)
    (batch,) = loader.training_batches(Marked(), config, 0, 1)
    np.testing.assert_array_equal(batch["labels"][:, :2], [[1, -2]] * 4)
    np.testing.assert_array_equal(batch["boxes"][0, :2], Marked()[0]["boxes"])


@pytest.mark.parametrize("difficult", ["train", "ignore", "drop"])
def test_truths_of_a_sample_need_no_pixels(difficult):
    geometric = ("zoom_out", "iou_crop", "flip")
    config = micro.get_config(augment__geometric=geometric, matching__difficult=difficult)
    changed = 0
    for sample in range(12):
        example = loader.training_example(Crowd(), config, 0, sample, 8)
        _, boxes, labels = loader.training_ground_truth(Crowd().ground_truth(0), config, sample)
        shown = example["labels"] != 0
        np.testing.assert_array_equal(boxes, example["boxes"][shown])
        np.testing.assert_array_equal(labels, example["labels"][shown])
        changed += not np.array_equal(boxes[:1], Crowd().ground_truth(0)["boxes"][:1])
    assert changed > 6


@pytest.mark.parametrize("rows", [1, 2, 4, 7])
def test_evaluation_sees_every_image_once_in_order(rows):
    batches = list(loader.evaluation_batches(source(), CONFIG, rows))
    ids = np.concatenate([batch["image_id"][batch["mask"] == 1] for batch in batches])
    np.testing.assert_array_equal(ids, np.arange(10))
    assert {batch["image"].shape for batch in batches} == {(rows, 32, 32, 3)}


def test_evaluation_keeps_the_truths_of_the_file():
    original = source()
    batches = loader.evaluation_batches(original, CONFIG, 4)
    boxes = list(itertools.chain.from_iterable(batch["boxes"] for batch in batches))
    for index in range(10):
        np.testing.assert_array_equal(boxes[index], original[index]["boxes"])


@pytest.mark.parametrize("part", [1, 3, 8])
def test_the_parts_of_a_batch_do_not_matter(monkeypatch, part):
    """Twelve rows in twelve, four and two parts, whose lists are joined too."""
    config = micro.get_config(batch_size=12)
    trained = take(0, 2, config=config)
    (evaluated,) = loader.evaluation_batches(source(), config, 12)
    monkeypatch.setattr(loader, "_MAX_PART", part)
    assert_same(take(0, 2, config=config), trained)
    (batch,) = loader.evaluation_batches(source(), config, 12)
    assert batch.keys() == evaluated.keys()
    for name, rows in batch.items():
        assert len(rows) == 12
        for row, expected in zip(rows, evaluated[name]):
            np.testing.assert_array_equal(row, expected)
