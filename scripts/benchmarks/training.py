"""Training steps on a CPU against PyTorch's, and the share of matching and loss in a step."""

import importlib.util
import statistics
from collections.abc import Callable, Iterator
from functools import partial

import jax
import optax
from jax import numpy as jnp
from ml_collections import ConfigDict

from configs import ssd300_mobilenet_v1_coco, ssd300_vgg16_voc
from scripts.benchmarks import baselines, subject, timing
from scripts.benchmarks.report import Row, comparison_row, format_seconds
from ssd_jax.detector import Detector, match_targets, normalize_images
from ssd_jax.multibox.losses import multibox_loss
from ssd_jax.optimizer import create_optimizer
from ssd_jax.train_step import TrainState
from ssd_jax.types import Batch

VOC_CLASSES, COCO_CLASSES = 21, 81
_FLOP_TOLERANCE = 0.1  # XLA leaves out what is multiplied with padding


def vgg(rounds: int, quick: bool) -> Iterator[Row]:
    """SSD300-VGG16, two images."""
    config = subject.without_jitter(ssd300_vgg16_voc.get_config(), 2)
    what = "training step, SSD300-VGG16, 21 classes, batch 2, float32"
    yield compare_training(
        what, config, VOC_CLASSES, lambda _: baselines.ssd300(VOC_CLASSES), 0.7, rounds
    )


def mobilenet(rounds: int, quick: bool) -> Iterator[Row]:
    """MobileNets, four images."""
    config = subject.without_jitter(ssd300_mobilenet_v1_coco.get_config(), 4)
    what = "training step, SSD300-MobileNetV1, 81 classes, batch 4, float32"
    yield compare_training(what, config, COCO_CLASSES, _mobilenet_v1, 0.8, rounds)

    what = "training step, SSDLite320-MobileNetV3, 81 classes, batch 4, float32"
    name = "configs.ssdlite320_mobilenet_v3_coco"
    if importlib.util.find_spec(name) is None:
        yield Row(what, goal=(">=", 0.8), missing=f"there is no {name.replace('.', '/')}.py")
        return
    config = subject.without_jitter(importlib.import_module(name).get_config(), 4)
    yield compare_training(what, config, COCO_CLASSES, lambda _: _ssdlite(), 0.8, rounds)


def loss_share(rounds: int, quick: bool) -> Iterator[Row]:
    """The share of matching, negatives and loss in a VGG step: by difference, and alone."""
    config = subject.without_jitter(ssd300_vgg16_voc.get_config(), 2)
    batch = subject.synthetic_batch(config, VOC_CLASSES)
    full = subject.Training(config, VOC_CLASSES, batch)
    without_loss = subject.Training(config, VOC_CLASSES, batch, _step_without_loss)
    times = timing.alternate(full, without_loss, rounds)
    shares = [100 * (1 - less / seconds) for seconds, less in zip(times.ours, times.baseline)]
    step_seconds = statistics.median(times.ours)
    what = "matching, negatives and loss, share of the SSD300-VGG16 step"
    yield Row(
        f"{what}: by difference to a step whose loss is the mean of the outputs",
        statistics.median(shares), "%", ("<=", 3), (min(shares), max(shares)),
        format_seconds(step_seconds), format_seconds(statistics.median(times.baseline)),
    )  # fmt: skip

    alone = _loss_alone(full.detector, batch)
    alone()
    seconds = statistics.median(timing.time_once(alone) for _ in range(5 * rounds))
    yield Row(
        f"{what}: compiled alone, with the gradient", 100 * seconds / step_seconds, "%", ("<=", 3),
        ours=format_seconds(seconds), baseline=format_seconds(step_seconds),
    )  # fmt: skip


def compare_training(
    what: str, config: ConfigDict, classes: int, model: Callable, goal: float, rounds: int
) -> Row:
    """The step of `config` against that of a PyTorch detector, `model` of our detector."""
    if reason := baselines.missing():
        return Row(what, goal=(">=", goal), missing=reason)
    batch = subject.synthetic_batch(config, classes)
    ours = subject.Training(config, classes, batch)
    baseline = baselines.Training(model(ours.detector), batch)
    note = _check_equal_work(ours, baseline, config.image_size)
    times = timing.alternate(ours, baseline, rounds)
    return comparison_row(what, times, goal, config.batch_size, note)


def _check_equal_work(
    ours: subject.Training, baseline: baselines.Training, size: tuple[int, int]
) -> str:
    """A note on both sides. Raises ValueError where they differ in parameters or arithmetic."""
    if ours.parameters != baseline.parameters:
        raise ValueError(f"{ours.parameters} parameters against {baseline.parameters}")
    counts = subject.forward_gflop(ours.detector), baselines.forward_gflop(baseline.model, size)
    if abs(counts[0] / counts[1] - 1) > _FLOP_TOLERANCE:
        raise ValueError(f"{counts[0]:.2f} GFLOP an image forward against {counts[1]:.2f}")
    return f"{ours.parameters / 1e6:.2f} M parameters, {counts[1]:.2f} GFLOP an image forward"


def _mobilenet_v1(detector: Detector):
    from scripts.benchmarks import mobilenet_torch  # imports PyTorch

    return mobilenet_torch.ssd300(COCO_CLASSES, detector.priors)


def _ssdlite():
    import torch

    build = baselines.torchvision().models.detection.ssdlite320_mobilenet_v3_large
    model = build(weights=None, weights_backbone=None, num_classes=COCO_CLASSES)
    return model.to(memory_format=torch.channels_last)


def _step_without_loss(detector: Detector, state: TrainState, batch: Batch):
    """The training step with the mean of the network's outputs in place of the loss."""
    config = detector.config
    images = normalize_images(detector, batch["image"].astype(jnp.float32))
    optimizer = create_optimizer(config.optim, config.steps)

    def mean_output(params):
        logits, offsets = detector.model.apply({"params": params}, images, train=True)
        return logits.mean() + offsets.mean()

    loss, gradient = jax.value_and_grad(mean_output)(state.params)
    updates, opt_state = optimizer.update(gradient, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    norm = optax.tree.norm(gradient)  # a metric of the step
    return state.replace(params=params, opt_state=opt_state), {"loss": loss, "gradient_norm": norm}


def _loss_alone(detector: Detector, batch: Batch) -> Callable:
    """A call that matches, and differentiates the loss of given outputs."""

    @jax.jit
    def gradient(outputs, boxes, labels):
        def total(outputs):
            targets = jax.vmap(partial(match_targets, detector))(boxes, labels)
            loss = jax.vmap(multibox_loss)(*outputs, *targets)
            return (loss.classification + loss.localization).sum()

        return jax.grad(total)(outputs)

    rows, count = len(batch["labels"]), len(detector.priors.boxes)
    keys = jax.random.split(jax.random.key(0))
    outputs = (
        jax.random.normal(keys[0], (rows, count, VOC_CLASSES)),
        jax.random.normal(keys[1], (rows, count, 4)),
    )
    return lambda: jax.block_until_ready(gradient(outputs, batch["boxes"], batch["labels"]))
