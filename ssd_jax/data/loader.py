"""Loader: source -> padded batches of this process's rows, read by Grain's threads.

Sample number n = step × batch_size + row keys everything random: which example it is (an epoch's
permutation), its augmentation on the host, its color jitter on the device. The stream is therefore
the same for any number of threads, devices or processes, and its position follows from the step.
"""

import math
import os
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import chain
from typing import NamedTuple

import cv2
import grain
import numpy as np
from jaxtyping import Float, Int
from ml_collections import ConfigDict

from ssd_jax.data import augment, worker_processes
from ssd_jax.data.pixel_cache import CachedImages
from ssd_jax.data.sources import Source
from ssd_jax.errors import DataError
from ssd_jax.runtime.background import usable_cores
from ssd_jax.runtime.progress import log_line
from ssd_jax.types import CROWD, CROWD_LABEL, DIFFICULT, IGNORED_LABEL, Batch, Example

_MAX_PART = 8  # examples that a thread makes at once
_PADDING_MULTIPLE = 8  # sets of similar size then share a compiled step
_EVERYWHERE = (-10.0, -10.0, 11.0, 11.0)  # a box around all priors, as far as they leave the image
_said: set[str] = set()  # errors of files that were left out
cv2.setNumThreads(0)  # Grain's threads are the parallelism.


_THREADS = min(usable_cores(), 32)


def training_batches(
    source: Source,
    config: ConfigDict,
    first_step: int,
    last_step: int,
    process: tuple[int, int] = (0, 1),
) -> Iterator[Batch]:
    """Batches of steps `first_step` … `last_step` - 1: rows of `process` (index, count).

    image uint8 [b, H, W, 3], boxes [b, M, 4], labels [b, M], sample [b], image_id [b].
    """
    index, count = process
    rows = config.batch_size // count
    order = grain.MapDataset.range(len(source)).seed(config.seed).shuffle().repeat()
    rules, pad_to = _read_rules(config), padded_box_count(source)
    images = _cached(source, config) if config.data.cache and source.images else source
    # No closure: workers get it pickled.
    example = partial(
        _training_row, images, order, rules, pad_to, config.batch_size, index * rows, rows
    )
    positions = range(first_step * rows, last_step * rows)
    return _read(positions, example, rows, workers=config.data.workers)


def first_training_batch(source: Source, config: ConfigDict, count: int) -> Batch:
    """The first `count` examples of training, of all processes, as one batch."""
    config = config.copy_and_resolve_references()
    config.data.cache, config.data.workers = "", 0  # not worth their start
    steps = -(-count // config.batch_size)
    batches = list(training_batches(source, config, 0, steps))
    return {name: np.concatenate([each[name] for each in batches])[:count] for name in batches[0]}


def training_example(
    source: Source, config: ConfigDict, index: int, sample: int, pad_to: int
) -> Example:
    """Example `index`, augmented as sample number `sample`, padded to `pad_to` boxes."""
    return _training_example(source, _read_rules(config), index, sample, pad_to)


def training_ground_truth(
    ground_truth: Example, config: ConfigDict, sample: int
) -> tuple[augment.View, Float[np.ndarray, "N 4"], Int[np.ndarray, " N"]]:
    """The view of an image in sample number `sample`, and the boxes and labels in that view.

    `ground_truth` has the image's boxes, labels and flags; no pixels are needed. The label of a
    crowd is CROWD_LABEL, whatever `matching.difficult` says; that of a difficult box is
    IGNORED_LABEL where the config ignores them.
    """
    return _training_ground_truth(ground_truth, _read_rules(config), sample)


def pad_ground_truth(images: Sequence[Example], config: ConfigDict, pad_to: int) -> Batch:
    """boxes [b, M, 4] and labels [b, M] of whole images, as training has them, M = `pad_to`.

    Nothing is augmented. Each image has boxes, labels and flags.
    """
    rules = _read_rules(config)._replace(operations=[])
    rows = [_training_ground_truth(image, rules, sample=0)[1:] for image in images]
    return {
        "boxes": np.stack([_pad_rows(boxes, pad_to) for boxes, _ in rows]),
        "labels": np.stack([_pad_rows(labels.astype(np.int32), pad_to) for _, labels in rows]),
    }


class _Rules(NamedTuple):
    """What the config says of a training example. To ask a ConfigDict takes 2 µs a field."""

    seed: int
    operations: list[augment.Operation]
    difficult: str
    image_size: tuple[int, int]
    fill: augment.Fill
    skips_files: bool


def _cached(source: Source, config: ConfigDict) -> CachedImages:
    """The source with a cache. A crop of the smallest scale still has the input's resolution."""
    crops = "iou_crop" in config.augment.geometric
    smallest = config.augment.iou_crop.scale[0] if crops else 1.0
    least = tuple(math.ceil(side / smallest) for side in config.image_size)
    folder = os.path.expanduser(config.data.cache)
    cached = CachedImages(source, folder, config.data.cache_gib, least)
    log_line(cached.summary())
    return cached


def _read_rules(config: ConfigDict) -> _Rules:
    operations = augment.read_operations(config.augment)
    return _Rules(
        config.seed, operations, config.matching.difficult, config.image_size, _fill_color(config),
        config.data.bad == "skip",
    )  # fmt: skip


def _training_row(
    source: Source | CachedImages,
    order: grain.MapDataset,
    rules: _Rules,
    pad_to: int,
    batch_size: int,
    first_row: int,
    rows: int,
    position: int,
) -> Example:
    """The example at `position` of a process that has `rows` of each batch, from `first_row` on."""
    step, row = divmod(position, rows)
    sample = step * batch_size + first_row + row
    return _training_example(source, rules, int(order[sample]), sample, pad_to)


def _training_example(
    source: Source | CachedImages, rules: _Rules, index: int, sample: int, pad_to: int
) -> Example:
    try:
        example = source[index]
    except DataError as error:
        if not rules.skips_files:
            raise
        _say_once(error)
        return _masked_example(rules, index, sample, pad_to)
    view, boxes, labels = _training_ground_truth(example, rules, sample)
    return {
        "image": augment.warp(example["image"], view, rules.image_size, rules.fill),
        "boxes": _pad_rows(boxes, pad_to),
        "labels": _pad_rows(labels.astype(np.int32), pad_to),
        "sample": np.int32(sample),
        "image_id": np.int32(example["image_id"]),
    }


def _masked_example(rules: _Rules, index: int, sample: int, pad_to: int) -> Example:
    """A sample that adds nothing to the loss: all priors are inside of a crowd."""
    boxes, labels = np.float32([_EVERYWHERE]), np.int32([CROWD_LABEL])
    return {
        "image": np.full((*rules.image_size, 3), np.rint(rules.fill), np.uint8),
        "boxes": _pad_rows(boxes, pad_to),
        "labels": _pad_rows(labels, pad_to),
        "sample": np.int32(sample),
        "image_id": np.int32(index),
    }


def _say_once(error: DataError) -> None:
    """Say what is wrong with a file, once in a process."""
    text = str(error)
    if text not in _said:
        _said.add(text)
        log_line(f"{text}; its samples are left out")


def _training_ground_truth(
    ground_truth: Example, rules: _Rules, sample: int
) -> tuple[augment.View, Float[np.ndarray, "N 4"], Int[np.ndarray, " N"]]:
    rng, flags = np.random.default_rng((rules.seed, sample)), ground_truth["flags"]
    rows = {
        "boxes": ground_truth["boxes"],
        "labels": np.where(flags == CROWD, CROWD_LABEL, ground_truth["labels"]),
        "flags": flags,
    }
    if rules.difficult == "drop":
        rows = {name: values[flags != DIFFICULT] for name, values in rows.items()}
    view, visible = augment.sample_view(rng, rows, rules.operations)
    labels = visible["labels"]
    if rules.difficult == "ignore":
        labels = np.where(visible["flags"] == DIFFICULT, IGNORED_LABEL, labels)
    return view, visible["boxes"], labels


def evaluation_batches(
    source: Source, config: ConfigDict, rows: int, process: tuple[int, int] = (0, 1)
) -> Iterator[Batch]:
    """Every image once, in order, in batches of `rows`, of which `process` (index, count) reads
    its share; `mask` [b] is 0 for rows that only fill up the last batch.

    image, image_id and mask are arrays; the ground truth as it is in the file, boxes, labels,
    flags and size, are lists with an entry for each image. An image that cannot be read has the
    mask 0 where the config skips such files.
    """
    size, fill = config.image_size, _fill_color(config)
    skips_files = config.data.bad == "skip"
    index, count = process
    share = rows // count

    def example(position: int) -> dict:
        batch, row = divmod(position, share)
        number = batch * rows + index * share + row
        image = min(number, len(source) - 1)
        try:
            resized = augment.resize(source[image], size, fill)
        except DataError as error:
            if not skips_files:
                raise
            _say_once(error)
            blank = {"image": np.zeros((*size, 3), np.uint8), "image_id": image, "size": size}
            return source.ground_truth(image) | blank | {"mask": np.int32(0)}
        return resized | {"mask": np.int32(number < len(source))}

    positions = -(-len(source) // rows) * share
    return _read(range(positions), example, share, ("boxes", "labels", "flags", "size"))


def padded_box_count(source: Source) -> int:
    """M in `types`: the most boxes of any image of the source, rounded up."""
    return max(-(-source.max_boxes // _PADDING_MULTIPLE), 1) * _PADDING_MULTIPLE


def _read(
    positions: range,
    example: Callable,
    rows: int,
    listed: Sequence[str] = (),
    workers: int = 0,
) -> Iterator[Batch]:
    """Batches of `rows` examples. The columns that `listed` names become lists, others arrays.

    A thread makes a part of a batch at once: Grain and the final copy take time for each element
    under the lock of the interpreter. A worker process makes whole batches, which need no copy.
    """
    part = rows if workers else next(n for n in range(_MAX_PART, 0, -1) if rows % n == 0)

    numbers = grain.MapDataset.range(positions.start // part, positions.stop // part)
    parts = numbers.map(partial(_make_part, example, part, listed))
    if workers:
        threads = max(_THREADS // workers, 1)
        options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=threads)
        return worker_processes.read(parts.to_iter_dataset(options), workers)
    ahead = max(4 * rows // part, 2 * _THREADS)
    options = grain.ReadOptions(num_threads=_THREADS, prefetch_buffer_size=ahead)
    return iter(parts.to_iter_dataset(options).batch(rows // part, batch_fn=_join))


def _make_part(example: Callable, part: int, listed: Sequence[str], number: int) -> Batch:
    """Examples part · number … part · (number + 1) - 1, by column."""
    first = int(number) * part
    examples = [example(first + row) for row in range(part)]
    columns = {name: [example[name] for example in examples] for name in examples[0]}
    return {name: rows if name in listed else np.stack(rows) for name, rows in columns.items()}


def _join(parts: list[Batch]) -> Batch:
    if len(parts) == 1:
        return parts[0]
    columns = {name: [part[name] for part in parts] for name in parts[0]}
    return {
        name: list(chain(*rows)) if isinstance(rows[0], list) else np.concatenate(rows)
        for name, rows in columns.items()
    }


def _pad_rows(rows: np.ndarray, length: int) -> np.ndarray:
    """[N, …] -> [length, …] with zeros after; N never exceeds it by construction."""
    padded = np.zeros((length, *rows.shape[1:]), rows.dtype)
    padded[: len(rows)] = rows
    return padded


def _fill_color(config: ConfigDict) -> tuple[float, ...]:
    """Color outside the image: the mean, which is zero after normalization."""
    return tuple(config.model.mean)
