"""On a GPU: throughput in bfloat16, postprocessing and memory. Without one nothing is measured."""

import statistics
from collections.abc import Iterator
from functools import partial

import jax
import numpy as np
from ml_collections import ConfigDict

from configs import ssd300_vgg16_voc
from scripts.benchmarks import inference, ours, rivals, timing
from scripts.benchmarks.report import Row, compared, duration
from ssd_jax import step

_CLASSES = 21
_PEAK = 790e12  # FLOP a second in bfloat16 that matrix products reach on an H200
_IMAGE = 188.2e9  # FLOP of a training image: three times the forward pass
_AT_LEAST = 0.5  # seconds of one measurement


def all_of_it(rounds: int, quick: bool) -> Iterator[Row]:
    """Every topic; without a GPU their names."""
    reason = "" if jax.default_backend() == "gpu" else "there is no GPU"
    config = ours.undistorted(ssd300_vgg16_voc.get_config(), 32)
    config.model.dtype = "bfloat16"
    for batch_size in (32,) if quick else (32, 64, 128):
        config.batch_size = batch_size
        yield from training(config, rounds, reason)
    config.batch_size = 32
    yield from detecting(config, rounds, reason)


def training(config: ConfigDict, rounds: int, reason: str = "") -> Iterator[Row]:
    """Images a second as part of the peak, then against torchvision, then memory against it."""
    rows = config.batch_size
    what = f"GPU train step, SSD300-VGG16, {_CLASSES} classes, batch {rows}, bfloat16"
    goal = (">=", 40) if rows >= 64 else None
    against = f"{what}, against torchvision with autocast, channels last"
    less = f"{what}: memory, of torchvision's"
    if reason:
        yield Row(what, unit="%", goal=goal, missing=reason)
        yield Row(against, goal=(">=", 1.1), missing=reason)
        yield Row(less, goal=("<=", 1.0), missing=reason)
        return
    batch = ours.batch(config, _CLASSES)
    mine = ours.Training(config, _CLASSES, batch)
    # Steps queue up as in a training run: only the last is waited for.
    queued = partial(_several, mine, 10)
    seconds = statistics.median(timing.alternate(queued, lambda: None, rounds).ours) / 10
    part = 100 * rows * _IMAGE / seconds / _PEAK
    rate, memory = f"{rows / seconds:.4g} images/s", _our_peak()
    yield Row(what, part, "%", goal, ours=rate, note=f"of {_PEAK / 1e12:.0f} TFLOP/s; {memory}")

    if reason := _no_cuda():
        yield Row(against, goal=(">=", 1.1), ours=rate, missing=reason)
        yield Row(less, goal=("<=", 1.0), ours=memory, missing=reason)
        return
    import torch

    torch.cuda.reset_peak_memory_stats()
    theirs = rivals.Training(rivals.ssd300(_CLASSES), batch, "cuda")
    if mine.parameters != theirs.parameters:
        raise ValueError(f"{mine.parameters} parameters against {theirs.parameters}")
    times = timing.alternate(mine, theirs, rounds, _AT_LEAST)
    yield compared(against, times, 1.1, rows)
    peaks = _our_peak_bytes(), torch.cuda.max_memory_allocated()
    sides = [f"{peak / 2**30:.3g} GiB" for peak in peaks]
    yield Row(less, peaks[0] / peaks[1], "x", ("<=", 1.0), None, *sides)


def detecting(config: ConfigDict, rounds: int, reason: str = "") -> Iterator[Row]:
    """Inference of a batch, the part of postprocessing in it, and that against torchvision."""
    rows = config.batch_size
    what = f"GPU postprocessing, {_CLASSES} classes, batch {rows}"
    part = f"{what}: part of inference in {config.model.dtype}"
    against = f"{what}, against torchvision"
    if reason:
        yield Row(part, unit="%", goal=("<=", 30), missing=reason)
        yield Row(against, goal=(">=", 3), missing=reason)
        return
    detector = step.build(config, _CLASSES)
    detect, arguments = inference.our_postprocessing(_CLASSES, rows)
    network = jax.jit(partial(_network, detector))
    variables = step.variables(step.create_state(detector))
    images = jax.device_put(ours.batch(config, _CLASSES)["image"])
    times = timing.alternate(
        lambda: jax.block_until_ready(detect(*arguments)),
        lambda: jax.block_until_ready(network(variables, images)),
        rounds, _AT_LEAST,
    )  # fmt: skip
    shares = [100 * post / (post + net) for post, net in zip(times.ours, times.other)]
    post, net = statistics.median(times.ours), statistics.median(times.other)
    yield Row(
        part, statistics.median(shares), "%", ("<=", 30), (min(shares), max(shares)),
        f"{duration(post)} after {duration(net)}", note=f"{rows / (post + net):.4g} images/s",
    )  # fmt: skip
    if reason := _no_cuda(nms=True):
        yield Row(against, goal=(">=", 3), ours=duration(post), missing=reason)
        return
    mine, theirs = inference.sides(_CLASSES, rows, "cuda")
    note = inference.same_detections(mine(), theirs())
    yield compared(against, timing.alternate(mine, theirs, rounds, _AT_LEAST), 3, note=note)


def _several(training: ours.Training, count: int) -> None:
    for _ in range(count):
        metrics = training.start(training.batch)
    jax.block_until_ready(metrics)


def _network(detector: step.Detector, variables: dict, images: np.ndarray):
    return detector.model.apply(variables, ours.normalized(detector, images), train=False)


def _our_peak_bytes() -> int:
    return (jax.local_devices()[0].memory_stats() or {}).get("peak_bytes_in_use", 0)


def _our_peak() -> str:
    return f"{_our_peak_bytes() / 2**30:.3g} GiB at most"


def _no_cuda(nms: bool = False) -> str:
    """Why the rows against PyTorch on the GPU cannot be measured, or ""."""
    if reason := rivals.missing():
        return reason
    if nms and not rivals.operators_load():
        return "torchvision's operators do not load"
    import torch

    return "" if torch.cuda.is_available() else "PyTorch finds no CUDA"
