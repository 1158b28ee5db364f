"""JPEG files to augmented batches, and how long training waits for them."""

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
from scripts.benchmarks import baselines, subject, timing
from scripts.benchmarks.report import Row
from ssd_jax.data import loader
from ssd_jax.data.annotated_image import AnnotatedImage, ImageFileSource
from ssd_jax.data.formats import shapes, voc
from ssd_jax.detector import build_detector, jitter_colors
from ssd_jax.runtime.background import usable_cores

_BATCH = 8
_DATA = Path(__file__).resolve().parents[3] / "shared" / "data"


def throughput(rounds: int, quick: bool) -> Iterator[Row]:
    """Images a second per core, against DataLoader with torchvision's transforms for SSD."""
    source, paths, description = image_files()
    config = ssd300_vgg16_voc.get_config()
    config.batch_size = _BATCH
    batches = (2 if quick else 8) * usable_cores()
    detector = build_detector(config, len(source.classes) + 1)
    jitter = jax.jit(partial(jitter_colors, detector))

    def read() -> list[int]:
        ids = [batch["image_id"] for batch in loader.training_batches(source, config, 0, batches)]
        return np.concatenate(ids).tolist()

    def read_and_jitter() -> None:
        for batch in loader.training_batches(source, config, 0, batches):
            jax.block_until_ready(jitter(batch))

    what = f"{description} to augmented batches of 300 x 300, against DataLoader and transforms.v2"
    sides = {
        "our color jitter left to the device": read,
        "color jitter on the CPU on both sides": read_and_jitter,
    }
    reason = baselines.missing()
    if not reason:
        from scripts.benchmarks import torch_input  # imports PyTorch

        ground_truth = [
            (path, source.images[i].boxes, source.images[i].labels) for i, path in enumerate(paths)
        ]
        baseline = torch_input.Epoch(ground_truth, read(), _BATCH, usable_cores())
    for how, ours in sides.items():
        if reason:
            seconds = timing.alternate(ours, lambda: None, rounds).ours
            rate = _per_core(batches, seconds)
            yield Row(f"{what}; {how}", goal=(">=", 6), ours=rate, missing=reason)
            continue
        times = timing.alternate(ours, baseline, rounds)
        rates = [_per_core(batches, seconds) for seconds in times]
        yield Row(f"{what}; {how}", times.ratio, "x", (">=", 6), times.spread, *rates)


def data_wait(rounds: int, quick: bool) -> Iterator[Row]:
    """The share of the time of training that is spent waiting for the next batch."""
    source, _, description = image_files()
    config = voc_folder.get_config("unused")
    steps = 6 if quick else 20
    training = subject.Training(config, len(source.classes) + 1, subject.synthetic_batch(config, 2))
    times, pending = [], None  # (batch arrived, step done) of each step
    for batch in loader.training_batches(source, config, 0, steps):
        arrived = time.perf_counter()
        metrics = training.start_step(batch)
        if pending is not None:
            jax.block_until_ready(pending)  # one step late, as training does
        pending = metrics
        times.append((arrived, time.perf_counter()))
    # The first two steps fill the pipeline and compile.
    waited = sum(arrived - done for (_, done), (arrived, _) in pairwise(times[1:]))
    total = times[-1][1] - times[1][1]
    yield Row(
        f"waiting for data, share of training the small network of voc_folder, batch "
        f"{config.batch_size}, {description}",
        100 * waited / total, "%", ("<=", 5),
        ours=f"{config.batch_size * (steps - 2) / total:.3g} images/s",
    )  # fmt: skip


def image_files() -> tuple[ImageFileSource, list[Path], str]:
    """A source of JPEG files, their paths, and their description: blood cells, or drawn scenes."""
    folder = Path(os.environ.get("SSD_JAX_DATA", _DATA)) / "bccd"
    if folder.is_dir():
        source = voc.read(folder, "test")
        paths = [folder / "JPEGImages" / source.name(i) for i in range(len(source))]
        return source, paths, f"{len(source)} images of 640 x 480"
    folder, scenes = Path(mkdtemp()), shapes.Shapes("train", 64, (480, 640))
    images = [_write(folder / f"{i}.jpg", scenes[i]) for i in range(len(scenes))]
    source = ImageFileSource("drawn", "scenes", shapes.CLASSES, images)
    return source, [image.path for image in images], "64 drawn JPEG files of 640 x 480"


def _write(path: Path, scene: dict) -> AnnotatedImage:
    cv2.imwrite(str(path), cv2.cvtColor(scene["image"], cv2.COLOR_RGB2BGR))
    return AnnotatedImage(path, scene["size"], scene["boxes"], scene["labels"], scene["flags"], {})


def _per_core(batches: int, seconds: tuple[float, ...]) -> str:
    return f"{batches * _BATCH / np.median(seconds) / usable_cores():.3g} images/s per core"
