"""On a GPU: training rate in bfloat16, postprocessing and memory; without one, empty rows."""

import statistics
from collections.abc import Iterator
from functools import partial

import jax
from ml_collections import ConfigDict

from configs import ssd300_vgg16_voc
from scripts.benchmarks import baselines, inference, subject, timing
from scripts.benchmarks.report import Row, comparison_row, format_seconds
from ssd_jax.detector import apply_network, build_detector, init_variables

_CLASSES = 21
_PEAK_FLOPS = 790e12  # a second, in bfloat16, that matrix products reach on an H200
_FLOP_PER_IMAGE = 188.2e9  # of training: three times the forward pass
_MIN_SECONDS = 0.5  # of one measurement


def all_rows(rounds: int, quick: bool) -> Iterator[Row]:
    """Every row; without a GPU rows without a value."""
    reason = "" if jax.default_backend() == "gpu" else "there is no GPU"
    config = subject.without_jitter(ssd300_vgg16_voc.get_config(), 32)
    config.model.dtype = "bfloat16"
    for batch_size in (32,) if quick else (32, 64, 128):
        config.batch_size = batch_size
        yield from training_rows(config, rounds, reason)
    config.batch_size = 32
    yield from inference_rows(config, rounds, reason)


def training_rows(config: ConfigDict, rounds: int, reason: str = "") -> Iterator[Row]:
    """Training rate as a share of the peak; rate and memory against torchvision."""
    rows = config.batch_size
    what = f"GPU training step, SSD300-VGG16, {_CLASSES} classes, batch {rows}, bfloat16"
    goal = (">=", 40) if rows >= 64 else None
    against = f"{what}, against torchvision with autocast, channels last"
    memory_row = f"{what}: memory, of torchvision's"
    if reason:
        yield Row(what, unit="%", goal=goal, missing=reason)
        yield Row(against, goal=(">=", 1.1), missing=reason)
        yield Row(memory_row, goal=("<=", 1.0), missing=reason)
        return
    batch = subject.synthetic_batch(config, _CLASSES)
    ours = subject.Training(config, _CLASSES, batch)
    # Steps queue up as in a training run: only the last is waited for.
    queued = partial(_run_steps, ours, 10)
    seconds = statistics.median(timing.alternate(queued, lambda: None, rounds).ours) / 10
    share = 100 * rows * _FLOP_PER_IMAGE / seconds / _PEAK_FLOPS
    rate, memory = f"{rows / seconds:.4g} images/s", _peak_memory()
    yield Row(
        what, share, "%", goal, ours=rate, note=f"of {_PEAK_FLOPS / 1e12:.0f} TFLOP/s; {memory}"
    )

    if reason := _no_cuda():
        yield Row(against, goal=(">=", 1.1), ours=rate, missing=reason)
        yield Row(memory_row, goal=("<=", 1.0), ours=memory, missing=reason)
        return
    import torch

    torch.cuda.reset_peak_memory_stats()
    baseline = baselines.Training(baselines.ssd300(_CLASSES), batch, "cuda")
    if ours.parameters != baseline.parameters:
        raise ValueError(f"{ours.parameters} parameters against {baseline.parameters}")
    times = timing.alternate(ours, baseline, rounds, _MIN_SECONDS)
    yield comparison_row(against, times, 1.1, rows)
    peaks = _peak_memory_bytes(), torch.cuda.max_memory_allocated()
    sides = [f"{peak / 2**30:.3g} GiB" for peak in peaks]
    yield Row(memory_row, peaks[0] / peaks[1], "x", ("<=", 1.0), None, *sides)


def inference_rows(config: ConfigDict, rounds: int, reason: str = "") -> Iterator[Row]:
    """The share of postprocessing in inference, and postprocessing against torchvision."""
    rows = config.batch_size
    what = f"GPU postprocessing, {_CLASSES} classes, batch {rows}"
    share_row = f"{what}: share of inference in {config.model.dtype}"
    against = f"{what}, against torchvision"
    if reason:
        yield Row(share_row, unit="%", goal=("<=", 30), missing=reason)
        yield Row(against, goal=(">=", 3), missing=reason)
        return
    detector = build_detector(config, _CLASSES)
    detect, arguments = inference.compiled_postprocessing(_CLASSES, rows)
    network = jax.jit(partial(apply_network, detector))
    variables = init_variables(detector)
    images = jax.device_put(subject.synthetic_batch(config, _CLASSES)["image"])
    times = timing.alternate(
        lambda: jax.block_until_ready(detect(*arguments)),
        lambda: jax.block_until_ready(network(variables, images)),
        rounds, _MIN_SECONDS,
    )  # fmt: skip
    shares = [100 * post / (post + net) for post, net in zip(times.ours, times.baseline)]
    post, net = statistics.median(times.ours), statistics.median(times.baseline)
    yield Row(
        share_row, statistics.median(shares), "%", ("<=", 30), (min(shares), max(shares)),
        f"{format_seconds(post)} after {format_seconds(net)}",
        note=f"{rows / (post + net):.4g} images/s",
    )  # fmt: skip
    if reason := _no_cuda(nms=True):
        yield Row(against, goal=(">=", 3), ours=format_seconds(post), missing=reason)
        return
    ours, baseline = inference.postprocessing_calls(_CLASSES, rows, "cuda")
    note = inference.compare_detections(ours(), baseline())
    times = timing.alternate(ours, baseline, rounds, _MIN_SECONDS)
    yield comparison_row(against, times, 3, note=note)


def _run_steps(training: subject.Training, count: int) -> None:
    for _ in range(count):
        metrics = training.start_step(training.batch)
    jax.block_until_ready(metrics)


def _peak_memory_bytes() -> int:
    return (jax.local_devices()[0].memory_stats() or {}).get("peak_bytes_in_use", 0)


def _peak_memory() -> str:
    return f"{_peak_memory_bytes() / 2**30:.3g} GiB at most"


def _no_cuda(nms: bool = False) -> str:
    """Why PyTorch on the GPU cannot be measured; "" where it can."""
    if reason := baselines.missing():
        return reason
    if nms and not baselines.operators_load():
        return "torchvision's operators do not load"
    import torch

    return "" if torch.cuda.is_available() else "PyTorch finds no CUDA"
