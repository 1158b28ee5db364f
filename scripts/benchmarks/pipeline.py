"""From JPEG files to augmented batches, and how long a training step waits for them."""

import os
import time
from collections.abc import Iterator
from functools import partial
from itertools import pairwise
from pathlib import Path
from tempfile import mkdtemp

import cv2
import jax
import numpy as np

from configs import ssd300_vgg16_voc, voc_folder
from scripts.benchmarks import ours, rivals, timing
from scripts.benchmarks.report import Row
from ssd_jax import step
from ssd_jax.data import loader, shapes, voc
from ssd_jax.data.records import Record, Records

_BATCH = 8
_DATA = Path(__file__).resolve().parents[3] / "shared" / "data"


def images(rounds: int, quick: bool) -> Iterator[Row]:
    """Images a second and core, against torch's DataLoader with torchvision's SSD transforms."""
    source, paths, kind = photographs()
    config = ssd300_vgg16_voc.get_config()
    config.batch_size = _BATCH
    batches = (2 if quick else 8) * timing.cores()
    detector = step.build(config, len(source.classes) + 1)
    distorted = jax.jit(partial(step.distorted, detector))

    def read() -> list[int]:
        ids = [batch["image_id"] for batch in loader.training_batches(source, config, 0, batches)]
        return np.concatenate(ids).tolist()

    def read_and_distort() -> None:
        for batch in loader.training_batches(source, config, 0, batches):
            jax.block_until_ready(distorted(batch))

    what = f"{kind} to augmented batches of 300 x 300, against DataLoader and transforms.v2"
    sides = {
        "color distortion left to the device on our side": read,
        "color distortion on the CPU on both sides": read_and_distort,
    }
    reason = rivals.missing()
    if not reason:
        from scripts.benchmarks import torch_input  # imports PyTorch

        truths = [(path, source[i]["boxes"], source[i]["labels"]) for i, path in enumerate(paths)]
        theirs = torch_input.Epoch(truths, read(), _BATCH, timing.cores())
    for how, mine in sides.items():
        if reason:
            seconds = timing.alternate(mine, lambda: None, rounds).ours
            rate = _per_core(batches, seconds)
            yield Row(f"{what}; {how}", goal=(">=", 6), ours=rate, missing=reason)
            continue
        times = timing.alternate(mine, theirs, rounds)
        rates = [_per_core(batches, seconds) for seconds in times]
        yield Row(f"{what}; {how}", times.ratio, "x", (">=", 6), times.spread, *rates)


def waiting(rounds: int, quick: bool) -> Iterator[Row]:
    """Part of the time of training steps that passes until the next batch is there."""
    source, _, kind = photographs()
    config = voc_folder.get_config("unused")
    steps = 6 if quick else 20
    training = ours.Training(config, len(source.classes) + 1, ours.batch(config, 2))
    marks, before = [], None
    for batch in loader.training_batches(source, config, 0, steps):
        arrived = time.perf_counter()
        metrics = training.start(batch)
        if before is not None:
            jax.block_until_ready(before)  # as the loop does: one step behind
        before = metrics
        marks.append((arrived, time.perf_counter()))
    # The first two steps fill the pipeline and compile.
    waited = sum(arrived - left for (_, left), (arrived, _) in pairwise(marks[1:]))
    total = marks[-1][1] - marks[1][1]
    yield Row(
        f"waiting for data, part of training the small network of voc_folder, batch "
        f"{config.batch_size}, {kind}",
        100 * waited / total, "%", ("<=", 5),
        ours=f"{config.batch_size * (steps - 2) / total:.3g} images/s",
    )  # fmt: skip


def photographs() -> tuple[Records, list[Path], str]:
    """A source of JPEG files, their paths, and what they are: blood cells, or drawn scenes."""
    folder = Path(os.environ.get("SSD_JAX_DATA", _DATA)) / "bccd"
    if folder.is_dir():
        source = voc.read(folder, "test")
        paths = [folder / "JPEGImages" / source.name(i) for i in range(len(source))]
        return source, paths, f"{len(source)} photographs of 640 x 480"
    folder, scenes = Path(mkdtemp()), shapes.Shapes("train", 64, (480, 640))
    records = [_write(folder / f"{i}.jpg", scenes[i]) for i in range(len(scenes))]
    source = Records("drawn", "scenes", shapes.CLASSES, records)
    return source, [record.path for record in records], "64 drawn JPEG files of 640 x 480"


def _write(path: Path, scene: dict) -> Record:
    cv2.imwrite(str(path), cv2.cvtColor(scene["image"], cv2.COLOR_RGB2BGR))
    return Record(path, scene["size"], scene["boxes"], scene["labels"], scene["ignore"], {})


def _per_core(batches: int, seconds: tuple[float, ...]) -> str:
    return f"{batches * _BATCH / np.median(seconds) / timing.cores():.3g} images/s a core"
