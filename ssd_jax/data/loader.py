"""Loader: source -> padded batches of this process's rows, read by Grain's threads.

Sample number n = step × batch_size + row is the key of everything random: which record it is
(an epoch's permutation), its augmentation on the host, its distortion on the device. A stream
is therefore the same for any number of threads, devices or processes, and its position follows
from the step.
"""

import os
from collections.abc import Callable, Iterator

import cv2
import grain
import numpy as np
from ml_collections import ConfigDict

from ssd_jax import augment
from ssd_jax.data.sources import Source
from ssd_jax.matching import CROWD, IGNORED

_THREADS = min(os.cpu_count() or 1, 32)
_PADDING_MULTIPLE = 8  # Sets whose largest images differ a little share a compiled step.
cv2.setNumThreads(0)  # Grain's threads are the parallelism.


def training_batches(
    source: Source,
    config: ConfigDict,
    first_step: int,
    last_step: int,
    process: tuple[int, int] = (0, 1),
) -> Iterator[dict]:
    """Batches of steps `first_step` … `last_step` - 1: rows of `process` (index, count).

    image uint8 [b, H, W, 3], boxes [b, M, 4], labels [b, M], sample [b], image_id [b].
    """
    index, count = process
    rows = config.batch_size // count
    order = grain.MapDataset.range(len(source)).seed(config.seed).shuffle().repeat()
    pad_to = padding(source)

    def example(position: int) -> dict:
        step, row = divmod(position, rows)
        sample = step * config.batch_size + index * rows + row
        return training_example(source, config, int(order[sample]), sample, pad_to)

    return _read(range(first_step * rows, last_step * rows), example, rows)


def training_example(
    source: Source, config: ConfigDict, record: int, sample: int, pad_to: int
) -> dict:
    """Record number `record`, augmented as sample number `sample`, padded to `pad_to` boxes."""
    example = source[record]
    view, boxes, labels = training_truths(example, config, sample)
    return {
        "image": augment.warp(example["image"], view, config.image_size, _fill(config)),
        "boxes": _padded(boxes, pad_to),
        "labels": _padded(labels.astype(np.int32), pad_to),
        "sample": np.int32(sample),
        "image_id": np.int32(example["image_id"]),
    }


def training_truths(
    truths: dict, config: ConfigDict, sample: int
) -> tuple[augment.View, np.ndarray, np.ndarray]:
    """What sample number `sample` shows of an image: the view, boxes [N, 4] and labels [N] in it.

    `truths` are the image's boxes, labels, ignore, and whether that marks crowds; pixels are not
    needed. A label is IGNORED where the truth is to be, and CROWD, whatever `matching.difficult`
    says, where it is one.
    """
    rng = np.random.default_rng((config.seed, sample))
    difficult = config.matching.difficult
    truths = {name: truths[name] for name in ("boxes", "labels", "ignore")} | {
        "labels": np.where(truths["ignore"] & truths.get("crowds", False), CROWD, truths["labels"])
    }
    if difficult == "drop":
        kept = ~truths["ignore"] | (truths["labels"] == CROWD)
        truths = {name: rows[kept] for name, rows in truths.items()}
    view, seen = augment.choose(rng, truths, config.augment)
    unclear = seen["ignore"] & (seen["labels"] > 0) & (difficult == "ignore")
    return view, seen["boxes"], np.where(unclear, IGNORED, seen["labels"])


def evaluation_batches(
    source: Source, config: ConfigDict, rows: int, process: tuple[int, int] = (0, 1)
) -> Iterator[dict]:
    """Every image once, in order, in batches of `rows`, of which `process` (index, count) has its
    share; `mask` [b] is 0 for what fills up the last batch.

    image, image_id, mask and the truths as they are in the file: boxes, labels, ignore, size
    as lists of arrays.
    """
    size, fill = config.image_size, _fill(config)
    index, count = process
    share = rows // count

    def example(position: int) -> dict:
        batch, row = divmod(position, share)
        record = batch * rows + index * share + row
        resized = augment.resize(source[min(record, len(source) - 1)], size, fill)
        return resized | {"mask": np.int32(record < len(source))}

    positions = -(-len(source) // rows) * share
    return _read(range(positions), example, share, _collate)


def padding(source: Source) -> int:
    """Truths a batch has room for: the most of any image, rounded up."""
    return max(-(-source.max_boxes // _PADDING_MULTIPLE), 1) * _PADDING_MULTIPLE


def _read(positions: range, example: Callable, rows: int, collate=None) -> Iterator[dict]:
    dataset = grain.MapDataset.range(positions.start, positions.stop).map(
        lambda position: example(int(position))
    )
    options = grain.ReadOptions(num_threads=_THREADS, prefetch_buffer_size=4 * rows)
    return iter(dataset.to_iter_dataset(options).batch(rows, batch_fn=collate))


def _collate(examples: list[dict]) -> dict:
    """Examples with different numbers of boxes -> image, image_id, mask stacked, lists else."""
    stacked = ("image", "image_id", "mask")
    columns = {name: [example[name] for example in examples] for name in examples[0]}
    return columns | {name: np.stack(columns[name]) for name in stacked}


def _padded(rows: np.ndarray, length: int) -> np.ndarray:
    """[N, …] -> [length, …] with zeros after; N never exceeds it by construction."""
    padded = np.zeros((length, *rows.shape[1:]), rows.dtype)
    padded[: len(rows)] = rows
    return padded


def _fill(config: ConfigDict) -> tuple[float, ...]:
    """Color of what lies outside an image: the mean, which the network sees as zero."""
    return tuple(config.model.mean)
